package client

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
)

// Emit emits an event to the server. It never waits: while the client is away the event is buffered, and sent when it is back.
// It succeeds with a context that is done. The error is [holdpost.ErrInvalidName] for a name that Socket.IO reserves, what
// encoding/json says, a [holdpost.Error] with code too_large for what is more than the server takes at once, [ErrFull], or
// that of [Socket.Err].
func (s *Socket) Emit(_ context.Context, event string, args ...any) error {
	e, err := s.encode(event, -1, args)
	if err == nil {
		err = s.send(e, nil)
	}
	return emitError(event, err)
}

func emitError(event string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("emit %q: %w", event, err)
}

// Volatile returns an emitter of events that the server may miss: one that can't be written right now is dropped. It can't while
// the client is away, or as long as something emitted before waits to be written.
func (s *Socket) Volatile() holdpost.Emitter { return volatileSocket{s} }

type volatileSocket struct{ *Socket }

func (v volatileSocket) Emit(_ context.Context, event string, args ...any) error {
	e, err := v.encode(event, -1, args)
	if err != nil {
		return emitError(event, err)
	}
	v.mu.Lock()
	writable := v.connected && len(v.buffer.entries) == 0
	v.mu.Unlock()
	if !writable {
		return emitError(event, v.Err())
	}
	return emitError(event, v.send(e, nil))
}

// EmitWithAck emits an event and waits for the server's answer. While the client is away the event is buffered like any other,
// and the wait goes on. It ends early with the context's cause; with a [holdpost.DisconnectError] when the event was sent and
// the connection lost: the server may have seen it or not; with [ErrFull], also when the server owes Config.MaxPendingAcks
// already; with what has ended the socket. An event that was not sent when its wait ends is not sent any more. A late answer is
// ignored. Other errors are those of [Socket.Emit].
func (s *Socket) EmitWithAck(ctx context.Context, event string, args ...any) (holdpost.Args, error) {
	type answer struct {
		args holdpost.Args
		err  error
	}
	answers := make(chan answer, 1)
	id, err := s.ask(event, args, false, func(a holdpost.Args, err error) { answers <- answer{a, err} })
	if err != nil {
		return holdpost.Args{}, emitError(event, err)
	}
	select {
	case a := <-answers:
		return a.args, emitError(event, a.err)
	case <-ctx.Done():
		s.giveUpAck(id)
		return holdpost.Args{}, fmt.Errorf("emit %q: wait for the ack: %w", event, context.Cause(ctx))
	}
}

// ask emits an event and calls f once with the answer, or with why there is none; f must not block. bound events are not sent
// on another session than this one.
func (s *Socket) ask(event string, args []any, bound bool, f func(holdpost.Args, error)) (id int64, err error) {
	id = s.nextAck.Add(1) & (1<<31 - 1) // other implementations hold ids in 32 bits
	e, err := s.encode(event, id, args)
	if err != nil {
		return 0, err
	}
	e.bound = bound
	return id, s.send(e, f)
}

func (s *Socket) encode(event string, ack int64, args []any) (entry, error) {
	if packet.Reserved(event) || !utf8.ValidString(event) {
		return entry{}, holdpost.ErrInvalidName
	}
	a, err := holdpost.ArgsOf(args...)
	if err != nil {
		return entry{}, err
	}
	return s.client.codec.event(s.namespace, ack, event, rawArgs(a), a.Attachments()), nil
}

// rawArgs returns the JSON of each argument.
func rawArgs(a holdpost.Args) [][]byte {
	raw := make([][]byte, a.Len())
	for i := range raw {
		raw[i] = a.Raw(i)
	}
	return raw
}

// tooLarge tells whether the server is known not to take an entry.
func (e *entry) tooLarge(limit int) error {
	if limit == 0 {
		return nil
	}
	n := len(e.text)
	for _, b := range e.attachments {
		n = max(n, len(b))
	}
	if n <= limit {
		return nil
	}
	return &holdpost.Error{Code: "too_large", Message: fmt.Sprintf("%d bytes, the server takes %d at once", n, limit)}
}

// pendingAck is an answer that the server owes.
type pendingAck struct {
	f    func(holdpost.Args, error)
	sent bool // and lost if the connection is
}

// send puts an entry into the buffer and has it written; f is called with the answer to it, if it asks for one.
func (s *Socket) send(e entry, f func(holdpost.Args, error)) error {
	c := &s.client.config
	var dropped []*pendingAck
	s.mu.Lock()
	err := s.errLocked()
	switch {
	case err != nil && !errors.Is(err, ErrClosed):
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	case err == nil:
		err = e.tooLarge(s.maxPayload)
	}
	if err == nil && f != nil && len(s.acks) >= c.MaxPendingAcks {
		err = ErrFull
	}
	for err == nil && !e.bound && s.buffer.full(e.size(), c) {
		old, ok := entry{}, false
		if c.WhenFull == whenFullDropOldest {
			old, ok = s.buffer.dropOldest()
		}
		if !ok {
			err = ErrFull
		} else if a := s.acks[old.ack]; a != nil {
			delete(s.acks, old.ack)
			dropped = append(dropped, a)
		}
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	if f != nil {
		if s.acks == nil {
			s.acks = make(map[int64]*pendingAck)
		}
		s.acks[e.ack] = &pendingAck{f: f}
	}
	s.buffer.push(e)
	l, wake := s.link, s.wakeLocked()
	s.mu.Unlock()
	if wake {
		l.push(outgoing{socket: s})
	}
	for _, a := range dropped {
		a.f(holdpost.Args{}, ErrFull)
	}
	return nil
}

// wakeLocked tells whether the session's writer has to be told that something waits.
func (s *Socket) wakeLocked() bool {
	if !s.connected || s.buffer.woken || len(s.buffer.entries) == 0 {
		return false
	}
	s.buffer.woken = true
	return true
}

// writeTo writes what waits; if that is much, a part of it, so that other sockets come to their turn.
func (s *Socket) writeTo(l *link, to sink) error {
	var few [16]entry
	s.mu.Lock()
	if s.link != l || !s.connected {
		s.mu.Unlock()
		return nil
	}
	batch, more := s.buffer.take(few[:0], maxBurst)
	for i := range batch {
		if a := s.acks[batch[i].ack]; a != nil {
			a.sent = true
		}
	}
	s.mu.Unlock()
	if more {
		l.push(outgoing{socket: s})
	}
	return writeEntries(to, batch)
}

func writeEntries(to sink, batch []entry) error {
	for i := range batch {
		if text := batch[i].text; text != nil {
			if err := to.text(text); err != nil {
				return err
			}
		}
		for _, b := range batch[i].attachments {
			if err := to.binary(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveUpAck forgets an ack, and the event if it was not sent yet.
func (s *Socket) giveUpAck(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.acks[id]; a != nil && !a.sent {
		s.buffer.remove(func(e *entry) bool { return e.ack == id })
	}
	delete(s.acks, id)
}

// resolveAck hands an answer to whom it is for. Unknown ids, late and repeated answers are ignored.
func (s *Socket) resolveAck(l *link, p *packet.Packet) {
	s.mu.Lock()
	a := s.acks[p.ID]
	if s.link != l || a == nil || !a.sent {
		s.mu.Unlock()
		return
	}
	delete(s.acks, p.ID)
	s.mu.Unlock()
	a.f(holdpost.NewArgs(p.Data, p.Attachments))
}

// takeAcksLocked takes out the acks that can't come any more: those of events that were sent, or all.
func (s *Socket) takeAcksLocked(all bool) (taken []*pendingAck) {
	for id, a := range s.acks {
		if all || a.sent {
			taken = append(taken, a)
			delete(s.acks, id)
		}
	}
	return taken
}

// Retrying returns an emitter that sends an event until the server has answered it: again when the answer does not come within
// Config.AckTimeout, and again on the next connection. The server sees it at least once. What is emitted through it goes one
// after the other, in the order of the calls, while other events overtake. A call ends early with its context, or with the
// socket. An id that is not empty is sent as the event's last argument, the same at each try, so that the server can drop what
// it has seen.
func (s *Socket) Retrying(id string) holdpost.AckEmitter { return retryingSocket{s, id} }

type retryingSocket struct {
	s  *Socket
	id string
}

func (r retryingSocket) EmitWithAck(ctx context.Context, event string, args ...any) (holdpost.Args, error) {
	if r.id != "" {
		args = append(args[:len(args):len(args)], r.id)
	}
	kept, err := holdpost.ArgsOf(args...) // the same at each try, whatever becomes of what they were made of
	if err != nil {
		return holdpost.Args{}, emitError(event, err)
	}
	if err := r.s.retries.Acquire(ctx, 1); err != nil {
		return holdpost.Args{}, emitError(event, context.Cause(ctx))
	}
	defer r.s.retries.Release(1)
	return r.s.untilAnswered(ctx, event, kept)
}

var errAckTimeout = errors.New("no answer within Config.AckTimeout")

// untilAnswered emits an event again and again.
func (s *Socket) untilAnswered(ctx context.Context, event string, args ...any) (holdpost.Args, error) {
	for {
		try, cancel := context.WithTimeoutCause(ctx, s.client.config.AckTimeout, errAckTimeout)
		answer, err := s.EmitWithAck(try, event, args...)
		cancel()
		_, lost := errors.AsType[*holdpost.DisconnectError](err)
		if ctx.Err() != nil || !lost && !errors.Is(err, errAckTimeout) || s.Err() != nil {
			return answer, err
		}
	}
}
