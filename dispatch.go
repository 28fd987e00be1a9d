package holdpost

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/holdpost/holdpost/internal/packet"
)

// inbound is one thing that a socket's handlers have yet to see.
type inbound struct {
	kind  inboundKind
	event *inboundEvent
	left  []roomChange // with its end
}

type inboundKind uint8

const (
	inboundConnect inboundKind = iota // pass the gates, run the connection handlers
	inboundEvents
	inboundDisconnect
)

type inboundEvent struct {
	packet packet.Packet
	size   int
}

// push queues an item and starts the goroutine that handles it if none is running. The reader queues events without
// starting it until it has handed over all that it read; see conn.Batch.
func (s *Socket) push(item inbound) {
	if s.in.Push(item) {
		s.start()
	}
}

// start runs the socket's handlers on a goroutine that ends when nothing is left to handle. Server.Shutdown waits for it.
func (s *Socket) start() {
	s.conn.srv.handlers.begin()
	go (*handling)(s).Run()
}

// handling is a socket whose queue is to be run once. It is counted in Server.handlers already.
type handling Socket

// Run implements [engineio.Runner].
func (h *handling) Run() {
	s := (*Socket)(h)
	defer s.conn.srv.handlers.end()
	s.in.Run(s.handle)
}

// handle runs the handlers for a batch. Answers to several events leave in one write, and so does what several broadcasts
// of the handlers bring to one client.
func (s *Socket) handle(batch []inbound) {
	flush := len(batch) == 1
	for i := range batch {
		item := &batch[i]
		if !flush {
			s.more.Store(i < len(batch)-1)
		}
		switch item.kind {
		case inboundConnect:
			s.conn.admit(s)
		case inboundEvents:
			s.inBytes.Add(int64(-item.event.size))
			s.inEvents.Add(-1)
			if !s.turnedOut() {
				s.handleEvent(&item.event.packet, flush)
			}
		case inboundDisconnect:
			s.handleDisconnect(item.left)
		}
	}
	if !flush {
		s.conn.session.Flush()
	}
}

// turnedOut reports whether this side ended the socket for its own sake: what the client has sent before is dropped then.
// What a client sent before it left itself, or got lost, is handled still.
func (s *Socket) turnedOut() bool {
	if s.phase.Load() != phaseEnded {
		return false
	}
	switch s.ended.Reason {
	case ReasonServerDisconnect, ReasonPanic, ReasonOverrun:
		return true
	}
	return false
}

func (s *Socket) handleEvent(p *packet.Packet, flush bool) {
	reply, err := s.call(p.Name, Args{p.Args[1:], p.Attachments})
	s.answer(p, reply, err, flush)
	if errors.Is(err, errPanic) {
		s.conn.leave(s, ReasonPanic, true)
	}
}

// errPanic stands in for the result of a handler that panicked.
var errPanic = errors.New("handler panicked")

func (s *Socket) call(event string, args Args) (reply []any, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(event, v)
			reply, err = nil, errPanic
		}
	}()
	return s.through(s.Context(), s.ns.wrappers(), event, args)
}

// through runs the handlers of an event inside wrappers.
func (s *Socket) through(ctx context.Context, wrappers []*Wrapper, event string, args Args) (reply []any, err error) {
	if len(wrappers) == 0 {
		return s.dispatch(ctx, event, args)
	}
	return (*wrappers[0])(ctx, s, event, args, func(ctx context.Context, _ *Socket, args Args) ([]any, error) {
		return s.through(ctx, wrappers[1:], event, args)
	})
}

// dispatch runs the handlers of an event: the namespace's, whose answer counts, and then the socket's own.
func (s *Socket) dispatch(ctx context.Context, event string, args Args) (reply []any, err error) {
	first, more := s.ns.handler(event), s.listenersTo(event)
	if first == nil {
		if len(more) == 0 {
			return nil, ErrUnhandled
		}
		first, more = more[0], more[1:]
	}
	reply, err = (*first)(ctx, s, args)
	for _, h := range more {
		if _, err := (*h)(ctx, s, args); err != nil {
			s.logUnanswered(event, err)
		}
	}
	return reply, err
}

// answer sends what a handler returned to the client that asked for an ack.
func (s *Socket) answer(p *packet.Packet, reply []any, err error, flush bool) {
	switch {
	case errors.Is(err, ErrUnanswered):
		return
	case errors.Is(err, ErrUnhandled):
		s.logUnanswered(p.Name, err)
		return
	}
	var raw, attachments [][]byte
	if err == nil {
		if raw, attachments, err = marshalArgs(reply); err != nil {
			s.logUnanswered(p.Name, err)
		}
	}
	if err != nil {
		visible, logged := peerError(err)
		if logged && !errors.Is(err, errPanic) || p.ID < 0 {
			s.logUnanswered(p.Name, err)
		}
		raw, attachments = [][]byte{marshalError(visible)}, nil
	}
	if p.ID >= 0 {
		s.send(flush, s.ns.srv.codec.ack(s.ns.name, p.ID, raw, attachments)...)
	}
}

func (s *Socket) handleDisconnect(left []roomChange) {
	s.guard("leave", func() { s.tellLeft(left) })
	for h := range s.ns.hooked {
		for _, f := range h.disconnect {
			s.guard("disconnect", func() { f(s, s.ended.Reason) })
		}
	}
	s.mu.Lock()
	s.rooms, s.listeners = nil, nil
	s.mu.Unlock()
	if s.session != nil && s.ended.Reason.outlives() {
		s.ns.await()
	}
	s.ns.release()
}

// guard runs f and recovers its panic, which it reports.
func (s *Socket) guard(what string, f func()) (panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(what, v)
			panicked = true
		}
	}()
	f()
	return false
}

func (s *Socket) logPanic(event string, v any) {
	s.conn.srv.config.Logger.Error("handler panicked", "namespace", s.ns.name, "socket", s.id, "event", event,
		"panic", v, "stack", string(debug.Stack()))
}

// logUnanswered logs an error that its peer does not see in full.
func (s *Socket) logUnanswered(event string, err error) {
	if _, ended := errors.AsType[*DisconnectError](err); ended || errors.Is(err, context.Canceled) {
		return
	}
	log := s.conn.srv.config.Logger.Warn
	if _, coded := errors.AsType[*Error](err); coded || errors.Is(err, ErrUnhandled) {
		log = s.conn.srv.config.Logger.Debug // the client's mistake, not ours
	}
	log("handler returned an error", "namespace", s.ns.name, "socket", s.id, "event", event, "error", err)
}
