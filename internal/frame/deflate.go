package frame

import (
	"bytes"
	"compress/flate"
	"io"
	"slices"
	"sync"
	"unicode/utf8"
)

// Every message is compressed by itself, without the context of those before it (RFC 7692 §7.1.1). So nothing is held
// between two messages, and one compressed frame serves any number of receivers.

const (
	deflateTail = "\x00\x00\xff\xff"     // what a sender leaves out behind a message (RFC 7692 §7.2.1)
	deflateEnd  = "\x01\x00\x00\xff\xff" // an empty last block, so that the stream ends

	maxRatio  = 200      // of a message's length to what arrived of it
	freeRatio = 64 << 10 // bytes that a message may come to at any ratio
)

// Compressors are about a megabyte each, so there are only as many as work at a time.
var compressors = sync.Pool{New: func() any {
	c := new(compressor)
	c.flate, _ = flate.NewWriter(&c.out, flate.BestSpeed) // the level is valid
	return c
}}

type compressor struct {
	flate *flate.Writer
	out   bytes.Buffer
}

// AppendCompressed appends a final, unmasked frame with the payload compressed (RFC 7692 §7.2.1).
func AppendCompressed(dst []byte, op Opcode, payload []byte) []byte {
	c := compressors.Get().(*compressor)
	defer c.free()
	b := c.deflate(payload)
	return append(appendHeader(dst, byte(op)|finBit|rsv1Bit, 0, len(b)), b...)
}

// AppendMaskedCompressed appends a whole frame as a client sends it, with the payload compressed if that makes it smaller.
func AppendMaskedCompressed(dst []byte, op Opcode, key [4]byte, payload []byte) []byte {
	c := compressors.Get().(*compressor)
	defer c.free()
	if b := c.deflate(payload); len(b) < len(payload) {
		return appendMasked(dst, byte(op)|finBit|rsv1Bit, key, b)
	}
	return AppendMasked(dst, op, true, key, payload)
}

// deflate returns a message compressed, until free.
func (c *compressor) deflate(payload []byte) []byte {
	c.flate.Reset(&c.out)
	_, _ = c.flate.Write(payload) // a bytes.Buffer takes everything
	_ = c.flate.Flush()
	return bytes.TrimSuffix(c.out.Bytes(), []byte(deflateTail))
}

func (c *compressor) free() {
	c.out.Reset()
	if c.out.Cap() <= maxPooled {
		compressors.Put(c)
	}
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.flate = flate.NewReader(&f.source)
	return f
}}

type inflater struct {
	source source
	flate  io.ReadCloser
	out    []byte
}

// inflated hands over a compressed message.
func (r *Reader) inflated(op Opcode, payload []byte, h Handler) error {
	f := inflaters.Get().(*inflater)
	defer f.free()
	if err := f.inflate(payload, r.Limits.MaxMessage); err != nil {
		return err
	}
	if op == Text && !utf8.Valid(f.out) {
		return errUTF8()
	}
	return h.Message(op, f.out)
}

// inflate fills out. What comes out is counted as it comes: nothing in the stream is believed.
func (f *inflater) inflate(payload []byte, limit int) error {
	f.source = source{payload, deflateTail + deflateEnd}
	_ = f.flate.(flate.Resetter).Reset(&f.source, nil) // never fails
	out := f.out[:0]
	defer func() { f.out = out }()
	for {
		if len(out) == cap(out) { // doubled, so that all of its sizes together are no more than twice the last
			out = slices.Grow(out, min(max(len(out), 512), limit+1-len(out)))
		}
		n, err := f.flate.Read(out[len(out):min(cap(out), limit+1)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit, len(out) > freeRatio && len(out)/maxRatio > len(payload):
			return &CloseError{CodeTooBig, ""}
		case err == io.EOF && len(f.source.payload) <= 1: // a sender that ends its stream itself adds a byte (RFC 7692 §7.2.3.4)
			return nil
		case err != nil:
			return &CloseError{CodeInvalidData, "malformed compression"}
		}
	}
}

func (f *inflater) free() {
	f.source = source{}
	if cap(f.out) > maxPooled {
		f.out = nil
	}
	inflaters.Put(f)
}

// A source is a message and what its sender left out. It gives bytes one at a time, so that an end of the stream within
// the message is seen where it is.
type source struct {
	payload []byte
	tail    string
}

func (s *source) ReadByte() (c byte, err error) {
	switch {
	case len(s.payload) > 0:
		c, s.payload = s.payload[0], s.payload[1:]
	case s.tail != "":
		c, s.tail = s.tail[0], s.tail[1:]
	default:
		err = io.EOF
	}
	return c, err
}

func (s *source) Read(b []byte) (n int, err error) {
	if len(s.payload) > 0 {
		n = copy(b, s.payload)
		s.payload = s.payload[n:]
		return n, nil
	}
	if s.tail == "" {
		return 0, io.EOF
	}
	n = copy(b, s.tail)
	s.tail = s.tail[n:]
	return n, nil
}
