package msgpack

import (
	"slices"
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
