package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeV3 returns what a payload of revision 3 decodes to, and its packets again as a payload.
func decodeV3(in []byte, binary bool) (out string, again []byte, err error) {
	var parts []string
	p := NewPayloadV3(bytes.Clone(in), binary, testLimit)
	for {
		packet, ok, err := p.Next()
		if err != nil {
			return strings.Join(append(parts, errorNames[err]), "|"), again, err
		}
		if !ok {
			return strings.Join(parts, "|"), again, nil
		}
		switch {
		case packet.Binary:
			parts = append(parts, fmt.Sprintf("b%x", packet.Data))
			if binary {
				again = AppendBinaryV3(again, packet.Data, true)
			} else {
				again = AppendBase64V3(again, packet.Data)
			}
		default:
			text := append([]byte{byte(packet.Type)}, packet.Data...)
			parts = append(parts, string(text))
			if binary {
				again = AppendBinaryV3(again, text, false)
			} else {
				again = AppendTextV3(again, text)
			}
		}
	}
}

func TestPayloadV3(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		binary  bool
	}{
		{"6:4hello2:4€", "4hello|4€", false},
		{"1:1", "1", false},
		{"3:4😀", "4😀", false},
		{"2:4€10:b4AQIDBA==", "4€|b01020304", false},
		{"2:b4", "b", false},
		{"01:4", "4", false},
		{"4:4\xc3\xa9ab1:2", "4éab|2", false},
		{"\x00\x05\xff4\xe2\x82\xaca\x01\x05\xff\x04\x01\x02\x03\x04", "4€a|b01020304", true},
		{"\x01\x01\xff\x04", "b", true},
		{"\x00\x01\x02\xff4hello world", "4hello world", true},
		{"\x01\x03\xff\x02ab", "2ab", true},

		{"", "length", false},
		{"4hello", "length", false},
		{":4", "length", false},
		{"0:", "empty", false},
		{"0:1:4", "empty", false},
		{"-1:4", "length", false},
		{"1e1:4", "length", false},
		{" 1:4", "length", false},
		{"5:4abc", "length", false},
		{"3:4abc", "4ab|length", false},
		{"2:4😀", "length", false}, // half of a pair
		{"2:4\xff", "utf8", false},
		{"2:4\xed", "utf8", false},
		{"1:7", "type", false},
		{"1:b", "type", false},
		{"6:b5AQID", "type", false},
		{"5:b4AQI", "base64", false},
		{"1:41:41:41:41:41:4", "4|4|4|4|4|toomany", false},
		{"999999999:4", "length", false},
		{"9999999999:4", "length", false},
		{strings.Repeat("1", 1000), "length", false},
		{"\x02\x01\xff4", "type", true},
		{"\x00\xff4", "length", true},
		{"\x00\x0a\xff4", "length", true},
		{"\x00\x02\xff4", "length", true},
		{"\x00\x02\xff4\xff", "utf8", true},
		{"\x01\x01\xff\x07", "type", true},
		{"\x01\x00\xff", "empty", true},
		{"\x00" + strings.Repeat("\x09", 10) + "\xff4", "length", true},
		{"\x00\x01", "length", true},
		{"", "type", true},
	} {
		out, again, err := decodeV3([]byte(tt.in), tt.binary)
		if out != tt.out {
			t.Errorf("%q decodes to %q, want %q", tt.in, out, tt.out)
		}
		if err == nil && string(again) != tt.in && tt.in[0] != '0' && tt.in != "\x01\x03\xff\x02ab" {
			t.Errorf("%q becomes %q", tt.in, again)
		}
	}
}

func TestPacketV3(t *testing.T) {
	for in, want := range map[string]string{"": "empty", "\x04": "b", "\x04ab": "b6162", "\x02": "2", "\x07": "type", "4": "type"} {
		p, err := ParseBinaryV3([]byte(in))
		got := errorNames[err]
		if err == nil && p.Binary {
			got = fmt.Sprintf("b%x", p.Data)
		} else if err == nil {
			got = string(p.Type) + string(p.Data)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzPayloadV3 compares with a decoder that has the text in UTF-16 and believes nothing else.
func FuzzPayloadV3(f *testing.F) {
	for _, s := range []string{"6:4hello2:4€", "10:b4AQIDBA==1:2", "3:4😀", "2:4\xff", "5:4abc"} {
		f.Add([]byte(s), false)
	}
	f.Add([]byte("\x00\x05\xff4\xe2\x82\xaca\x01\x05\xff\x04\x01\x02\x03\x04"), true)
	f.Fuzz(func(t *testing.T, in []byte, binary bool) {
		out, again, err := decodeV3(in, binary)
		if err == nil && utf8.ValidString(out) { // else a packet of another type came as a binary one
			out2, _, err := decodeV3(again, binary)
			if err != nil || out2 != out {
				t.Errorf("%q is %q, and written again %q: %v", in, out, out2, err)
			}
		}
		if binary || !utf8.Valid(in) || err != nil {
			return
		}
		if want := referenceV3(utf16.Encode([]rune(string(in)))); out != want {
			t.Errorf("%q decodes to %q, want %q", in, out, want)
		}
	})
}

// referenceV3 decodes what is known to be good.
func referenceV3(in []uint16) string {
	var parts []string
	for len(in) > 0 {
		n := 0
		for ; in[0] != ':'; in = in[1:] {
			n = n*10 + int(in[0]-'0')
		}
		part := string(utf16.Decode(in[1 : 1+n]))
		in = in[1+n:]
		if data, ok := strings.CutPrefix(part, "b4"); ok {
			b, _ := base64.StdEncoding.DecodeString(data)
			part = fmt.Sprintf("b%x", b)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "|")
}
