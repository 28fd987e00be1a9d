package packet

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// maxDepth is the most that Limits.Depth can ask for: a scan keeps one bit a level, on the stack.
const maxDepth = 256

// A scan checks JSON against RFC 8259 in one pass and without recursion. Its methods take the index of the first byte
// and return the index behind what they read, or -1 after recording the reason.
type scan struct {
	b      []byte
	depth  int // levels that may still be opened
	values int // values that may still be read
	reason string
	at     int
}

func (s *scan) fail(i int, reason string) int {
	s.at, s.reason = i, reason
	return -1
}

func (s *scan) err() error { return &Error{Reason: s.reason, Offset: s.at} }

// space skips insignificant whitespace.
func (s *scan) space(i int) int {
	for i < len(s.b) {
		switch s.b[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// value reads one value of any kind, with everything in it.
func (s *scan) value(i int) int {
	var objects [maxDepth / 64]uint64 // bit = 1: the container open at this level is an object
	depth, limit := 0, min(s.depth, maxDepth)
	b := s.b
	for {
		if i >= len(b) {
			return s.fail(i, "JSON ends early")
		}
		if s.values--; s.values < 0 {
			return s.fail(i, "too many JSON values")
		}
		switch c := b[i]; c {
		case '"':
			i = s.text(i)
		case '{', '[':
			if depth == limit {
				return s.fail(i, "JSON nested too deeply")
			}
			start := i
			i = s.space(i + 1)
			if i < len(b) && b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
				break
			}
			bit := uint64(1) << (depth & 63)
			if c == '{' {
				objects[depth>>6] |= bit
				if i = s.key(i); i < 0 {
					return i
				}
			} else {
				objects[depth>>6] &^= bit
			}
			if i >= len(b) {
				return s.fail(start, "JSON array or object without end")
			}
			depth++
			continue
		case 't':
			i = s.literal(i, "true")
		case 'f':
			i = s.literal(i, "false")
		case 'n':
			i = s.literal(i, "null")
		default:
			i = s.number(i)
		}
		if i < 0 {
			return i
		}
		for {
			if depth == 0 {
				return i
			}
			i = s.space(i)
			if i >= len(b) {
				return s.fail(i, "JSON ends early")
			}
			object := objects[(depth-1)>>6]>>((depth-1)&63)&1 == 1
			if b[i] == ',' {
				i = s.space(i + 1)
				if object {
					if i = s.key(i); i < 0 {
						return i
					}
				}
				break
			}
			if object && b[i] != '}' || !object && b[i] != ']' {
				return s.fail(i, "JSON: comma or end of array or object expected")
			}
			i++
			depth--
		}
	}
}

// key reads the name of an object's member, the colon, and the space around them.
func (s *scan) key(i int) int {
	if i >= len(s.b) || s.b[i] != '"' {
		return s.fail(i, "JSON: member name expected")
	}
	if i = s.text(i); i < 0 {
		return i
	}
	i = s.space(i)
	if i >= len(s.b) || s.b[i] != ':' {
		return s.fail(i, "JSON: colon expected")
	}
	return s.space(i + 1)
}

func (s *scan) literal(i int, want string) int {
	if len(s.b)-i < len(want) || string(s.b[i:i+len(want)]) != want {
		return s.fail(i, "JSON value expected")
	}
	return i + len(want)
}

// number reads -? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][+-]?[0-9]+)?
func (s *scan) number(i int) int {
	b, start := s.b, i
	if b[i] == '-' {
		i++
	}
	first := i
	i = digits(b, i)
	switch {
	case i == first && first == start:
		return s.fail(start, "JSON value expected")
	case i == first, b[first] == '0' && i > first+1:
		return s.fail(start, "JSON number malformed")
	}
	if i < len(b) && b[i] == '.' {
		first = i + 1
		if i = digits(b, first); i == first {
			return s.fail(start, "JSON number malformed")
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		first = i + 1
		if first < len(b) && (b[first] == '+' || b[first] == '-') {
			first++
		}
		if i = digits(b, first); i == first {
			return s.fail(start, "JSON number malformed")
		}
	}
	return i
}

// digits returns the index of the first byte from i on that is no ASCII digit.
func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// text reads a string, from its opening quote to behind its closing one.
func (s *scan) text(i int) int {
	b, start := s.b, i
	i++
	for {
		i = plain(b, i)
		if i >= len(b) {
			return s.fail(start, "JSON string without end")
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i >= len(b) {
				return s.fail(start, "JSON string without end")
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i++
			case 'u':
				if _, ok := hex4(b, i+1); !ok {
					return s.fail(i, "JSON escape malformed")
				}
				i += 5
			default:
				return s.fail(i, "JSON escape malformed")
			}
		case c < 0x20:
			return s.fail(i, "control character in JSON string")
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return s.fail(i, "invalid UTF-8")
			}
			i += n
		}
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain skips the bytes that stand for themselves in a JSON string: ASCII except controls, quote and backslash.
// It looks at eight bytes at a time. A borrow can flag only bytes behind one that is flagged rightly, so the first
// flag is always true.
func plain(b []byte, i int) int {
	for len(b)-i >= 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote := x ^ ones*'"'
		slash := x ^ ones*'\\'
		stop := (x-ones*0x20)&^x | (quote-ones)&^quote | (slash-ones)&^slash | x
		if stop &= highs; stop != 0 {
			return i + bits.TrailingZeros64(stop)>>3
		}
		i += 8
	}
	for i < len(b) && b[i] >= 0x20 && b[i] < utf8.RuneSelf && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte, i int) (r rune, ok bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case (c|0x20)-'a' <= 5:
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// valid checks that b is one JSON value, give or take whitespace around it.
func valid(b []byte, depth, values int) error {
	s := scan{b: b, depth: depth, values: values}
	i := s.value(s.space(0))
	if i < 0 {
		return s.err()
	}
	if i = s.space(i); i < len(b) {
		s.fail(i, "JSON followed by something else")
		return s.err()
	}
	return nil
}
