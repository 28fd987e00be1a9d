package packet

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// rep is n times s.
func rep(s string, n int) string { return strings.Repeat(s, n) }

// Each limit, at the limit and one beyond.
func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		wire   func(n int) string
		limit  int
		reason string
	}{
		{"namespace", func(n int) string { return "0/" + rep("a", n-1) + "," }, 255, "namespace too long"},
		{"namespace without comma", func(n int) string { return "0/" + rep("a", n-1) }, 255, "namespace too long"},
		{"event name", func(n int) string { return `2["` + rep("a", n) + `"]` }, 255, "event name too long"},
		{"event name of escapes", func(n int) string { return `2["` + rep(`\u0061`, n) + `"]` }, 255, "event name too long"},
		{"event name of two bytes", func(n int) string { return `2["` + rep("é", n) + `"]` }, 127, "event name too long"},
		{"numeric event name", func(n int) string { return `2[` + rep("1", n) + `]` }, 255, "event name too long"},
		{"array depth", func(n int) string { return `2["x",` + rep("[", n-1) + rep("]", n-1) + `]` }, 64, "JSON nested too deeply"},
		{"object depth", func(n int) string { return `2["x",` + rep(`{"a":`, n-2) + "{}" + rep("}", n-2) + `]` }, 64, "JSON nested too deeply"},
		{"auth depth", func(n int) string { return "0" + rep(`{"a":`, n-1) + "{}" + rep("}", n-1) }, 64, "JSON nested too deeply"},
		{"values", func(n int) string { return `2["x"` + rep(",0", n-2) + `]` }, 100_000, "too many JSON values"},
		{"values in an object", func(n int) string { return `2["x",{"a":0` + rep(`,"a":0`, n-4) + `}]` }, 100_000, "too many JSON values"},
		{"values in an ack", func(n int) string { return `31[0` + rep(",[]", n-2) + `]` }, 100_000, "too many JSON values"},
		{"auth bytes", func(n int) string { return `0{"a":"` + rep("x", n-8) + `"}` }, 64 << 10, "payload too large"},
		{"error bytes", func(n int) string { return `4"` + rep("x", n-2) + `"` }, 64 << 10, "payload too large"},
		{"attachments", func(n int) string { return fmt.Sprintf(`5%d-["x"]`, n) }, 10, "too many attachments"},
		{"text of a binary packet", func(n int) string { return `51-["x","` + rep("x", n-11) + `"]` }, 2_000_000 - 1, "binary packet too large"}, // one byte is the attachment's
		{"ack id digits", func(n int) string { return "2" + rep("1", n) + `["x"]` }, 16, "ack id malformed"},
	}
	for _, tt := range tests {
		d := NewDecoder(nil)
		if _, err := decode(&d, []byte(tt.wire(tt.limit))); err != nil {
			t.Errorf("%s: %d: %v", tt.name, tt.limit, err)
		}
		over := tt.limit + 1
		_, err := decode(&d, []byte(tt.wire(over)))
		if bad, ok := errors.AsType[*Error](err); !ok || bad.Reason != tt.reason {
			t.Errorf("%s: %d: %v, want %s", tt.name, over, err, tt.reason)
		}
	}
}

func TestLimitOfBinaryPacket(t *testing.T) {
	text := []byte(`52-["x"]`)
	room := DefaultLimits.TotalBytes - len(text)
	for _, tt := range []struct {
		first, second int
		ok            bool
	}{{0, 0, true}, {0, room, true}, {room - 1, 1, true}, {room, 0, true}, {room, 1, false}, {room + 1, 0, false}} {
		d := NewDecoder(nil)
		_, complete, err := d.Text(text)
		if complete || err != nil || !d.Pending() {
			t.Fatal(complete, err)
		}
		_, complete, err = d.Binary(make([]byte, tt.first))
		if err == nil {
			if complete {
				t.Fatal("complete after one of two attachments")
			}
			var p Packet
			p, complete, err = d.Binary(make([]byte, tt.second))
			if err == nil && (!complete || len(p.Attachments) != 2) {
				t.Fatal("incomplete after two attachments")
			}
		}
		if (err == nil) != tt.ok {
			t.Errorf("%d + %d bytes: %v", tt.first, tt.second, err)
		}
		if d.Pending() {
			t.Errorf("%d + %d bytes: still pending", tt.first, tt.second)
		}
	}
}

func TestAttachmentsOutOfPlace(t *testing.T) {
	d := NewDecoder(nil)
	if _, _, err := d.Binary([]byte("x")); err == nil {
		t.Error("attachment accepted that no packet announced")
	}
	if p, err := decode(&d, []byte(`51-["x"]`)); err != nil || len(p.Attachments) != 1 {
		t.Fatal(p, err)
	}
	if _, _, err := d.Binary([]byte("x")); err == nil {
		t.Error("second attachment of one accepted")
	}
	if _, complete, err := d.Text([]byte(`52-["x"]`)); complete || err != nil {
		t.Fatal(complete, err)
	}
	if _, _, err := d.Text([]byte(`2["y"]`)); err == nil {
		t.Error("text accepted where an attachment was expected")
	}
	if d.Pending() {
		t.Error("pending after an error")
	}
}

func TestOwnLimits(t *testing.T) {
	limits := DefaultLimits
	limits.Attachments, limits.Depth = 0, 10_000
	d := NewDecoder(&limits)
	if _, _, err := d.Text([]byte(`51-["x"]`)); err == nil {
		t.Error("attachment accepted where none may be")
	}
	for depth, ok := range map[int]bool{maxDepth: true, maxDepth + 1: true, maxDepth + 2: false, 10_001: false} {
		// The outer array is read by the splitter, which needs no bit for it.
		_, _, err := d.Text([]byte(`2["x",` + rep("[", depth-1) + rep("]", depth-1) + "]"))
		if (err == nil) != ok {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
	limits.Depth = 0
	if _, _, err := d.Text([]byte(`2["x"]`)); err == nil {
		t.Error("array accepted with depth 0")
	}
}

// What a text claims costs nothing, and a megabyte of anything takes the allocations of a short packet: the work that
// is left is one pass over the text (CVE-2020-36049).
func TestCost(t *testing.T) {
	const mb = 1 << 20
	tests := []struct {
		name   string
		wire   string
		ok     bool
		allocs float64 // at most
	}{
		{"digits behind the type", "2" + rep("1", mb), false, 1},
		{"digits as attachment count", "5" + rep("1", mb) + "-", false, 1},
		{"namespace", "2/" + rep("a", mb), false, 1},
		{"commas", "2/" + rep(",", mb), false, 2},
		{"a number", `2["x",` + rep("1", mb) + "]", true, 2},
		{"an exponent", `2["x",1e` + rep("9", mb) + "]", true, 2},
		{"a string", `2["x","` + rep("a", mb) + `"]`, true, 2},
		{"a string of escapes", `2["x","` + rep(`\"`, mb/2) + `"]`, true, 2},
		{"a string of surrogates", `2["x","` + rep(`\ud800`, mb/6) + `"]`, true, 2},
		{"a string of emoji", `2["x","` + rep("🦊", mb/4) + `"]`, true, 2},
		{"a name", `2["` + rep("a", mb) + `"]`, false, 1},
		{"a name of escapes", `2["` + rep(`\u0061`, mb/6) + `"]`, false, 1},
		{"a numeric name", `2[` + rep("1", mb) + `]`, false, 1},
		{"open arrays", `2["x",` + rep("[", mb), false, 2},
		{"open objects", `2["x",` + rep(`{"a":`, mb/5), false, 2},
		{"whitespace", `2["x"` + rep(" ", mb) + `]`, true, 2},
		{"values", `2["x"` + rep(",0", mb/2), false, 25},
		{"placeholders", `51-["x",` + rep(`[{"_placeholder":true,"num":0}],`, 20_000) + `0]`, true, 30},
		{"keys", `51-["x",{` + rep(`"`+rep("a", 100)+`":0,`, 9_000) + `"b":0}]`, true, 4},
	}
	for _, tt := range tests {
		text := []byte(tt.wire)
		d := NewDecoder(nil)
		if _, err := decode(&d, text); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		d = NewDecoder(nil)
		if n := testing.AllocsPerRun(5, func() {
			if _, complete, _ := d.Text(text); !complete && d.Pending() {
				d.Binary(nil)
			}
		}); n > tt.allocs+2 { // a pending packet is two more
			t.Errorf("%s: %v allocations, want at most %v", tt.name, n, tt.allocs+2)
		}
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Decoder{}); n > 24 {
		t.Errorf("a decoder takes %d bytes of its connection, want at most 24", n)
	}
}

func TestIsAck(t *testing.T) {
	for text, want := range map[string]bool{"": false, "3": true, `31[]`: true, `61-1[]`: true, `2["3"]`: false, `51-["x"]`: false, "0": false} {
		if got := IsAck([]byte(text)); got != want {
			t.Errorf("IsAck(%q) = %v", text, got)
		}
	}
}

func TestErrorQuotesNothing(t *testing.T) {
	d := NewDecoder(nil)
	_, _, err := d.Text([]byte(`2["connect","secret"]`))
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "invalid packet: ") {
		t.Error(err)
	}
}

func TestTypeString(t *testing.T) {
	if got := fmt.Sprint(BinaryAck, Type(9)); got != "BINARY_ACK Type(9)" {
		t.Error(got)
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                        `""`,
		"a\"b\\c/":                `"a\"b\\c/"`,
		"\b\f\n\r\t\x00\x1e\x1f":  `"\b\f\n\r\t\u0000\u001e\u001f"`,
		"<&>'\x7f":                "\"<&>'\x7f\"",
		"é世🦊\u2028":               "\"é世🦊\u2028\"",
		"a\xffb\xed\xa0\x80c\xc3": "\"a\uFFFDb\uFFFD\uFFFD\uFFFDc\uFFFD\"",
		"\uFFFD":                  "\"\uFFFD\"",
	} {
		got := AppendString([]byte("x"), in)
		if !bytes.Equal(got, []byte("x"+want)) {
			t.Errorf("AppendString(%q) = %s, want %s", in, got[1:], want)
		}
	}
}
