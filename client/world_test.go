package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/peertest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var background = context.Background()

// The ways to connect, as Config.Transports.
var ways = map[string][]string{
	peertest.Polling:   {"polling"},
	peertest.WebSocket: {"websocket"},
	peertest.Upgrade:   {"polling", "websocket"},
}

// A world is a server, and connections to it that can be cut, in a bubble of its own clock.
type world struct {
	*peertest.Host
	t    *testing.T
	srv  *holdpost.Server
	main *holdpost.Namespace
	log  *logged

	carried atomic.Int64 // bytes, both ways

	mu     sync.Mutex
	frozen bool          // nothing comes through
	held   chan struct{} // nothing is written until it is closed; nil: nothing is held
	down   error         // why no connection is made now
	conns  []net.Conn
	dials  int
}

// run runs the scenario over every transport.
func run(t *testing.T, c holdpost.Config, scenario func(t *testing.T, w *world, cc client.Config)) {
	t.Helper()
	for way, transports := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c)
				scenario(t, w, client.Config{Transports: transports})
			})
		})
	}
}

// bubble runs the scenario over a WebSocket.
func bubble(t *testing.T, c holdpost.Config, scenario func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scenario(t, newWorld(t, c)) })
}

func newWorld(t *testing.T, c holdpost.Config) *world {
	w := &world{t: t, log: &logged{}}
	c.Logger = slog.New(slog.DiscardHandler)
	w.srv = holdpost.NewServer(&c)
	w.main = w.srv.Of("/")
	w.Host = peertest.New(t, w.srv)
	t.Cleanup(func() { w.srv.Close() })
	return w
}

// dial makes a connection to the server, unless the world is down.
func (w *world) dial(context.Context, string, string) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	down := w.down
	w.mu.Unlock()
	if down != nil {
		return nil, down
	}
	conn, err := w.Host.Dial()
	if err == nil {
		conn = &thawed{Conn: conn, w: w, closed: make(chan struct{})}
		w.mu.Lock()
		w.conns = append(w.conns, conn)
		w.mu.Unlock()
	}
	return conn, err
}

// freeze keeps what the server sends from coming through, while the connections stand.
func (w *world) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = true
}

func (w *world) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = false
}

// hold holds what clients write until release.
func (w *world) hold() (release func()) {
	held := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
	return func() { close(held) }
}

// thawed is a connection unless its world is frozen.
type thawed struct {
	net.Conn
	w      *world
	once   sync.Once
	closed chan struct{}
}

func (c *thawed) Write(b []byte) (int, error) {
	c.w.carried.Add(int64(len(b)))
	c.w.mu.Lock()
	held := c.w.held
	c.w.mu.Unlock()
	if held != nil {
		<-held
	}
	return c.Conn.Write(b)
}

func (c *thawed) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.w.carried.Add(int64(n))
	c.w.mu.Lock()
	frozen := c.w.frozen
	c.w.mu.Unlock()
	if frozen { // not even the other side's hanging up
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *thawed) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

var errDown = errors.New("network is down")

// cut cuts all connections; with down none is made until up.
func (w *world) cut(down bool) {
	w.mu.Lock()
	conns := w.conns
	w.conns = nil
	if down {
		w.down = errDown
	}
	w.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

func (w *world) up() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = nil
}

func (w *world) dialed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// client returns a client that is closed with the test.
func (w *world) client(c client.Config) *client.Client {
	c.Dial = w.dial
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	}
	cl := client.New("http://test", &c)
	w.t.Cleanup(cl.Close)
	return cl
}

// connect connects a socket.
func (w *world) connect(s *client.Socket) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	if err := s.Connect(ctx); err != nil {
		w.t.Fatalf("connect %s: %v", s.Namespace(), err)
	}
}

// socket returns a connected socket in the main namespace.
func (w *world) socket(c client.Config) *client.Socket {
	w.t.Helper()
	s := w.client(c).Of("/")
	w.connect(s)
	return s
}

// reply is a handler of the server that answers with the arguments that it got.
func reply(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
	return []any{args}, nil
}

// A record is what happened, in order, from any goroutine.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, a...))
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// want waits until nothing moves and compares.
func (r *record) want(t *testing.T, what string, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got := r.all(); !slices.Equal(got, lines) {
		t.Errorf("%s: got %q, want %q", what, got, lines)
	}
}

// logged is a log that can be read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
