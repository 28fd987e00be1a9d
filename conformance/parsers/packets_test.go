package parsers

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdpost/holdpost/internal/packet"
)

// attachments is what is sent behind a packet for as long as it is not complete.
func attachment(i int) []byte { return []byte{byte(i), 0xff} }

// decodePacket has both decode a text and as many attachments as we ask for.
func decodePacket(t testing.TB, in string) (ours, theirs verdict) {
	t.Helper()
	d := packet.NewDecoder(nil)
	p, complete, err := d.Text([]byte(in))
	args := []string{in}
	for i := 0; err == nil && !complete; i++ {
		args = append(args, base64.StdEncoding.EncodeToString(attachment(i)))
		p, complete, err = d.Binary(attachment(i))
	}
	if err != nil {
		ours.Error = err.(*packet.Error).Reason
		args = append(args, attachmentsTheyWant(in)...)
	} else {
		ours.Packets = []any{seen(t, p)}
	}
	return ours, reference.ask(t, "packet", args...)
}

// attachmentsTheyWant returns what completes a packet for the reference if it takes what we don't.
func attachmentsTheyWant(in string) (args []string) {
	count, _, ok := strings.Cut(in, "-")
	if !ok || count == "" || count[0] != '5' && count[0] != '6' {
		return nil
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(count[1:]), 64)
	if err != nil {
		return nil
	}
	for i := range min(int(f), 10) {
		args = append(args, base64.StdEncoding.EncodeToString(attachment(i)))
	}
	return args
}

// seen is a packet as the reference's decoder shows it.
func seen(t testing.TB, p packet.Packet) any {
	kind := p.Type
	if kind >= packet.BinaryEvent {
		kind -= packet.BinaryEvent - packet.Event
	}
	m := map[string]any{"type": float64(kind), "nsp": p.Namespace}
	if p.ID >= 0 {
		m["id"] = float64(p.ID)
	}
	if p.Data != nil {
		m["data"] = value(t, p.Data, p.Attachments)
	}
	return m
}

// header is how the part before the JSON is written. JavaScript reads more as a number than digits: blanks, signs, points,
// exponents, and its rules for what belongs to an ack id are not much stricter.
var header = regexp.MustCompile(`(?s)^([0-4]|[56][1-9]\d*-)(/[^,]*(,|$))?(0|[1-9]\d*)?([^\d\s\v/\x{feff}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}].*)?$`)

func isHeaderQuirk(in string) bool { return !header.MatchString(in) }

var packetDifferences = []difference{
	{"numbers that are none", "an id or a count is digits, without blanks, signs, leading zeros or exponents: it could not be echoed as it came", `2007["x"]`,
		func(in string, _ verdict) bool { return isHeaderQuirk(in) }},
	{"large ids", "beyond 2^53-1 JavaScript echoes another number", `29007199254740993["x"]`,
		func(_ string, ours verdict) bool {
			return ours.Error == "ack id too large" || ours.Error == "ack id malformed"
		}},
	{"no payload", "an event or an answer without its array means nothing", `212`,
		func(in string, ours verdict) bool {
			return ours.Error == "payload is no array" && regexp.MustCompile(`^[2356](\d+-)?(/[^,]*(,|$))?\d*$`).MatchString(in)
		}},
	{"an answer without an id", "there is nothing that it answers", `3["x"]`,
		func(_ string, ours verdict) bool { return ours.Error == "ack without id" }},
	{"an id where none can be", "a CONNECT is not answered by id", `05{"a":1}`,
		func(_ string, ours verdict) bool { return ours.Error == "ack id where none can be" }},
	{"control characters in a namespace", "names end up in logs", "0/a\x01,",
		func(_ string, ours verdict) bool { return ours.Error == "control character in namespace" }},
	{"long names", "a name of 255 bytes is enough for any purpose", `2["` + strings.Repeat("n", 256) + `"]`,
		func(in string, ours verdict) bool {
			return (ours.Error == "event name too long" || ours.Error == "namespace too long") && len(in) > 256
		}},
	{"deep nesting", "whatever walks the value later does so by recursion", `2["x",` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `]`,
		func(in string, ours verdict) bool {
			return ours.Error == "JSON nested too deeply" && strings.Count(in, "[")+strings.Count(in, "{") > 64
		}},
	{"placeholder numbers", "an index is written as one; the reference takes 0.5 for undefined, and 0.0 for 0", `51-["x",{"_placeholder":true,"num":0.0}]`,
		func(_ string, ours verdict) bool { return ours.Error == "placeholder names no attachment" }},
}

func TestPackets(t *testing.T) {
	reference.need(t)
	for _, in := range packetCorpus(t) {
		ours, theirs := decodePacket(t, in)
		compare(t, in, ours, theirs, packetDifferences)
	}
}

func TestPacketDifferences(t *testing.T) {
	reference.need(t)
	stillDifferent(t, packetDifferences, func(in string) (ours, theirs verdict) { return decodePacket(t, in) })
}

// packetCorpus returns the texts of the codec's own corpus that are valid UTF-8: others never reach a parser.
func packetCorpus(t testing.TB) (texts []string) {
	t.Helper()
	b, err := os.ReadFile("../../internal/packet/testdata/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || fields[0] != "ok" && fields[0] != "bad" {
			continue
		}
		text := fields[1]
		if strings.HasPrefix(text, `"`) {
			if text, err = strconv.Unquote(text); err != nil {
				t.Fatal(err)
			}
		}
		if utf8.ValidString(text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// TestPacketsMutated is a short fuzz run, the same each time.
func TestPacketsMutated(t *testing.T) {
	reference.need(t)
	mutate(t, packetCorpus(t), []string{"0", "1", "2", "5", "-", "/", ",", "[", "]", "{", "}", `"`, `\`, "u", ":", " ", "e", ".", "true", `{"_placeholder":true,"num":0}`, "é", "\u2028"},
		func(in string) bool { return utf8.ValidString(in) },
		func(in string) {
			ours, theirs := decodePacket(t, in)
			compare(t, in, ours, theirs, packetDifferences)
		})
}

// mutate runs f on seeds with pieces cut out, doubled and put in.
func mutate(t *testing.T, seeds, pieces []string, ok func(string) bool, f func(string)) {
	r := rand.New(rand.NewPCG(1, 2))
	count := 20_000
	if testing.Short() {
		count = 2000
	}
	for range count {
		in := []byte(seeds[r.IntN(len(seeds))])
		for range 1 + r.IntN(3) {
			at := r.IntN(len(in) + 1)
			switch r.IntN(3) {
			case 0:
				in = append(in[:at:at], in[min(len(in), at+1+r.IntN(3)):]...)
			case 1:
				in = append(in[:at:at], pieces[r.IntN(len(pieces))]+string(in[at:])...)
			default:
				in = append(in[:at:at], bytes.Clone(in[at/2:])...)
			}
		}
		if ok(string(in)) && !t.Failed() {
			f(string(in))
		}
	}
}

func FuzzPacket(f *testing.F) {
	reference.need(f)
	for _, in := range packetCorpus(f) {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if !utf8.ValidString(in) {
			return
		}
		ours, theirs := decodePacket(t, in)
		compare(t, in, ours, theirs, packetDifferences)
	})
}
