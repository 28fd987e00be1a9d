package engineio

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// memory is a listener whose connections are pipes.
type memory struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func listenMemory() *memory { return &memory{conns: make(chan net.Conn), done: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }
func (m *memory) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- theirs:
		return ours, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// A host is a server under test with everything that happened to its sessions.
type host struct {
	t    *testing.T
	srv  *Server
	http *http.Server
	dial func() (net.Conn, error)
	web  *http.Client

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

func (r *recorder) Batch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches++
	r.session.Flush()
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
	ln := listenMemory()
	h := serveHost(t, c, ln)
	h.dial = ln.dial
	return h
}

func serveHost(t *testing.T, c Config, ln net.Listener) *host {
	h := &host{t: t}
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
	h.srv = New(c)
	h.dial = func() (net.Conn, error) { return net.Dial(ln.Addr().Network(), ln.Addr().String()) }
	h.http = &http.Server{Handler: h.srv, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() { h.http.Serve(ln); close(served) }()
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return h.dial() }, DisableCompression: true,
	}
	h.web = &http.Client{Transport: transport}
	t.Cleanup(func() {
		h.srv.Close()
		transport.CloseIdleConnections()
		h.http.Close()
		<-served
	})
	return h
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

// request sends one request and returns the status and the body.
func (h *host) request(method, query, body string, header ...string) (int, string) {
	h.t.Helper()
	status, text, err := h.tryRequest(context.Background(), method, query, body, header...)
	if err != nil {
		h.t.Errorf("%s %s: %v", method, query, err)
	}
	return status, text
}

func (h *host) tryRequest(ctx context.Context, method, query, body string, header ...string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://test/socket.io/?"+query, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = append(r.Header[header[i]], header[i+1])
	}
	resp, err := h.web.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
