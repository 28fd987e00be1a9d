package msgpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/holdpost/holdpost/internal/packet"
)

// open begins an array or a map.
func (r *reader) open() bool {
	if r.depth--; r.depth < 0 {
		return r.fail("nested too deeply")
	}
	if r.values--; r.values < 0 {
		return r.fail("too many values")
	}
	return true
}

// value reads one value with everything in it, and appends it to out as JSON.
func (r *reader) value() bool {
	r.undefined = false
	t := msgp.NextType(r.rest)
	if t == msgp.ArrayType || t == msgp.MapType {
		if !r.open() {
			return false
		}
		if t == msgp.ArrayType {
			return r.array()
		}
		return r.object()
	}
	if r.values--; r.values < 0 {
		return r.fail("too many values")
	}
	var err error
	rest := r.rest
	switch t {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(rest)
		r.out = append(r.out, "null"...)
	case msgp.BoolType:
		var v bool
		v, rest, err = msgp.ReadBoolBytes(rest)
		r.out = strconv.AppendBool(r.out, v)
	case msgp.IntType:
		var v int64
		v, rest, err = msgp.ReadInt64Bytes(rest)
		r.out = strconv.AppendInt(r.out, v, 10)
	case msgp.UintType:
		var v uint64
		v, rest, err = msgp.ReadUint64Bytes(rest)
		r.out = strconv.AppendUint(r.out, v, 10)
	case msgp.Float32Type, msgp.Float64Type:
		var v float64
		v, rest, err = msgp.ReadFloat64Bytes(rest)
		r.out = appendNumber(r.out, v)
	case msgp.StrType:
		var v []byte
		if v, rest, err = msgp.ReadStringZC(rest); !r.text(v) {
			return false
		}
	case msgp.BinType:
		var v []byte
		v, rest, err = msgp.ReadBytesZC(rest)
		r.attach(bytes.Clone(v))
	case msgp.ExtensionType:
		rest, err = r.extension(rest)
	default:
		return r.fail("value of an unknown kind")
	}
	if err != nil {
		return r.fail("message ends early, or has an unknown extension")
	}
	r.rest = rest
	return true
}

func (r *reader) array() bool {
	n, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	if err != nil {
		return r.fail("message ends early")
	}
	r.rest = rest
	r.out = append(r.out, '[')
	for i := range n {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		if !r.value() {
			return false
		}
	}
	r.out = append(r.out, ']')
	r.undefined = false
	r.depth++
	return true
}

func (r *reader) object() bool {
	n, rest, err := msgp.ReadMapHeaderBytes(r.rest)
	if err != nil {
		return r.fail("message ends early")
	}
	r.rest = rest
	r.out = append(r.out, '{')
	first := true
	for range n {
		start := len(r.out)
		if !first {
			r.out = append(r.out, ',')
		}
		name, ok := r.key()
		if !ok {
			return false
		}
		r.out = append(r.out, ':')
		value := len(r.out)
		if !r.value() {
			return false
		}
		if r.undefined { // as if it were not there
			r.out = r.out[:start]
			continue
		}
		first = false
		r.lookalike = r.lookalike || string(name) == "_placeholder" && string(r.out[value:]) == "true"
	}
	r.out = append(r.out, '}')
	r.undefined = false
	r.depth++
	return true
}

// key reads the key of a member. It is a value too, as far as their number is concerned.
func (r *reader) key() (name []byte, ok bool) {
	switch msgp.NextType(r.rest) {
	case msgp.StrType:
		name, rest, err := msgp.ReadStringZC(r.rest)
		if err != nil {
			return nil, r.fail("message ends early")
		}
		r.rest = rest
		return name, r.text(name)
	case msgp.IntType, msgp.UintType:
		r.out = append(r.out, '"')
		if !r.value() {
			return nil, false
		}
		r.out = append(r.out, '"')
		return nil, true
	}
	return nil, r.fail("key is neither a text nor an integer")
}

// text appends a text. Half of a surrogate pair, which is what JavaScript makes of a text that was cut within one, becomes
// U+FFFD, as in the other codec; anything else that is not UTF-8 is refused.
func (r *reader) text(v []byte) bool {
	if utf8.Valid(v) {
		r.out = packet.AppendString(r.out, string(v))
		return true
	}
	fixed := make([]byte, 0, len(v))
	for len(v) > 0 {
		c, n := utf8.DecodeRune(v)
		if c == utf8.RuneError && n == 1 {
			if len(v) < 3 || v[0] != 0xed || v[1]&^0x1f != 0xa0 || v[2]&^0x3f != 0x80 {
				return r.fail("invalid UTF-8")
			}
			n = 3
		}
		fixed = utf8.AppendRune(fixed, c)
		v = v[n:]
	}
	r.out = packet.AppendString(r.out, string(fixed))
	return true
}

// The headers of the parser's extensions, which are all of type 0.
const (
	undefinedExtension = 0xd4 // fixext 1
	dateExtension      = 0xd7 // fixext 8
	binaryExtension8   = 0xc7 // an ArrayBuffer or a view of one: what is a Buffer is a binary value
	binaryExtension16  = 0xc8
	binaryExtension32  = 0xc9
)

func (r *reader) extension(b []byte) (rest []byte, err error) {
	var e msgp.RawExtension // of type 0
	if rest, err = msgp.ReadExtensionBytes(b, &e); err != nil {
		return b, err
	}
	switch b[0] {
	case undefinedExtension:
		r.undefined = true
		r.out = append(r.out, "null"...)
	case dateExtension:
		r.out = appendDate(r.out, int64(binary.BigEndian.Uint64(e.Data)))
	case binaryExtension8, binaryExtension16, binaryExtension32:
		r.attach(e.Data) // which is a copy
	default:
		return b, errExtension
	}
	return rest, nil
}

// attach takes a binary value.
func (r *reader) attach(v []byte) {
	r.out = packet.AppendPlaceholder(r.out, len(r.attachments))
	r.attachments = append(r.attachments, v)
}

var errExtension = errors.New("unknown extension")

// maxDate is the last date that JavaScript knows, and its negative the first.
const maxDate = 8_640_000_000_000_000

// appendDate appends the text that JavaScript has for a date in ms, null where it has none.
func appendDate(dst []byte, ms int64) []byte {
	if ms > maxDate || ms < -maxDate {
		return append(dst, "null"...)
	}
	t := time.UnixMilli(ms).UTC()
	dst = append(dst, '"')
	if year := t.Year(); year < 0 || year > 9999 { // written with six digits and a sign
		sign := byte('+')
		if year < 0 {
			sign, year = '-', -year
		}
		dst = append(dst, sign)
		dst = append(dst, strconv.Itoa(1_000_000 + year)[1:]...)
	} else {
		dst = t.AppendFormat(dst, "2006")
	}
	dst = t.AppendFormat(dst, "-01-02T15:04:05.000Z")
	return append(dst, '"')
}

// appendNumber appends a number as JavaScript writes it.
func appendNumber(dst []byte, v float64) []byte {
	abs := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return append(dst, "null"...)
	case abs != 0 && (abs < 1e-6 || abs >= 1e21):
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}
