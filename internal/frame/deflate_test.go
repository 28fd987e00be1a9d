package frame

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// deflate compresses as a client may: at any level, with its stream ended by the tail that is left out, or by a last block.
func deflate(t testing.TB, payload []byte, level int, last bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(payload)
	if last {
		w.Close()
		return append(out.Bytes(), 0)
	}
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte(deflateTail))
}

// fragments returns a compressed message as a client sends it, in frames of at most size bytes; 0 is one frame.
func fragments(op Opcode, compressed []byte, size int) (out []byte) {
	if size == 0 {
		size = max(1, len(compressed))
	}
	for first := true; ; first = false {
		n := min(size, len(compressed))
		start := len(out)
		out = AppendMasked(out, op, n == len(compressed), [4]byte{9, 8, 7, 6}, compressed[:n])
		if first {
			out[start] |= rsv1Bit
		}
		if compressed = compressed[n:]; len(compressed) == 0 {
			return out
		}
		op = Continuation
	}
}

// inflate returns what a reader makes of a stream, with a limit on messages.
func inflate(limit int, in []byte, cuts ...int) []string {
	l := DefaultLimits(limit)
	l.Compressed = true
	return readAll(l, in, cuts...)
}

// Section 12 of the Autobahn suite: kinds of data, in messages of growing size, whole and in fragments.
func TestAutobahnDeflate(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 1<<18)
	random.Read(noise)
	picture := make([]byte, 1<<18)
	for i := range picture {
		picture[i] = byte(i>>9) + byte(i>>2) + noise[i]&7
	}
	var text, object, page strings.Builder
	for i := 0; text.Len() < 1<<18; i++ {
		fmt.Fprintf(&text, "Habe nun, ach, Philosophie (%d), Juristerei und Medizin %x; ", i, noise[i:i+3])
	}
	for i := 0; object.Len() < 1<<18; i++ {
		fmt.Fprintf(&object, `{"id":%d,"name":"n%x","tags":["a","ü"],"at":%d.5},`, i, noise[i:i+4], noise[i])
	}
	for i := 0; page.Len() < 1<<18; i++ {
		fmt.Fprintf(&page, "<tr><td class=\"c%d\">%x</td><td>&nbsp;</td></tr>\n", noise[i]&3, noise[i:i+2])
	}
	kinds := []struct {
		op   Opcode
		data string
	}{{Binary, text.String()}, {Binary, string(picture)}, {Binary, string(noise)}, {Text, object.String()}, {Text, page.String()}}
	sizes := []struct{ message, fragment int }{
		{16, 0}, {64, 0}, {256, 0}, {1024, 0}, {4096, 0}, {8192, 0}, {16384, 0}, {32768, 0}, {65536, 0}, {131072, 0},
		{8192, 256}, {16384, 256}, {32768, 256}, {65536, 256}, {131072, 256}, {131072, 1024}, {131072, 4096}, {131072, 32768},
	}
	for k, kind := range kinds {
		for i, size := range sizes {
			t.Run(fmt.Sprintf("12.%d.%d", k+1, i+1), func(t *testing.T) {
				level := (k + i) % 3
				message := kind.data[:size.message]
				if kind.op == Text {
					message = strings.ToValidUTF8(message, "")
				}
				in := fragments(kind.op, deflate(t, []byte(message), level*3, level == 1), size.fragment)
				want := map[Opcode]string{Text: "text", Binary: "binary"}[kind.op] + fmt.Sprintf(" %x", message)
				if got := inflate(1<<20, in, 4000); len(got) != 1 || got[0] != want {
					t.Errorf("level %d: %d bytes do not come back", level*3, len(message))
				}
			})
		}
	}
}

func TestDeflate(t *testing.T) {
	x := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	compressed := func(payload []byte) []byte { return fragments(Text, deflate(t, payload, 9, false), 0) }
	rsv := func(bits byte, op Opcode, fin bool, payload []byte) []byte {
		b := AppendMasked(nil, op, fin, [4]byte{1, 2, 3, 4}, payload)
		b[0] |= bits
		return b
	}
	hello := deflate(t, []byte("hello"), 9, false)
	plain := AppendMasked(nil, Text, true, [4]byte{5}, []byte("plain"))
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"a message, then one that is not compressed", append(compressed([]byte("hello")), plain...), "text hello | text plain"},
		{"empty", rsv(rsv1Bit, Text, true, []byte{0}), "text"},
		{"the limit", compressed(x(1000)), "text 1000*x"},
		{"one over", compressed(x(1001)), "error 1009"},
		{"one over in fragments", fragments(Text, deflate(t, x(1001), 9, false), 1), "error 1009"},
		{"invalid UTF-8", compressed([]byte("a\xff")), "error 1007"},
		{"UTF-8 that is cut short", compressed([]byte("a\xc3")), "error 1007"},
		{"binary takes anything", fragments(Binary, deflate(t, []byte("\xff\x00"), 9, false), 0), "binary 0xff00"},
		{"ended by a last block", fragments(Text, deflate(t, []byte("hello"), 9, true), 0), "text hello"},
		{"not compressed at all", fragments(Text, []byte("hello"), 0), "error 1007"},
		{"cut short (Z3)", fragments(Text, deflate(t, x(500), 9, false)[:4], 0), "error 1007"},
		{"corrupt (Z3)", fragments(Text, append([]byte{0x06}, hello...), 0), "error 1007"},
		{"no bytes", rsv(rsv1Bit, Text, true, nil), "error 1007"},
		{"data behind the last block", fragments(Text, append(deflate(t, []byte("hello"), 9, true), hello...), 0), "error 1007"},
		{"a distance further than the message goes back", fragments(Text, []byte{0x4a, 0x04, 0x92, 0x00}, 0), "error 1007"},
		{"RSV1 on a continuation", append(rsv(rsv1Bit, Text, false, hello[:2]), rsv(rsv1Bit, Continuation, true, hello[2:])...), "error 1002"},
		{"RSV1 on a ping", rsv(rsv1Bit, Ping, true, nil), "error 1002"},
		{"RSV1 on a close", rsv(rsv1Bit, Close, true, nil), "error 1002"},
		{"RSV2 besides", rsv(0x60, Text, true, hello), "error 1002"},
		{"RSV3", rsv(0x10, Text, true, hello), "error 1002"},
		{"a ping between fragments", bytes.Join([][]byte{rsv(rsv1Bit, Text, false, hello[:2]), AppendMasked(nil, Ping, true, [4]byte{}, []byte("p")),
			AppendMasked(nil, Continuation, true, [4]byte{}, hello[2:])}, nil), "ping p | text hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := strings.Join(resultsOf(t, tt.want), " | ")
			for _, cuts := range [][]int{nil, {1}, {3}} {
				if got := strings.Join(inflate(1000, tt.in, cuts...), " | "); got != want {
					t.Errorf("in pieces of %v: got %s, want %s", cuts, clip(got), clip(want))
				}
			}
		})
	}
}

// A bomb is refused where it exceeds the limit, or once nothing honest shrinks so well, and costs no more than that.
func TestDeflateBomb(t *testing.T) {
	bomb := func(n int) []byte { return fragments(Binary, deflate(t, make([]byte, n), 9, false), 0) }
	const limit = 1 << 20
	huge := deflate(t, make([]byte, 16<<20), 9, false)
	for name, tt := range map[string]struct {
		in   []byte
		want string
	}{
		"16 MiB in 16 KB (Z1)":        {fragments(Binary, huge, 0), "error 1009"},
		"in fragments":                {fragments(Binary, huge, 1000), "error 1009"},
		"as much as any ratio may be": {bomb(freeRatio), "binary"},
		"one over":                    {bomb(freeRatio + maxRatio*100), "error 1009"},
	} {
		t.Run(name, func(t *testing.T) {
			l := DefaultLimits(limit)
			l.Compressed = true
			r := Reader{Limits: l}
			defer r.Release()
			var got results
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := r.Feed(bytes.Clone(tt.in), &got)
			runtime.ReadMemStats(&after)
			if n := int64(after.TotalAlloc-before.TotalAlloc) - int64(len(tt.in)); n > 4*limit {
				t.Errorf("allocates %d bytes", n)
			}
			if tt.want == "binary" && (err != nil || len(got) != 1) || tt.want != "binary" && (err == nil || err.(*CloseError).Code != CodeTooBig) {
				t.Errorf("%d messages, %v", len(got), err)
			}
		})
	}
}

// What AppendCompressed writes is read again, and costs no memory once the pools are full.
func TestAppendCompressed(t *testing.T) {
	l := &Limits{MaxMessage: 1 << 20, MaxFragments: 1, Client: true, Compressed: true}
	for _, n := range []int{0, 1, 100, 5000, 70_000, 500_000} {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte(i * i >> 8)
		}
		frame := AppendCompressed([]byte("head"), Binary, payload)
		got := readAll(l, frame[4:], 1000)
		if want := strings.TrimSpace(fmt.Sprintf("binary %x", payload)); len(got) != 1 || got[0] != want {
			t.Errorf("%d bytes do not come back", n)
		}
	}
}

// FuzzDeflate: whatever is fed, the memory is bounded, the end is the same in any pieces, and what the standard library
// inflates within the limits comes out.
func FuzzDeflate(f *testing.F) {
	f.Add([]byte("hello"), false)
	f.Add([]byte{0, 0, 0, 0xff, 0xff}, false)
	f.Add(deflate(f, bytes.Repeat([]byte("abc"), 300), 9, false), true)
	f.Add(deflate(f, make([]byte, 2000), 1, true), true)
	f.Add([]byte{0x4a, 0x04, 0x92, 0x00}, false)
	f.Fuzz(func(t *testing.T, in []byte, raw bool) {
		const limit = 1000
		if !raw {
			in = deflate(t, in, 1+len(in)%9, len(in)%2 == 0)
		}
		if len(in) > limit {
			return
		}
		stream := fragments(Binary, in, 0)
		got := inflate(limit, stream)
		if again := inflate(limit, fragments(Binary, in, 7), 5); fmt.Sprint(got) != fmt.Sprint(again) {
			t.Errorf("in fragments %s, whole %s", again, got)
		}
		want := make([]byte, limit+1)
		z := flate.NewReader(strings.NewReader(string(in) + deflateTail + deflateEnd))
		n := 0
		var err error
		for err == nil && n < len(want) {
			var m int
			m, err = z.Read(want[n:])
			n += m
		}
		switch {
		case n > limit:
			if got[0] != "error 1009" {
				t.Errorf("%d bytes and more: %s", n, got)
			}
		case err.Error() != "EOF":
			if got[0] != "error 1007" {
				t.Errorf("%v: %s", err, got)
			}
		case got[0] != "error 1007" && got[0] != strings.TrimSpace(fmt.Sprintf("binary %x", want[:n])):
			t.Errorf("got %s, want %x", got, want[:n])
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	payload := bytes.Repeat([]byte(`{"id":1234567,"name":"somebody","tags":["a","b"]},`), 40)
	binary.BigEndian.PutUint64(payload[100:], 0x0123456789abcdef)
	b.Run("compress", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		var dst []byte
		for b.Loop() {
			dst = AppendCompressed(dst[:0], Text, payload)
		}
		b.ReportMetric(float64(len(dst)), "B")
	})
	b.Run("inflate", func(b *testing.B) {
		one := fragments(Binary, deflate(b, payload, 1, false), 0)
		buf := make([]byte, len(one))
		l := DefaultLimits(1 << 20)
		l.Compressed = true
		r := Reader{Limits: l}
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			copy(buf, one)
			if err := r.Feed(buf, new(stopping)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
