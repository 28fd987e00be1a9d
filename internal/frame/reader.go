package frame

import (
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// Limits bound what a [Reader] accepts. One value serves any number of readers.
type Limits struct {
	MaxMessage   int  // bytes of one message, over all of its fragments
	MaxFragments int  // frames of one message
	MaxEmpty     int  // empty fragments in a row
	Client       bool // read as a client does: frames must not be masked
	Compressed   bool // messages may be compressed (RFC 7692), each by itself; MaxMessage is of what they inflate to
}

// DefaultLimits returns the limits for messages of at most maxMessage bytes.
func DefaultLimits(maxMessage int) *Limits {
	return &Limits{MaxMessage: maxMessage, MaxFragments: 1024, MaxEmpty: 15}
}

// A Handler takes what a [Reader] found. Payloads are valid until the call returns. An error ends the reading.
type Handler interface {
	Message(op Opcode, payload []byte) error // a whole Text (valid UTF-8) or Binary message
	Control(op Opcode, payload []byte) error // Ping, Pong or Close; nothing comes after Close
}

// A Reader is the state of one direction of a WebSocket between two feeds. It must not be copied once it was fed.
type Reader struct {
	Limits *Limits
	part   *partial // nil while neither a frame nor a message is incomplete
	ended  bool     // after a close frame or an error: everything else is ignored
}

// partial is what must be remembered of an incomplete frame or message.
type partial struct {
	header  [14]byte // the header so far, while headerN > 0
	headerN int

	open    bool // header was read, remain > 0 bytes of payload are to come
	current header
	remain  int
	control []byte // payload so far of a control frame

	fragmented bool // a message was begun and its last frame has not been seen
	op         Opcode
	compressed bool
	frames     int
	empties    int    // empty fragments in a row
	message    []byte // payload so far of the message
	valid      int    // how much of message is known to be whole UTF-8 characters
}

// A big message's memory goes back to the collector rather than into the pool.
const maxPooled = 64 << 10

var partials = sync.Pool{New: func() any { return new(partial) }}

type header struct {
	op         Opcode
	fin        bool
	compressed bool
	length     int
	key        uint32
}

// Pending reports whether a frame or a message is incomplete.
func (r *Reader) Pending() bool { return r.part != nil }

// Release gives back what the Reader holds. It reads nothing afterwards.
func (r *Reader) Release() {
	r.ended = true
	r.drop()
}

// Feed reads all of buf, which it overwrites, and calls h for everything that became complete. The error is a
// [*CloseError] when the peer broke the protocol, else the handler's; the Reader ignores what is fed after one.
func (r *Reader) Feed(buf []byte, h Handler) error {
	if r.ended {
		return nil
	}
	err := r.feed(buf, h)
	if err != nil {
		r.Release()
	}
	return err
}

func (r *Reader) feed(buf []byte, h Handler) error {
	for len(buf) > 0 && !r.ended {
		if p := r.part; p != nil && p.open {
			n := min(p.remain, len(buf))
			if err := r.resume(buf[:n], h); err != nil {
				return err
			}
			buf = buf[n:]
			continue
		}
		hd, n, err := r.header(buf)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil // incomplete, kept
		}
		buf = buf[n:]
		if err := r.begin(hd); err != nil {
			return err
		}
		if hd.length > len(buf) {
			p := r.partial()
			p.open, p.current, p.remain = true, hd, hd.length
			continue
		}
		payload := buf[:hd.length]
		buf = buf[hd.length:]
		if !r.Limits.Client {
			mask(payload, hd.key, 0)
		}
		if err := r.whole(hd, payload, h); err != nil {
			return err
		}
	}
	return nil
}

// header takes a frame's header from buf and returns how much of buf it used; 0 means that buf held too little of it and
// was kept.
func (r *Reader) header(buf []byte) (h header, n int, err error) {
	p := r.part
	if p == nil || p.headerN == 0 {
		h, n, err = r.parse(buf)
		if n == 0 && err == nil {
			p = r.partial()
			p.headerN = copy(p.header[:], buf)
		}
		return h, n, err
	}
	had := p.headerN
	p.headerN += copy(p.header[had:], buf)
	h, n, err = r.parse(p.header[:p.headerN])
	if n == 0 || err != nil {
		return h, 0, err
	}
	p.headerN = 0
	r.settle()
	return h, n - had, nil
}

// parse reads a header; n is its length, 0 while it is incomplete. What is wrong is found as soon as it can be seen.
func (r *Reader) parse(b []byte) (h header, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.op, h.fin = Opcode(b[0]&0x0f), b[0]&finBit != 0
	rsv := b[0] & rsvBits
	if r.Limits.Compressed && (h.op == Text || h.op == Binary) && rsv == rsv1Bit {
		h.compressed, rsv = true, 0
	}
	masked := b[1]&maskBit != 0
	length := uint64(b[1] &^ maskBit)
	switch {
	case rsv != 0:
		return h, 0, &CloseError{CodeProtocol, "reserved bit set"}
	case h.op > Binary && h.op < Close || h.op > Pong:
		return h, 0, &CloseError{CodeProtocol, "reserved opcode"}
	case masked == r.Limits.Client: // RFC 6455 §5.1
		return h, 0, &CloseError{CodeProtocol, "wrong masking"}
	case h.op >= Close && !h.fin: // RFC 6455 §5.5
		return h, 0, &CloseError{CodeProtocol, "fragmented control frame"}
	case h.op >= Close && length > MaxControl:
		return h, 0, &CloseError{CodeProtocol, "control frame too long"}
	}
	n = 2
	switch length {
	case 126:
		if len(b) < 4 {
			return h, 0, nil
		}
		length, n = uint64(binary.BigEndian.Uint16(b[2:])), 4
		if length < 126 {
			return h, 0, &CloseError{CodeProtocol, "length not minimal"}
		}
	case 127:
		if len(b) < 10 {
			return h, 0, nil
		}
		length, n = binary.BigEndian.Uint64(b[2:]), 10
		if length>>63 != 0 {
			return h, 0, &CloseError{CodeProtocol, "length has its top bit set"}
		}
		if length < 1<<16 {
			return h, 0, &CloseError{CodeProtocol, "length not minimal"}
		}
	}
	if h.op < Close && length > uint64(r.Limits.MaxMessage) {
		return h, 0, &CloseError{CodeTooBig, ""}
	}
	h.length = int(length)
	if masked {
		if len(b) < n+4 {
			return h, 0, nil
		}
		h.key = binary.LittleEndian.Uint32(b[n:])
		n += 4
	}
	return h, n, nil
}

// begin checks a frame against the message that it belongs to (RFC 6455 §5.4) and counts it.
func (r *Reader) begin(h header) error {
	if h.op >= Close {
		return nil
	}
	p := r.part
	fragmented := p != nil && p.fragmented
	switch {
	case h.op == Continuation && !fragmented:
		return &CloseError{CodeProtocol, "continuation of nothing"}
	case h.op != Continuation && fragmented:
		return &CloseError{CodeProtocol, "message inside a fragmented message"}
	case h.fin && !fragmented:
		return nil
	}
	p = r.partial()
	if !fragmented {
		p.fragmented, p.op, p.compressed = true, h.op, h.compressed
	}
	if p.frames++; p.frames > r.Limits.MaxFragments {
		return &CloseError{CodePolicy, "too many fragments"}
	}
	if h.length > 0 || h.fin {
		p.empties = 0
	} else if p.empties++; p.empties > r.Limits.MaxEmpty {
		return &CloseError{CodePolicy, "too many empty fragments"}
	}
	if h.length > r.Limits.MaxMessage-len(p.message) {
		return &CloseError{CodeTooBig, ""}
	}
	return nil
}

// whole handles a frame whose payload is complete and unmasked.
func (r *Reader) whole(hd header, payload []byte, h Handler) error {
	if hd.op >= Close {
		return r.control(hd.op, payload, h)
	}
	p := r.part
	if p == nil { // a message in one frame, the common case
		if hd.compressed {
			return r.inflated(hd.op, payload, h)
		}
		if hd.op == Text && !utf8.Valid(payload) {
			return errUTF8()
		}
		return h.Message(hd.op, payload)
	}
	p.message = append(p.message, payload...)
	return r.advance(hd.fin, h)
}

// resume takes the next bytes of a payload that did not arrive in one piece.
func (r *Reader) resume(b []byte, h Handler) error {
	p := r.part
	if !r.Limits.Client {
		mask(b, p.current.key, p.current.length-p.remain)
	}
	p.remain -= len(b)
	p.open = p.remain > 0
	if p.current.op >= Close {
		p.control = append(p.control, b...)
		if p.open {
			return nil
		}
		payload := p.control
		p.control = p.control[:0]
		err := r.control(p.current.op, payload, h)
		r.settle()
		return err
	}
	if !p.fragmented { // a message in one frame
		p.fragmented, p.op, p.compressed = true, p.current.op, p.current.compressed
	}
	p.message = append(p.message, b...)
	return r.advance(p.current.fin && !p.open, h)
}

// advance checks the message so far and hands it over when it is complete.
func (r *Reader) advance(complete bool, h Handler) error {
	p := r.part
	if p.op == Text && !p.compressed && !p.validate(complete) {
		return errUTF8()
	}
	if !complete {
		return nil
	}
	var err error
	if p.compressed {
		err = r.inflated(p.op, p.message, h)
	} else {
		err = h.Message(p.op, p.message)
	}
	r.drop()
	return err
}

// validate looks at the characters that have become whole since the last call; a character may go on in the next piece
// unless the message is complete.
func (p *partial) validate(complete bool) bool {
	b := p.message[p.valid:]
	if !complete {
		for n := 1; n <= min(len(b), utf8.UTFMax-1); n++ {
			if c := b[len(b)-n]; utf8.RuneStart(c) {
				if !utf8.FullRune(b[len(b)-n:]) {
					b = b[:len(b)-n]
				}
				break
			}
		}
	}
	p.valid += len(b)
	return utf8.Valid(b)
}

func (r *Reader) control(op Opcode, payload []byte, h Handler) error {
	if op == Close {
		r.ended = true
		if len(payload) == 1 {
			return &CloseError{CodeProtocol, "close frame of one byte"}
		}
		if len(payload) >= 2 {
			if code, reason := ParseClose(payload); !validCode(code) {
				return &CloseError{CodeProtocol, "invalid close code"}
			} else if !utf8.Valid(reason) {
				return errUTF8()
			}
		}
		err := h.Control(op, payload)
		r.drop()
		return err
	}
	return h.Control(op, payload)
}

func errUTF8() error { return &CloseError{CodeInvalidData, "invalid UTF-8"} }

func (r *Reader) partial() *partial {
	if r.part == nil {
		r.part = partials.Get().(*partial)
	}
	return r.part
}

// settle drops the partial if nothing is incomplete any more.
func (r *Reader) settle() {
	if p := r.part; p != nil && !p.open && !p.fragmented && p.headerN == 0 {
		r.drop()
	}
}

func (r *Reader) drop() {
	p := r.part
	if p == nil {
		return
	}
	r.part = nil
	message, control := p.message[:0], p.control[:0]
	if cap(message) > maxPooled {
		message = nil
	}
	*p = partial{message: message, control: control}
	partials.Put(p)
}
