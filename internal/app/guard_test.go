package app

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestMemoryGuard(t *testing.T) {
	var held []bool
	var shed []int
	used := int64(0)
	g := memoryGuard{limit: 1000, used: func() int64 { return used }, hold: func(b bool) { held = append(held, b) }, shed: func(n int) { shed = append(shed, n) }}
	for _, used = range []int64{0, 749, 750, 899, 900, 1100, 749} {
		g.look()
	}
	if want := []bool{false, false, true, true, true, true, false}; !slices.Equal(held, want) {
		t.Errorf("held %v, want %v", held, want)
	}
	if want := []int{150, 350}; !slices.Equal(shed, want) {
		t.Errorf("shed %v, want %v", shed, want)
	}
}

// What is in use grows by what is held, and not by garbage for long.
func TestMemoryInUse(t *testing.T) {
	const size = 64 << 20
	before := memoryInUse()
	held := make([]byte, size)
	for memoryInUse() < before+size/2 { // counted at the next collection
		sink = make([]byte, 1<<20)
	}
	held[size-1] = 1
	held = nil
	for memoryInUse() > before+size/2 {
		sink = make([]byte, 1<<20)
	}
}

var sink []byte // what is garbage as soon as another one is there

// Connections beyond the limit are answered and closed at once; when one goes there is room again.
func TestFileGuard(t *testing.T) {
	var refused atomic.Int32
	sessions := atomic.Int32{}
	g := &fileGuard{most: 3, sessions: func() int { return int(sessions.Load()) }, refused: func() { refused.Add(1) }}
	h := newHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			sessions.Add(1)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			io.Copy(io.Discard, c)
			c.Close()
			sessions.Add(-1)
		}
	}), slog.New(slog.DiscardHandler))
	h.ConnState = g.watch
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { h.Serve(l); close(served) }()
	t.Cleanup(func() { h.Close(); <-served })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	ask := func(c net.Conn, path string) int {
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		w, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.StatusCode
	}
	first, socket := dial(), dial()
	for c, path := range map[net.Conn]string{first: "/", socket: "/hijack"} {
		if code := ask(c, path); code != 200 && code != 101 {
			t.Errorf("%s: %d", path, code)
		}
	}
	third := dial()
	if code := ask(third, "/"); code != 200 {
		t.Errorf("as many as may be: %d", code)
	}
	for range 10 {
		c := dial()
		w, err := http.ReadResponse(bufio.NewReader(c), nil) // without having asked
		if err != nil || w.StatusCode != 503 || w.Header.Get("Retry-After") == "" {
			t.Fatalf("one too many: %v %v", w, err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it is open still: %v", err)
		}
	}
	if n := refused.Load(); n != 10 {
		t.Errorf("%d were refused", n)
	}
	third.Close()
	socket.Close()
	for g.open.Load()+int64(sessions.Load()) > 1 {
		runtime.Gosched()
	}
	for range 2 {
		if code := ask(dial(), "/"); code != 200 {
			t.Errorf("with room again: %d", code)
		}
	}
}
