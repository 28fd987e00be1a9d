package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// Type is the digit that a packet begins with.
type Type byte

// The packet types of Engine.IO v4.
const (
	Open    Type = '0'
	Close   Type = '1'
	Ping    Type = '2'
	Pong    Type = '3'
	Message Type = '4'
	Upgrade Type = '5'
	Noop    Type = '6'
)

// Separator stands between the packets of a payload.
const Separator = 0x1e

// The reasons why bytes are no packet or no payload.
var (
	ErrEmpty   = errors.New("engine.io: empty packet")
	ErrType    = errors.New("engine.io: unknown packet type")
	ErrBase64  = errors.New("engine.io: malformed base64")
	ErrUTF8    = errors.New("engine.io: invalid UTF-8")
	ErrTooMany = errors.New("engine.io: too many packets in one payload")
	ErrLength  = errors.New("engine.io: wrong length of a packet") // revision 3
)

// A Packet is one decoded packet. Data aliases the input.
type Packet struct {
	Type   Type
	Binary bool // only of a Message
	Data   []byte
}

// Parse decodes one packet in its text form. Base64 is decoded in place, so that b is overwritten then. It does not
// check UTF-8: a WebSocket has done that already.
func Parse(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, ErrEmpty
	}
	if b[0] == 'b' {
		data, err := decodeBase64(b[1:])
		return Packet{Type: Message, Binary: true, Data: data}, err
	}
	t := Type(b[0])
	if t < Open || t > Noop {
		return Packet{}, ErrType
	}
	return Packet{Type: t, Data: b[1:]}, nil
}

// decodeBase64 decodes in place: the decoder never writes past what it has read, since four characters make three
// bytes. Line breaks, which the decoder skips, are refused like any other stray character.
func decodeBase64(b []byte) ([]byte, error) {
	want := len(b) / 4 * 3
	for i := len(b) - 1; i >= 0 && i >= len(b)-2 && b[i] == '='; i-- {
		want--
	}
	n, err := base64.StdEncoding.Strict().Decode(b, b)
	if err != nil || len(b)%4 != 0 || n != want {
		return nil, ErrBase64
	}
	return b[:n], nil
}

// A Payload decodes the body of a long-polling request, packet by packet.
type Payload struct {
	rest []byte
	left int
	form form
	done bool
}

// form is how the packets of a payload are told apart.
type form uint8

const (
	separated form = iota
	textsV3
	binaryV3
)

// NewPayload begins to decode body, which base64 is decoded into. It refuses more than limit packets.
func NewPayload(body []byte, limit int) Payload {
	return Payload{rest: body, left: limit}
}

// Next returns the next packet; ok is false at the end. After an error there is nothing more to read. An empty body is
// an error, since it holds one empty packet.
func (p *Payload) Next() (packet Packet, ok bool, err error) {
	if p.done {
		return Packet{}, false, nil
	}
	if p.left--; p.left < 0 {
		p.done = true
		return Packet{}, false, ErrTooMany
	}
	switch p.form {
	case textsV3:
		packet, err = p.nextTextV3()
	case binaryV3:
		packet, err = p.nextBinaryV3()
	default:
		packet, err = p.nextSeparated()
	}
	if err != nil {
		p.done = true
		return Packet{}, false, err
	}
	return packet, true, nil
}

func (p *Payload) nextSeparated() (Packet, error) {
	part := p.rest
	if i := bytes.IndexByte(part, Separator); i >= 0 {
		part, p.rest = part[:i:i], part[i+1:]
	} else {
		p.done = true
	}
	if !utf8.Valid(part) {
		return Packet{}, ErrUTF8
	}
	return Parse(part)
}

// AppendBinary appends a binary message in its text form.
func AppendBinary(dst, data []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(dst, 'b'), data)
}

// A Handshake is the data of the open packet.
type Handshake struct {
	SID          string // letters, digits, - and _ only
	Upgrades     []string
	PingInterval time.Duration
	PingTimeout  time.Duration
	MaxPayload   int // bytes
}

// AppendOpen appends the open packet. Clients compare its set of keys, so there are no others (Engine.IO v4,
// "Handshake").
func AppendOpen(dst []byte, h *Handshake) []byte {
	dst = append(dst, `0{"sid":"`...)
	dst = append(dst, h.SID...)
	dst = append(dst, `","upgrades":[`...)
	for i, name := range h.Upgrades {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"')
	}
	dst = append(dst, `],"pingInterval":`...)
	dst = strconv.AppendInt(dst, h.PingInterval.Milliseconds(), 10)
	dst = append(dst, `,"pingTimeout":`...)
	dst = strconv.AppendInt(dst, h.PingTimeout.Milliseconds(), 10)
	dst = append(dst, `,"maxPayload":`...)
	dst = strconv.AppendInt(dst, int64(h.MaxPayload), 10)
	return append(dst, '}')
}
