package parsers

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/internal/packet/msgpack"
)

func decodeMessagePack(t testing.TB, in string) (ours, theirs verdict) {
	t.Helper()
	p, err := msgpack.Decode([]byte(in), &packet.DefaultLimits)
	if err != nil {
		ours.Error = err.(*packet.Error).Reason
	} else {
		ours.Packets = []any{seen(t, p)}
	}
	theirs = reference.ask(t, "msgpack", base64.StdEncoding.EncodeToString([]byte(in)))
	for _, p := range theirs.Packets { // a payload of nil is none
		if p, ok := p.(map[string]any); ok && p["data"] == nil {
			delete(p, "data")
		}
	}
	return ours, theirs
}

// bearable reports whether the reference can be asked: it believes the length of one extension, and sets about to fill up to
// 4 GB.
func bearable(in string) bool { return !strings.Contains(in, "\xc9") }

func event(rest string) string {
	return "\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x" + rest
}

// because returns a class of what we refuse with one of the reasons.
func because(reasons ...string) func(string, verdict) bool {
	return func(_ string, ours verdict) bool {
		for _, r := range reasons {
			if ours.Error == r {
				return true
			}
		}
		return false
	}
}

var messagePackDifferences = []difference{
	{"event names", "the text codec of the reference checks them, this one forgets to", "\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa7connect",
		because("event name is reserved", "event name is no text, or too long")},
	{"namespaces", "a name begins with a slash, and is no longer than 255 bytes, without control characters", "\x82\xa4type\x00\xa3nsp\xa1x",
		because("namespace malformed", "namespace too long")},
	{"ids", "an answer is to an id from 0 to 2^53-1, and only events and answers have one", "\x84\xa4type\x02\xa3nsp\xa1/\xa2id\xff\xa4data\x91\xa1x",
		because("type or id is no integer in its range", "ack id where none can be", "ack without id")},
	{"nil as a payload", "the reference takes nothing and undefined, but not nil, which other languages write for nothing", "\x83\xa4type\x00\xa3nsp\xa1/\xa4data\xc0",
		func(in string, ours verdict) bool { return ours.Error == "" && strings.Contains(in, "data\xc0") }},
	{"no payload of a refusal", "from a client a refusal is refused whatever is in it", "\x82\xa4type\x04\xa3nsp\xa1/",
		func(in string, ours verdict) bool { return ours.Error == "" && strings.Contains(in, "type\x04") }},
	{"extensions", "there are the two of the parser; the reference makes an array of any other", event("\xd4\x05\x00"),
		because("message ends early, or has an unknown extension", "value of an unknown kind")},
	{"keys", "a key of an object is a text or an integer; the reference makes a text of anything", event("\x81\xc0\x01"),
		because("key is neither a text nor an integer", "key expected")},
	{"members twice", "which of the two counts is a matter of taste", "\x83\xa4type\x00\xa3nsp\xa1/\xa4type\x00",
		func(in string, ours verdict) bool {
			twice := slices.ContainsFunc([]string{"type", "nsp", "id", "data"}, func(key string) bool { return strings.Count(in, key) > 1 })
			return ours.Error == "member occurs twice" || ours.Error != "" && twice
		}},
	{"UTF-8", "the reference replaces what it cannot decode, byte by byte", event("\xa2\xc3("),
		because("invalid UTF-8")},
	{"what looks like a placeholder", "in memory it would be one", event("\x92\x81\xac_placeholder\xc3\xc4\x00"),
		because("object that looks like a placeholder")},
	{"deep nesting", "whatever walks the value later does so by recursion", event(strings.Repeat("\x91", 64) + "\xc0"),
		because("nested too deeply")},
	{"binary values in a CONNECT", "its payload is JSON for whoever reads it", "\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa1a\xc4\x00",
		because("binary value where none can be")},
	{"half of a surrogate pair", "it becomes one U+FFFD, as with the other codec, and not one for each of its bytes", event("\xa3\xed\xa0\x80"),
		func(in string, ours verdict) bool {
			return ours.Error == "" && !utf8.ValidString(in) && strings.Contains(in, "\xed")
		}},
	{"a member named __proto__", "it is a member like others", event("\x81\xa9__proto__\x01"),
		func(in string, ours verdict) bool { return ours.Error == "" && strings.Contains(in, "__proto__") }},
}

func TestMessagePack(t *testing.T) {
	reference.need(t)
	for _, in := range messagePackCorpus(t) {
		ours, theirs := decodeMessagePack(t, in)
		compare(t, in, ours, theirs, messagePackDifferences)
	}
}

func TestMessagePackDifferences(t *testing.T) {
	reference.need(t)
	stillDifferent(t, messagePackDifferences, func(in string) (ours, theirs verdict) { return decodeMessagePack(t, in) })
}

func TestMessagePackMutated(t *testing.T) {
	reference.need(t)
	mutate(t, messagePackCorpus(t), []string{"\x00", "\x01", "\x80", "\x81", "\x90", "\x92", "\xa1a", "\xa4type", "\xa2id", "\xc0", "\xc2", "\xc4\x01x", "\xca\x3f\x80\x00\x00", "\xcc\xff", "\xd0\x80", "\xd4\x00\x00", "\xd9\x01a", "\xdc\x00\x01", "\xde\x00\x01", "\xff"},
		bearable,
		func(in string) {
			ours, theirs := decodeMessagePack(t, in)
			compare(t, in, ours, theirs, messagePackDifferences)
		})
}

func FuzzMessagePack(f *testing.F) {
	reference.need(f)
	for _, in := range messagePackCorpus(f) {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !bearable(string(in)) {
			return
		}
		ours, theirs := decodeMessagePack(t, string(in))
		compare(t, string(in), ours, theirs, messagePackDifferences)
	})
}

// What we write, the reference reads with the same value.
func TestMessagePackWritten(t *testing.T) {
	reference.need(t)
	for _, args := range []string{
		`[]`, `[1,-1,127,128,255,256,65535,65536,4294967295,4294967296,9007199254740991,-9007199254740991]`, `[1.5,-0.1,1e300,5e-324]`,
		`["","é","😀","` + strings.Repeat("a", 40) + `","` + strings.Repeat("b", 300) + `","` + strings.Repeat("c", 70_000) + `"]`,
		`[null,true,false,[],{},[[[]]],{"a":{"b":[1]}}]`, `[[0` + strings.Repeat(",0", 20) + `],[0` + strings.Repeat(",0", 70_000) + `]]`,
		`[{"_placeholder":true,"num":1},{"a":{"_placeholder":true,"num":0}}]`,
	} {
		var raw []json.RawMessage
		if err := json.Unmarshal([]byte(args), &raw); err != nil {
			t.Fatal(err)
		}
		var list [][]byte
		for _, r := range raw {
			list = append(list, r)
		}
		var attachments [][]byte
		if strings.Contains(args, "_placeholder") {
			attachments = [][]byte{{1, 2, 3}, make([]byte, 300)}
		}
		ours := verdict{Packets: []any{map[string]any{"type": 3.0, "nsp": "/a", "id": 7.0, "data": value(t, []byte(args), attachments)}}}
		theirs := reference.ask(t, "msgpack", base64.StdEncoding.EncodeToString(msgpack.AppendAck(nil, "/a", 7, list, attachments)))
		compare(t, args[:min(len(args), 100)], ours, theirs, nil)
	}
}

func messagePackCorpus(t testing.TB) (messages []string) {
	t.Helper()
	b, err := os.ReadFile("../../internal/packet/msgpack/testdata/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || fields[0] != "ok" && fields[0] != "bad" || fields[1] == "-" {
			continue
		}
		var message []byte
		for word := range strings.FieldsSeq(fields[1]) {
			if text, ok := strings.CutPrefix(word, `"`); ok {
				message = msgp.AppendString(message, strings.TrimSuffix(text, `"`))
			} else {
				message = append(message, hexByte(word))
			}
		}
		if bearable(string(message)) {
			messages = append(messages, string(message))
		}
	}
	return messages
}

func hexByte(word string) (c byte) {
	for _, d := range []byte(strings.ToLower(word)) {
		c = c<<4 | byte(strings.IndexByte("0123456789abcdef", d))
	}
	return c
}
