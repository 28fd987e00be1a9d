package msgpack

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"

	"github.com/holdpost/holdpost/internal/packet"
)

type corpusEntry struct {
	line             int
	ok               bool
	in, written      []byte
	meaning, inWords string
}

func corpus(t testing.TB) (entries []corpusEntry) {
	t.Helper()
	text, err := os.ReadFile("testdata/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || len(fields) > 4 || fields[0] != "ok" && fields[0] != "bad" {
			t.Fatalf("packets.txt:%d: malformed", i+1)
		}
		e := corpusEntry{line: i + 1, ok: fields[0] == "ok", in: bytesOf(t, fields[1]), meaning: fields[2], inWords: fields[1]}
		e.written = e.in
		if len(fields) == 4 {
			e.written = bytesOf(t, fields[3])
		}
		entries = append(entries, e)
	}
	return entries
}

func bytesOf(t testing.TB, words string) (b []byte) {
	t.Helper()
	for word := range strings.FieldsSeq(words) {
		if text, ok := strings.CutPrefix(word, `"`); ok {
			text = strings.TrimSuffix(text, `"`)
			b = append(append(b, 0xa0|byte(len(text))), text...)
		} else if word != "-" {
			raw, err := hex.DecodeString(word)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, raw...)
		}
	}
	return b
}

func meaning(p packet.Packet) string {
	id := "-"
	if p.ID >= 0 {
		id = strconv.FormatInt(p.ID, 10)
	}
	s := fmt.Sprint(p.Type, " ", p.Namespace, " ", id)
	args := p.Args
	switch p.Type {
	case packet.Event:
		s += " " + strconv.Quote(p.Name)
		args = args[1:]
	case packet.Connect, packet.ConnectError:
		if p.Data != nil {
			s += " " + string(p.Data)
		}
	}
	for _, arg := range args {
		s += " " + string(arg)
	}
	if len(p.Attachments) > 0 {
		s += fmt.Sprint(" ", len(p.Attachments))
	}
	return s
}

func encode(p packet.Packet) []byte {
	data := p.Data
	if data == nil {
		data = []byte("null")
	}
	switch p.Type {
	case packet.Connect:
		return AppendConnect(nil, p.Namespace, data)
	case packet.Disconnect:
		return AppendDisconnect(nil, p.Namespace)
	case packet.ConnectError:
		return AppendConnectError(nil, p.Namespace, data)
	case packet.Event, packet.BinaryEvent:
		return AppendEvent(nil, p.Namespace, p.ID, p.Name, p.Args[1:], p.Attachments)
	default:
		return AppendAck(nil, p.Namespace, p.ID, p.Args, p.Attachments)
	}
}

func TestCorpus(t *testing.T) {
	for _, e := range corpus(t) {
		in := bytes.Clone(e.in)
		p, err := Decode(in, &packet.DefaultLimits)
		clear(in) // nothing of it is kept
		got := ""
		if err != nil {
			bad := err.(*packet.Error)
			got = fmt.Sprintf("%s@%d", bad.Reason, bad.Offset)
		} else {
			got = strings.NewReplacer("\uFFFD", `\ufffd`, "\uD7FF", `\ud7ff`).Replace(meaning(p))
		}
		if got != e.meaning || (err == nil) != e.ok {
			t.Errorf("packets.txt:%d: %s\n got %s\nwant %s", e.line, e.inWords, got, e.meaning)
		}
		if err == nil {
			if out := encode(p); !bytes.Equal(out, e.written) {
				t.Errorf("packets.txt:%d: written\n as %x\nwant %x", e.line, out, e.written)
			}
		}
	}
}

// Whatever the text codec takes comes back from this one with the same value.
func TestFromText(t *testing.T) {
	text, err := os.ReadFile("../testdata/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.Split(line, "\t")
		if fields[0] != "ok" {
			continue
		}
		d := packet.NewDecoder(nil)
		p, complete, err := d.Text([]byte(fields[1]))
		for i := byte(0); err == nil && !complete; i++ {
			p, complete, err = d.Binary([]byte{i})
		}
		if err != nil {
			continue // a quoted one
		}
		n++
		compare(t, fields[1], p)
	}
	if n < 80 {
		t.Errorf("%d packets", n)
	}
}

// A payload that there is not is no null: the reference refuses that.
func TestConnectWithoutPayload(t *testing.T) {
	if got, want := AppendConnect(nil, "/a", nil), bytesOf(t, `82 "type" 00 "nsp" "/a"`); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// compare encodes and decodes p.
func compare(t *testing.T, what string, p packet.Packet) {
	t.Helper()
	limits := packet.DefaultLimits
	limits.Depth++ // for values that stand at the limit
	q, err := Decode(encode(p), &limits)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if q.Namespace != p.Namespace || q.ID != p.ID || q.Name != p.Name || len(q.Args) != len(p.Args) {
		t.Errorf("%s: becomes %s", what, meaning(q))
		return
	}
	if p.Data != nil && p.Args == nil && !reflect.DeepEqual(value(t, p.Data, nil), value(t, q.Data, nil)) {
		t.Errorf("%s: payload %s becomes %s", what, p.Data, q.Data)
	}
	for i := range p.Args {
		if i == 0 && p.Name != "" {
			continue
		}
		a, b := value(t, p.Args[i], p.Attachments), value(t, q.Args[i], q.Attachments)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: argument %d: %v becomes %v", what, i, a, b)
		}
	}
}

func value(t *testing.T, raw []byte, attachments [][]byte) (v any) {
	t.Helper()
	if err := packet.Unmarshal(raw, attachments, &v); err != nil && !strings.Contains(err.Error(), "cannot unmarshal number") {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func TestLimits(t *testing.T) {
	event := func(rest string) []byte { return append(bytesOf(t, `83 "type" 02 "nsp" "/" "data" 92 "x"`), rest...) }
	rep := strings.Repeat
	tests := []struct {
		name   string
		in     func(n int) []byte
		limit  int
		reason string
	}{
		{"namespace", func(n int) []byte {
			return append(append(bytesOf(t, `82 "type" 00 "nsp" d9`), byte(n)), "/"+rep("a", n-1)...)
		}, 254, "namespace too long"},
		{"event name", func(n int) []byte {
			return append(append(bytesOf(t, `83 "type" 02 "nsp" "/" "data" 91 d9`), byte(n)), rep("a", n)...)
		}, 254, "event name is no text, or too long"},
		{"array depth (M5)", func(n int) []byte { return event(rep("\x91", n-2) + "\x90") }, 64, "nested too deeply"},
		{"map depth (M5)", func(n int) []byte { return event(rep("\x81\xa1a", n-2) + "\x80") }, 64, "nested too deeply"},
		{"auth depth", func(n int) []byte {
			return append(bytesOf(t, `83 "type" 00 "nsp" "/" "data"`), rep("\x81\xa1a", n-1)+"\x80"...)
		}, 64, "nested too deeply"},
		{"depth of what is ignored", func(n int) []byte {
			return append(bytesOf(t, `83 "type" 01 "nsp" "/" "more"`), rep("\x91", n-1)+"\x90"...)
		}, 64, "nested too deeply"},
		{"values", func(n int) []byte {
			return event(arrayHeader(n-3) + rep("\xc0", n-3))
		}, 100_000, "too many values"},
		{"maps (M9)", func(n int) []byte {
			return event(arrayHeader(n-3) + rep("\x80", n-3))
		}, 100_000, "too many values"},
		{"auth bytes", func(n int) []byte {
			return append(append(bytesOf(t, `83 "type" 00 "nsp" "/" "data" 81 "a" da`), byte((n-6)>>8), byte(n-6)), rep("x", n-6)...)
		}, 64 << 10, "payload too large"},
	}
	limits := packet.DefaultLimits
	limits.Namespace, limits.Name = 254, 254 // the length of a text of one byte
	for _, tt := range tests {
		if _, err := Decode(tt.in(tt.limit), &limits); err != nil {
			t.Errorf("%s: %d: %v", tt.name, tt.limit, err)
		}
		_, err := Decode(tt.in(tt.limit+1), &limits)
		if bad, ok := errors.AsType[*packet.Error](err); !ok || bad.Reason != tt.reason {
			t.Errorf("%s: %d: %v, want %s", tt.name, tt.limit+1, err, tt.reason)
		}
	}
	limits.TotalBytes = 100
	for n, ok := range map[int]bool{100 - 23: true, 101 - 23: false} {
		in := event("\xc4" + string([]byte{byte(n)}) + rep("x", n))
		if _, err := Decode(in, &limits); (err == nil) != ok {
			t.Errorf("%d bytes: %v", len(in), err)
		}
	}
}

func arrayHeader(n int) string { return string(msgp.AppendArrayHeader(nil, uint32(n))) }

// Lengths that are not true cost nothing (M1 to M6).
func TestLies(t *testing.T) {
	head := string(bytesOf(t, `83 "type" 02 "nsp" "/" "data" 92 "x"`))
	for name, in := range map[string]string{
		"array of 2^32-1":          head + "\xdd\xff\xff\xff\xff\xc0",
		"map of 2^32-1":            head + "\xdf\xff\xff\xff\xff\xa1a\xc0",
		"text of 2^32-1":           head + "\xdb\xff\xff\xff\xffx",
		"binary of 2^32-1":         head + "\xc6\xff\xff\xff\xffx",
		"extension of 2^32-1":      head + "\xc9\xff\xff\xff\xff\x00x",
		"extension cut short":      head + "\xd7\x00\x00",
		"packet of 2^32-1":         "\xdf\xff\xff\xff\xff\xa4type\x00",
		"data of 2^32-1":           string(bytesOf(t, `83 "type" 02 "nsp" "/" "data" dd ff ff ff ff "x"`)),
		"a million levels":         head + strings.Repeat("\x91", 1_000_000),
		"ten million levels":       head + strings.Repeat("\x81\xa1a", 10_000_000),
		"ten million levels aside": string(bytesOf(t, `83 "type" 02 "nsp" "/" "more"`)) + strings.Repeat("\x91", 10_000_000),
		"a million maps":           head + "\xdd\x00\x0f\x42\x40" + strings.Repeat("\x80", 1_000_000),
	} {
		raw := []byte(in)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(raw, &packet.DefaultLimits)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: allocates %d bytes", name, n)
		}
	}
}

// FuzzDecode: whatever is decoded is JSON, and comes back when it is encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, e := range corpus(f) {
		f.Add(e.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := Decode(in, &packet.DefaultLimits)
		if err != nil {
			if bad, ok := err.(*packet.Error); !ok || bad.Offset < 0 || bad.Offset > len(in) {
				t.Fatalf("%x: %#v", in, err)
			}
			return
		}
		if p.Data != nil && !json.Valid(p.Data) {
			t.Fatalf("%x: %s is no JSON", in, p.Data)
		}
		out := encode(p)
		q, err := Decode(out, &packet.DefaultLimits)
		if err != nil {
			t.Fatalf("%x, encoded as %x: %v", in, out, err)
		}
		if p.Type == packet.Event && len(p.Args[0]) > 0 && p.Args[0][0] != '"' {
			p.Args[0], q.Args[0] = nil, nil // a numeric name is written as a text
			p.Data, q.Data = nil, nil
		}
		if meaning(p) != meaning(q) || fmt.Sprintf("%x", p.Attachments) != fmt.Sprintf("%x", q.Attachments) {
			t.Errorf("%x is %s, and encoded %s", in, meaning(p), meaning(q))
		}
	})
}

// FuzzEncode: any JSON means the same once it was MessagePack.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{
		`1`, `-0`, `1e5`, `0.1`, `1e999`, `18446744073709551616`, `"a\u00e9\ud83d\ude00\ud800"`, `[]`, ` { } `, `[1,[2,{"a":[]}]]`, `{"a":1,"b":{"":null}}`,
		`[` + strings.Repeat("0,", 20) + `0]`, `{"_placeholder":true,"num":0}`, `[true , false]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if list, err := packet.Split([]byte("["+string(raw)+"]"), &packet.DefaultLimits); err != nil || len(list) != 1 {
			return
		}
		compare(t, string(raw), packet.Packet{Type: packet.Ack, Namespace: "/", Args: [][]byte{raw}})
	})
}

func BenchmarkCodec(b *testing.B) {
	args := [][]byte{[]byte(`{"id":1234567,"name":"somebody","tags":["a","b"],"score":1.5,"ok":true}`)}
	in := AppendEvent(nil, "/", 12, "update", args, nil)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 512)
		for b.Loop() {
			AppendEvent(buf, "/", 12, "update", args, nil)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(in, &packet.DefaultLimits); err != nil {
				b.Fatal(err)
			}
		}
	})
}
