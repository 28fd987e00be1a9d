package app

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/config"
)

func TestRedirectsToHTTPS(t *testing.T) {
	for _, c := range []struct {
		method, target, host, port string
		want                       string // "" is a refusal
	}{
		{"GET", "/", "events.example.com", "443", "https://events.example.com/"},
		{"GET", "/socket.io/?EIO=4&transport=polling", "events.example.com:80", "443", "https://events.example.com/socket.io/?EIO=4&transport=polling"},
		{"HEAD", "/a%2Fb?c=%26", "events.example.com:8080", "8443", "https://events.example.com:8443/a%2Fb?c=%26"},
		{"GET", "//elsewhere.example/", "events.example.com", "443", "https://events.example.com//elsewhere.example/"},
		{"GET", "http://elsewhere.example/x", "events.example.com", "443", "https://events.example.com/x"},
		{"GET", "/", "[::1]", "443", "https://[::1]/"},
		{"GET", "/", "[::1]:80", "8443", "https://[::1]:8443/"},
		{"GET", "/", "", "443", ""},
		{"POST", "/socket.io/?EIO=4&transport=polling&sid=x", "events.example.com", "443", ""},
		{"OPTIONS", "/", "events.example.com", "443", ""},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		toHTTPS(c.port).ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != c.want || (got == "") != (w.Code == http.StatusBadRequest) {
			t.Errorf("%s %s at %q: %d %q, want %q", c.method, c.target, c.host, w.Code, got, c.want)
		}
	}
}

// A body that does not come, and that nobody reads, holds a connection for a while and not for ever.
func TestBodiesThatDoNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		l := &oneConn{conn: theirs, closed: make(chan struct{})}
		h := newPublicHTTP(toHTTPS("443"), slog.New(slog.DiscardHandler))
		go h.Serve(l)
		defer h.Close()
		io.WriteString(ours, "POST / HTTP/1.1\r\nHost: events.example.com\r\nContent-Length: 1000\r\n\r\nx")
		start := time.Now()
		if _, err := io.Copy(io.Discard, ours); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > requestTimeout+time.Second {
			t.Errorf("held for %v", d)
		}
	})
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// People are told where the redirect is, as programs are.
func TestRedirectIsAnnounced(t *testing.T) {
	var l [2]net.Listener
	for i := range l {
		var err error
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		defer l[i].Close()
	}
	for _, dev := range []bool{false, true} {
		c := config.Default()
		c.Dev = dev
		var with, without bytes.Buffer
		announce(&with, c, &server{public: l[0], internal: l[0], plain: l[1]})
		announce(&without, c, &server{public: l[0], internal: l[0]})
		if line := "\n  Redirect     http://" + l[1].Addr().String() + "\n"; strings.Replace(with.String(), line, "\n", 1) != without.String() ||
			!strings.Contains(with.String(), line) {
			t.Errorf("dev %t:\n%s\nand without a redirect:\n%s", dev, with.String(), without.String())
		}
	}
}
