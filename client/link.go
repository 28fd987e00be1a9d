package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/internal/serial"
)

// The names of the transports.
const (
	pollingName   = "polling"
	webSocketName = "websocket"
)

// A link is one Engine.IO session. One goroutine reads it; whoever wakes its queue writes.
type link struct {
	// Static after construction.
	client *Client
	ctx    context.Context // ends with the session; its cause is a [holdpost.DisconnectError]
	cancel context.CancelCauseFunc
	web    *http.Client // nil once a WebSocket is all that there is

	// Static once the session is open.
	handshake wire.Handshake
	opened    time.Time
	alive     *time.Timer // ends the session unless a heartbeat comes first
	switching *switching  // nil unless the session may move from polling to a WebSocket

	decoder packet.Decoder // owned by the reader, and
	overdue *time.Timer    // ends the session unless the rest of an event comes first; nil if none is incomplete
	heard   bool           // something has come over the WebSocket

	out       serial.Queue[outgoing] // what is to be written
	to        sink                   // owned by the writer, and
	shut      bool                   // the server takes nothing more
	answering atomic.Bool            // the answer to a heartbeat waits to be written

	ws atomic.Pointer[webSocket] // what is read from; nil while polling
}

// A sink takes packets; they leave with flush at the latest. It belongs to one goroutine, but for close.
type sink interface {
	text(packet []byte) error
	binary(message []byte) error
	pong(payload []byte) error // of the WebSocket itself
	flush() error
	bye() error
	close()
}

// outgoing is one thing to be written: what a socket has waiting, packets of their own, an answer to a heartbeat, or the end.
type outgoing struct {
	socket  *Socket
	entries []entry // which are of no socket's buffer
	beat    bool    // answer a heartbeat
	pong    []byte
	last    bool // say goodbye and end the session
}

// end ends the session, once; whoever reads it finds out.
func (l *link) end(reason holdpost.Reason, err error) {
	l.cancel(&holdpost.DisconnectError{Reason: reason, Err: err})
	if ws := l.ws.Load(); ws != nil {
		ws.close()
	}
}

var (
	errEnded  = errors.New("session ended")
	errHungUp = errors.New("the WebSocket was closed")
)

// fail is end for the reader, which has to return.
func (l *link) fail(reason holdpost.Reason, err error) error {
	l.end(reason, err)
	return errEnded
}

// read reads until the session ends, and returns why it did.
func (l *link) read() *holdpost.DisconnectError {
	defer l.alive.Stop()
	err := l.poll()
	for err == nil {
		ws := l.ws.Load()
		n, e := ws.conn.Read(ws.small[:])
		err = e // unless the client is closed, what follows is
		l.client.aside(func() { err = ws.took(n, e, l) })
	}
	if l.switching != nil && l.ws.Load() != nil && !l.heard && l.ctx.Err() == nil {
		l.lastPoll()
	}
	reason := holdpost.ReasonTransportError
	if e, ok := errors.AsType[*DialError](err); !ok && closedByPeer(err) || ok && closedByPeer(e.Err) {
		reason = holdpost.ReasonTransportClose
	}
	l.end(reason, err)
	if ws := l.ws.Load(); ws != nil {
		ws.frames.Release()
	}
	if l.overdue != nil {
		l.overdue.Stop()
	}
	if l.web != nil {
		l.web.CloseIdleConnections()
	}
	return context.Cause(l.ctx).(*holdpost.DisconnectError)
}

// payload reads the answer to a poll.
func (l *link) payload(body []byte) error {
	packets := wire.NewPayload(body, maxPackets)
	for {
		p, ok, err := packets.Next()
		if err != nil {
			return l.unreadable(err)
		}
		if !ok {
			return nil
		}
		if err := l.packet(p); err != nil {
			return err
		}
	}
}

// packets in one answer to a poll: a server sends what it has queued, and bounds that.
const maxPackets = 10_000

// Message implements [frame.Handler].
func (l *link) Message(op frame.Opcode, payload []byte) error {
	l.heard = true
	if op == frame.Binary {
		return l.packet(wire.Packet{Type: wire.Message, Binary: true, Data: bytes.Clone(payload)})
	}
	if len(payload) > 1 { // more than a heartbeat, and may be kept
		payload = bytes.Clone(payload)
	}
	p, err := wire.Parse(payload)
	if err != nil {
		return l.unreadable(err)
	}
	return l.packet(p)
}

// Control implements [frame.Handler].
func (l *link) Control(op frame.Opcode, payload []byte) error {
	switch op {
	case frame.Ping:
		if l.answering.CompareAndSwap(false, true) { // the last of many is enough (RFC 6455 §5.5.3)
			l.push(outgoing{pong: append([]byte{}, payload...)})
		}
	case frame.Close:
		code, reason := frame.ParseClose(payload)
		return fmt.Errorf("%w with code %d %q", errHungUp, code, reason)
	}
	return nil
}

func (l *link) unreadable(err error) error {
	if !l.isOpen() {
		return &DialError{Code: codeNotSocketIO, Err: err}
	}
	return l.fail(holdpost.ReasonParseError, err)
}

// packet takes what came. Its memory is the packet's own.
func (l *link) packet(p wire.Packet) error {
	if !l.isOpen() {
		return l.start(p)
	}
	switch p.Type {
	case wire.Ping:
		l.alive.Reset(l.patience())
		if l.answering.CompareAndSwap(false, true) {
			l.push(outgoing{beat: true})
		}
		return nil
	case wire.Message:
		return l.message(p)
	case wire.Close:
		return l.fail(holdpost.ReasonTransportClose, errors.New("the server closed the session"))
	case wire.Noop:
		return nil
	}
	return l.fail(holdpost.ReasonParseError, fmt.Errorf("packet of type %c in an open session", p.Type))
}

var pongPacket = []byte{byte(wire.Pong)}

func (l *link) message(p wire.Packet) error {
	q, complete, err := l.client.codec.decode(&l.decoder, &l.client.limits, p)
	if err != nil {
		return l.fail(holdpost.ReasonParseError, err)
	}
	if !complete {
		if l.overdue == nil {
			l.overdue = time.AfterFunc(l.client.config.AttachmentTimeout, func() { l.end(holdpost.ReasonParseError, errOverdue) })
		}
		return nil
	}
	if l.overdue != nil {
		l.overdue.Stop()
		l.overdue = nil
	}
	return l.client.receive(l, &q)
}

var errOverdue = errors.New("attachments of an event have not come within Config.AttachmentTimeout")

// push has something written. It never waits.
func (l *link) push(o outgoing) {
	if l.out.Push(o) {
		l.client.spawn(func() { l.out.Run(l.write) })
	}
}

// write writes a batch.
func (l *link) write(batch []outgoing) {
	to, release := l.sink()
	defer release()
	var err error
	for i := range batch {
		switch o := &batch[i]; {
		case l.ctx.Err() != nil || l.shut:
			return
		case o.socket != nil:
			err = o.socket.writeTo(l, to)
		case o.entries != nil:
			err = writeEntries(to, o.entries)
		case o.beat:
			l.answering.Store(false)
			err = to.text(pongPacket)
		case o.pong != nil:
			l.answering.Store(false)
			err = to.pong(o.pong)
		case o.last:
			if to.flush() == nil {
				to.bye() // the session ends either way
			}
			l.end(holdpost.ReasonClientDisconnect, nil)
			return
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = to.flush()
	}
	if err != nil { // if the server has ended the session, what it said last is on its way to the reader
		l.shut = true
		time.AfterFunc(lastWords, func() { l.end(holdpost.ReasonTransportError, err) })
	}
}

// lastWords is how long a session is read after nothing can be written to it any more.
const lastWords = time.Second

// sink returns where to write, while nobody moves the session to another transport.
func (l *link) sink() (to sink, release func()) {
	if l.switching == nil {
		return l.to, func() {}
	}
	l.switching.turn <- struct{}{}
	return l.to, func() { <-l.switching.turn }
}

// transport returns the name of the one in use.
func (l *link) transport() string {
	if l.ws.Load() != nil {
		return webSocketName
	}
	return pollingName
}
