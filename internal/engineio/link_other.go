//go:build !unix

package engineio

import "net"

// newLink returns a link for the connection.
func newLink(conn net.Conn, t *tasks) link {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetKeepAlive(false) // the protocol pings
	}
	return &plainLink{conn: conn, tasks: t}
}
