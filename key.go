package holdpost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Key names a value of type T that a program attaches to sockets. Keys are compared by identity: two keys of one name
// are two keys.
type Key[T any] struct {
	name        string
	recoverable bool
}

// NewKey returns a new key. Its name is for people and for logs.
func NewKey[T any](name string) *Key[T] { return &Key[T]{name: name} }

// NewRecoverableKey returns a new key whose values come back with a recovered socket, and are told by
// [Broadcast.FetchSockets]. They are stored as JSON under the key's name, which must be the same in every run of the program
// and no other key's. A value that encoding/json can't encode panics when it is set; one that it can't decode is not there.
func NewRecoverableKey[T any](name string) *Key[T] { return &Key[T]{name: name, recoverable: true} }

func (k *Key[T]) String() string { return k.name }

// Set attaches v to s, in place of what was there. It may be called from any goroutine, on a disconnected socket too.
func (k *Key[T]) Set(s *Socket, v T) {
	raw := k.encode(s, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	k.storeLocked(s, raw)
	for i := range s.values {
		if s.values[i].key == any(k) {
			s.values[i].value = v
			return
		}
	}
	s.values = append(s.values, keyValue{k, v})
}

// encode returns v as it is stored, nil if it is not to be.
func (k *Key[T]) encode(s *Socket, v T) json.RawMessage {
	if !k.recoverable || s.session == nil {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("holdpost: value of key %q: %v", k.name, err))
	}
	return raw
}

// raw returns the key's name and one of its values as they are told to others, nil if they are not.
func (k *Key[T]) raw(v any) (string, json.RawMessage) {
	if !k.recoverable {
		return k.name, nil
	}
	raw, err := json.Marshal(v)
	if err != nil { // which Set has refused, with recovery
		return k.name, nil
	}
	return k.name, raw
}

func (k *Key[T]) storeLocked(s *Socket, raw json.RawMessage) {
	if raw == nil || bytes.Equal(raw, s.session.values[k.name]) {
		return
	}
	if s.session.values == nil {
		s.session.values = make(map[string]json.RawMessage)
	}
	s.session.values[k.name] = raw
	s.changedLocked(true)
}

// recover attaches the value that came back with the socket, if there is one.
func (k *Key[T]) recover(s *Socket) {
	if !k.recoverable || !s.Recovered() {
		return
	}
	s.mu.Lock()
	raw := s.session.values[k.name]
	s.mu.Unlock()
	if raw == nil {
		return
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		s.conn.srv.config.Logger.Warn("recovered value not decoded", "namespace", s.ns.name, "socket", s.id, "key", k.name, "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.values, func(o keyValue) bool { return o.key == any(k) }) {
		s.values = append(s.values, keyValue{k, v})
	}
}

// Get returns what was attached to s, or false and the zero value.
func (k *Key[T]) Get(s *Socket) (T, bool) {
	if v, ok := k.get(s); ok || !k.recoverable {
		return v, ok
	}
	k.recover(s)
	return k.get(s)
}

func (k *Key[T]) get(s *Socket) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.values {
		if s.values[i].key == any(k) {
			return s.values[i].value.(T), true
		}
	}
	var zero T
	return zero, false
}

// LoadOrSet returns what is attached to s. When nothing is, it attaches what f returns. f runs at most once and must not
// use s.
func (k *Key[T]) LoadOrSet(s *Socket, f func() T) T {
	k.recover(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.values {
		if s.values[i].key == any(k) {
			return s.values[i].value.(T)
		}
	}
	v := f()
	s.values = append(s.values, keyValue{k, v})
	k.storeLocked(s, k.encode(s, v))
	return v
}

type keyValue struct {
	key   any
	value any
}
