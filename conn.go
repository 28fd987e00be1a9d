package holdpost

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/engineio"
	"github.com/holdpost/holdpost/internal/packet"
)

// leftGrace is how long packets for a namespace that was just left are ignored instead of punished: they may have crossed
// the packet that ended it.
const leftGrace = 10 * time.Second

// conn is one connection: an Engine.IO session and its sockets. The session calls Message, Batch and Closed, one at a
// time.
type conn struct {
	// Static after construction.
	srv     *Server
	session *engineio.Session

	// Owned by the reader.
	decoder packet.Decoder
	dirty   []*Socket // have events, but no goroutine yet that handles them

	joined atomic.Bool // a socket was let in; written with mu held

	mu      sync.Mutex // guards the fields below
	sockets []*Socket  // joined or at a gate; few, so that a search beats a map
	left    []leftNamespace
}

type leftNamespace struct {
	name string
	at   time.Time
}

// errWrongState closes a connection for a packet that is valid, but not now.
var errWrongState = errors.New("packet in the wrong state")

func (srv *Server) open(session *engineio.Session) engineio.Handler {
	c := &conn{srv: srv, session: session}
	c.decoder = packet.NewDecoder(c.limits())
	if srv.config.ConnectTimeout > 0 {
		session.Deadline(srv.config.ConnectTimeout, func() { session.Close(engineio.Reason(ReasonForcedServer)) })
	}
	if c.v2() {
		c.connectV2()
	}
	return c
}

// limits returns those of the packets that the client may send.
func (c *conn) limits() *packet.Limits {
	if c.v2() {
		return &c.srv.limitsV2
	}
	return &c.srv.limits
}

// Message takes one Engine.IO message. data is reused by the session once it returns.
func (c *conn) Message(data []byte, binary bool) error {
	err := c.message(data, binary)
	if errors.Is(err, errWrongState) {
		c.session.Close(engineio.Reason(ReasonForcedServer))
		return nil
	}
	return err
}

func (c *conn) message(data []byte, binary bool) error {
	joined := c.joined.Load()
	if !joined && !c.srv.codec.mayConnect(data, binary) {
		return errWrongState
	}
	waited := c.decoder.Pending()
	p, complete, err := c.srv.codec.decode(c, data, binary)
	if err != nil {
		return err
	}
	if !complete {
		if !waited {
			c.session.Deadline(c.srv.config.AttachmentTimeout, func() { c.session.Close(engineio.ReasonParseError) })
		}
		return nil
	}
	if waited {
		c.session.Deadline(0, nil)
	}
	switch {
	case p.Type == packet.Connect:
		return c.connect(&p)
	case !joined:
		return errWrongState
	}
	switch p.Type {
	case packet.Event, packet.BinaryEvent, packet.Ack, packet.BinaryAck, packet.Disconnect:
		return c.packet(&p)
	}
	return errWrongState // CONNECT_ERROR is the server's to send
}

// Batch starts the handlers of the sockets that got events in this read: all at once, so that they see them as one batch.
// Mostly it is one socket, whose handlers go on where the events were read.
func (c *conn) Batch() engineio.Runner {
	if len(c.dirty) == 0 {
		return nil
	}
	first := c.dirty[0]
	for _, s := range c.dirty[1:] {
		s.start()
	}
	clear(c.dirty)
	c.dirty = c.dirty[:0]
	c.srv.handlers.begin()
	return (*handling)(first)
}

// Closed ends all sockets of the connection.
func (c *conn) Closed(r engineio.Reason, cause error) {
	if work := c.Batch(); work != nil {
		go work.Run()
	}
	c.mu.Lock()
	sockets := c.sockets
	c.sockets = nil
	c.mu.Unlock()
	why := &DisconnectError{Reason(r), cause}
	for _, s := range sockets {
		s.close(why)
		if o := s.outbox(); o != nil {
			for _, call := range o.close() {
				call()
			}
		}
	}
}

// packet takes an event, an ack or a DISCONNECT for a socket of the connection.
func (c *conn) packet(p *packet.Packet) error {
	c.mu.Lock()
	s := c.find(p.Namespace)
	if s == nil && c.leftLately(p.Namespace) {
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	if s == nil {
		return errWrongState
	}
	ack := p.Type == packet.Ack || p.Type == packet.BinaryAck
	if s.phase.Load() == phaseGate && !(ack && s.replaying()) {
		return errWrongState
	}
	switch p.Type {
	case packet.Ack, packet.BinaryAck:
		s.resolveAck(p)
	case packet.Disconnect:
		c.leave(s, ReasonClientDisconnect, false)
	default:
		c.event(s, p)
	}
	return nil
}

func (c *conn) event(s *Socket, p *packet.Packet) {
	size := len(p.Data)
	for _, b := range p.Attachments {
		size += len(b)
	}
	limits := &c.srv.config
	if s.inBytes.Add(int64(size)) > int64(limits.MaxInboundBytes) || s.inEvents.Add(1) > int64(limits.MaxInboundEvents) {
		c.session.Abort(engineio.Reason(ReasonOverrun))
		return
	}
	if s.in.Push(inbound{kind: inboundEvents, event: &inboundEvent{*p, size}}) {
		c.dirty = append(c.dirty, s)
	}
}

// leave takes a socket out of the connection, which stays. With tell the client is sent a DISCONNECT. It reports whether the
// socket was there.
func (c *conn) leave(s *Socket, reason Reason, tell bool) bool {
	c.mu.Lock()
	if !c.forget(s) {
		c.mu.Unlock()
		return false
	}
	namespace, now := s.ns.name, time.Now()
	c.left = slices.DeleteFunc(c.left, func(l leftNamespace) bool { return l.name == namespace || now.Sub(l.at) > leftGrace })
	if len(c.left) >= c.srv.config.MaxNamespaces {
		c.left = slices.Delete(c.left, 0, 1) // the first to have been left
	}
	c.left = append(c.left, leftNamespace{namespace, now})
	c.mu.Unlock()
	if tell {
		s.send(true, c.srv.codec.disconnect(namespace))
	}
	s.close(&DisconnectError{Reason: reason})
	return true
}

// disconnectAll ends all sockets and then the connection.
func (c *conn) disconnectAll() {
	c.mu.Lock()
	sockets := slices.Clone(c.sockets)
	c.mu.Unlock()
	for _, s := range sockets {
		c.leave(s, ReasonServerDisconnect, true)
	}
	if c.srv.config.Recovery == nil || len(sockets) == 0 {
		c.session.Close(engineio.ReasonForcedClose)
		return
	}
	var open atomic.Int32 // outboxes that the close has to wait for
	open.Store(int32(len(sockets)))
	for _, s := range sockets {
		s.enqueue(entry{then: func() {
			if open.Add(-1) == 0 {
				c.session.Close(engineio.ReasonForcedClose)
			}
		}}, true)
		s.drain()
	}
}

// find returns the socket of a namespace. c.mu is held.
func (c *conn) find(namespace string) *Socket {
	for _, s := range c.sockets {
		if s.ns.name == namespace {
			return s
		}
	}
	return nil
}

// forget drops a socket and reports whether it was there. c.mu is held.
func (c *conn) forget(s *Socket) bool {
	i := slices.Index(c.sockets, s)
	if i < 0 {
		return false
	}
	c.sockets = slices.Delete(c.sockets, i, i+1)
	return true
}

// leftLately reports whether the namespace was left within leftGrace. c.mu is held.
func (c *conn) leftLately(namespace string) bool {
	return slices.ContainsFunc(c.left, func(l leftNamespace) bool {
		return l.name == namespace && time.Since(l.at) <= leftGrace
	})
}
