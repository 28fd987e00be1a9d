package holdpost

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// SocketInfo is what is known of a socket, wherever it is connected. It is a snapshot. A broadcast to its id reaches it.
type SocketInfo struct {
	ID        string
	Namespace string
	Rooms     []string // without the one of its own id
	Handshake Handshake
	Values    map[string]json.RawMessage // of its recoverable keys, by name; see [NewRecoverableKey]
}

// FetchSockets yields the sockets of b. It succeeds with a context that is done.
func (b Broadcast) FetchSockets(_ context.Context) iter.Seq2[SocketInfo, error] {
	return func(yield func(SocketInfo, error) bool) {
		for _, s := range b.sockets() {
			if !yield(s.info(), nil) {
				return
			}
		}
	}
}

func (s *Socket) info() SocketInfo {
	s.mu.Lock()
	rooms, attached := slices.Clone(s.rooms), slices.Clone(s.values)
	values := make(map[string]json.RawMessage)
	if s.session != nil {
		maps.Copy(values, s.session.values) // some of which nobody may have looked at since it was recovered
	}
	s.mu.Unlock()
	for _, v := range attached {
		if k, ok := v.key.(interface {
			raw(any) (string, json.RawMessage)
		}); ok {
			if name, raw := k.raw(v.value); raw != nil {
				values[name] = raw
			}
		}
	}
	return SocketInfo{ID: s.id, Namespace: s.ns.name, Rooms: rooms, Handshake: s.Handshake(), Values: values}
}

// SocketsJoin puts the sockets of b into rooms. It goes on when one of them cannot; the error is that of the first, as
// [Socket.Join] returns it.
func (b Broadcast) SocketsJoin(_ context.Context, rooms ...string) error {
	var first error
	for _, s := range b.sockets() {
		if err := s.Join(rooms...); err != nil && first == nil {
			first = fmt.Errorf("socket %s: %w", s.id, err)
		}
	}
	return first
}

// SocketsLeave takes the sockets of b out of rooms.
func (b Broadcast) SocketsLeave(_ context.Context, rooms ...string) error {
	for _, s := range b.sockets() {
		s.Leave(rooms...)
	}
	return nil
}

// DisconnectSockets ends the sockets of b like [Socket.Disconnect].
func (b Broadcast) DisconnectSockets(_ context.Context, closeConn bool) error {
	for _, s := range b.sockets() {
		s.Disconnect(closeConn)
	}
	return nil
}

// sockets returns the sockets of b in all of its namespaces.
func (b Broadcast) sockets() (all []*Socket) {
	if b.nobody() {
		return nil
	}
	for _, ns := range b.ns.concrete() {
		b.ns = ns
		all = b.appendTargets(all)
	}
	return all
}
