package app

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
)

// reservedListener has one file in reserve for when none is left: then a connection can't be accepted, not even to be refused, and it
// and all behind it would wait without an answer, while net/http tries again and again.
type reservedListener struct {
	net.Listener
	refuse  func(net.Conn)
	reserve reserve
}

func newReservedListener(l net.Listener, refuse func(net.Conn)) *reservedListener {
	r := &reservedListener{Listener: l, refuse: refuse}
	r.reserve.fill()
	return r
}

// Accept implements [net.Listener].
func (l *reservedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) || !l.reserve.fill() {
			return c, err
		}
		l.reserve.free()
		if c, err = l.Listener.Accept(); err != nil { // somebody else took the file: net/http waits a moment
			return nil, err
		}
		if l.reserve.fill() { // there is room again
			return c, nil
		}
		l.refuse(c)
		l.reserve.fill()
	}
}

// Close implements [net.Listener].
func (l *reservedListener) Close() error {
	l.reserve.close()
	return l.Listener.Close()
}

// reserve is an open file that stands for another one.
type reserve struct {
	mu     sync.Mutex // guards the fields below
	file   *os.File   // nil if there is none
	closed bool
}

// fill tells whether there is a file in reserve, as far as that is possible.
func (r *reserve) fill() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil && !r.closed {
		r.file, _ = os.Open(os.DevNull)
	}
	return r.file != nil
}

func (r *reserve) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freeLocked()
}

func (r *reserve) freeLocked() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

func (r *reserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freeLocked()
	r.closed = true
}

// handshakeGuard bounds the TLS handshakes at a time, each of which takes as much of a processor as thousands of events. A connection counts
// until its first request begins to come; net/http gives up a handshake after the time that it gives a header.
type handshakeGuard struct {
	refused func()

	mu      sync.Mutex // guards the fields below
	most    int        // 0 is no limit
	current map[net.Conn]struct{}
}

// watch is a ConnState of a server.
func (g *handshakeGuard) watch(c net.Conn, state http.ConnState) {
	if state == http.StateNew && !g.begin(c) {
		g.refused()
		c.Close()
	} else if state != http.StateNew {
		g.end(c)
	}
}

func (g *handshakeGuard) begin(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.most > 0 && len(g.current) >= g.most {
		return false
	}
	if g.current == nil {
		g.current = make(map[net.Conn]struct{})
	}
	g.current[c] = struct{}{}
	return true
}

func (g *handshakeGuard) end(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.current, c)
}

// limit changes the limit.
func (g *handshakeGuard) limit(most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = most
}
