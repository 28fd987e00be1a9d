package holdpost

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/holdpost/holdpost/internal/engineio"
	"github.com/holdpost/holdpost/internal/packet"
)

var (
	errInvalidNamespace  = &ConnectError{Message: "Invalid namespace"}
	errTooManyNamespaces = &ConnectError{Message: "Too many namespaces"}
)

// connect begins to let a client into a namespace (Socket.IO protocol v5, CONNECT). The gates run on the socket's own
// goroutine.
func (c *conn) connect(p *packet.Packet) error {
	if c.v2() {
		c.revise(p)
	}
	var ns *Namespace
	if len(p.Namespace) <= c.srv.config.MaxNameBytes {
		ns = c.srv.hold(p.Namespace)
	}
	if ns == nil {
		c.sendConnectError(p.Namespace, errInvalidNamespace)
		return nil
	}
	s := &Socket{ns: ns, conn: c, id: newID()}
	if c.v2() {
		s.id = s.idV2()
	}
	if c.srv.config.Recovery != nil {
		s.session = new(session)
	}
	if len(p.Data) > 0 {
		s.auth = p.Data
	}
	if err := c.addSocket(s); err != nil {
		ns.release()
		if refusal, ok := err.(*ConnectError); ok {
			c.sendConnectError(p.Namespace, refusal)
			return nil
		}
		return err
	}
	if s.in.Push(inbound{kind: inboundConnect}) {
		c.dirty = append(c.dirty, s)
	}
	return nil
}

// addSocket adds a socket that is about to wait at the gates. A [ConnectError] refuses it, any other error ends the connection.
func (c *conn) addSocket(s *Socket) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.find(s.ns.name) != nil:
		return errWrongState
	case len(c.sockets) >= c.srv.config.MaxNamespaces:
		return errTooManyNamespaces
	}
	c.sockets = append(c.sockets, s)
	return nil
}

// admit passes a socket through the gates and into its namespace, or refuses it.
func (c *conn) admit(s *Socket) {
	var err error
	if s.guard("namespace", func() { err = s.settle() }) {
		err = errInvalidNamespace
	}
	if err != nil {
		c.refuse(s, err)
		return
	}
	var back *claim
	if s.session != nil && !c.v2() {
		back = s.claimed()
	}
	for h := range s.ns.hooked {
		for _, gate := range h.gates {
			if s.guard("gate", func() { err = gate(s.Context(), s) }) {
				err = errors.New("internal error")
			}
			if err != nil {
				c.refuse(s, err)
				return
			}
		}
	}
	c.join()
	if !c.letIn(s, back) {
		return
	}
	// What these handlers emit leaves together, up to 5 ms behind the reply: clients that look at one message at a time, the
	// protocol's own test suite among them, ask for the first event only once they have seen the reply.
	s.more.Store(true)
	defer s.more.Store(false)
	for h := range s.ns.hooked {
		for _, f := range h.connect {
			switch panicked := s.guard("connection", func() { err = f(s.Context(), s) }); {
			case panicked:
				c.leave(s, ReasonPanic, true)
				return
			case err != nil:
				s.logUnanswered("connection", err)
				c.leave(s, ReasonServerDisconnect, true)
				return
			}
		}
	}
}

// join lifts the time limit of a connection that has joined nothing, the first time that it does.
func (c *conn) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.joined.Load() {
		c.session.Deadline(0, nil) // before the client may send what sets another one
		c.joined.Store(true)
	}
}

// letIn makes the socket a connected one and answers its CONNECT. It reports false when the socket was closed meanwhile.
func (c *conn) letIn(s *Socket, back *claim) bool {
	if s.session != nil {
		return s.join(back)
	}
	if !s.letIn() {
		return false
	}
	// The reply is queued before broadcasts can reach the socket, and written after: the client finds all that comes
	// behind it.
	c.session.Send(false, c.connectReply(s))
	joined := s.enter()
	c.session.Flush()
	s.guard("join", func() { s.tellJoined(joined) })
	return true
}

func (c *conn) connectReply(s *Socket) *engineio.Message {
	if c.v2() {
		return c.srv.codec.connect(s.ns.name, nil)
	}
	payload := make([]byte, 0, 64)
	payload = append(payload, `{"sid":"`...)
	payload = append(payload, s.id...)
	if s.session != nil {
		payload = append(payload, `","pid":"`...)
		payload = append(payload, s.session.pid...)
	}
	payload = append(payload, `"}`...)
	return c.srv.codec.connect(s.ns.name, payload)
}

// refuse answers a CONNECT with a CONNECT_ERROR. The connection stays, and the client may try again.
func (c *conn) refuse(s *Socket, err error) {
	c.mu.Lock()
	waits := c.forget(s)
	c.mu.Unlock()
	s.close(&DisconnectError{Reason: ReasonServerDisconnect})
	if !waits { // the gate has disconnected it, or it is gone
		return
	}
	refusal, ok := errors.AsType[*ConnectError](err)
	if !ok {
		refusal = &ConnectError{Message: err.Error()}
	}
	c.sendConnectError(s.ns.name, refusal)
}

func (c *conn) sendConnectError(namespace string, refusal *ConnectError) {
	var shown any = refusal
	if c.v2() {
		shown = refusal.shownV2()
	}
	payload, err := json.Marshal(shown)
	if err != nil {
		c.srv.config.Logger.Warn("gate refused with data that is no JSON", "namespace", namespace, "error", err)
		payload, _ = json.Marshal(&ConnectError{Message: refusal.Message}) // a string always marshals
	}
	c.session.Send(true, c.srv.codec.connectError(namespace, payload))
}

// newID returns 120 random bits in the form of Socket.IO's own ids.
func newID() string {
	var b [15]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
