package holdpost

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/serial"
)

// Socket is one client in one namespace. All methods may be called from any goroutine, also after the socket is
// disconnected: what emits then returns a [DisconnectError], what changes rooms does nothing.
type Socket struct {
	// Static from the gates on; before, ns may be only a name and id may change to the one that is recovered.
	ns   *Namespace
	conn *conn
	id   string
	auth json.RawMessage

	session *session // for recovery; nil without

	in       serial.Queue[inbound] // what its handlers have yet to see
	inBytes  atomic.Int64
	inEvents atomic.Int64
	phase    atomic.Uint32 // written with mu held
	more     atomic.Bool   // more is about to be sent: what is handled is not the last, or the connection handlers run

	position int // in the namespace's list of sockets; guarded by Namespace.mu

	mu        sync.Mutex       // guards the fields below
	ended     *DisconnectError // nil until the socket is disconnected; never changes then
	rooms     []string
	acks      pendingAcks
	values    []keyValue
	listeners []listener
	ctx       context.Context // made when first asked for
	cancel    context.CancelCauseFunc
}

// How far a socket has come. It only goes on.
const (
	phaseGate  uint32 = iota // waits at a gate: its client may not send yet
	phaseLetIn               // its client may send
	phaseIn                  // in the namespace: broadcasts reach it
	phaseEnded
)

type listener struct {
	event string
	h     *Handler
}

// ID returns the public id of the socket. It is also a room with only this socket.
func (s *Socket) ID() string { return s.id }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Handshake is what is known of the request that opened a connection, and of the CONNECT that opened the socket.
type Handshake struct {
	Header  http.Header     // those of Config.KeepHeaders
	URL     string          // of the request: its path and query
	Query   url.Values      // of the request
	Auth    json.RawMessage // of the CONNECT packet: an object, or nil
	Address string          // the TCP peer, host:port
	Secure  bool            // over TLS
	Time    time.Time       // when the connection was opened
}

// Handshake returns what is known of how the socket came to be.
func (s *Socket) Handshake() Handshake {
	e := s.conn.session
	return Handshake{
		Header: e.Header(), URL: e.URL(), Query: e.Query(), Auth: s.auth, Address: e.RemoteAddr(), Secure: e.Secure(), Time: e.Opened(),
	}
}

// Transport returns the name of the transport in use now: "polling", "websocket" or "webtransport".
func (s *Socket) Transport() string { return s.conn.session.Transport() }

// Context returns the context that ends when the socket is disconnected, with a [DisconnectError] as its cause.
func (s *Socket) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancelCause(context.WithValue(context.Background(), socketKey{}, s))
		if s.ended != nil {
			s.cancel(s.ended)
		}
	}
	return s.ctx
}

// Connected reports whether the socket was let in and is not disconnected yet.
func (s *Socket) Connected() bool {
	phase := s.phase.Load()
	return phase == phaseLetIn || phase == phaseIn
}

// Err returns nil until the socket is disconnected, and then the [DisconnectError] that says why.
func (s *Socket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		return nil
	}
	return s.ended
}

// Join puts the socket into rooms. The error is [ErrInvalidName], or [ErrTooMany] when it would be in more rooms than
// Config.MaxRooms; no room is joined then. Rooms joined by a gate count from the moment that the socket is let in.
func (s *Socket) Join(rooms ...string) error {
	for _, room := range rooms {
		if !validName(room, s.conn.srv.config.MaxNameBytes) {
			return fmt.Errorf("join %q: %w", room, ErrInvalidName)
		}
	}
	joined, err := s.addRooms(rooms)
	s.tellJoined(joined)
	return err
}

func (s *Socket) addRooms(rooms []string) (joined []roomChange, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, nil
	}
	was := len(s.rooms)
	for _, room := range rooms {
		if !slices.Contains(s.rooms, room) {
			s.rooms = append(s.rooms, room)
		}
	}
	if len(s.rooms) > s.conn.srv.config.MaxRooms {
		s.rooms = slices.Delete(s.rooms, was, len(s.rooms))
		return nil, fmt.Errorf("join: %w", ErrTooMany)
	}
	for _, room := range s.rooms[was:] {
		s.joinLocked()
		if s.phase.Load() == phaseIn {
			joined = append(joined, roomChange{room, s.ns.rooms.Join(room, s)})
		}
	}
	if len(s.rooms) > was {
		s.changedLocked(true)
	}
	return joined, nil
}

// Leave takes the socket out of rooms. Rooms that it is not in are ignored.
func (s *Socket) Leave(rooms ...string) { s.tellLeft(s.dropRooms(rooms)) }

func (s *Socket) dropRooms(rooms []string) (left []roomChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil
	}
	was := len(s.rooms)
	for _, room := range rooms {
		if i := slices.Index(s.rooms, room); i >= 0 {
			if s.phase.Load() == phaseIn {
				left = append(left, roomChange{room, s.ns.rooms.Leave(room, s)})
			}
			s.leaveLocked(i)
			s.rooms = slices.Delete(s.rooms, i, i+1)
		}
	}
	if len(s.rooms) < was {
		s.changedLocked(true)
	}
	return left
}

// Rooms yields the rooms that the socket is in, without the one of its own id. In a disconnect handler they are those
// that it was in.
func (s *Socket) Rooms() iter.Seq[string] {
	s.mu.Lock()
	rooms := slices.Clone(s.rooms)
	s.mu.Unlock()
	return slices.Values(rooms)
}

// Recoverable tells whether the socket can come back after its connection is lost; of a disconnected one, whether it still can.
func (s *Socket) Recoverable() bool {
	if s.session == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended == nil || s.ended.Reason.outlives()
}

// Recovered tells whether the socket is one that came back after its connection was lost: with its id, rooms and recoverable
// values, and everything that it missed.
func (s *Socket) Recovered() bool { return s.session != nil && s.session.recovered }

// To returns a broadcast to the other sockets in any of these rooms.
func (s *Socket) To(rooms ...string) Broadcast { return s.Broadcast().To(rooms...) }

// Broadcast returns a broadcast to all other sockets of the namespace.
func (s *Socket) Broadcast() Broadcast { return Broadcast{ns: s.ns, sender: s} }

// On registers a handler for one event of this socket only, besides those of the namespace, which run first and whose
// answer counts. It returns the function that takes the handler away again. It panics with a reserved name.
func (s *Socket) On(event string, h Handler) (stop func()) {
	mustBeHandleable(event)
	l := listener{event, &h}
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.listeners = slices.DeleteFunc(s.listeners, func(o listener) bool { return o.h == l.h })
		s.mu.Unlock()
	}
}

// listenersTo returns the socket's own handlers of an event.
func (s *Socket) listenersTo(event string) (handlers []*Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.event == event {
			handlers = append(handlers, l.h)
		}
	}
	return handlers
}

// Disconnect ends the socket; with closeConn its whole connection and so the client's other namespaces too. The client
// does not come back by itself after it. Events that are queued still go out. It does not wait for handlers.
func (s *Socket) Disconnect(closeConn bool) {
	if closeConn {
		s.conn.disconnectAll()
		return
	}
	s.conn.leave(s, ReasonServerDisconnect, true)
}

func (s *Socket) disconnected() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil { // its connection is closing, and will tell
		return &DisconnectError{Reason: ReasonTransportClose}
	}
	return s.ended
}

// close makes the socket a disconnected one, once: out of the index, its acks failed, its context ended, its disconnect
// handlers queued behind the events that it sent before. Later calls do nothing.
func (s *Socket) close(why *DisconnectError) {
	s.mu.Lock()
	if s.ended != nil {
		s.mu.Unlock()
		return
	}
	s.ended = why
	was := s.phase.Swap(phaseEnded)
	acks := s.acks
	s.acks = nil
	rooms := s.rooms
	cancel := s.cancel
	ns := s.ns // a socket at a gate may be without, and get no other any more
	s.closeLocked()
	s.mu.Unlock()

	var left []roomChange
	if was == phaseIn {
		left = ns.remove(s, rooms)
	}
	if cancel != nil {
		cancel(why)
	}
	for _, f := range acks {
		f(Args{}, why)
	}
	if was != phaseGate { // nobody has heard of a socket that was not let in
		s.push(inbound{kind: inboundDisconnect, left: left})
	} else {
		ns.release()
	}
}

// letIn lets the client's events in from now on: its CONNECT may be answered. It reports false when the socket has ended
// meanwhile.
func (s *Socket) letIn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return false
	}
	s.phase.Store(phaseLetIn)
	return true
}

// enter puts the socket into its namespace: broadcasts reach it from now on. It returns the rooms that it is in with that,
// for the hooks.
func (s *Socket) enter() []roomChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil
	}
	return s.enterLocked()
}

func (s *Socket) enterLocked() (joined []roomChange) {
	s.ns.add(s)
	for _, room := range s.rooms {
		joined = append(joined, roomChange{room, s.ns.rooms.Join(room, s)})
	}
	s.phase.Store(phaseIn)
	return joined
}
