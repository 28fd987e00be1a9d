package holdpost

import "context"

var _ interface {
	Emitter
	AckEmitter
} = (*Socket)(nil)

// Emit emits an event to this socket. It never waits: what the client has not taken yet is queued. It succeeds with a
// context that is done. The error is that of [Prepare] or a [DisconnectError].
func (s *Socket) Emit(ctx context.Context, event string, args ...any) error {
	p, err := Prepare(event, args...)
	if err != nil {
		return err
	}
	if s.recorded() {
		s.ns.record(socketOf(ctx), emission{prepared: p, id: -1, rooms: []string{s.id}}, s.alone)
	} else if !s.send(!s.more.Load(), p.messages(s.ns)...) {
		return s.disconnected()
	}
	s.ns.tellEmitted(p, s)
	return nil
}

// Volatile returns an emitter to this socket of events that it may miss: one that its transport cannot take right now is
// dropped. It cannot as long as something emitted before waits to be taken, and while a client that polls does not.
func (s *Socket) Volatile() Emitter { return volatileSocket{s} }

type volatileSocket struct{ s *Socket }

func (v volatileSocket) Emit(_ context.Context, event string, args ...any) error {
	p, err := Prepare(event, args...)
	if err != nil {
		return err
	}
	s := v.s
	if s.phase.Load() == phaseEnded {
		return s.disconnected()
	}
	if s.recorded() {
		s.ns.pass(p, s.alone)
	} else {
		s.sendVolatile(p.messages(s.ns)...)
	}
	s.ns.tellEmitted(p, s)
	return nil
}

// recorded tells whether what is emitted to the socket is stored for recovery.
func (s *Socket) recorded() bool { return s.session != nil && s.phase.Load() == phaseIn }

func (s *Socket) alone() []*Socket { return []*Socket{s} }

// Deliver sends an event that somebody else keeps for the client: recovery does not store it. Like Emit it never waits. With
// flush false the event may wait up to 5 ms for others, to be written together with them, or until [Socket.Flush]. The error
// is a [DisconnectError].
func (s *Socket) Deliver(p *Prepared, flush bool) error {
	var kept uint64
	if last := len(p.args) - 1; s.session != nil && last >= 0 && p.args[last][0] == '"' {
		kept = hashOffset(p.args[last]) // which the client takes for an offset of ours
	}
	if !s.sendEntry(flush, kept, p.messages(s.ns)...) {
		return s.disconnected()
	}
	s.ns.tellEmitted(p, s)
	return nil
}

// Flush writes what was emitted without flushing.
func (s *Socket) Flush() { s.conn.session.Flush() }

// Queued returns the bytes that were emitted on the connection and that its transport has not taken yet.
func (s *Socket) Queued() int {
	n := s.conn.session.Queued()
	if o := s.outbox(); o != nil {
		n += o.queued()
	}
	return n
}

// NotifyDrained calls f once, when nothing is queued on the connection any more, or when it is closed; at once if that
// is so now. f may run on any goroutine and must not block.
func (s *Socket) NotifyDrained(f func()) {
	s.inTurn(func() { s.conn.session.NotifyDrained(f) })
}

// Confirm calls f once: with true when the client has answered a heartbeat sent after this call, which proves that it has
// received all that was emitted before; with false when the connection ends first. The heartbeat goes out within about a
// second. f may run on any goroutine and must not block.
func (s *Socket) Confirm(f func(received bool)) {
	if s.session == nil {
		s.conn.session.Confirm(f)
		return
	}
	s.inTurn(func() {
		upto, keeps := s.progress()
		s.conn.session.Confirm(func(received bool) {
			if received {
				s.saw(upto, keeps)
			}
			f(received)
		})
	})
}
