//go:build linux

package load

import (
	"bytes"
	"math"
	"os"
	"testing"
	"time"
)

func TestFrame(t *testing.T) {
	key := [4]byte{1, 0xfe, 7, 99}
	for _, n := range []int{0, 1, 7, 8, 9, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte("holdpost "), n/9+1)[:n]
		f := AppendFrame([]byte("before"), OpText, key, payload)[len("before"):]
		// Unmasked by the definition of RFC 6455 §5.3, the frame is one that a server could have sent.
		head := len(f) - n
		plain := append(bytes.Clone(f[:head-4]), f[head:]...)
		if f[1]&0x80 == 0 || !bytes.Equal(f[head-4:head], key[:]) {
			t.Fatalf("%d bytes: not masked with the key: % x", n, f[:head])
		}
		plain[1] &^= 0x80
		for i := range n {
			plain[head-4+i] ^= key[i%4]
		}
		for cut := range min(len(plain), 20) {
			if _, _, size, err := nextFrame(plain[:cut]); size != 0 || err != nil {
				t.Errorf("%d bytes cut at %d: size %d, error %v", n, cut, size, err)
			}
		}
		op, got, size, err := nextFrame(append(plain, "next"...))
		if err != nil || op != OpText || size != len(plain) || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: opcode %d, %d bytes, size %d, error %v", n, op, len(got), size, err)
		}
	}
}

func TestFrameRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"reserved bit": {0xc1, 0},
		"fragment":     {0x01, 0},
		"masked":       {0x81, 0x80, 1, 2, 3, 4},
		"huge":         {0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0},
	} {
		if _, _, _, err := nextFrame(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAcceptOf(t *testing.T) {
	// The example of RFC 6455 §1.3.
	if got := string(acceptOf("dGhlIHNhbXBsZSBub25jZQ==")); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error(got)
	}
}

func TestParseStat(t *testing.T) {
	user, sys, err := parseStat([]byte("4711 (a ) R (b) S 1 4711 4711 0 -1 4194560 1 0 0 0 123 45 7 8 20 0 1 0 100 0 0\n"))
	if err != nil || user != 1230*time.Millisecond || sys != 450*time.Millisecond {
		t.Errorf("user %v, system %v, error %v", user, sys, err)
	}
	for _, bad := range []string{"", "1 x S", "1 (x) S 1 2", "1 (x) S 1 1 1 0 -1 1 1 0 0 0 a b 7 8"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseSmaps(t *testing.T) {
	m, err := parseSmaps([]byte("55d0-7fff ---p 00000000 00:00 0    [rollup]\nRss:   1204 kB\nPss:    97 kB\nPss_Dirty:  64 kB\n"))
	if err != nil || m.Rss != 1204<<10 || m.Pss != 97<<10 {
		t.Errorf("%+v, error %v", m, err)
	}
	if _, err := parseSmaps([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("no Pss and no error")
	}
}

func TestReadOwn(t *testing.T) {
	m, err := ReadMemory(os.Getpid())
	if err != nil || m.Rss <= 0 {
		t.Fatalf("%+v, error %v", m, err)
	}
	before, err := ReadCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		after, err := ReadCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		d := after.Sub(before)
		if d.Total > 50*time.Millisecond {
			if split := d.User + d.Sys; split < d.Total-30*time.Millisecond || split > d.Total+30*time.Millisecond {
				t.Errorf("total %v, but user %v and system %v", d.Total, d.User, d.Sys)
			}
			return
		}
	}
}

func TestSummarize(t *testing.T) {
	v := []float64{5, 1, 3}
	if s := Summarize(v); s != (Summary{Median: 3, Min: 1, Max: 5, N: 3}) || v[0] != 5 {
		t.Errorf("%+v, input now %v", s, v)
	}
	if s := Summarize([]float64{4, 1, 2, 3}); s.Median != 2.5 {
		t.Errorf("%+v", s)
	}
	if s := Summarize(nil); s.N != 0 || !math.IsNaN(s.Median) {
		t.Errorf("%+v", s)
	}
}

func TestPercentile(t *testing.T) {
	v := make([]int64, 100)
	for i := range v {
		v[i] = int64(100 - i)
	}
	for p, want := range map[float64]int64{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := Percentile(v, p); got != want {
			t.Errorf("%v: %d, want %d", p, got, want)
		}
	}
	if Percentile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}

func TestSourceAddr(t *testing.T) {
	seen := map[[4]byte]int{}
	for i := range 10_000 {
		a := sourceAddr(i)
		if a[3] == 0 || a[3] == 255 || a[2] < 2 {
			t.Fatal(a)
		}
		seen[a]++
	}
	if len(seen) != 1000 {
		t.Error(len(seen))
	}
}
