package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
)

// Handler handles one event. It runs on a goroutine of its socket, one event after the other, with the socket's context. What it
// returns answers the server's ack, if the server asked for one: reply as the arguments, or err, as on the server. Without an
// ack an error is logged.
type Handler func(ctx context.Context, args holdpost.Args) (reply []any, err error)

// hooks is all that a program registered on a socket besides handlers of events. The slices are replaced, never changed.
type hooks struct {
	any          func(ctx context.Context, event string, args holdpost.Args) ([]any, error)
	connected    []func(ctx context.Context)
	disconnected []func(why error)
	failed       []func(err error)
}

// On registers a handler for an event, beside those that there are; the answer of the first counts. It returns the function that
// takes the handler away again. It panics with a reserved name.
func (s *Socket) On(event string, h Handler) (stop func()) {
	if packet.Reserved(event) {
		panic(fmt.Sprintf("client: event name %q is reserved", event))
	}
	own := &h
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handlers == nil {
		s.handlers = make(map[string][]*Handler)
	}
	s.handlers[event] = append(slices.Clip(s.handlers[event]), own)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		rest := slices.DeleteFunc(slices.Clone(s.handlers[event]), func(h *Handler) bool { return h == own })
		if len(rest) == 0 {
			delete(s.handlers, event)
			return
		}
		s.handlers[event] = rest
	}
}

// OnAny registers the handler of all events that have none of their own, in place of the one before. nil takes it away.
func (s *Socket) OnAny(h func(ctx context.Context, event string, args holdpost.Args) (reply []any, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.any = h
}

// OnConnect adds a function that is called each time that the server has let the socket in, before the events that follow.
func (s *Socket) OnConnect(f func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.connected = append(slices.Clip(s.hooks.connected), f)
}

// OnDisconnect adds a function that is called each time that the socket's connection is lost or the socket ends, behind the
// events that came before. [Socket.Err] tells the two apart. why is mostly a [holdpost.DisconnectError].
func (s *Socket) OnDisconnect(f func(why error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.disconnected = append(slices.Clip(s.hooks.disconnected), f)
}

// OnError adds a function that is called with each attempt to connect that fails and is followed by another: with a [DialError],
// with a [holdpost.ConnectError] that says when to come back, or with the error of Config.AuthFunc.
func (s *Socket) OnError(f func(err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.failed = append(slices.Clip(s.hooks.failed), f)
}

// inbound is one thing that a socket's handlers have yet to see.
type inbound struct {
	kind  inboundKind
	ctx   context.Context // of the socket when it came: connected, event
	err   error           // why the connection is lost or an attempt failed
	link  *link           // that an event came on
	event *packet.Packet
	size  int
}

type inboundKind uint8

const (
	inboundConnected inboundKind = iota
	inboundEvent
	inboundLost
	inboundFailed
)

// push queues an item and has it handled.
func (s *Socket) push(item inbound) {
	if s.in.Push(item) {
		s.client.spawn(func() { s.in.Run(s.handle) })
	}
}

// event takes an event from the reader.
func (s *Socket) event(l *link, p *packet.Packet) error {
	s.mu.Lock()
	if s.link != l {
		s.mu.Unlock()
		return nil
	}
	ctx := s.ctx
	s.mu.Unlock()
	size := len(p.Data) + 64
	for _, b := range p.Attachments {
		size += len(b)
	}
	c := &s.client.config
	if s.inEvents.Add(1) > int64(c.MaxInboundEvents) || s.inBytes.Add(int64(size)) > int64(c.MaxInboundBytes) && s.inEvents.Load() > 1 {
		s.inEvents.Add(-1)
		return l.fail(holdpost.ReasonOverrun, errors.New("the handlers do not keep up"))
	}
	s.noteOffset(p)
	if s.toConsumer(l, p, size) {
		return nil
	}
	s.push(inbound{kind: inboundEvent, link: l, event: p, size: size, ctx: ctx})
	return nil
}

func (s *Socket) taken(size int) {
	s.inBytes.Add(int64(-size))
	s.inEvents.Add(-1)
}

// noteOffset keeps the last argument of an event as the place to recover from, if it can be one (Socket.IO protocol v5,
// "Connection state recovery"). Those of Holdpost are told from other strings.
func (s *Socket) noteOffset(p *packet.Packet) {
	last := p.Args[len(p.Args)-1]
	if p.ID >= 0 || len(p.Args) < 2 || last[0] != '"' || len(last) > 66 {
		return
	}
	args, err := holdpost.NewArgs(append(append([]byte{'['}, last...), ']'), nil)
	var offset string
	if err != nil || args.Decode(&offset) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != "" && (!strings.HasPrefix(s.offset, "~") || strings.HasPrefix(offset, "~")) {
		s.offset = offset
	}
}

// handle runs the handlers for a batch.
func (s *Socket) handle(batch []inbound) {
	for i := range batch {
		item := &batch[i]
		s.mu.Lock()
		h := s.hooks
		s.mu.Unlock()
		switch item.kind {
		case inboundConnected:
			for _, f := range h.connected {
				s.guard("connect", func() { f(item.ctx) })
			}
		case inboundLost:
			for _, f := range h.disconnected {
				s.guard("disconnect", func() { f(item.err) })
			}
		case inboundFailed:
			for _, f := range h.failed {
				s.guard("error", func() { f(item.err) })
			}
		case inboundEvent:
			s.taken(item.size)
			if item.ctx.Err() == nil { // what has come before the socket's end is not handled behind it
				s.handleEvent(item)
			}
		}
	}
}

func (s *Socket) handleEvent(item *inbound) {
	ctx, p := item.ctx, item.event
	args, err := holdpost.NewArgs(p.Data, p.Attachments)
	if err != nil { // of what was decoded before
		panic(err)
	}
	args = args.From(1)
	s.mu.Lock()
	handlers, other := s.handlers[p.Name], s.hooks.any
	s.mu.Unlock()
	var reply []any
	if len(handlers) == 0 {
		err = &holdpost.Error{Code: holdpost.CodeUnknownEvent, Message: "nobody handles this event"}
		if other != nil {
			reply, err = s.call(p.Name, func() ([]any, error) { return other(ctx, p.Name, args) })
		} else if p.ID < 0 {
			return // as usual as unread mail
		}
	}
	for i, h := range handlers {
		r, e := s.call(p.Name, func() ([]any, error) { return (*h)(ctx, args) })
		if i == 0 {
			reply, err = r, e
		} else if e != nil {
			s.logUnanswered(p.Name, e)
		}
	}
	if p.ID < 0 {
		if err != nil {
			s.logUnanswered(p.Name, err)
		}
	} else {
		s.answer(item.link, p, reply, err)
	}
	if errors.Is(err, errPanic) {
		s.finish(&holdpost.DisconnectError{Reason: holdpost.ReasonPanic, Err: err}, true)
	}
}

// answer sends what a handler returned to the server, which asked for an ack on this session.
func (s *Socket) answer(l *link, p *packet.Packet, reply []any, err error) {
	var args holdpost.Args
	if err == nil {
		args, err = holdpost.ArgsOf(reply...)
	}
	if err != nil {
		coded, ok := errors.AsType[*holdpost.Error](err)
		if !ok {
			s.logUnanswered(p.Name, err)
			coded = &holdpost.Error{Code: holdpost.CodeInternal, Message: "internal error"}
		}
		args, _ = holdpost.ArgsOf(map[string]any{"error": coded}) // two strings always encode
	}
	s.sendAck(l, p.ID, args)
}

// sendAck answers an event of a session, if it is still the present one. What was missed, and comes before the server lets the socket
// in, is answered afterwards; or not at all if too much waits by then, and comes again.
func (s *Socket) sendAck(l *link, id int64, args holdpost.Args) {
	e := s.client.codec.ack(s.namespace, id, rawArgs(args), args.Attachments())
	e.bound = true
	s.mu.Lock()
	full := s.buffer.full(e.size(), &s.client.config)
	if s.link != l || full && !s.connected {
		s.mu.Unlock()
		return
	}
	if full {
		s.mu.Unlock()
		l.end(holdpost.ReasonSlowPeer, errors.New("the server does not take the acks that it asked for"))
		return
	}
	s.buffer.push(e)
	wake := s.wakeLocked()
	s.mu.Unlock()
	if wake {
		l.push(outgoing{socket: s})
	}
}

// errPanic stands in for the result of a handler that panicked.
var errPanic = errors.New("handler panicked")

func (s *Socket) call(event string, h func() ([]any, error)) (reply []any, err error) {
	if s.guard(event, func() { reply, err = h() }) {
		return nil, errPanic
	}
	return reply, err
}

// guard runs f and recovers its panic, which it reports.
func (s *Socket) guard(event string, f func()) (panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			s.client.config.Logger.Error("handler panicked", "namespace", s.namespace, "event", event, "panic", v, "stack", string(debug.Stack()))
			panicked = true
		}
	}()
	f()
	return false
}

// logUnanswered logs an error that the server does not see in full.
func (s *Socket) logUnanswered(event string, err error) {
	if errors.Is(err, errPanic) || errors.Is(err, context.Canceled) {
		return
	}
	s.client.config.Logger.Warn("handler returned an error", "namespace", s.namespace, "event", event, "error", err)
}
