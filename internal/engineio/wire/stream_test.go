package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// stream feeds b in pieces of n bytes and returns what was taken.
func stream(r *StreamReader, b []byte, n int) (got []string, err error) {
	for len(b) > 0 && err == nil {
		piece := bytes.Clone(b[:min(n, len(b))])
		b = b[len(piece):]
		err = r.Feed(piece, func(isBinary bool, packet []byte) error {
			got = append(got, fmt.Sprintf("%v %d %.20s", isBinary, len(packet), packet))
			return nil
		})
	}
	return got, err
}

func packet(isBinary bool, data string) []byte {
	return append(AppendStreamHeader(nil, isBinary, len(data)), data...)
}

// The headers are those of the protocol's description.
func TestStreamHeader(t *testing.T) {
	for _, c := range []struct {
		isBinary bool
		n        int
		want     string
	}{
		{false, 1, "01"}, {false, 31, "1f"}, {true, 3, "83"}, {false, 125, "7d"}, {false, 126, "7e007e"},
		{false, 32820, "7e8034"}, {true, 65535, "feffff"}, {false, 65536, "7f0000000000010000"}, {true, 1_000_000, "ff00000000000f4240"},
	} {
		if got := fmt.Sprintf("%x", AppendStreamHeader(nil, c.isBinary, c.n)); got != c.want {
			t.Errorf("%v %d: %s, want %s", c.isBinary, c.n, got, c.want)
		}
	}
}

func TestStreamInPiecesOfAnySize(t *testing.T) {
	var b []byte
	var want []string
	for _, n := range []int{1, 5, 125, 126, 1000, 65535, 65536, 100_000} {
		for _, isBinary := range []bool{false, true} {
			data := strings.Repeat("x", n)
			b = append(b, packet(isBinary, data)...)
			want = append(want, fmt.Sprintf("%v %d %.20s", isBinary, n, data))
		}
	}
	for _, piece := range []int{1, 2, 3, 7, 1000, len(b)} {
		r := &StreamReader{Max: 100_000}
		got, err := stream(r, b, piece)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || r.Pending() {
			t.Errorf("in pieces of %d: %v %v", piece, got, err)
		}
	}
}

func TestStreamThatIsNone(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name string
		in   string
		want error
	}{
		{"at the limit", "\x7e\x03\xe8" + strings.Repeat("x", 1000), nil},
		{"beyond it", "\x7e\x03\xe9", ErrStreamSize},
		{"beyond it, in 8 bytes", "\x7f\x00\x00\x00\x00\x00\x00\x03\xe9", ErrStreamSize},
		{"beyond 2^53", "\x7f\x00\x20\x00\x00\x00\x00\x00\x00", ErrStreamSize},
		{"beyond 2^63", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", ErrStreamSize},
		{"length 0", "\x00", ErrStreamEmpty},
		{"binary of length 0", "\x80", ErrStreamEmpty},
		{"length 0 in 2 bytes", "\x7e\x00\x00", ErrStreamEmpty},
		{"length 0 in 8 bytes", "\x7f\x00\x00\x00\x00\x00\x00\x00\x00", ErrStreamEmpty},
		{"a short length in many bytes", "\x7f\x00\x00\x00\x00\x00\x00\x00\x024x", nil},
		{"invalid UTF-8", "\x034\xff\xfe", ErrUTF8},
		{"which is fine as a binary message", "\x834\xff\xfe", nil},
	} {
		for _, piece := range []int{1, 2000} {
			r := &StreamReader{Max: 1000}
			if _, err := stream(r, []byte(c.in), piece); err != c.want {
				t.Errorf("%s, in pieces of %d: %v, want %v", c.name, piece, err, c.want)
			}
			if got, err := stream(r, []byte("\x014"), 1); c.want != nil && (got != nil || err != nil) {
				t.Errorf("%s: read on: %v %v", c.name, got, err)
			}
		}
	}
	r := &StreamReader{Max: 10}
	if err := r.Feed([]byte("\x014\x014"), func(bool, []byte) error { return stop }); err != stop || r.Pending() {
		t.Errorf("the taker's error: %v", err)
	}
}

// What a header declares costs nothing before it arrives.
func TestStreamGrowsWithWhatArrived(t *testing.T) {
	r := &StreamReader{Max: 1 << 40}
	allocated := testing.AllocsPerRun(1, func() {
		r.headerN, r.remain, r.packet = 0, 0, nil
		stream(r, []byte("\x7f\x00\x00\x00\xff\x00\x00\x00\x00x"), 100)
	})
	if !r.Pending() || cap(r.packet) > 64 || allocated > 10 {
		t.Errorf("%d bytes, %v allocations", cap(r.packet), allocated)
	}
	r.Release()
	if r.Pending() || r.packet != nil {
		t.Error("not released")
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("\x010\x1f0{\"sid\":\"aaaaaaaaaaaaaaaaaaaa\"}\x83\x01\x02\x03"), uint8(1))
	f.Add([]byte("\x7e\x00\x80"+strings.Repeat("4", 128)+"\x00"), uint8(5))
	f.Add([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x02ab"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		whole, wholeErr := stream(&StreamReader{Max: 300}, b, max(1, len(b)))
		parts, partsErr := stream(&StreamReader{Max: 300}, b, 1+int(piece))
		if fmt.Sprint(whole) != fmt.Sprint(parts) || wholeErr != partsErr {
			t.Errorf("%q %v as a whole, %q %v in pieces", whole, wholeErr, parts, partsErr)
		}
	})
}
