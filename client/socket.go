package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/serial"
	"golang.org/x/sync/semaphore"
)

// Socket is the client in one namespace. Make one with [Client.Of], register handlers, and connect it.
type Socket struct {
	// Static after construction.
	client    *Client
	namespace string
	retries   *semaphore.Weighted // whose turn it is to emit through Retrying

	in       serial.Queue[inbound] // what its handlers have yet to see
	inBytes  atomic.Int64
	inEvents atomic.Int64
	nextAck  atomic.Int64

	mu         sync.Mutex // guards the fields below
	active     bool       // connected, or trying to be
	ended      error      // why it is not active; nil while it is, and before the first time
	connecting *connecting
	ctx        context.Context
	cancel     context.CancelCauseFunc
	link       *link       // that a CONNECT was sent on; nil while there is none
	connected  bool        // and it was answered
	later      *time.Timer // while it waits for an answer, or to ask again
	notBefore  time.Time   // it may ask again
	id         string
	pid        string // the private id of a session that can be recovered
	offset     string // of the last event received
	recovered  bool
	maxPayload int // bytes that the server takes at once; 0 until it is known
	buffer     buffer
	acks       map[int64]*pendingAck
	handlers   map[string][]*Handler
	hooks      hooks
	consumers  map[source]*Consumer
}

// connecting is what calls of Connect wait for.
type connecting struct {
	done chan struct{}
	err  error // written before done is closed
}

// Namespace returns the name of the namespace, "/" for the main one.
func (s *Socket) Namespace() string { return s.namespace }

// Connected reports whether the server has let the socket in and the connection stands, as far as is known.
func (s *Socket) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connected
}

// ID returns the id that the server gave the socket, "" while it is not connected.
func (s *Socket) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Recovered tells whether the server has recovered the socket at its last connect: it has the same id and rooms, and was sent
// everything that it had missed.
func (s *Socket) Recovered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovered
}

// Err returns nil while the socket is connected or tries to be, and else why it does not: [ErrClosed] before the first
// [Socket.Connect], then what [context.Cause] of [Socket.Context] returns.
func (s *Socket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errLocked()
}

func (s *Socket) errLocked() error {
	switch {
	case s.active:
		return nil
	case s.ended == nil:
		return ErrClosed
	}
	return s.ended
}

// Context returns a context that ends when the socket does, not when its connection is lost. Its cause is a
// [holdpost.DisconnectError] when one side has ended it; a [DialError] when the server can't be reached; the
// [holdpost.ConnectError] with which the server has refused it.
func (s *Socket) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(ErrClosed)
		return ctx
	}
	return s.ctx
}

// Connect connects the socket, and the client if it is not, and returns once the server has let it in. From then on it
// reconnects by itself until it ends. On an error it has ended: a [DialError] that waiting does not cure, or that
// Config.ReconnectAttempts did not; a [holdpost.ConnectError] when the server has refused it, its Data as a
// [json.RawMessage]; the error of Config.AuthFunc; the context's cause, which wraps what the last attempt failed with;
// [ErrClosed] when the client is closed. On a connected socket it returns nil; on one that is connecting it waits with the
// others.
func (s *Socket) Connect(ctx context.Context) error {
	s.mu.Lock()
	first := !s.active
	if first {
		s.active, s.ended, s.notBefore = true, nil, time.Time{}
		s.connecting = &connecting{done: make(chan struct{})}
		s.ctx, s.cancel = context.WithCancelCause(context.Background())
	}
	c := s.connecting
	s.mu.Unlock()
	if first {
		l, err := s.client.activate()
		if err != nil {
			s.finish(err, false)
			return err
		}
		if l != nil {
			s.join(l)
		}
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	err := context.Cause(ctx)
	s.mu.Lock()
	if c.err != nil {
		err = fmt.Errorf("%w: %w", err, c.err)
	}
	s.mu.Unlock()
	if first {
		select {
		case <-c.done: // it was connected meanwhile
			return c.err
		default:
			s.finish(err, true)
		}
	}
	return fmt.Errorf("connect: %w", err)
}

// failed notes an attempt to connect that failed.
func (s *Socket) failed(err error) {
	s.mu.Lock()
	active := s.active
	if active && !s.connecting.resolved() {
		s.connecting.err = err
	}
	told := active && len(s.hooks.failed) > 0
	s.mu.Unlock()
	if told {
		s.push(inbound{kind: inboundFailed, err: err})
	}
}

func (c *connecting) resolved() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// resolve ends the waiting of Connect. The socket's mu is held.
func (c *connecting) resolve(err error) {
	if !c.resolved() {
		c.err = err
		close(c.done)
	}
}

// Disconnect leaves the namespace and ends the socket. Events that were emitted before are sent, those that wait for handlers
// are dropped. The connection is closed when no other socket uses it. It does not wait for handlers. [Socket.Connect] connects
// again, as a new socket.
func (s *Socket) Disconnect() {
	s.finish(&holdpost.DisconnectError{Reason: holdpost.ReasonClientDisconnect}, true)
}

// finish ends the socket: it does not come back by itself. With tell the server is told.
func (s *Socket) finish(why error, tell bool) {
	s.mu.Lock()
	if !s.active {
		s.mu.Unlock()
		return
	}
	l, was := s.link, s.connected
	s.active, s.ended = false, why
	s.link, s.connected, s.id, s.pid, s.offset = nil, false, "", "", ""
	if s.later != nil {
		s.later.Stop()
	}
	rest := s.buffer.takeAll()
	failed := s.takeAcksLocked(true)
	consumers := s.consumersLocked()
	s.consumers = nil
	s.cancel(why)
	s.connecting.resolve(why)
	s.mu.Unlock()

	if tell && was {
		l.push(outgoing{entries: append(rest, s.client.codec.disconnect(s.namespace))})
	}
	for _, u := range consumers {
		u.end(why)
	}
	for _, a := range failed {
		a.f(holdpost.Args{}, why)
	}
	if was {
		s.push(inbound{kind: inboundLost, err: why})
	}
	s.client.deactivate()
}

func (s *Socket) consumersLocked() []*Consumer { return slices.Collect(maps.Values(s.consumers)) }
