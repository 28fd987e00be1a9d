package app

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/config"
)

// reserveFiles are the files that connections leave for the store, the log and the internal listener.
const reserveFiles = 512

// forConnections returns how many files connections may have; 0 is no limit that matters.
func forConnections() int {
	files := maxFiles()
	return max(files-reserveFiles, files/2)
}

// forOperators returns how many connections the internal listener may have: they are of the reserve.
func forOperators() int { return reserveFiles / 2 }

// maxConnections returns how many connections there may be at a time; 0 is no limit.
func maxConnections(c *config.Config) int {
	if c.Limits.Connections > 0 {
		return c.Limits.Connections
	}
	return forConnections()
}

// fileGuard keeps connections from using up the files of the process: one too many is answered and closed at once, instead of
// waiting for a file that does not come while the store gets none either.
type fileGuard struct {
	most     int        // 0 is no limit
	sessions func() int // have a file each at most that no server of net/http knows of
	refused  func()

	open atomic.Int64 // that the servers know of
}

// watch is the ConnState of one or several servers. New connections are announced by the goroutine that accepts them, so a refusal must not
// wait for the peer.
func (g *fileGuard) watch(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if open := g.open.Add(1); g.most > 0 && int(open)+g.sessions() > g.most {
			g.refused()
			turnAway(c)
		}
	case http.StateHijacked, http.StateClosed:
		g.open.Add(-1)
	}
}

// turnAway answers a new connection, and closes it.
func turnAway(c net.Conn) {
	if _, plain := c.(*net.TCPConn); plain { // else it would be a TLS handshake
		c.SetWriteDeadline(time.Now().Add(time.Second)) // for an empty connection the kernel takes it at once
		io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}
	c.Close()
}
