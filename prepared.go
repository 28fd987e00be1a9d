package holdpost

import (
	"fmt"
	"slices"
	"sync/atomic"
	"unicode/utf8"

	"github.com/holdpost/holdpost/internal/engineio"
)

// Prepared is an event encoded once, to be emitted to many sockets. It is immutable and safe for concurrent use.
type Prepared struct {
	name        string
	args        [][]byte
	attachments []*engineio.Message
	plain       bool                         // not to be compressed
	encoded     atomic.Pointer[encodedEvent] // of the namespace that asked last: mostly there is only one
}

type encodedEvent struct {
	namespace *Namespace
	messages  []*engineio.Message
}

// Prepare encodes an event. The arguments may be reused once it has returned; an argument of type [Args] stands for all
// of its elements. The error is [ErrInvalidName] for a name that Socket.IO reserves, or what encoding/json says.
func Prepare(event string, args ...any) (*Prepared, error) {
	if !validEvent(event) {
		return nil, fmt.Errorf("emit %q: %w", event, ErrInvalidName)
	}
	raw, attachments, err := marshalArgs(args)
	if err != nil {
		return nil, fmt.Errorf("emit %q: %w", event, err)
	}
	p := &Prepared{name: event, args: raw}
	for _, b := range attachments {
		p.attachments = append(p.attachments, engineio.NewBinary(b))
	}
	return p, nil
}

// Uncompressed returns p for transports that would compress it, which then don't: for what is compressed already, or not to
// be mixed with what others can write (BREACH).
func (p *Prepared) Uncompressed() *Prepared {
	plain := &Prepared{name: p.name, args: p.args, plain: true}
	for _, m := range p.attachments {
		plain.attachments = append(plain.attachments, m.Uncompressed())
	}
	return plain
}

// messages returns the event's Engine.IO messages for a namespace, without an ack id.
func (p *Prepared) messages(ns *Namespace) []*engineio.Message {
	if e := p.encoded.Load(); e != nil && e.namespace == ns {
		return e.messages
	}
	e := &encodedEvent{ns, p.messagesWithID(ns, -1)}
	p.encoded.Store(e)
	return e.messages
}

func (p *Prepared) messagesWithID(ns *Namespace, id int64) []*engineio.Message {
	return ns.srv.codec.event(ns.name, id, p)
}

// packetSize estimates the bytes of a packet with these arguments.
func packetSize(namespace string, args [][]byte) int {
	n := len(namespace) + 32
	for _, a := range args {
		n += len(a) + 1
	}
	return n
}

// reservedEvents are names that the clients give meanings of their own (Socket.IO protocol v5).
var reservedEvents = []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}

func validEvent(name string) bool {
	return utf8.ValidString(name) && !slices.Contains(reservedEvents, name)
}

// validName is the rule for rooms and namespaces: not empty, bounded, UTF-8, no control characters.
func validName(name string, limit int) bool {
	if name == "" || len(name) > limit || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return true
}
