package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
)

// join asks to be let into the namespace on a session.
func (s *Socket) join(l *link) {
	s.mu.Lock()
	if !s.active || s.link == l || l.ctx.Err() != nil || time.Now().Before(s.notBefore) {
		s.mu.Unlock()
		return
	}
	s.link, s.connected = l, false
	s.later = time.AfterFunc(s.client.config.ConnectTimeout, func() { s.unanswered(l) })
	ctx := s.ctx
	s.mu.Unlock()
	if s.client.config.AuthFunc == nil {
		s.sendConnect(l, s.client.config.Auth)
		return
	}
	s.client.spawn(func() {
		auth, err := s.client.config.AuthFunc(ctx, s.namespace)
		if err != nil {
			s.putOff(l, fmt.Errorf("auth: %w", err), s.client.config.ReconnectMaxDelay)
			return
		}
		s.sendConnect(l, auth)
	})
}

// unanswered ends a session on which the server has said neither yes nor no.
func (s *Socket) unanswered(l *link) {
	s.mu.Lock()
	waits := s.link == l && !s.connected
	s.mu.Unlock()
	if waits {
		l.end(holdpost.ReasonTransportError, fmt.Errorf("the server does not answer a CONNECT to %q", s.namespace))
	}
}

func (s *Socket) sendConnect(l *link, auth any) {
	payload, err := s.auth(auth)
	if err != nil {
		s.finish(fmt.Errorf("auth: %w", err), false)
		return
	}
	l.push(outgoing{entries: []entry{s.client.codec.connect(s.namespace, payload)}})
}

// auth returns the payload of a CONNECT, with what recovers the socket; what the program put there itself counts.
func (s *Socket) auth(auth any) ([]byte, error) {
	var members map[string]json.RawMessage
	if auth != nil {
		raw, err := json.Marshal(auth)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, errors.New("it does not encode to a JSON object")
		}
	}
	s.mu.Lock()
	pid, offset := s.pid, s.offset
	s.mu.Unlock()
	if pid == "" {
		if members == nil {
			return nil, nil
		}
		return json.Marshal(members)
	}
	all := map[string]json.RawMessage{"pid": packet.AppendString(nil, pid)}
	if offset != "" {
		all["offset"] = packet.AppendString(nil, offset)
	}
	for name, value := range members {
		all[name] = value
	}
	return json.Marshal(all)
}

// receive takes a packet for this namespace.
func (s *Socket) receive(l *link, p *packet.Packet) error {
	switch p.Type {
	case packet.Connect:
		return s.welcome(l, p.Data)
	case packet.ConnectError:
		s.refused(l, p.Data)
	case packet.Disconnect:
		s.mu.Lock()
		ours := s.link == l && s.connected
		s.mu.Unlock()
		if ours {
			s.finish(&holdpost.DisconnectError{Reason: holdpost.ReasonServerDisconnect}, false)
		}
	case packet.Event, packet.BinaryEvent:
		return s.event(l, p)
	case packet.Ack, packet.BinaryAck:
		s.resolveAck(l, p)
	}
	return nil
}

// welcome lets the socket be connected: the server has answered its CONNECT.
func (s *Socket) welcome(l *link, data []byte) error {
	var reply struct {
		SID string `json:"sid"`
		PID string `json:"pid"`
	}
	if data == nil || json.Unmarshal(data, &reply) != nil || reply.SID == "" {
		err := &DialError{Code: codeVersion, URL: s.client.address(), Transport: l.transport()}
		s.finish(err, false) // Socket.IO 2 answers without a sid
		return l.fail(holdpost.ReasonParseError, err)
	}
	s.mu.Lock()
	if s.link != l || s.connected {
		s.mu.Unlock()
		return nil
	}
	s.later.Stop()
	s.connected, s.id, s.maxPayload = true, reply.SID, l.handshake.MaxPayload
	s.recovered = reply.PID != "" && reply.PID == s.pid
	if !s.recovered {
		s.pid, s.offset = reply.PID, ""
	}
	s.connecting.resolve(nil)
	consumers := s.consumersLocked()
	wake := s.wakeLocked()
	ctx := s.ctx
	s.mu.Unlock()
	if wake {
		l.push(outgoing{socket: s})
	}
	s.push(inbound{kind: inboundConnected, ctx: ctx})
	for _, u := range consumers {
		u.attach()
	}
	return nil
}

// refused takes a CONNECT_ERROR.
func (s *Socket) refused(l *link, data []byte) {
	var reply struct {
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	if json.Unmarshal(data, &reply) != nil {
		json.Unmarshal(data, &reply.Message) // a bare string, or nothing that could be shown
	}
	err := &holdpost.ConnectError{Message: reply.Message}
	if reply.Data != nil {
		err.Data = reply.Data
	}
	var hint struct {
		RetryAfter float64 `json:"retry_after"`
	}
	if json.Unmarshal(reply.Data, &hint) == nil && hint.RetryAfter > 0 && s.client.config.ReconnectAttempts >= 0 {
		s.putOff(l, err, boundedWait(hint.RetryAfter))
		return
	}
	s.mu.Lock()
	ours := s.link == l && !s.connected
	s.mu.Unlock()
	if ours {
		s.finish(err, false)
	}
}

// putOff asks again later to be let in, on the session that there is then. The error of AuthFunc is final for a socket that was
// not connected yet.
func (s *Socket) putOff(l *link, err error, after time.Duration) {
	s.mu.Lock()
	if s.link != l || s.connected {
		s.mu.Unlock()
		return
	}
	_, asked := errors.AsType[*holdpost.ConnectError](err)
	if final := !asked && !s.connecting.resolved(); final {
		s.mu.Unlock()
		s.finish(err, false)
		return
	}
	s.later.Stop()
	s.link, s.notBefore = nil, time.Now().Add(after)
	s.buffer.forget()
	s.later = time.AfterFunc(after, func() {
		c := s.client
		c.mu.Lock()
		l := c.link
		c.mu.Unlock()
		if l != nil {
			s.join(l)
		}
	})
	s.mu.Unlock()
	s.failed(err)
}

// lost takes the end of a session: the socket waits for the next one.
func (s *Socket) lost(l *link, why *holdpost.DisconnectError) {
	s.mu.Lock()
	if s.link != l {
		s.mu.Unlock()
		return
	}
	s.later.Stop()
	was := s.connected
	s.link, s.connected, s.id = nil, false, ""
	s.buffer.forget()
	failed := s.takeAcksLocked(false)
	consumers := s.consumersLocked()
	s.mu.Unlock()
	for _, u := range consumers {
		u.lost()
	}
	for _, a := range failed {
		a.f(holdpost.Args{}, why)
	}
	if was {
		s.push(inbound{kind: inboundLost, err: why})
	} else {
		s.failed(fmt.Errorf("%w; the server did not let the socket in first (%s)", why, hintNotLetIn))
	}
}

const hintNotLetIn = "is it set to the same codec? see Config.MessagePack"
