package holdpost

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Gate decides whether a socket may join a namespace. It may wait; its context ends with the connection. An error refuses
// the socket: a [ConnectError] with its message and data, any other with its text.
type Gate func(ctx context.Context, s *Socket) error

// Wrapper stands around the handlers of every event, whether somebody handles it or not. It calls next, with the same
// socket, for the event to go on, or does not and so drops it; what it returns is what the client is answered. It may pass
// on other arguments and another context that derives from ctx.
type Wrapper func(ctx context.Context, s *Socket, event string, args Args, next Handler) (reply []any, err error)

// hooks is all that a program registered on a namespace. Immutable.
type hooks struct {
	gates      []Gate
	connect    []func(context.Context, *Socket) error
	disconnect []func(*Socket, Reason)
	events     map[string]*Handler
	wrappers   []*Wrapper
	outgoing   []*func(s *Socket, event string, args Args)
	join       []func(s *Socket, room string, created bool)
	leave      []func(s *Socket, room string, deleted bool)
}

// Use adds gates. They run one after the other, in the order in which they were added; the first error ends it.
func (n *Namespace) Use(gates ...Gate) {
	n.register(func(h *hooks) { h.gates = slices.Concat(h.gates, gates) })
}

// OnConnection adds a handler that runs when a socket was let in, before its first event. The client may have heard of that already:
// a room that it is to be in by then is joined by a gate, see [Namespace.Use]. What the handler emits leaves together, up to 5 ms
// behind the reply to the client's CONNECT. An error is logged and disconnects the socket.
func (n *Namespace) OnConnection(f func(ctx context.Context, s *Socket) error) {
	n.register(func(h *hooks) { h.connect = append(slices.Clip(h.connect), f) })
}

// OnDisconnect adds a handler that runs after the last event of a socket that was let in. [Socket.Err] tells more than the
// reason.
func (n *Namespace) OnDisconnect(f func(s *Socket, r Reason)) {
	n.register(func(h *hooks) { h.disconnect = append(slices.Clip(h.disconnect), f) })
}

// On registers the handler of an event. It panics when the event has one already or its name is reserved.
func (n *Namespace) On(event string, f Handler) {
	mustBeHandleable(event)
	n.register(func(h *hooks) {
		if h.events[event] != nil {
			panic(fmt.Sprintf("holdpost: event %q of namespace %q is registered twice", event, n.name))
		}
		h.events = maps.Clone(h.events)
		if h.events == nil {
			h.events = make(map[string]*Handler)
		}
		h.events[event] = &f
	})
}

func mustBeHandleable(event string) {
	if !validEvent(event) {
		panic(fmt.Sprintf("holdpost: event name %q is reserved", event))
	}
}

// Wrap adds a wrapper around the handlers of all events, inside those that were added before. It returns the function that
// takes it away again.
func (n *Namespace) Wrap(w Wrapper) (stop func()) {
	n.register(func(h *hooks) { h.wrappers = append(slices.Clip(h.wrappers), &w) })
	return func() { n.register(func(h *hooks) { h.wrappers = without(h.wrappers, &w) }) }
}

// OnAnyOutgoing adds a function that is told of every event emitted to a socket, one by one for a broadcast, answers to
// acks left out. It runs on the goroutine that emits, before it goes on, and does not know whether a volatile event was
// dropped. The function returned takes it away again.
func (n *Namespace) OnAnyOutgoing(f func(s *Socket, event string, args Args)) (stop func()) {
	n.register(func(h *hooks) { h.outgoing = append(slices.Clip(h.outgoing), &f) })
	return func() { n.register(func(h *hooks) { h.outgoing = without(h.outgoing, &f) }) }
}

// OnJoin adds a function that is told when a socket has joined a room; created means that it is the first one there. The
// room of the socket's own id is left out. It runs on the goroutine that made it join, and for sockets that join at once
// it runs at once.
func (n *Namespace) OnJoin(f func(s *Socket, room string, created bool)) {
	n.register(func(h *hooks) { h.join = append(slices.Clip(h.join), f) })
}

// OnLeave adds a function that is told when a socket has left a room, or was in it when it was disconnected; deleted means
// that it was the last one there. It runs like one of OnJoin; at a disconnect before the disconnect handlers.
func (n *Namespace) OnLeave(f func(s *Socket, room string, deleted bool)) {
	n.register(func(h *hooks) { h.leave = append(slices.Clip(h.leave), f) })
}

func (n *Namespace) register(change func(h *hooks)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := *n.hook.Load()
	change(&h)
	n.hook.Store(&h)
}

func without[T any](list []*T, v *T) []*T {
	return slices.DeleteFunc(slices.Clone(list), func(o *T) bool { return o == v })
}

// hooked yields what was registered on the namespace's parent and on itself.
func (n *Namespace) hooked(yield func(*hooks) bool) {
	if n.parent == nil || yield(n.parent.hook.Load()) {
		yield(n.hook.Load())
	}
}

// handler returns the handler of an event: the namespace's own, or its parent's.
func (n *Namespace) handler(event string) *Handler {
	h := n.hook.Load().events[event]
	if h == nil && n.parent != nil {
		h = n.parent.hook.Load().events[event]
	}
	return h
}

// wrappers returns the wrappers of events, outermost first.
func (n *Namespace) wrappers() []*Wrapper {
	own := n.hook.Load().wrappers
	if n.parent == nil {
		return own
	}
	return slices.Concat(n.parent.hook.Load().wrappers, own)
}

// tellEmitted tells whoever watches of an event that was emitted to sockets of the namespace.
func (n *Namespace) tellEmitted(p *Prepared, sockets ...*Socket) {
	if len(n.hook.Load().outgoing) == 0 && (n.parent == nil || len(n.parent.hook.Load().outgoing) == 0) {
		return
	}
	args := Args{p.args, p.binary()}
	for h := range n.hooked {
		for _, f := range h.outgoing {
			for _, s := range sockets {
				(*f)(s, p.name, args)
			}
		}
	}
}

// A roomChange is a room that a socket has joined or left.
type roomChange struct {
	room string
	edge bool // joined as the first or left as the last
}

// tellJoined tells of rooms that were joined.
func (s *Socket) tellJoined(changes []roomChange) {
	for _, c := range changes {
		for h := range s.ns.hooked {
			for _, f := range h.join {
				f(s, c.room, c.edge)
			}
		}
	}
}

// tellLeft tells of rooms that were left.
func (s *Socket) tellLeft(changes []roomChange) {
	for _, c := range changes {
		for h := range s.ns.hooked {
			for _, f := range h.leave {
				f(s, c.room, c.edge)
			}
		}
	}
}
