package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const testLimit = 5

type corpusCase struct {
	in  []byte
	out string
}

func corpus(t testing.TB) (cases []corpusCase) {
	t.Helper()
	b, err := os.ReadFile("testdata/payloads.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		in, out, ok := strings.Cut(line, "\t")
		raw, err := strconv.Unquote(`"` + in + `"`)
		want, err2 := strconv.Unquote(`"` + out + `"`)
		if !ok || err != nil || err2 != nil {
			t.Fatalf("testdata/payloads.txt:%d: %q", i+1, line)
		}
		cases = append(cases, corpusCase{[]byte(raw), want})
	}
	return cases
}

var errorNames = map[error]string{ErrEmpty: "empty", ErrType: "type", ErrBase64: "base64", ErrUTF8: "utf8", ErrTooMany: "toomany", ErrLength: "length"}

// decode returns what a payload decodes to, and its packets again as a payload.
func decode(in []byte, limit int) (out string, again []byte, err error) {
	var parts []string
	p := NewPayload(bytes.Clone(in), limit)
	for {
		packet, ok, err := p.Next()
		if err != nil {
			return strings.Join(append(parts, errorNames[err]), "|"), again, err
		}
		if !ok {
			return strings.Join(parts, "|"), again, nil
		}
		if len(parts) > 0 {
			again = append(again, Separator)
		}
		if packet.Binary {
			parts = append(parts, fmt.Sprintf("b%x", packet.Data))
			again = AppendBinary(again, packet.Data)
		} else {
			parts = append(parts, string(packet.Type)+string(packet.Data))
			again = append(append(again, byte(packet.Type)), packet.Data...)
		}
	}
}

func TestPayload(t *testing.T) {
	for _, c := range corpus(t) {
		out, again, err := decode(c.in, testLimit)
		if out != c.out {
			t.Errorf("%q decodes to %q, want %q", c.in, out, c.out)
		}
		if err == nil && !bytes.Equal(again, c.in) {
			t.Errorf("%q becomes %q", c.in, again)
		}
	}
}

func TestNothingAfterAnError(t *testing.T) {
	p := NewPayload([]byte("x\x1e4a"), 10)
	if _, _, err := p.Next(); !errors.Is(err, ErrType) {
		t.Errorf("got %v", err)
	}
	if _, ok, err := p.Next(); ok || err != nil {
		t.Errorf("then: %v, %v", ok, err)
	}
}

func TestSeparatorFlood(t *testing.T) {
	p := NewPayload(bytes.Repeat([]byte("4\x1e"), 500_000), 1000)
	n := 0
	for {
		_, ok, err := p.Next()
		if !ok {
			if n != 1000 || err != ErrTooMany {
				t.Errorf("%d packets, then %v", n, err)
			}
			return
		}
		n++
	}
}

// FuzzPayload compares with decoding by the standard library's means, and encodes what it got to the same bytes.
func FuzzPayload(f *testing.F) {
	for _, c := range corpus(f) {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, again, err := decode(in, testLimit)
		if err == nil && !bytes.Equal(again, in) {
			t.Errorf("%q becomes %q", in, again)
		}
		if want := reference(in); out != want {
			t.Errorf("%q decodes to %q, want %q", in, out, want)
		}
	})
}

func reference(in []byte) string {
	var parts []string
	fail := func(name string) string { return strings.Join(append(parts, name), "|") }
	for i, part := range strings.Split(string(in), "\x1e") {
		switch {
		case i == testLimit:
			return fail("toomany")
		case strings.ToValidUTF8(part, "") != part:
			return fail("utf8")
		case part == "":
			return fail("empty")
		case part[0] == 'b':
			data, err := base64.StdEncoding.Strict().DecodeString(part[1:])
			if err != nil || strings.ContainsAny(part, "\r\n") {
				return fail("base64")
			}
			parts = append(parts, fmt.Sprintf("b%x", data))
		case !strings.ContainsRune("0123456", rune(part[0])):
			return fail("type")
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "|")
}

func TestOpen(t *testing.T) {
	h := &Handshake{
		SID: "lv_VI97HAXpY6yYWAAAC", Upgrades: []string{"websocket"}, PingInterval: 25 * time.Second, PingTimeout: 20 * time.Second,
		MaxPayload: 1_000_000,
	}
	want := `0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
	if got := string(AppendOpen(nil, h)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	h.Upgrades = []string{"websocket", "webtransport"}
	var back struct{ Upgrades []string }
	if err := json.Unmarshal(AppendOpen(nil, h)[1:], &back); err != nil || !slices.Equal(back.Upgrades, h.Upgrades) {
		t.Errorf("upgrades come back as %q: %v", back.Upgrades, err)
	}
	h.Upgrades = nil
	if got := string(AppendOpen(nil, h)); !strings.Contains(got, `"upgrades":[],`) {
		t.Errorf("no upgrades: %s", got)
	}
}
