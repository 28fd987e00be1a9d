// Package holdposttest is a server of Holdpost and clients of it in memory, for the tests of programs that use either. It opens no
// port, and works inside a [testing/synctest] bubble, where minutes of heartbeats and reconnection take no time.
//
// A [Network] connects them. All its methods may be called from any goroutine.
package holdposttest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/peertest"
)

// Network is what lies between a server and its clients, and can be cut.
type Network struct {
	t    testing.TB
	host *peertest.Host

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

// ErrDown is what connecting over a [Network] fails with while it is down.
var ErrDown = errors.New("holdposttest: the network is down")

// Serve serves a handler, mostly a [holdpost.Server], until the test ends. It does not shut the server down.
func Serve(t testing.TB, h http.Handler) *Network {
	t.Helper()
	return &Network{t: t, host: peertest.New(t, h), conns: make(map[net.Conn]struct{})}
}

// Client returns a client of the server, not connected yet, which is closed when the test ends. Its Config's Dial and Proxy are the
// network's; nil means the defaults.
func (n *Network) Client(c *client.Config) *client.Client {
	n.t.Helper()
	var config client.Config
	if c != nil {
		config = *c
	}
	config.Dial = n.dial
	config.Proxy = http.ProxyURL(nil)
	cl := client.New("http://holdpost.test", &config)
	n.t.Cleanup(cl.Close)
	return cl
}

func (n *Network) dial(context.Context, string, string) (net.Conn, error) {
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, ErrDown
	}
	inner, err := n.host.Dial()
	if err != nil {
		return nil, err
	}
	conn := &conn{Conn: inner, n: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[conn] = struct{}{}
	return conn, nil
}

// Cut cuts all connections; none is made until [Network.Mend].
func (n *Network) Cut() {
	n.mu.Lock()
	n.down = true
	conns := n.conns
	n.conns = make(map[net.Conn]struct{})
	n.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Mend lets connections be made again. Clients come back when they next try: see [client.Config].
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}

type conn struct {
	net.Conn
	n *Network
}

func (c *conn) Close() error {
	c.n.mu.Lock()
	delete(c.n.conns, c)
	c.n.mu.Unlock()
	return c.Conn.Close()
}
