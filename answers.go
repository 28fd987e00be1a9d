package holdpost

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdpost/holdpost/internal/engineio"
)

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
		a := b.ask(socketOf(ctx), p)
		defer a.forget()
		for done := ctx.Done(); len(a.waiting) > 0; {
			select {
			case r := <-a.results:
				if !a.take(r, yield) {
					return
				}
			case <-done:
				done = nil // what was answered by now is yielded still
				if !a.giveUp(fmt.Errorf("emit %q: wait for the ack: %w", event, context.Cause(ctx)), yield) {
					return
				}
			}
		}
	}
}

// answers are what the sockets of one broadcast owe.
type answers struct {
	id      int64               // of the ack, one for all: each socket keeps its own table, and the packet is encoded once
	results chan answered       // has room for all: nobody who answers ever waits
	waiting map[*Socket]*moment // who has yet to answer, and for recovery when it was asked
}

type answered struct {
	socket *Socket
	args   Args
	err    error
}

// ask emits p with an ack to the sockets of b.
func (b Broadcast) ask(cause *Socket, p *Prepared) *answers {
	if b.plain {
		p = p.Uncompressed()
	}
	namespaces := b.namespaces()
	targets := make([][]*Socket, len(namespaces))
	total := 0
	for i, ns := range namespaces {
		b.ns = ns
		targets[i] = b.appendTargets(nil)
		total += len(targets[i])
	}
	a := &answers{id: b.ns.srv.nextAck(), results: make(chan answered, total), waiting: make(map[*Socket]*moment, total)}
	record := b.ns.srv.config.Recovery != nil
	for i, ns := range namespaces {
		var messages []*engineio.Message
		if !record {
			messages = p.messagesWithID(ns, a.id)
		}
		for _, s := range targets[i] {
			err := s.expectAck(a.id, func(args Args, err error) { a.results <- answered{s, args, err} })
			if err != nil {
				a.results <- answered{s, Args{}, err}
			} else if !record && !s.send(true, messages...) && s.takeAck(a.id) {
				a.results <- answered{s, Args{}, s.disconnected()}
			}
		}
		var emitted *moment
		if record {
			b.ns = ns
			emitted = ns.record(cause, b.emission(p, a.id), func() []*Socket { return targets[i] })
		}
		for _, s := range targets[i] {
			a.waiting[s] = emitted
		}
		ns.tellEmitted(p, targets[i]...)
	}
	return a
}

// take yields one answer.
func (a *answers) take(r answered, yield func(Answer, error) bool) bool {
	if emitted := a.waiting[r.socket]; r.err == nil && emitted != nil {
		r.socket.saw(emitted, 0)
	}
	delete(a.waiting, r.socket)
	return yield(Answer{r.socket.id, r.args}, r.err)
}

// giveUp yields err for all that have not answered yet.
func (a *answers) giveUp(err error, yield func(Answer, error) bool) bool {
	for s := range a.waiting {
		if !s.takeAck(a.id) {
			continue
		}
		delete(a.waiting, s)
		if !yield(Answer{Socket: s.id}, err) {
			return false
		}
	}
	return true
}

// forget drops what is still owed.
func (a *answers) forget() {
	for s := range a.waiting {
		s.takeAck(a.id)
	}
}
