package holdpost_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// A world is a server under test and its clients, in a bubble of its own clock.
type world struct {
	*peertest.Host
	t    *testing.T
	srv  *holdpost.Server
	main *holdpost.Namespace
	log  *journal
}

// run runs the scenario over every transport. Heartbeats are off unless the Config says otherwise, so that packets are
// those that the scenario asks for.
func run(t *testing.T, c holdpost.Config, scenario func(t *testing.T, w *world, transport string)) {
	t.Helper()
	for _, transport := range peertest.Transports {
		t.Run(transport, func(t *testing.T) {
			bubble(t, c, func(t *testing.T, w *world) { scenario(t, w, transport) })
		})
	}
}

func bubble(t *testing.T, c holdpost.Config, scenario func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scenario(t, newWorld(t, c)) })
}

func newWorld(t *testing.T, c holdpost.Config) *world {
	w := &world{t: t, log: &journal{}}
	if c.PingInterval == 0 {
		c.PingInterval = -1
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w.srv = holdpost.NewServer(&c)
	w.main = w.srv.Of("/")
	w.Host = peertest.New(t, w.srv)
	t.Cleanup(func() { w.srv.Close() })
	return w
}

// A journal is a log that can be read.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// A client is a peer and the socket that the server made for it.
type client struct {
	*peertest.Peer
	w  *world
	id string
}

// connect opens a connection and joins the main namespace.
func (w *world) connect(transport string) *client {
	w.t.Helper()
	c := &client{Peer: w.Connect(transport), w: w}
	c.id = c.join("/", "")
	return c
}

// join joins a namespace and returns the id of the socket there.
func (c *client) join(namespace, auth string) string {
	c.w.t.Helper()
	prefix := ""
	if namespace != "/" {
		prefix = namespace + ","
	}
	c.Send("40" + prefix + auth)
	return c.joined(prefix)
}

// joined takes the answer to a CONNECT.
func (c *client) joined(prefix string) string {
	c.w.t.Helper()
	reply := c.Next()
	payload, ok := strings.CutPrefix(reply, "40"+prefix)
	var hs map[string]string
	if !ok || json.Unmarshal([]byte(payload), &hs) != nil || len(hs) != 1 || len(hs["sid"]) != 20 || hs["sid"] == c.SID {
		c.w.t.Fatalf("answer to CONNECT is %q", reply)
	}
	return hs["sid"]
}

// socket returns the server's side of a client in the main namespace.
func (c *client) socket() *holdpost.Socket {
	c.w.t.Helper()
	synctest.Wait()
	s, ok := c.w.main.Socket(c.id)
	if !ok {
		c.w.t.Fatalf("no socket %q", c.id)
	}
	return s
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

// watch records the ends of the sockets of a namespace.
func (r *record) watch(ns *holdpost.Namespace) {
	ns.OnDisconnect(func(s *holdpost.Socket, reason holdpost.Reason) { r.add("%s", reason) })
}

var background = context.Background()

// reply is a handler that answers with the arguments that it got.
func reply(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
	return []any{args}, nil
}

// wantClosed waits for the connection's end and drops what else comes before it.
func (c *client) wantClosed(what string) {
	c.w.t.Helper()
	for {
		switch got := c.Next(); {
		case got == "1", got == "gone", strings.HasPrefix(got, "close "), strings.HasPrefix(got, "poll "):
			return
		case strings.HasPrefix(got, "0"), strings.HasPrefix(got, "4"), strings.HasPrefix(got, "binary "):
		default:
			c.w.t.Fatalf("%s: got %q, want the end", what, got)
		}
	}
}

// async runs f beside the test, which does not end before it.
func (w *world) async(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	w.t.Cleanup(func() { <-done })
}

// openPolling opens a connection without polling on, and returns the query of its requests.
func (w *world) openPolling() string {
	w.t.Helper()
	_, body := w.Request("GET", "EIO=4&transport=polling", "")
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(body, "0")), &open); err != nil {
		w.t.Fatalf("open packet %q: %v", body, err)
	}
	return "EIO=4&transport=polling&sid=" + open.SID
}

func deadContext() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}
