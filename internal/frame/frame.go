package frame

import (
	"encoding/binary"
	"fmt"
)

// Opcode is the type of a frame (RFC 6455 §5.2).
type Opcode byte

// The opcodes of RFC 6455; all others are reserved.
const (
	Continuation Opcode = 0
	Text         Opcode = 1
	Binary       Opcode = 2
	Close        Opcode = 8
	Ping         Opcode = 9
	Pong         Opcode = 10
)

// The close codes that this package reports (RFC 6455 §7.4.1).
const (
	CodeNormal      = 1000
	CodeProtocol    = 1002
	CodeNoStatus    = 1005 // never sent: "the close frame carried no code"
	CodeInvalidData = 1007
	CodePolicy      = 1008
	CodeTooBig      = 1009
)

// MaxHeader is the longest header of a server's frame.
const MaxHeader = 10

// MaxControl is the longest payload of a control frame (RFC 6455 §5.5).
const MaxControl = 125

const (
	finBit  = 0x80
	rsvBits = 0x70
	rsv1Bit = 0x40
	maskBit = 0x80
)

// A CloseError says why a stream cannot be read on, as the close code that the peer is to be told.
type CloseError struct {
	Code   uint16
	Reason string // static text, short enough for a close frame
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: %s (close code %d)", e.Reason, e.Code)
}

// AppendHeader appends the header of a final, unmasked frame with n bytes of payload.
func AppendHeader(dst []byte, op Opcode, n int) []byte {
	return appendHeader(dst, byte(op)|finBit, 0, n)
}

// HeaderLen returns the length of the header that [AppendHeader] writes for n bytes of payload.
func HeaderLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	default:
		return MaxHeader
	}
}

// AppendClose appends an unmasked close frame. Code 0 and [CodeNoStatus] write one without a code; a reason that does
// not fit is cut.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == 0 || code == CodeNoStatus {
		return AppendHeader(dst, Close, 0)
	}
	reason = reason[:min(len(reason), MaxControl-2)]
	dst = AppendHeader(dst, Close, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}

// AppendMasked appends a whole frame as a client sends it (RFC 6455 §5.3). fin false makes it a fragment.
func AppendMasked(dst []byte, op Opcode, fin bool, key [4]byte, payload []byte) []byte {
	first := byte(op)
	if fin {
		first |= finBit
	}
	return appendMasked(dst, first, key, payload)
}

func appendMasked(dst []byte, first byte, key [4]byte, payload []byte) []byte {
	dst = appendHeader(dst, first, maskBit, len(payload))
	dst = append(dst, key[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	mask(dst[start:], binary.LittleEndian.Uint32(key[:]), 0)
	return dst
}

func appendHeader(dst []byte, first, maskFlag byte, n int) []byte {
	switch HeaderLen(n) {
	case 2:
		return append(dst, first, maskFlag|byte(n))
	case 4:
		return append(dst, first, maskFlag|126, byte(n>>8), byte(n))
	default:
		dst = append(dst, first, maskFlag|127)
		return binary.BigEndian.AppendUint64(dst, uint64(n))
	}
}

// ParseClose splits the payload of a close frame that a Reader has accepted. No payload is [CodeNoStatus].
func ParseClose(payload []byte) (code uint16, reason []byte) {
	if len(payload) < 2 {
		return CodeNoStatus, nil
	}
	return binary.BigEndian.Uint16(payload), payload[2:]
}

// validCode reports whether a peer may send the close code (RFC 6455 §7.4, and the codes registered since).
func validCode(code uint16) bool {
	switch {
	case code < 1000, code >= 5000:
		return false
	case code >= 3000:
		return true
	case code >= 1004 && code <= 1006: // 1004 is undefined, 1005 and 1006 never travel
		return false
	default:
		return code <= 1014 // 1015 never travels, 1016–2999 are unassigned
	}
}
