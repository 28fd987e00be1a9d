package engineio

import (
	"errors"

	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
)

// A socket is a session's WebSocket or WebTransport stream, or one that wants to become it. All but gone is owned by the link's
// reader.
type socket struct {
	session *Session
	link    link
	stream  *wire.StreamReader // nil: it is a WebSocket, and frames reads it
	frames  frame.Reader
	ping    []byte // the newest ping of what is being read, nil for none
	stage   stage
	took    bool // a message was taken from what is being read
	probed  bool // and a probe
	partial bool // a message is known to be incomplete

	gone bool // guarded by session.mu: the link is lost
}

type stage uint8

const (
	inUse       stage = iota
	wantProbe         // a candidate before its probe
	wantUpgrade       // and after it
)

var (
	errClosePacket = errors.New("closed by the peer")
	errPing        = errors.New("client sent a ping")
	errPong        = errors.New("client sent a pong") // of revision 3
	errSlowMessage = errors.New("incomplete message")
	errCandidate   = errors.New("unexpected packet during the upgrade")

	slowMessageFrame = rawFrame(frame.AppendClose(nil, frame.CodePolicy, errSlowMessage.Error()))
)

// A parseError is what a peer sent that is no packet, to this layer or to the handler.
type parseError struct{ err error }

func (e *parseError) Error() string { return e.err.Error() }
func (e *parseError) Unwrap() error { return e.err }

func (c *socket) received(b []byte) (work Runner) {
	s := c.session
	s.recv.Lock()
	if s.state() == stateEnded {
		s.recv.Unlock()
		s.finish()
		return nil
	}
	if !s.heard.Load() {
		s.heard.Store(true)
	}
	err := c.feed(b)
	took := c.took
	if took {
		c.took = false
		work = s.handler.Batch()
	}
	s.recv.Unlock()

	if c.probed {
		c.probed = false
		s.letPollGo()
	}
	if c.ping != nil {
		c.answerPing()
	}
	if pending := c.pending(); pending || c.partial {
		c.watch(pending, took)
	}
	if err != nil {
		c.fail(err)
	}
	s.finish()
	return work
}

func (c *socket) feed(b []byte) error {
	if c.stream == nil {
		return c.frames.Feed(b, c)
	}
	return c.stream.Feed(b, func(isBinary bool, packet []byte) error {
		if isBinary {
			return c.Message(frame.Binary, packet)
		}
		return c.Message(frame.Text, packet)
	})
}

// pending reports whether a message is incomplete.
func (c *socket) pending() bool {
	if c.stream == nil {
		return c.frames.Pending()
	}
	return c.stream.Pending()
}

// release gives back what the reading holds.
func (c *socket) release() {
	if c.stream == nil {
		c.frames.Release()
		return
	}
	c.stream.Release()
}

// encode returns a message as this transport gets it.
func (c *socket) encode(m *Message) []byte {
	if c.stream != nil {
		return m.streamed()
	}
	if c.session.v3 && m.binary {
		return m.frameV3() // compressed or not, it would have to be made anew
	}
	srv := c.session.server
	if !c.frames.Limits.Compressed || m.raw || m.plain || m.packetLen() < srv.config.CompressFrom || srv.uncompressed.Load() {
		return m.frame()
	}
	return m.compressed()
}

// watch sets a term for an incomplete message, from when it was begun.
func (c *socket) watch(pending, fresh bool) {
	if pending == c.partial && !fresh {
		return
	}
	c.partial = pending
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messageBy = 0
	if pending && s.ws == c {
		s.messageBy = s.server.wheel.after(frameTimeout)
		s.scheduleLocked()
	}
}

// Message implements [frame.Handler]. recv is held.
func (c *socket) Message(op frame.Opcode, payload []byte) error {
	s := c.session
	if c.stage != inUse {
		return c.negotiate(op, payload)
	}
	c.took = true
	p, err := s.parse(op, payload)
	if err != nil {
		return &parseError{err}
	}
	return s.packet(p)
}

// parse decodes the packet of one frame.
func (s *Session) parse(op frame.Opcode, payload []byte) (wire.Packet, error) {
	switch {
	case op == frame.Binary && s.v3:
		return wire.ParseBinaryV3(payload)
	case op == frame.Binary:
		return wire.Packet{Type: wire.Message, Binary: true, Data: payload}, nil
	case s.v3:
		return wire.ParseV3(payload)
	}
	return wire.Parse(payload)
}

// Control implements [frame.Handler].
func (c *socket) Control(op frame.Opcode, payload []byte) error {
	switch op {
	case frame.Ping: // only the newest needs an answer (RFC 6455 §5.5.3)
		if c.ping == nil {
			c.ping = make([]byte, 0, frame.MaxControl)
		}
		c.ping = append(c.ping[:0], payload...)
	case frame.Close:
		code, _ := frame.ParseClose(payload)
		return &peerClosed{code}
	}
	return nil
}

// peerClosed is the peer's close frame.
type peerClosed struct{ code uint16 }

func (e *peerClosed) Error() string { return "closed by the peer" }

func (c *socket) answerPing() {
	pong := rawFrame(append(frame.AppendHeader(nil, frame.Pong, len(c.ping)), c.ping...))
	c.ping = nil
	s := c.session
	s.mu.Lock()
	if s.ws != c || s.state() == stateEnded {
		s.mu.Unlock()
		return
	}
	s.pong = pong
	s.flushLocked()
}

func (c *socket) fail(err error) {
	s := c.session
	if c.stage == inUse {
		s.fail(err)
		return
	}
	s.mu.Lock()
	if s.candidate == c {
		s.dropCandidateLocked()
	}
	s.mu.Unlock()
	c.hangUp()
}

func (c *socket) lost(err error) {
	s := c.session
	c.release()
	s.mu.Lock()
	c.gone = true
	if s.candidate == c {
		s.dropCandidateLocked()
	}
	used, lingered := s.ws == c, s.lingers
	s.mu.Unlock()
	if used {
		s.end(ReasonTransportClose, err, nil)
	}
	if used && lingered {
		s.server.wheel.remove(s)
		s.server.hungUp()
	}
	s.finish()
}

// hangUp closes a socket that no session uses.
func (c *socket) hangUp() {
	if c != nil {
		c.link.try(c.encode(closeFrame))
		c.link.close()
	}
}

// packet handles one packet of an open session. recv is held.
func (s *Session) packet(p wire.Packet) error {
	switch p.Type {
	case wire.Message:
		if s.state() != stateOpen {
			return nil
		}
		if err := s.handler.Message(p.Data, p.Binary); err != nil {
			return &parseError{err}
		}
	case wire.Pong:
		if s.v3 {
			return errPong
		}
		s.ponged()
	case wire.Ping:
		if !s.v3 {
			return errPing
		}
		s.pinged()
	case wire.Close:
		return errClosePacket
	}
	return nil // the others mean nothing here
}

// fail ends the session for what its peer sent.
func (s *Session) fail(err error) {
	var broken *frame.CloseError
	var closed *peerClosed
	var parse *parseError
	switch {
	case errors.As(err, &parse):
		s.end(ReasonParseError, parse.err, closeFrame)
	case errors.As(err, &broken):
		s.end(ReasonTransportError, err, rawFrame(frame.AppendClose(nil, broken.Code, broken.Reason)))
	case errors.As(err, &closed):
		code := closed.code
		if code == frame.CodeNoStatus {
			code = 0
		}
		s.end(ReasonTransportClose, nil, rawFrame(frame.AppendClose(nil, code, "")))
	case err == errClosePacket:
		s.end(ReasonTransportClose, nil, closeFrame)
	default:
		s.end(ReasonTransportError, err, closeFrame)
	}
}
