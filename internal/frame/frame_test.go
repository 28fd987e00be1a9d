package frame

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var testLimits = &Limits{MaxMessage: 1000, MaxFragments: 20, MaxEmpty: 3}

type corpusCase struct {
	name    string
	in      []byte
	results []string
}

func corpus(t testing.TB) (cases []corpusCase) {
	t.Helper()
	b, err := os.ReadFile("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "case":
			cases = append(cases, corpusCase{name: rest})
		case "in":
			c := &cases[len(cases)-1]
			c.in = append(c.in, streamOf(t, rest)...)
		case "out":
			c := &cases[len(cases)-1]
			c.results = append(c.results, resultsOf(t, rest)...)
		default:
			t.Fatalf("testdata/frames.txt:%d: %q", i+1, line)
		}
	}
	return cases
}

// streamOf returns the bytes that words of the corpus stand for.
func streamOf(t testing.TB, words string) (in []byte) {
	t.Helper()
	for word := range strings.FieldsSeq(words) {
		in = append(in, bytesOf(t, word)...)
	}
	return in
}

// resultsOf returns results of the corpus in the form in which [results] has them.
func resultsOf(t testing.TB, words string) (out []string) {
	t.Helper()
	for part := range strings.SplitSeq(words, "|") {
		kind, data, _ := strings.Cut(strings.TrimSpace(part), " ")
		if kind == "close" || kind == "error" {
			out = append(out, kind+" "+data)
		} else {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %x", kind, dataOf(t, data))))
		}
	}
	return out
}

var opcodes = map[string]Opcode{"cont": Continuation, "text": Text, "binary": Binary, "close": Close, "ping": Ping, "pong": Pong}

func bytesOf(t testing.TB, word string) []byte {
	if before, after, ok := strings.Cut(word, "*"); ok && !strings.Contains(before, ":") {
		n, err := strconv.Atoi(before)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Repeat(bytesOf(t, after), n)
	}
	name, data, ok := strings.Cut(word, ":")
	if !ok {
		b, err := hex.DecodeString(word)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	name, more := strings.CutPrefix(name, "+")
	op, ok := opcodes[name]
	if !ok {
		t.Fatalf("unknown frame %q", word)
	}
	return AppendMasked(nil, op, !more, [4]byte{0x37, 0xfa, 0x21, 0x3d}, dataOf(t, data))
}

func dataOf(t testing.TB, s string) []byte {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if before, after, ok := strings.Cut(s, "*"); ok {
		n, err := strconv.Atoi(before)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Repeat([]byte(after), n)
	}
	return []byte(s)
}

// results is a Handler that writes down what it is given.
type results []string

func (r *results) Message(op Opcode, payload []byte) error {
	kind := "text"
	if op == Binary {
		kind = "binary"
	}
	*r = append(*r, strings.TrimSpace(fmt.Sprintf("%s %x", kind, payload)))
	return nil
}

func (r *results) Control(op Opcode, payload []byte) error {
	switch op {
	case Close:
		code, _ := ParseClose(payload)
		*r = append(*r, fmt.Sprintf("close %d", code))
	case Ping:
		*r = append(*r, strings.TrimSpace(fmt.Sprintf("ping %x", payload)))
	case Pong:
		*r = append(*r, strings.TrimSpace(fmt.Sprintf("pong %x", payload)))
	}
	return nil
}

// readAll feeds a copy of in, cut into pieces whose lengths cuts says in turn, and returns what came of it.
func readAll(limits *Limits, in []byte, cuts ...int) []string {
	r := Reader{Limits: limits}
	defer r.Release()
	var got results
	for i := 0; len(in) > 0; i++ {
		n := len(in)
		if len(cuts) > 0 {
			n = min(n, max(1, cuts[i%len(cuts)]))
		}
		if err := r.Feed(bytes.Clone(in[:n]), &got); err != nil {
			var ce *CloseError
			if !errors.As(err, &ce) {
				panic(err)
			}
			return append(got, fmt.Sprintf("error %d", ce.Code))
		}
		in = in[n:]
	}
	if r.Pending() {
		got = append(got, "incomplete")
	}
	return got
}

func TestReader(t *testing.T) {
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			want := strings.Join(c.results, " | ")
			for _, cuts := range [][]int{nil, {1}, {2}, {3, 1}, {5}, {7, 2}, {64}} {
				if got := strings.Join(readAll(testLimits, c.in, cuts...), " | "); got != want {
					t.Errorf("in pieces of %v: got %s, want %s", cuts, got, want)
				}
			}
			if got := strings.Join(reference(testLimits, c.in), " | "); got != want {
				t.Errorf("reference: got %s, want %s", got, want)
			}
		})
	}
}

// reference reads a stream the simple way: it has all of it, and looks at one byte after the other.
func reference(l *Limits, in []byte) (got []string) {
	var message []byte
	var kind Opcode
	inMessage, frames, empties := false, 0, 0
	fail := func(code int) []string { return append(got, fmt.Sprintf("error %d", code)) }
	for len(in) > 0 {
		unfinished := func() []string { return append(got, "incomplete") }
		if len(in) < 2 {
			return unfinished()
		}
		fin, op, n, head := in[0]>>7 == 1, Opcode(in[0]&15), uint64(in[1]&127), 2
		if in[0]&0x70 != 0 || op > 2 && op < 8 || op > 10 || in[1]>>7 == 0 || op >= 8 && (!fin || n > 125) {
			return fail(1002)
		}
		if n >= 126 {
			size := map[uint64]int{126: 2, 127: 8}[n]
			if len(in) < 2+size {
				return unfinished()
			}
			shortest := map[uint64]uint64{126: 126, 127: 65536}[n]
			n, head = 0, 2+size
			for _, b := range in[2:head] {
				n = n<<8 | uint64(b)
			}
			if n>>63 == 1 || n < shortest {
				return fail(1002)
			}
		}
		if op < 8 && n > uint64(l.MaxMessage) {
			return fail(1009)
		}
		if len(in) < head+4 {
			return unfinished()
		}
		if op < 8 {
			if (op == 0) != inMessage {
				return fail(1002)
			}
			if op != 0 {
				kind, frames, empties, message = op, 0, 0, nil
			}
			inMessage = true
			if frames++; frames > l.MaxFragments {
				return fail(1008)
			}
			if n > 0 || fin {
				empties = 0
			} else if empties++; empties > l.MaxEmpty {
				return fail(1008)
			}
			if uint64(len(message))+n > uint64(l.MaxMessage) {
				return fail(1009)
			}
		}
		payload := make([]byte, 0, 125)
		for i, b := range in[head+4:] {
			if uint64(i) == n {
				break
			}
			payload = append(payload, b^in[head+i%4])
		}
		complete := uint64(len(payload)) == n
		if op < 8 {
			message = append(message, payload...)
			if kind == Text && !couldBeText(message, fin && complete) {
				return fail(1007)
			}
		}
		if !complete {
			return unfinished()
		}
		in = in[head+4+len(payload):]
		switch {
		case op == Close && (len(payload) == 1 || len(payload) > 1 && !allowedCodes[binary.BigEndian.Uint16(payload)]):
			return fail(1002)
		case op == Close && len(payload) > 1 && !utf8.Valid(payload[2:]):
			return fail(1007)
		case op >= 8:
			(*results)(&got).Control(op, payload)
			if op == Close {
				return got
			}
		case fin:
			(*results)(&got).Message(kind, message)
			inMessage = false
		}
	}
	if inMessage {
		got = append(got, "incomplete")
	}
	return got
}

// couldBeText says whether b is text, or its beginning when it is not complete: there must be something to add to it.
func couldBeText(b []byte, complete bool) bool {
	if utf8.Valid(b) {
		return true
	}
	if complete {
		return false
	}
	for _, tail := range []string{"\x80", "\xbf", "\x80\x80", "\xbf\xbf", "\x80\x80\x80", "\xbf\xbf\xbf", "\x90\x80\x80", "\x8f\xbf\xbf", "\xa0\x80", "\x9f\xbf"} {
		if utf8.Valid(append(bytes.Clone(b), tail...)) {
			return true
		}
	}
	return false
}

var allowedCodes = func() map[uint16]bool {
	m := map[uint16]bool{}
	for _, c := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014} {
		m[c] = true
	}
	for c := uint16(3000); c < 5000; c++ {
		m[c] = true
	}
	return m
}()

func FuzzReader(f *testing.F) {
	for _, c := range corpus(f) {
		f.Add(c.in, uint8(1), uint8(2))
	}
	for _, c := range autobahn {
		if in := streamOf(f, c.in); len(in) < 4<<10 {
			f.Add(in, uint8(1), uint8(2))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, cut1, cut2 uint8) {
		want := strings.Join(reference(testLimits, in), " | ")
		for _, cuts := range [][]int{nil, {1}, {int(cut1), int(cut2)}} {
			if got := strings.Join(readAll(testLimits, in, cuts...), " | "); got != want {
				t.Errorf("in pieces of %v: got %s, want %s", cuts, got, want)
			}
		}
	})
}

// FuzzMask checks the word-wise mask against RFC 6455 §5.3 as it is written.
func FuzzMask(f *testing.F) {
	f.Add([]byte("some bytes, more than thirty-two of them, to reach every loop"), uint32(0x12345678), 3)
	f.Fuzz(func(t *testing.T, b []byte, key uint32, pos int) {
		pos &= 0xffff
		var k [4]byte
		binary.LittleEndian.PutUint32(k[:], key)
		want := make([]byte, len(b))
		for i := range b {
			want[i] = b[i] ^ k[(i+pos)%4]
		}
		got := bytes.Clone(b)
		mask(got, key, pos)
		if !bytes.Equal(got, want) {
			t.Errorf("mask(%x, %08x, %d) = %x, want %x", b, key, pos, got, want)
		}
	})
}

func TestWriteAndRead(t *testing.T) {
	limits := &Limits{MaxMessage: 1 << 20, MaxFragments: 1, Client: true}
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		payload := bytes.Repeat([]byte{'x'}, n)
		head := AppendHeader(nil, Binary, n)
		if len(head) != HeaderLen(n) {
			t.Errorf("header for %d bytes is %d long, HeaderLen says %d", n, len(head), HeaderLen(n))
		}
		want := strings.TrimSpace(fmt.Sprintf("binary %x", payload))
		if got := readAll(limits, append(head, payload...), 4096); len(got) != 1 || got[0] != want {
			t.Errorf("%d bytes did not come back", n)
		}
	}
	if got := readAll(limits, AppendClose(nil, CodeTooBig, strings.Repeat("r", 200))); len(got) != 1 || got[0] != "close 1009" {
		t.Errorf("close with a long reason: %q", got)
	}
	if got := readAll(limits, AppendMasked(nil, Text, true, [4]byte{1}, nil)); got[0] != "error 1002" {
		t.Errorf("masked frame from a server (W1): %q", got)
	}
}

// A peer that declares much and sends little must not cost what it declared.
func TestMemoryFollowsArrival(t *testing.T) {
	limits := DefaultLimits(100 << 20)
	in := []byte{0x82, 0xff, 0, 0, 0, 0, 6, 0x40, 0, 0, 1, 2, 3, 4, 5}
	r := Reader{Limits: limits}
	defer r.Release()
	if err := r.Feed(in, new(results)); err != nil || !r.Pending() {
		t.Fatal(err)
	}
	if c := cap(r.part.message); c > maxPooled {
		t.Errorf("holds %d bytes for one that arrived", c)
	}
}

func TestHandlerErrorEndsReading(t *testing.T) {
	r := Reader{Limits: testLimits}
	stop := errors.New("stop")
	h := &stopping{err: stop}
	in := append(bytesOf(t, "text:a"), bytesOf(t, "text:b")...)
	if err := r.Feed(in, h); err != stop {
		t.Errorf("got %v", err)
	}
	if err := r.Feed(bytesOf(t, "text:c"), h); err != nil || h.n != 1 {
		t.Errorf("after the error: %v, %d messages", err, h.n)
	}
}

type stopping struct {
	err error
	n   int
}

func (s *stopping) Message(Opcode, []byte) error { s.n++; return s.err }
func (s *stopping) Control(Opcode, []byte) error { return nil }

func TestFeedDoesNotAllocate(t *testing.T) {
	one := bytesOf(t, "text:64*a")
	buf := make([]byte, len(one))
	r := Reader{Limits: testLimits}
	h := new(stopping)
	if n := testing.AllocsPerRun(100, func() {
		copy(buf, one)
		if err := r.Feed(buf, h); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

func BenchmarkFeed(b *testing.B) {
	for _, n := range []int{64, 1024} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			one := AppendMasked(nil, Binary, true, [4]byte{1, 2, 3, 4}, make([]byte, n))
			buf := make([]byte, len(one))
			r := Reader{Limits: DefaultLimits(1 << 20)}
			h := new(stopping)
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(buf, one)
				r.Feed(buf, h)
			}
		})
	}
}
