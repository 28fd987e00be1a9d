package load

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455 §5.2.
const (
	OpText   = 1
	OpBinary = 2
	OpClose  = 8
	OpPing   = 9
	OpPong   = 10
)

// maxFrame is far above anything that the bench contract sends; a length beyond it means that the stream is out of step.
const maxFrame = 16 << 20

var errFrame = errors.New("invalid frame")

// AppendFrame appends one final, masked frame. The key must not be zero: servers take a short cut there, which would
// measure less work than real clients cause.
func AppendFrame(dst []byte, op byte, key [4]byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = append(dst, 0x80|126, byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, key[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	mask(dst[at:], key)
	return dst
}

func mask(b []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// nextFrame splits the first frame of a server off b. size is 0 while the frame is incomplete. The payload aliases b.
func nextFrame(b []byte) (op byte, payload []byte, size int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	if b[0]&0x70 != 0 || b[0]&0x80 == 0 || b[1]&0x80 != 0 {
		return 0, nil, 0, fmt.Errorf("%w: header % x", errFrame, b[:2])
	}
	head, n := 2, uint64(b[1])
	switch n {
	case 126:
		if len(b) < 4 {
			return 0, nil, 0, nil
		}
		head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if len(b) < 10 {
			return 0, nil, 0, nil
		}
		head, n = 10, binary.BigEndian.Uint64(b[2:])
	}
	if n > maxFrame {
		return 0, nil, 0, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	if uint64(len(b)-head) < n {
		return 0, nil, 0, nil
	}
	size = head + int(n)
	return b[0] & 0x0f, b[head:size], size, nil
}
