package peertest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
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

// A Host serves a handler until the test ends.
type Host struct {
	Dial func() (net.Conn, error) // makes a connection to it
	HTTP *http.Server
	Web  *http.Client // connects to it whatever host a URL names, and decompresses nothing

	t testing.TB
}

// New serves h over connections in memory.
func New(t testing.TB, h http.Handler) *Host {
	t.Helper()
	ln := &memory{conns: make(chan net.Conn), done: make(chan struct{})}
	host := Serve(t, h, ln)
	host.Dial = ln.dial
	return host
}

// Serve serves h on a listener, which it closes.
func Serve(t testing.TB, h http.Handler, ln net.Listener) *Host {
	host := &Host{t: t}
	host.Dial = func() (net.Conn, error) { return net.Dial(ln.Addr().Network(), ln.Addr().String()) }
	host.HTTP = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() { host.HTTP.Serve(ln); close(served) }()
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return host.Dial() }, DisableCompression: true,
	}
	host.Web = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		host.HTTP.Close()
		<-served
	})
	return host
}

// Request sends one request to /socket.io/ and returns the status and the body. Headers are pairs of name and value.
func (h *Host) Request(method, query, body string, header ...string) (int, string) {
	h.t.Helper()
	status, text, err := h.TryRequest(context.Background(), method, query, body, header...)
	if err != nil {
		h.t.Errorf("%s %s: %v", method, query, err)
	}
	return status, text
}

// TryRequest is Request for requests that may fail.
func (h *Host) TryRequest(ctx context.Context, method, query, body string, header ...string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://test/socket.io/?"+query, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = append(r.Header[header[i]], header[i+1])
	}
	resp, err := h.Web.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
