package packet

import (
	"strings"
	"unicode/utf8"
)

// maxID is 2^53-1: ids are JavaScript numbers, and larger ones would come back changed.
const maxID = 1<<53 - 1

// A Decoder reads the packets of one connection. It holds nothing between packets but the incomplete binary one.
type Decoder struct {
	limits  *Limits
	partial *partial
}

// partial is a binary packet that waits for attachments.
type partial struct {
	packet Packet
	want   int // attachments
	bytes  int // text and attachments so far
}

// NewDecoder returns a decoder with the given limits, which it shares and does not change. nil means [DefaultLimits].
func NewDecoder(l *Limits) Decoder {
	if l == nil {
		l = &DefaultLimits
	}
	return Decoder{limits: l}
}

// Pending tells whether a binary packet waits for attachments. Its age is for the caller to limit.
func (d *Decoder) Pending() bool { return d.partial != nil }

// Text decodes b, the text of one packet without the Engine.IO type digit. The packet aliases b from here on. A binary
// packet is not complete before [Decoder.Binary] has been called for each of its attachments. The error is an *[Error];
// after one, the connection is to be closed.
func (d *Decoder) Text(b []byte) (p Packet, complete bool, err error) {
	if d.partial != nil {
		d.partial = nil
		return Packet{}, false, &Error{Reason: "text where an attachment was expected"}
	}
	r := reader{scan: scan{b: b, depth: d.limits.Depth, values: d.limits.Values}, limits: d.limits}
	want := r.packet(&p)
	if want < 0 {
		return Packet{}, false, r.err()
	}
	if want == 0 {
		return p, true, nil
	}
	if len(b) > d.limits.TotalBytes {
		return Packet{}, false, &Error{Reason: "binary packet too large", Offset: len(b)}
	}
	d.partial = &partial{packet: p, want: want, bytes: len(b)}
	return Packet{}, false, nil
}

// Binary takes one attachment, which belongs to the decoder and then to the packet.
func (d *Decoder) Binary(b []byte) (p Packet, complete bool, err error) {
	w := d.partial
	if w == nil {
		return Packet{}, false, &Error{Reason: "attachment that no packet announced"}
	}
	if w.bytes += len(b); w.bytes > d.limits.TotalBytes {
		d.partial = nil
		return Packet{}, false, &Error{Reason: "binary packet too large"}
	}
	w.packet.Attachments = append(w.packet.Attachments, b)
	if len(w.packet.Attachments) < w.want {
		return Packet{}, false, nil
	}
	d.partial = nil
	return w.packet, true, nil
}

// A reader decodes one text.
type reader struct {
	scan
	limits *Limits
}

// packet fills p and returns the number of attachments that are to follow, or -1.
func (r *reader) packet(p *Packet) int {
	b := r.b
	if len(b) == 0 {
		return r.fail(0, "empty packet")
	}
	p.Type = Type(b[0] - '0')
	if p.Type > BinaryAck {
		return r.fail(0, "unknown packet type")
	}
	i, want := 1, 0
	if p.Type >= BinaryEvent {
		if i, want = r.attachments(i); i < 0 {
			return i
		}
	}
	if i = r.namespace(i, p); i < 0 {
		return i
	}
	if i = r.id(i, p); i < 0 {
		return i
	}
	start := i
	switch p.Type {
	case Event, Ack, BinaryEvent, BinaryAck:
		i = r.list(i, p)
	case Disconnect:
		i = r.nothing(i)
	default:
		i = r.object(i, p)
	}
	if i < 0 {
		return i
	}
	if want > 0 {
		if _, at := placeholders(nil, p.Data, want, nil); at >= 0 {
			return r.fail(start+at, "placeholder names no attachment")
		}
	}
	return want
}

// attachments reads the count and its dash. The count is written as JavaScript writes it: no sign, no leading zero.
func (r *reader) attachments(i int) (next, n int) {
	end := digits(r.b, i)
	switch {
	case end == i || end == len(r.b) || r.b[end] != '-':
		return r.fail(i, "attachment count malformed"), 0
	case r.b[i] == '0':
		return r.fail(i, "attachment count zero or with a leading zero"), 0
	}
	for _, c := range r.b[i:end] {
		if n = n*10 + int(c-'0'); n > r.limits.Attachments {
			return r.fail(i, "too many attachments"), 0
		}
	}
	return end + 1, n
}

// namespace reads a name that begins with a slash and ends at the first comma or at the end of the packet.
func (r *reader) namespace(i int, p *Packet) int {
	p.Namespace = "/"
	if i >= len(r.b) || r.b[i] != '/' {
		return i
	}
	end := i
	for end < len(r.b) && r.b[end] != ',' {
		if c := r.b[end]; c < 0x20 || c == 0x7f {
			return r.fail(end, "control character in namespace")
		}
		if end++; end-i > r.limits.Namespace {
			return r.fail(i, "namespace too long")
		}
	}
	if !utf8.Valid(r.b[i:end]) {
		return r.fail(i, "invalid UTF-8")
	}
	if end-i > 1 {
		p.Namespace = string(r.b[i:end])
	}
	if end < len(r.b) {
		end++
	}
	return end
}

// id reads an ack id. A leading zero is refused because the answer could not repeat it.
func (r *reader) id(i int, p *Packet) int {
	p.ID = -1
	end := digits(r.b, i)
	switch {
	case end == i:
		return i
	case p.Type == Connect || p.Type == Disconnect || p.Type == ConnectError:
		return r.fail(i, "ack id where none can be")
	case end-i > 16 || r.b[i] == '0' && end-i > 1:
		return r.fail(i, "ack id malformed")
	}
	p.ID = 0
	for _, c := range r.b[i:end] {
		p.ID = p.ID*10 + int64(c-'0')
	}
	if p.ID > maxID {
		return r.fail(i, "ack id too large")
	}
	return end
}

// nothing checks that the packet ends here.
func (r *reader) nothing(i int) int {
	if i < len(r.b) {
		return r.fail(i, "payload where none can be")
	}
	return i
}

// object reads the payload of CONNECT and CONNECT_ERROR.
func (r *reader) object(i int, p *Packet) int {
	switch {
	case i >= len(r.b):
		return i
	case len(r.b)-i > r.limits.AuthBytes:
		return r.fail(i, "payload too large")
	case r.b[i] != '{' && (p.Type != ConnectError || r.b[i] != '"'):
		return r.fail(i, "payload is no object")
	}
	end := r.value(i)
	if end < 0 {
		return end
	}
	p.Data = r.b[i:end:end]
	return r.nothing(r.space(end))
}

// list reads the array of an event or an ack and splits it.
func (r *reader) list(start int, p *Packet) int {
	b := r.b
	if start >= len(b) || b[start] != '[' {
		return r.fail(start, "payload is no array")
	}
	ack := p.Type == Ack || p.Type == BinaryAck
	if ack && p.ID < 0 {
		return r.fail(start, "ack without id")
	}
	if r.depth--; r.depth < 0 {
		return r.fail(start, "JSON nested too deeply")
	}
	r.values--
	var few [8][]byte // on the stack, so that the usual packet allocates its arguments once and exactly
	args := few[:0]
	i := r.space(start + 1)
	if i < len(b) && b[i] == ']' {
		i++
	} else {
		for {
			end := r.value(i)
			if end < 0 {
				return end
			}
			if len(args) == 0 && !ack && !r.name(i, end, p) {
				return -1
			}
			args = append(args, b[i:end:end])
			if i = r.space(end); i >= len(b) {
				return r.fail(i, "JSON ends early")
			}
			if b[i] == ']' {
				i++
				break
			}
			if b[i] != ',' {
				return r.fail(i, "JSON: comma or end of array or object expected")
			}
			i = r.space(i + 1)
		}
	}
	if len(args) == 0 && !ack {
		return r.fail(start, "event without name")
	}
	p.Data = b[start:i:i]
	p.Args = make([][]byte, len(args))
	copy(p.Args, args)
	return r.nothing(r.space(i))
}

// name takes the event name from the element at b[i:end].
func (r *reader) name(i, end int, p *Packet) bool {
	switch c := r.b[i]; {
	case c == '"':
		// Escaping makes a name up to six times as long: what is longer still need not be decoded to be refused.
		if end-i-2 > 6*r.limits.Name {
			r.fail(i, "event name too long")
			return false
		}
		p.Name = Unquote(r.b[i+1 : end-1])
	case c == '-' || c-'0' <= 9:
		if end-i > r.limits.Name {
			r.fail(i, "event name too long")
			return false
		}
		p.Name = string(r.b[i:end])
	default:
		r.fail(i, "event name is no string")
		return false
	}
	if len(p.Name) > r.limits.Name {
		r.fail(i, "event name too long")
		return false
	}
	if Reserved(p.Name) {
		r.fail(i, "event name is reserved")
		return false
	}
	return true
}

// Unquote decodes the inside of a valid JSON string. A lone surrogate becomes U+FFFD.
func Unquote(b []byte) string {
	i := 0
	for i < len(b) && b[i] != '\\' {
		i++
	}
	if i == len(b) {
		return string(b)
	}
	var s strings.Builder
	s.Grow(len(b))
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			s.WriteByte(b[i])
			i++
			continue
		}
		c := b[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(b, i)
			i += 4
			if high := r &^ 0x3ff; high == 0xd800 && i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
				if low, _ := hex4(b, i+2); low&^0x3ff == 0xdc00 {
					r = 0x10000 + (r-0xd800)<<10 + low - 0xdc00
					i += 6
				}
			}
			s.WriteRune(r) // a surrogate is written as U+FFFD
			continue
		}
		s.WriteByte(c)
	}
	return s.String()
}
