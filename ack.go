package holdpost

import (
	"context"
	"fmt"

	"github.com/holdpost/holdpost/internal/packet"
)

// pendingAcks are the answers that one socket owes, by ack id. Guarded by the socket's mu.
type pendingAcks map[int64]func(Args, error)

// expectAck registers f for an ack id. f is called exactly once: with the answer, or with a [DisconnectError]; unless
// takeAck comes first.
func (s *Socket) expectAck(id int64, f func(Args, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	// An id that is taken was given out 2^31 acks ago.
	if _, taken := s.acks[id]; taken || len(s.acks) >= s.conn.srv.config.MaxPendingAcks {
		return fmt.Errorf("ack: %w", ErrTooMany)
	}
	if s.acks == nil {
		s.acks = make(pendingAcks)
	}
	s.acks[id] = f
	return nil
}

// takeAck forgets an ack; a late answer is ignored. It reports false when the ack has been or is being resolved.
func (s *Socket) takeAck(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.acks[id]
	delete(s.acks, id)
	return ok
}

// resolveAck hands an answer to whom it is for. Unknown ids, late and repeated answers are ignored, as the clients expect.
func (s *Socket) resolveAck(p *packet.Packet) {
	s.mu.Lock()
	f := s.acks[p.ID]
	delete(s.acks, p.ID)
	s.mu.Unlock()
	if f != nil {
		f(Args{p.Args, p.Attachments}, nil)
	}
}

// DeliverWithAck is [Socket.Deliver] that calls f exactly once: with the client's answer, or with a [DisconnectError]. f runs
// on the goroutine that reads the connection or closes the socket and must not block. The error is a [DisconnectError] or
// [ErrTooMany]; f is not called then.
func (s *Socket) DeliverWithAck(p *Prepared, flush bool, f func(Args, error)) error {
	id := s.conn.srv.nextAck()
	if err := s.expectAck(id, f); err != nil {
		return err
	}
	if !s.send(flush, p.messagesWithID(s.ns, id)...) && s.takeAck(id) {
		return s.disconnected()
	}
	s.ns.tellEmitted(p, s)
	return nil // when it could not be sent and the ack was taken, the end of the socket has called f
}

// EmitWithAck emits an event and waits for the client's answer. It ends early with the context's cause, with a
// [DisconnectError], or with [ErrTooMany] when the socket owes too many acks already. A late answer is ignored.
func (s *Socket) EmitWithAck(ctx context.Context, event string, args ...any) (Args, error) {
	p, err := Prepare(event, args...)
	if err != nil {
		return Args{}, err
	}
	type answer struct {
		args Args
		err  error
	}
	answers := make(chan answer, 1)
	id := s.conn.srv.nextAck()
	if err := s.expectAck(id, func(a Args, err error) { answers <- answer{a, err} }); err != nil {
		return Args{}, fmt.Errorf("emit %q: %w", event, err)
	}
	var emitted *moment
	switch {
	case s.recorded():
		emitted = s.ns.record(socketOf(ctx), emission{prepared: p, id: id, rooms: []string{s.id}}, s.alone)
	case !s.send(true, p.messagesWithID(s.ns, id)...) && s.takeAck(id):
		return Args{}, s.disconnected()
	}
	s.ns.tellEmitted(p, s)
	select {
	case a := <-answers:
		if a.err == nil && emitted != nil {
			s.saw(emitted, 0)
		}
		return a.args, a.err
	case <-ctx.Done():
		s.takeAck(id)
		return Args{}, fmt.Errorf("emit %q: wait for the ack: %w", event, context.Cause(ctx))
	}
}
