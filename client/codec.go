package client

import (
	"errors"

	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/internal/packet/msgpack"
)

// codec is how packets travel. The server has to have the same.
type codec interface {
	event(namespace string, ack int64, name string, args, attachments [][]byte) entry
	ack(namespace string, id int64, args, attachments [][]byte) entry
	connect(namespace string, payload []byte) entry
	disconnect(namespace string) entry

	// decode takes a message, whose memory is the packet's own. complete is false while attachments are missing.
	decode(d *packet.Decoder, l *packet.Limits, p wire.Packet) (q packet.Packet, complete bool, err error)
}

// textCodec is the default: a text, and a binary message for every binary value.
type textCodec struct{}

// message begins the text of a packet with the type of Engine.IO's.
func message(size int) []byte { return append(make([]byte, 0, size), byte(wire.Message)) }

func (textCodec) event(namespace string, ack int64, name string, args, attachments [][]byte) entry {
	size := len(namespace) + len(name) + 32
	for _, a := range args {
		size += len(a) + 1
	}
	return entry{text: packet.AppendEvent(message(size), namespace, ack, len(attachments), name, args...), attachments: attachments, ack: ack}
}

func (textCodec) ack(namespace string, id int64, args, attachments [][]byte) entry {
	return entry{text: packet.AppendAck(message(64), namespace, id, len(attachments), args), attachments: attachments, ack: -1}
}

func (textCodec) connect(namespace string, payload []byte) entry {
	return entry{text: packet.AppendConnect(message(64), namespace, payload), ack: -1}
}

func (textCodec) disconnect(namespace string) entry {
	return entry{text: packet.AppendDisconnect(message(16), namespace), ack: -1}
}

func (textCodec) decode(d *packet.Decoder, _ *packet.Limits, p wire.Packet) (packet.Packet, bool, error) {
	if p.Binary {
		return d.Binary(p.Data)
	}
	return d.Text(p.Data)
}

// msgpackCodec has one binary message for each packet.
type msgpackCodec struct{}

func (msgpackCodec) event(namespace string, ack int64, name string, args, attachments [][]byte) entry {
	return entry{attachments: [][]byte{msgpack.AppendEvent(nil, namespace, ack, name, args, attachments)}, ack: ack}
}

func (msgpackCodec) ack(namespace string, id int64, args, attachments [][]byte) entry {
	return entry{attachments: [][]byte{msgpack.AppendAck(nil, namespace, id, args, attachments)}, ack: -1}
}

func (msgpackCodec) connect(namespace string, payload []byte) entry {
	return entry{attachments: [][]byte{msgpack.AppendConnect(nil, namespace, payload)}, ack: -1}
}

func (msgpackCodec) disconnect(namespace string) entry {
	return entry{attachments: [][]byte{msgpack.AppendDisconnect(nil, namespace)}, ack: -1}
}

var errTextPacket = errors.New("text message, where Config.MessagePack expects MessagePack")

func (msgpackCodec) decode(_ *packet.Decoder, l *packet.Limits, p wire.Packet) (packet.Packet, bool, error) {
	if !p.Binary {
		return packet.Packet{}, false, errTextPacket
	}
	q, err := msgpack.Decode(p.Data, l)
	return q, true, err
}
