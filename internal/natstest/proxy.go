package natstest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server, and can be cut, as a network is: then nothing gets through it, in neither direction, and
// nobody is told. What was on its way arrives when it is mended, if it was sent by somebody who is gone meanwhile too.
type Proxy struct {
	URL string // instead of the server's

	// static after construction
	listener net.Listener
	target   string
	group    sync.WaitGroup // of all goroutines
	over     chan struct{}  // closed at the end

	mu    sync.Mutex    // guards the fields below
	whole chan struct{} // closed while it is not cut
	conns []net.Conn
}

// NewProxy starts a proxy for a server, which ends with the test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	p, err := newProxy(t, s.address)
	if err != nil {
		t.Fatal(err)
	}
	p.URL = "nats://" + p.listener.Addr().String()
	return p
}

func newProxy(t testing.TB, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, over: make(chan struct{}), whole: make(chan struct{})}
	close(p.whole)
	p.group.Go(p.accept)
	t.Cleanup(func() {
		close(p.over)
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.group.Wait()
	})
	return p, nil
}

// Cut cuts the proxy.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole = make(chan struct{})
}

// Mend undoes Cut.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.whole)
}

// wait waits while the proxy is cut, and returns false at its end.
func (p *Proxy) wait() bool {
	p.mu.Lock()
	whole := p.whole
	p.mu.Unlock()
	select {
	case <-whole:
		return true
	case <-p.over:
		return false
	}
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.group.Go(func() { p.serve(in) })
	}
}

func (p *Proxy) serve(in net.Conn) {
	defer in.Close()
	if !p.keep(in) || !p.wait() {
		return
	}
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	if !p.keep(out) {
		return
	}
	p.group.Go(func() { p.pass(in, out) })
	p.pass(out, in)
}

// keep notes a connection, which is closed at the end of the proxy. It returns false when that has come.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	select {
	case <-p.over:
		return false
	default:
		return true
	}
}

// pass passes on what comes, and then that no more does, each when the proxy is not cut.
func (p *Proxy) pass(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if !p.wait() {
			return
		}
		if _, failed := to.Write(b[:n]); failed != nil || err != nil {
			to.Close()
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}
