package engineio

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/peertest"
)

// A host is a server under test with everything that happened to its sessions.
type host struct {
	*peertest.Host
	t   *testing.T
	srv *Server

	mu       sync.Mutex
	sessions []*recorder
	serve    func(s *Session, data []byte, binary bool) error // what a session does with a message
	open     func(s *Session)
}

// A recorder is the application's side of one session.
type recorder struct {
	host    *host
	session *Session

	mu      sync.Mutex
	got     []string
	batches int
	closed  []string
	cause   error
}

func (r *recorder) Message(data []byte, binary bool) error {
	text := string(data)
	if binary {
		text = fmt.Sprintf("binary %x", data)
	}
	r.mu.Lock()
	if len(r.closed) > 0 {
		r.host.t.Errorf("message %q after the close", text)
	}
	r.got = append(r.got, text)
	r.mu.Unlock()
	if r.host.serve != nil {
		return r.host.serve(r.session, data, binary)
	}
	return nil
}

func (r *recorder) Batch() Runner {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches++
	r.session.Flush()
	return nil
}

func (r *recorder) Closed(reason Reason, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, string(reason))
	r.cause = cause
}

func (r *recorder) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder) reasons() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.closed)
}

// echo sends every message back.
func echo(s *Session, data []byte, binary bool) error {
	if binary {
		s.Send(false, NewBinary(data))
	} else {
		s.Send(false, NewText(data))
	}
	return nil
}

func newHost(t *testing.T, c Config) *host {
	t.Helper()
	h := &host{t: t}
	h.srv = h.server(c)
	h.Host = peertest.New(t, h.srv)
	t.Cleanup(func() { h.srv.Close() })
	return h
}

func serveHost(t *testing.T, c Config, ln net.Listener) *host {
	h := &host{t: t}
	h.srv = h.server(c)
	h.Host = peertest.Serve(t, h.srv, ln)
	t.Cleanup(func() { h.srv.Close() })
	return h
}

func (h *host) server(c Config) *Server {
	c.Open = func(s *Session) Handler {
		r := &recorder{host: h, session: s}
		h.mu.Lock()
		h.sessions = append(h.sessions, r)
		h.mu.Unlock()
		if h.open != nil {
			h.open(s)
		}
		return r
	}
	return New(c)
}

// last returns the newest session.
func (h *host) last() *recorder {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sessions) == 0 {
		h.t.Fatal("no session was opened")
	}
	return h.sessions[len(h.sessions)-1]
}

// A peer is a scripted client that knows the application's side of its session.
type peer struct {
	*peertest.Peer
	host *host
}

func (h *host) connect(transport string) *peer {
	h.t.Helper()
	return &peer{h.Connect(transport), h}
}

// ended waits for the session's end and checks its reason.
func (p *peer) ended(what string, reason Reason) *recorder {
	p.host.t.Helper()
	r := p.record()
	for range 1200 {
		if len(r.reasons()) > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got := r.reasons(); !slices.Equal(got, []string{string(reason)}) {
		p.host.t.Fatalf("%s: closed with %q, want %q", what, got, reason)
	}
	return r
}

// record returns the application's side of the session.
func (p *peer) record() *recorder {
	p.host.t.Helper()
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	for _, r := range p.host.sessions {
		if r.session.ID() == p.SID {
			return r
		}
	}
	p.host.t.Fatalf("no session %q", p.SID)
	return nil
}

// run runs the scenario over every transport, in a bubble of its own clock.
func run(t *testing.T, c Config, scenario func(t *testing.T, h *host, transport string)) {
	t.Helper()
	for _, transport := range peertest.Transports {
		t.Run(transport, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { scenario(t, newHost(t, c), transport) })
		})
	}
}
