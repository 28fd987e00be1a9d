package holdpost

// Key names a value of type T that a program attaches to sockets. Keys are compared by identity: two keys of one name
// are two keys.
type Key[T any] struct {
	name string
}

// NewKey returns a new key. Its name is for people and for logs.
func NewKey[T any](name string) *Key[T] { return &Key[T]{name: name} }

func (k *Key[T]) String() string { return k.name }

// Set attaches v to s, in place of what was there. It may be called from any goroutine, on a disconnected socket too.
func (k *Key[T]) Set(s *Socket, v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.values {
		if s.values[i].key == any(k) {
			s.values[i].value = v
			return
		}
	}
	s.values = append(s.values, keyValue{k, v})
}

// Get returns what was attached to s, or false and the zero value.
func (k *Key[T]) Get(s *Socket) (T, bool) {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.values {
		if s.values[i].key == any(k) {
			return s.values[i].value.(T)
		}
	}
	v := f()
	s.values = append(s.values, keyValue{k, v})
	return v
}

type keyValue struct {
	key   any
	value any
}
