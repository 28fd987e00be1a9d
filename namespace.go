package holdpost

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/rooms"
)

// Namespace is a part of a server with its own sockets, rooms, gates and handlers, or the parent of such; see
// [Server.OfPattern]. Gates and handlers are registered once, before clients come or while they are there; all methods
// may be called from any goroutine.
type Namespace struct {
	// Static after construction.
	srv   *Server
	name  string
	rooms *rooms.Index[*Socket]
	ready chan struct{} // closed once the program was told of it

	parent *Namespace // nil for one without
	family *family    // of a parent; nil for all others

	journal journal               // for recovery
	hook    atomic.Pointer[hooks] // replaced as a whole by registration, so that dispatch takes no lock

	// Guarded by Server.mu.
	held     int                     // sockets that are in it or about to be; counted for children only
	dynamic  bool                    // made for a client, and cleaned up behind the last one
	awaits   time.Time               // until when clients may come back to it
	children map[*Namespace]struct{} // of a parent

	mu      sync.RWMutex // guards the fields below
	sockets []*Socket    // connected; a socket knows its position
	byID    map[string]*Socket
}

func newNamespace(srv *Server, name string) *Namespace {
	ns := &Namespace{
		srv: srv, name: name, rooms: rooms.New[*Socket](), ready: make(chan struct{}), byID: make(map[string]*Socket),
	}
	ns.hook.Store(&hooks{})
	if r := srv.config.Recovery; r != nil {
		ns.journal.newest = pastMoment(r.Journal.Last())
		ns.journal.pids, ns.journal.coming = make(map[string]*Socket), make(map[string]chan struct{})
	}
	return ns
}

// Name returns the name of the namespace, "/" for the main one; of a parent its pattern, or "" without one.
func (n *Namespace) Name() string { return n.name }

// Socket returns the connected socket with this id on this node.
func (n *Namespace) Socket(id string) (*Socket, bool) {
	if n.family != nil {
		for _, child := range n.concrete() {
			if s, ok := child.Socket(id); ok {
				return s, true
			}
		}
		return nil, false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	s, ok := n.byID[id]
	return s, ok
}

// Sockets yields the sockets that are connected on this node now.
func (n *Namespace) Sockets() iter.Seq[*Socket] {
	var all []*Socket
	for _, ns := range n.concrete() {
		all = ns.appendSockets(all)
	}
	return slices.Values(all)
}

// Len returns the number of sockets connected on this node.
func (n *Namespace) Len() int {
	total := 0
	for _, ns := range n.concrete() {
		ns.mu.RLock()
		total += len(ns.sockets)
		ns.mu.RUnlock()
	}
	return total
}

// Emit emits an event to all sockets of the namespace; see [Broadcast.Emit].
func (n *Namespace) Emit(ctx context.Context, event string, args ...any) error {
	return n.Broadcast().Emit(ctx, event, args...)
}

// Broadcast returns a broadcast to all sockets of the namespace.
func (n *Namespace) Broadcast() Broadcast { return Broadcast{ns: n} }

// To returns a broadcast to the sockets in any of these rooms; see [Broadcast.To].
func (n *Namespace) To(rooms ...string) Broadcast { return n.Broadcast().To(rooms...) }

// Except returns a broadcast to the sockets in none of these rooms.
func (n *Namespace) Except(rooms ...string) Broadcast { return n.Broadcast().Except(rooms...) }

// Local returns a broadcast to the sockets of this node.
func (n *Namespace) Local() Broadcast { return n.Broadcast().Local() }

// Volatile returns a broadcast of events that may be missed; see [Broadcast.Volatile].
func (n *Namespace) Volatile() Broadcast { return n.Broadcast().Volatile() }

func (n *Namespace) add(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.position = len(n.sockets)
	n.sockets = append(n.sockets, s)
	n.byID[s.id] = s
}

// remove takes a socket out of the namespace, and returns the rooms that it has left, for the hooks.
func (n *Namespace) remove(s *Socket, rooms []string) (left []roomChange) {
	for _, room := range rooms {
		left = append(left, roomChange{room, n.rooms.Leave(room, s)})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.sockets) - 1
	n.sockets[s.position] = n.sockets[last]
	n.sockets[s.position].position = s.position
	n.sockets[last] = nil
	n.sockets = n.sockets[:last]
	delete(n.byID, s.id)
	return left
}

func (n *Namespace) appendSockets(dst []*Socket) []*Socket {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return append(dst, n.sockets...)
}

// appendRoom appends the sockets in a room, and the socket whose id it is.
func (n *Namespace) appendRoom(dst []*Socket, room string) []*Socket {
	dst = n.rooms.AppendMembers(dst, room)
	if s, ok := n.Socket(room); ok && !slices.Contains(dst, s) {
		dst = append(dst, s)
	}
	return dst
}

func normalName(name string) string {
	if !strings.HasPrefix(name, "/") {
		return "/" + name
	}
	return name
}
