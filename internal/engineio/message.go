package engineio

import (
	"sync/atomic"

	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
)

// A Message is one Engine.IO message in the form that travels. It is immutable and may be sent to any number of
// sessions at once.
type Message struct {
	buf    []byte // room for a frame header, then the packet: with its digit for text, bare for binary
	start  uint8  // where the frame's header begins
	binary bool
	plain  bool // not to be compressed
	raw    bool // a frame of the WebSocket itself, which means nothing on another transport

	// Other frames of the message, once somebody wanted them.
	deflated atomic.Pointer[[]byte] // with its payload compressed
	revised  atomic.Pointer[[]byte] // for revision 3, of a binary one
}

const textStart = frame.MaxHeader + 1 // behind the header's room and the packet's digit

// NewText returns the text message that b holds; b is copied.
func NewText(b []byte) *Message { return FinishText(append(TextBuffer(len(b)), b...)) }

// NewBinary returns the binary message that b holds; b is copied.
func NewBinary(b []byte) *Message {
	buf := make([]byte, frame.MaxHeader, frame.MaxHeader+len(b))
	return finish(append(buf, b...), frame.Binary)
}

// TextBuffer returns a buffer to append the text of a message to and to give to [FinishText] then, which saves a copy.
// It has room for size bytes.
func TextBuffer(size int) []byte {
	buf := make([]byte, textStart, textStart+size)
	buf[frame.MaxHeader] = byte(wire.Message)
	return buf
}

// FinishText makes a message of what was appended to the buffer that [TextBuffer] returned. It owns buf from then on.
func FinishText(buf []byte) *Message { return finish(buf, frame.Text) }

// finish puts the frame's header right before the packet.
func finish(buf []byte, op frame.Opcode) *Message {
	n := len(buf) - frame.MaxHeader
	start := frame.MaxHeader - frame.HeaderLen(n)
	frame.AppendHeader(buf[:start], op, n)
	return &Message{buf: buf, start: uint8(start), binary: op == frame.Binary}
}

// packetMessage returns a packet of another type than message, as text.
func packetMessage(packet string) *Message {
	return finish(append(make([]byte, frame.MaxHeader), packet...), frame.Text)
}

// rawFrame returns a message of a frame that only a WebSocket gets to see.
func rawFrame(b []byte) *Message { return &Message{buf: b, raw: true} }

var (
	pongPacket = packetMessage(string(wire.Pong)) // the answer of revision 3
	pingPacket = packetMessage(string(wire.Ping))
	closeFrame = rawFrame(frame.AppendClose(nil, 0, ""))
	busyFrame  = rawFrame(frame.AppendClose(nil, 1013, "try again later"))
	probeReply = packetMessage(string(wire.Pong) + "probe")
)

// Payload returns what a binary message carries. It must not be changed.
func (m *Message) Payload() []byte { return m.buf[frame.MaxHeader:] }

// Uncompressed returns the message for receivers to whom it is to go as it is, though they take compressed ones.
func (m *Message) Uncompressed() *Message {
	return &Message{buf: m.buf, start: m.start, binary: m.binary, plain: true}
}

// Len returns the bytes that the message takes in a session's queue.
func (m *Message) Len() int { return len(m.buf) - int(m.start) }

// packetLen returns the bytes of the packet.
func (m *Message) packetLen() int { return len(m.buf) - frame.MaxHeader }

// frame returns the message as a WebSocket frame.
func (m *Message) frame() []byte { return m.buf[m.start:] }

// compressed returns the message as a compressed frame, or as it is if that is shorter. It is compressed once for all of
// its receivers.
func (m *Message) compressed() []byte {
	if b := m.deflated.Load(); b != nil {
		return *b
	}
	op := frame.Text
	if m.binary {
		op = frame.Binary
	}
	b := frame.AppendCompressed(nil, op, m.buf[frame.MaxHeader:])
	if len(b) >= m.Len() {
		b = m.frame()
	}
	m.deflated.Store(&b)
	return b
}

// streamed returns the message as it travels on a WebTransport stream, nothing if it is not for one.
func (m *Message) streamed() []byte {
	if m.raw {
		return nil
	}
	packet := m.buf[frame.MaxHeader:]
	b := make([]byte, 0, wire.MaxStreamHeader+len(packet))
	return append(wire.AppendStreamHeader(b, m.binary, len(packet)), packet...)
}

// frameV3 returns the frame that a session of revision 3 gets: a binary message has its type before it.
func (m *Message) frameV3() []byte {
	if !m.binary {
		return m.frame()
	}
	if b := m.revised.Load(); b != nil {
		return *b
	}
	b := frame.AppendHeader(nil, frame.Binary, m.packetLen()+1)
	b = append(append(b, wire.MessageV3), m.buf[frame.MaxHeader:]...)
	m.revised.Store(&b)
	return b
}

// appendPacketV3 is appendPacket for revision 3, for a payload that is binary as a whole or one of texts.
func (m *Message) appendPacketV3(dst []byte, binary bool) []byte {
	packet := m.buf[frame.MaxHeader:]
	switch {
	case binary:
		return wire.AppendBinaryV3(dst, packet, m.binary)
	case m.binary:
		return wire.AppendBase64V3(dst, packet)
	}
	return wire.AppendTextV3(dst, packet)
}

// appendPacket appends the message as a packet of a polling payload.
func (m *Message) appendPacket(dst []byte) []byte {
	packet := m.buf[frame.MaxHeader:]
	if m.binary {
		return wire.AppendBinary(dst, packet)
	}
	return append(dst, packet...)
}
