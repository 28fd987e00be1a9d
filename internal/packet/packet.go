package packet

import "fmt"

// Type is the kind of a packet: the first digit on the wire.
type Type uint8

// The packet types of Socket.IO v5.
const (
	Connect Type = iota
	Disconnect
	Event
	Ack
	ConnectError
	BinaryEvent
	BinaryAck
)

var typeNames = [...]string{"CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK"}

// String returns the name that the protocol gives the type.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// A Packet is one decoded Socket.IO packet.
type Packet struct {
	Type        Type
	Namespace   string   // "/" when the wire names none
	ID          int64    // ack id, -1 = none
	Data        []byte   // JSON payload as on the wire, nil = none; aliases the text
	Args        [][]byte // event and ack kinds: the elements of the payload, each valid JSON, aliasing Data; of an event the first is the name
	Name        string   // event kinds: the event name; of a numeric name its text
	Attachments [][]byte // binary kinds: the binary messages, in order
}

// Limits bound what a [Decoder] accepts. The values are taken as they stand: start from [DefaultLimits].
type Limits struct {
	Attachments int // binary messages of one packet
	Namespace   int // bytes of a namespace's name
	Name        int // bytes of an event's name
	Depth       int // nested arrays and objects, the payload itself included; never more than 256
	Values      int // JSON values in one payload
	AuthBytes   int // payload of CONNECT and CONNECT_ERROR
	TotalBytes  int // text and attachments of one binary packet together
}

// DefaultLimits are the limits of a decoder that was given none.
var DefaultLimits = Limits{
	Attachments: 10,
	Namespace:   255,
	Name:        255,
	Depth:       64,
	Values:      100_000,
	AuthBytes:   64 << 10,
	TotalBytes:  2_000_000,
}

// Error says why something is not a packet. It quotes nothing that the peer sent.
type Error struct {
	Reason string
	Offset int // in the text of the packet
}

func (e *Error) Error() string {
	return fmt.Sprintf("invalid packet: %s at byte %d", e.Reason, e.Offset)
}

// IsAck tells from its first byte whether a text is an ACK or BINARY_ACK, without looking at the rest.
func IsAck(b []byte) bool {
	return len(b) > 0 && (b[0] == '0'+byte(Ack) || b[0] == '0'+byte(BinaryAck))
}

// Reserved tells whether an event cannot have the name: the official clients and servers emit it locally.
func Reserved(name string) bool {
	switch name {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}
