package msgpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/holdpost/holdpost/internal/packet"
)

// maxID is 2^53-1, as in the other codec.
const maxID = 1<<53 - 1

// Decode decodes the packet that b holds, and keeps nothing of b. The limits are those of package packet, but for the
// number of attachments: they are values like others here. The error is a *[packet.Error]; after one, the connection is to
// be closed.
func Decode(b []byte, l *packet.Limits) (packet.Packet, error) {
	r := reader{rest: b, size: len(b), limits: l, depth: l.Depth, values: l.Values}
	p := packet.Packet{ID: -1}
	if !r.packet(&p) {
		return packet.Packet{}, &packet.Error{Reason: r.reason, Offset: r.size - len(r.rest)}
	}
	return p, nil
}

// A reader decodes one message. Its methods report false once reason says why it is none.
type reader struct {
	rest   []byte // what is still to be read
	size   int    // of the message
	limits *packet.Limits
	depth  int // levels that may still be opened
	values int // values that may still be read
	reason string

	out         []byte // JSON
	attachments [][]byte
	lookalike   bool // an object looks like a placeholder and is none
	undefined   bool // the value just read is the extension for it
}

func (r *reader) fail(reason string) bool {
	if r.reason == "" {
		r.reason = reason
	}
	return false
}

// field is a member of the packet.
type field uint8

const (
	typeField field = 1 << iota
	nspField
	dataField
	idField
)

var fields = map[string]field{"type": typeField, "nsp": nspField, "data": dataField, "id": idField}

// payload is where the parts of data are in out.
type payload struct {
	kind  msgp.Type // InvalidType: there is none
	bytes int       // of the message
	ends  []int     // of the elements of an array
	first msgp.Type // the kind of its first element; InvalidType if it is too long
}

func (r *reader) packet(p *packet.Packet) bool {
	n, rest, err := msgp.ReadMapHeaderBytes(r.rest)
	if err != nil {
		return r.fail("no map")
	}
	r.rest = rest
	var seen field
	var data payload
	for range n {
		key, rest, err := msgp.ReadStringZC(r.rest)
		if err != nil {
			return r.fail("key expected")
		}
		r.rest = rest
		f := fields[string(key)]
		if seen&f != 0 {
			return r.fail("member occurs twice")
		}
		seen |= f
		ok := true
		switch f {
		case typeField:
			var t int64
			if t, ok = r.integer(int64(packet.ConnectError)); ok {
				p.Type = packet.Type(t)
			}
		case nspField:
			ok = r.namespace(p)
		case idField:
			p.ID, ok = r.integer(maxID)
		case dataField:
			ok = r.payload(&data)
		default: // some clients add what is not ours
			kept, attached := len(r.out), len(r.attachments)
			ok = r.value()
			r.out, r.attachments = r.out[:kept], r.attachments[:attached]
		}
		if !ok {
			return false
		}
	}
	switch {
	case len(r.rest) > 0:
		return r.fail("bytes behind the packet")
	case seen&typeField == 0:
		return r.fail("packet without type")
	case seen&nspField == 0:
		return r.fail("packet without namespace")
	case len(r.attachments) > 0 && r.lookalike:
		return r.fail("object that looks like a placeholder")
	}
	return r.assemble(p, &data)
}

// integer reads an integer from 0 to limit.
func (r *reader) integer(limit int64) (int64, bool) {
	switch msgp.NextType(r.rest) {
	case msgp.IntType, msgp.UintType:
		// An unsigned one that is too large for the type is an error too.
		n, rest, err := msgp.ReadInt64Bytes(r.rest)
		if err == nil && n >= 0 && n <= limit {
			r.rest = rest
			return n, true
		}
	}
	return 0, r.fail("type or id is no integer in its range")
}

func (r *reader) namespace(p *packet.Packet) bool {
	name, rest, err := msgp.ReadStringZC(r.rest)
	switch {
	case err != nil:
		return r.fail("namespace is no text")
	case len(name) > r.limits.Namespace:
		return r.fail("namespace too long")
	case len(name) == 0 || name[0] != '/' || !utf8.Valid(name) || slices.ContainsFunc(name, func(c byte) bool { return c < 0x20 || c == 0x7f }):
		return r.fail("namespace malformed")
	}
	p.Namespace, r.rest = string(name), rest
	return true
}

// payload reads data, and the elements of an array one by one.
func (r *reader) payload(d *payload) bool {
	before := len(r.rest)
	d.kind = msgp.NextType(r.rest)
	if d.kind != msgp.ArrayType {
		if !r.value() {
			return false
		}
		if r.undefined {
			d.kind = msgp.NilType
		}
		d.bytes = before - len(r.rest)
		return true
	}
	n, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	if err != nil {
		return r.fail("message ends early")
	}
	r.rest = rest
	if !r.open() {
		return false
	}
	r.out = append(r.out, '[')
	for i := range n {
		if i > 0 {
			r.out = append(r.out, ',')
		} else if d.first = msgp.NextType(r.rest); d.first == msgp.StrType {
			if name, _, _ := msgp.ReadStringZC(r.rest); len(name) > r.limits.Name {
				d.first = msgp.InvalidType
			}
		}
		if !r.value() {
			return false
		}
		d.ends = append(d.ends, len(r.out))
	}
	r.out = append(r.out, ']')
	r.depth++
	return true
}

// assemble checks what the type asks of the payload, and fills in the rest of p.
func (r *reader) assemble(p *packet.Packet, d *payload) bool {
	hasData := d.kind != msgp.InvalidType && d.kind != msgp.NilType
	asks := p.Type == packet.Event || p.Type == packet.Ack
	switch {
	case !asks && p.ID >= 0:
		return r.fail("ack id where none can be")
	case !asks && len(r.attachments) > 0:
		return r.fail("binary value where none can be")
	case p.Type == packet.Disconnect:
		if hasData {
			return r.fail("payload where none can be")
		}
		return true
	case !asks && d.bytes > r.limits.AuthBytes:
		return r.fail("payload too large")
	case !asks:
		if hasData && d.kind != msgp.MapType && (p.Type != packet.ConnectError || d.kind != msgp.StrType) {
			return r.fail("payload is no object")
		}
		if hasData {
			p.Data = r.out
		}
		return true
	case d.kind != msgp.ArrayType:
		return r.fail("payload is no array")
	case r.size > r.limits.TotalBytes:
		return r.fail("binary packet too large")
	}
	p.Data, p.Attachments = r.out, r.attachments
	p.Args = make([][]byte, len(d.ends))
	start := 1
	for i, end := range d.ends {
		p.Args[i] = r.out[start:end:end]
		start = end + 1
	}
	if p.Type == packet.Ack {
		if p.ID < 0 {
			return r.fail("ack without id")
		}
		return true
	}
	return r.name(p, d)
}

// name takes the event's name, which may be a number.
func (r *reader) name(p *packet.Packet, d *payload) bool {
	switch d.first {
	case msgp.StrType:
		p.Name = packet.Unquote(p.Args[0][1 : len(p.Args[0])-1])
		if packet.Reserved(p.Name) {
			return r.fail("event name is reserved")
		}
	case msgp.IntType, msgp.UintType, msgp.Float32Type, msgp.Float64Type:
		p.Name = string(p.Args[0])
	default:
		return r.fail("event name is no text, or too long")
	}
	return true
}

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
