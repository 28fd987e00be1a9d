package wire

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

const (
	streamBinary = 0x80 // of the first byte
	stream16     = 126  // what follows is a length of 2 bytes
	stream64     = 127  // or of 8

	// MaxStreamHeader is the longest header of a packet on a stream.
	MaxStreamHeader = 9
)

// The reasons why a stream can't be read on.
var (
	ErrStreamEmpty = errors.New("engine.io: packet of length 0")
	ErrStreamSize  = errors.New("engine.io: packet is too big")
)

// AppendStreamHeader appends the header of a packet of n bytes on a stream, as WebTransport has them: one byte that tells binary
// messages from packets in their text form and has the length, or 3 or 9 bytes.
func AppendStreamHeader(dst []byte, isBinary bool, n int) []byte {
	var first byte
	if isBinary {
		first = streamBinary
	}
	switch {
	case n < stream16:
		return append(dst, first|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, first|stream16), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first|stream64), uint64(n))
	}
}

// A StreamReader is the state of one direction of a stream between two feeds. What is incomplete is kept in memory that grows with
// the bytes that arrived, never with a length that the peer declared.
type StreamReader struct {
	Max int // bytes of one packet

	header  [MaxStreamHeader]byte
	headerN int // bytes of the header so far; all of them once remain is set
	remain  int // bytes of the packet that are to come
	packet  []byte
	ended   bool
}

// Pending reports whether a packet is incomplete.
func (r *StreamReader) Pending() bool { return r.headerN > 0 }

// Release gives back what the reader holds. It reads nothing afterwards.
func (r *StreamReader) Release() {
	r.ended = true
	r.headerN, r.remain, r.packet = 0, 0, nil
}

// Feed reads all of b and calls take for every packet that became complete, which is valid until the call returns. The error is that
// of the peer's packets, or what take returned; what is fed after one is ignored.
func (r *StreamReader) Feed(b []byte, take func(isBinary bool, packet []byte) error) error {
	for len(b) > 0 && !r.ended {
		if r.remain == 0 {
			r.header[r.headerN] = b[0]
			r.headerN++
			b = b[1:]
			if err := r.begin(); err != nil {
				r.Release()
				return err
			}
			continue
		}
		n := min(r.remain, len(b))
		packet := b[:n]
		if n < r.remain || len(r.packet) > 0 {
			r.packet = append(r.packet, packet...)
			packet = r.packet
		}
		b = b[n:]
		if r.remain -= n; r.remain > 0 {
			return nil
		}
		isBinary := r.header[0]&streamBinary != 0
		r.headerN, r.packet = 0, nil
		err := ErrUTF8
		if isBinary || utf8.Valid(packet) {
			err = take(isBinary, packet)
		}
		if err != nil {
			r.Release()
			return err
		}
	}
	return nil
}

// begin sets what remains of a packet once its header is complete.
func (r *StreamReader) begin() error {
	var n uint64
	switch length := r.header[0] &^ streamBinary; {
	case length < stream16:
		n = uint64(length)
	case length == stream16 && r.headerN == 3:
		n = uint64(binary.BigEndian.Uint16(r.header[1:3]))
	case length == stream64 && r.headerN == MaxStreamHeader:
		n = binary.BigEndian.Uint64(r.header[1:])
	default:
		return nil
	}
	switch {
	case n == 0:
		return ErrStreamEmpty
	case n > uint64(r.Max):
		return ErrStreamSize
	}
	r.remain = int(n)
	return nil
}
