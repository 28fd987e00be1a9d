package holdpost

import (
	"bytes"

	"github.com/holdpost/holdpost/internal/engineio"
	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/internal/packet/msgpack"
)

// codec is how packets travel. A server has one, and all of its clients have to be set to the same.
type codec interface {
	// mayConnect tells by a look whether a message can be a CONNECT: of a client that was let in nowhere nothing else is
	// decoded or kept.
	mayConnect(data []byte, binary bool) bool

	// decode takes the next message of a connection, which is reused later. complete is false while attachments are missing.
	decode(c *conn, data []byte, binary bool) (p packet.Packet, complete bool, err error)

	event(namespace string, id int64, p *Prepared) []*engineio.Message
	ack(namespace string, id int64, args, attachments [][]byte) []*engineio.Message
	connect(namespace string, payload []byte) *engineio.Message
	connectError(namespace string, payload []byte) *engineio.Message
	disconnect(namespace string) *engineio.Message
}

// textCodec is the default: a text, and a binary message for every binary value.
type textCodec struct{}

func (textCodec) mayConnect(data []byte, binary bool) bool {
	return !binary && len(data) > 0 && data[0] == '0'+byte(packet.Connect)
}

func (textCodec) decode(c *conn, data []byte, binary bool) (packet.Packet, bool, error) {
	if binary {
		return c.decoder.Binary(bytes.Clone(data))
	}
	return c.decoder.Text(bytes.Clone(data))
}

func (textCodec) event(namespace string, id int64, p *Prepared) []*engineio.Message {
	buf := engineio.TextBuffer(packetSize(namespace, p.args) + len(p.name))
	head := engineio.FinishText(packet.AppendEvent(buf, namespace, id, len(p.attachments), p.name, p.args...))
	if p.plain {
		head = head.Uncompressed()
	}
	if len(p.attachments) == 0 {
		return []*engineio.Message{head}
	}
	return append([]*engineio.Message{head}, p.attachments...)
}

func (textCodec) ack(namespace string, id int64, args, attachments [][]byte) []*engineio.Message {
	buf := engineio.TextBuffer(packetSize(namespace, args))
	messages := make([]*engineio.Message, 1, 1+len(attachments))
	messages[0] = engineio.FinishText(packet.AppendAck(buf, namespace, id, len(attachments), args))
	for _, b := range attachments {
		messages = append(messages, engineio.NewBinary(b))
	}
	return messages
}

func (textCodec) connect(namespace string, payload []byte) *engineio.Message {
	return engineio.FinishText(packet.AppendConnect(engineio.TextBuffer(len(payload)+len(namespace)+4), namespace, payload))
}

func (textCodec) connectError(namespace string, payload []byte) *engineio.Message {
	return engineio.FinishText(packet.AppendConnectError(engineio.TextBuffer(len(payload)+len(namespace)+4), namespace, payload))
}

func (textCodec) disconnect(namespace string) *engineio.Message {
	return engineio.FinishText(packet.AppendDisconnect(engineio.TextBuffer(len(namespace)+4), namespace))
}

// msgpackCodec has one binary message for each packet.
type msgpackCodec struct {
	maxConnect int // bytes
}

// errTextPacket closes a connection whose client is set to another codec.
var errTextPacket = &packet.Error{Reason: "text message, where packets are MessagePack"}

func (m msgpackCodec) mayConnect(data []byte, binary bool) bool {
	return binary && len(data) <= m.maxConnect
}

func (msgpackCodec) decode(c *conn, data []byte, binary bool) (packet.Packet, bool, error) {
	if !binary {
		return packet.Packet{}, false, errTextPacket
	}
	p, err := msgpack.Decode(data, c.limits())
	return p, true, err
}

func (msgpackCodec) event(namespace string, id int64, p *Prepared) []*engineio.Message {
	m := engineio.NewBinary(msgpack.AppendEvent(nil, namespace, id, p.name, p.args, p.binary()))
	if p.plain {
		m = m.Uncompressed()
	}
	return []*engineio.Message{m}
}

func (msgpackCodec) ack(namespace string, id int64, args, attachments [][]byte) []*engineio.Message {
	return []*engineio.Message{engineio.NewBinary(msgpack.AppendAck(nil, namespace, id, args, attachments))}
}

func (msgpackCodec) connect(namespace string, payload []byte) *engineio.Message {
	return engineio.NewBinary(msgpack.AppendConnect(nil, namespace, payload))
}

func (msgpackCodec) connectError(namespace string, payload []byte) *engineio.Message {
	return engineio.NewBinary(msgpack.AppendConnectError(nil, namespace, payload))
}

func (msgpackCodec) disconnect(namespace string) *engineio.Message {
	return engineio.NewBinary(msgpack.AppendDisconnect(nil, namespace))
}
