package packet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A corpusEntry is one line of testdata/packets.txt.
type corpusEntry struct {
	line    int
	ok      bool
	wire    string
	meaning string // or the reason
	written string // what we write for it
}

func corpus(t testing.TB) []corpusEntry {
	t.Helper()
	text, err := os.ReadFile("testdata/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	var entries []corpusEntry
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || len(fields) > 4 || fields[0] != "ok" && fields[0] != "bad" {
			t.Fatalf("packets.txt:%d: malformed", i+1)
		}
		e := corpusEntry{line: i + 1, ok: fields[0] == "ok", wire: fields[1], meaning: fields[2]}
		if strings.HasPrefix(e.wire, `"`) {
			if e.wire, err = strconv.Unquote(e.wire); err != nil {
				t.Fatalf("packets.txt:%d: %v", i+1, err)
			}
		}
		e.written = e.wire
		if len(fields) == 4 {
			e.written = fields[3]
		}
		entries = append(entries, e)
	}
	return entries
}

// decode feeds a text and as many attachments as it asks for.
func decode(d *Decoder, wire []byte) (Packet, error) {
	p, complete, err := d.Text(wire)
	for i := byte(0); err == nil && !complete; i++ {
		if !d.Pending() {
			return p, errors.New("incomplete, but not pending")
		}
		p, complete, err = d.Binary([]byte{i})
	}
	if d.Pending() {
		return p, errors.New("pending behind a complete packet or an error")
	}
	return p, err
}

// encode writes a packet with the function for its type.
func encode(p Packet) []byte {
	switch p.Type {
	case Connect:
		return AppendConnect(nil, p.Namespace, p.Data)
	case Disconnect:
		return AppendDisconnect(nil, p.Namespace)
	case ConnectError:
		return AppendConnectError(nil, p.Namespace, p.Data)
	case Event, BinaryEvent:
		return AppendEvent(nil, p.Namespace, p.ID, len(p.Attachments), p.Name, p.Args[1:]...)
	default:
		return AppendAck(nil, p.Namespace, p.ID, len(p.Attachments), p.Args)
	}
}

func meaning(p Packet) string {
	id := "-"
	if p.ID >= 0 {
		id = strconv.FormatInt(p.ID, 10)
	}
	s := fmt.Sprint(p.Type, " ", p.Namespace, " ", id)
	args := p.Args
	switch p.Type {
	case Event, BinaryEvent:
		s += " " + strconv.Quote(p.Name)
		args = args[1:]
	case Connect, ConnectError:
		if p.Data != nil {
			s += " " + string(p.Data)
		}
	}
	for _, arg := range args {
		s += " " + string(arg)
	}
	return s
}

func TestCorpusDecode(t *testing.T) {
	for _, e := range corpus(t) {
		d := NewDecoder(nil)
		p, err := decode(&d, []byte(e.wire))
		var bad *Error
		switch {
		case err == nil && !e.ok:
			t.Errorf("packets.txt:%d: %q: accepted as %s", e.line, e.wire, meaning(p))
		case err == nil:
			// Compare by the quoted name: the table writes readable characters as themselves.
			if got := meaning(p); got != e.meaning && got != requote(e.meaning) {
				t.Errorf("packets.txt:%d: %q:\n got %s\nwant %s", e.line, e.wire, got, e.meaning)
			}
		case e.ok:
			t.Errorf("packets.txt:%d: %q: %v", e.line, e.wire, err)
		case !errors.As(err, &bad):
			t.Errorf("packets.txt:%d: %q: %T, want *Error", e.line, e.wire, err)
		default:
			if got := fmt.Sprintf("%s@%d", bad.Reason, bad.Offset); got != e.meaning {
				t.Errorf("packets.txt:%d: %q:\n got %s\nwant %s", e.line, e.wire, got, e.meaning)
			}
		}
	}
}

// requote writes the event name of a meaning as strconv does.
func requote(meaning string) string {
	head, rest, ok := strings.Cut(meaning, ` "`)
	if !ok {
		return meaning
	}
	quoted, err := strconv.QuotedPrefix(`"` + rest)
	if err != nil {
		return meaning
	}
	name, _ := strconv.Unquote(quoted)
	return head + " " + strconv.Quote(name) + rest[len(quoted)-1:]
}

func TestCorpusEncode(t *testing.T) {
	for _, e := range corpus(t) {
		if !e.ok {
			continue
		}
		d := NewDecoder(nil)
		p, err := decode(&d, []byte(e.wire))
		if err != nil {
			continue // TestCorpusDecode tells
		}
		if got := string(encode(p)); got != e.written {
			t.Errorf("packets.txt:%d: %q:\n got %s\nwant %s", e.line, e.wire, got, e.written)
		}
	}
}

// Everything in a packet stays inside the text, and appending to a part can't overwrite the next one.
func TestCorpusAliases(t *testing.T) {
	for _, e := range corpus(t) {
		if !e.ok {
			continue
		}
		text := []byte(e.wire)
		d := NewDecoder(nil)
		p, err := decode(&d, text)
		if err != nil {
			continue
		}
		for _, part := range append([][]byte{p.Data}, p.Args...) {
			_ = append(part, "overwritten"...)
		}
		if string(text) != e.wire {
			t.Errorf("packets.txt:%d: an append to a part changed the text", e.line)
		}
	}
}

// A decoder is ready for the next packet, whatever came before.
func TestCorpusOneDecoder(t *testing.T) {
	d := NewDecoder(nil)
	for _, e := range corpus(t) {
		if _, err := decode(&d, []byte(e.wire)); (err == nil) != e.ok {
			t.Errorf("packets.txt:%d: %v", e.line, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range corpus(f) {
		f.Add([]byte(e.wire))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		d := NewDecoder(nil)
		p, err := decode(&d, wire)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		written := encode(p)
		q, err := decode(&d, written)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", wire, written, err)
		}
		if meaning(p) != meaning(q) || len(p.Args) != len(q.Args) || len(p.Attachments) != len(q.Attachments) {
			t.Fatalf("%q was written as %q:\n got %s\nwant %s", wire, written, meaning(q), meaning(p))
		}
		if again := encode(q); !bytes.Equal(written, again) {
			t.Fatalf("%q was written as %q, then as %q", wire, written, again)
		}
	})
}
