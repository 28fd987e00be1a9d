package holdpost

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdpost/holdpost/internal/engineio"
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
	if _, taken := s.acks[id]; taken || len(s.acks) >= s.ns.srv.config.MaxPendingAcks {
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
	id := s.ns.nextAck()
	if err := s.expectAck(id, f); err != nil {
		return err
	}
	if !s.send(flush, p.messagesWithID(s.ns.name, id)...) && s.takeAck(id) {
		return s.disconnected()
	}
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
	id := s.ns.nextAck()
	if err := s.expectAck(id, func(a Args, err error) { answers <- answer{a, err} }); err != nil {
		return Args{}, fmt.Errorf("emit %q: %w", event, err)
	}
	var emitted *moment
	switch {
	case s.recorded():
		emitted = s.ns.record(socketOf(ctx), emission{prepared: p, id: id, rooms: []string{s.id}}, s.alone)
	case !s.send(true, p.messagesWithID(s.ns.name, id)...) && s.takeAck(id):
		return Args{}, s.disconnected()
	}
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

// Answer is one socket's answer to a broadcast.
type Answer struct {
	Socket string // the id of the socket that answered, or failed to
	Args   Args
}

// EmitWithAck emits an event to every socket of b and yields one answer for each, as they arrive. A socket that does not
// answer is yielded with an error and its id: a [DisconnectError] when it left, [ErrTooMany] when it owes too many acks
// already, the context's cause when ctx ended first. Without sockets nothing is yielded. A single pair with an empty id
// means that nothing was sent, the arguments not being encodable. Breaking off the loop forgets the rest. Volatile has no
// effect here.
func (b Broadcast) EmitWithAck(ctx context.Context, event string, args ...any) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		p, err := Prepare(event, args...)
		if err != nil {
			yield(Answer{}, err)
			return
		}
		if b.nobody() {
			return
		}
		type result struct {
			socket *Socket
			args   Args
			err    error
		}
		targets := b.appendTargets(nil)
		results := make(chan result, len(targets)) // room for all: nobody who answers ever waits for this loop
		id := b.ns.nextAck()                       // one id for all, so the packet is encoded once; each socket keeps its own table
		record := b.ns.srv.config.Recovery != nil
		var messages []*engineio.Message
		if !record {
			messages = p.messagesWithID(b.ns.name, id)
		}
		waiting := make(map[*Socket]struct{}, len(targets))
		for _, s := range targets {
			err := s.expectAck(id, func(a Args, err error) { results <- result{s, a, err} })
			if err != nil {
				results <- result{s, Args{}, err}
			} else if !record && !s.send(true, messages...) && s.takeAck(id) {
				results <- result{s, Args{}, s.disconnected()}
			}
			waiting[s] = struct{}{}
		}
		var emitted *moment
		if record {
			emitted = b.ns.record(socketOf(ctx), b.emission(p, id), func() []*Socket { return targets })
		}
		defer func() {
			for s := range waiting {
				s.takeAck(id)
			}
		}()
		for done := ctx.Done(); len(waiting) > 0; {
			select {
			case r := <-results:
				delete(waiting, r.socket)
				if r.err == nil && emitted != nil {
					r.socket.saw(emitted, 0)
				}
				if !yield(Answer{r.socket.id, r.args}, r.err) {
					return
				}
			case <-done:
				done = nil // what was answered by now is yielded still
				err := fmt.Errorf("emit %q: wait for the ack: %w", event, context.Cause(ctx))
				for s := range waiting {
					if !s.takeAck(id) {
						continue
					}
					delete(waiting, s)
					if !yield(Answer{Socket: s.id}, err) {
						return
					}
				}
			}
		}
	}
}
