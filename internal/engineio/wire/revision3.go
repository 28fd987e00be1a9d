package wire

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// Revision 3 of the protocol, that of Socket.IO v2, differs in how payloads are written and in what stands before a binary
// message: its type, as a byte in place of a digit.

// MessageV3 is what a binary message begins with in revision 3.
const MessageV3 byte = byte(Message - '0')

// maxLengthDigits is as many digits as the length of a packet may have.
const maxLengthDigits = 9

// AppendTextV3 appends a packet to a payload of texts: its length, a colon, and the packet. Lengths count UTF-16 units.
func AppendTextV3(dst, packet []byte) []byte {
	dst = strconv.AppendInt(dst, int64(utf16Len(packet)), 10)
	return append(append(dst, ':'), packet...)
}

// AppendBase64V3 appends a binary message to a payload of texts.
func AppendBase64V3(dst, data []byte) []byte {
	dst = strconv.AppendInt(dst, int64(2+base64.StdEncoding.EncodedLen(len(data))), 10)
	return base64.StdEncoding.AppendEncode(append(dst, ":b4"...), data)
}

// AppendBinaryV3 appends a packet to a binary payload: whether it is binary, the digits of its length, each as a byte, the
// byte 255, and the packet.
func AppendBinaryV3(dst, packet []byte, binary bool) []byte {
	size := len(packet)
	kind := byte(0)
	if binary {
		size++
		kind = 1
	}
	dst = append(dst, kind)
	start := len(dst)
	dst = strconv.AppendInt(dst, int64(size), 10)
	for i := range dst[start:] {
		dst[start+i] -= '0'
	}
	dst = append(dst, 0xff)
	if binary {
		dst = append(dst, MessageV3)
	}
	return append(dst, packet...)
}

// ParseBinaryV3 decodes a binary packet, whose type is a byte.
func ParseBinaryV3(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, ErrEmpty
	}
	if b[0] > byte(Noop-'0') {
		return Packet{}, ErrType
	}
	t := Type('0' + b[0])
	return Packet{Type: t, Binary: t == Message, Data: b[1:]}, nil
}

// ParseV3 is [Parse] for revision 3, where base64 has the packet's digit before it.
func ParseV3(b []byte) (Packet, error) {
	if len(b) == 0 || b[0] != 'b' {
		return Parse(b)
	}
	if len(b) < 2 || b[1] != byte(Message) {
		return Packet{}, ErrType
	}
	data, err := decodeBase64(b[2:])
	return Packet{Type: Message, Binary: true, Data: data}, err
}

// NewPayloadV3 begins to decode a body of texts, or a binary one. It refuses more than limit packets.
func NewPayloadV3(body []byte, binary bool, limit int) Payload {
	form := textsV3
	if binary {
		form = binaryV3
	}
	return Payload{rest: body, left: limit, form: form}
}

// nextTextV3 takes one packet of a payload of texts.
func (p *Payload) nextTextV3() (Packet, error) {
	units, rest, err := lengthV3(p.rest, '0', ':')
	if err != nil {
		return Packet{}, err
	}
	end := 0
	for units > 0 {
		r, n := utf8.DecodeRune(rest[end:])
		if r == utf8.RuneError && n <= 1 {
			if n == 0 {
				return Packet{}, ErrLength
			}
			return Packet{}, ErrUTF8
		}
		if units--; r > 0xffff {
			units-- // of a surrogate pair; a length that ends within one is wrong
		}
		end += n
	}
	if units < 0 {
		return Packet{}, ErrLength
	}
	packet := rest[:end:end]
	p.rest = rest[end:]
	p.done = len(p.rest) == 0
	return ParseV3(packet)
}

// nextBinaryV3 takes one packet of a binary payload.
func (p *Payload) nextBinaryV3() (Packet, error) {
	if len(p.rest) == 0 || p.rest[0] > 1 {
		return Packet{}, ErrType
	}
	binary := p.rest[0] == 1
	size, rest, err := lengthV3(p.rest[1:], 0, 0xff)
	if err != nil {
		return Packet{}, err
	}
	if size > len(rest) {
		return Packet{}, ErrLength
	}
	packet := rest[:size:size]
	p.rest = rest[size:]
	p.done = len(p.rest) == 0
	if binary {
		return ParseBinaryV3(packet)
	}
	if !utf8.Valid(packet) {
		return Packet{}, ErrUTF8
	}
	return ParseV3(packet)
}

// lengthV3 reads a length: digits that count from zero, and what ends them. The length is not believed: it is for the caller
// to compare with what is there.
func lengthV3(b []byte, zero, end byte) (n int, rest []byte, err error) {
	for i, c := range b[:min(len(b), maxLengthDigits+1)] {
		if c == end && i > 0 {
			return n, b[i+1:], nil
		}
		if c -= zero; c > 9 {
			break
		}
		n = n*10 + int(c)
	}
	return 0, nil, ErrLength
}

// utf16Len returns how many UTF-16 units a text takes.
func utf16Len(b []byte) (n int) {
	for _, c := range b {
		if c < 0x80 || c >= 0xc0 { // the first byte of a character
			n++
		}
		if c >= 0xf0 { // a surrogate pair
			n++
		}
	}
	return n
}
