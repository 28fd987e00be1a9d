package webtransport

import (
	"context"
	"net"
	"net/http"

	wt "github.com/quic-go/webtransport-go"
)

// writer is the response writer of a request for a session, which the engine finds below those of middlewares.
type writer struct {
	http.ResponseWriter
	server  *Server
	request *http.Request
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// AcceptStream accepts the session and returns its first stream.
func (w *writer) AcceptStream(ctx context.Context) (net.Conn, error) {
	session, err := w.server.sessions.Upgrade(w.ResponseWriter, w.request)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest) // 200 would accept it
		return nil, err
	}
	stream, err := session.AcceptStream(ctx)
	if err != nil {
		session.CloseWithError(0, "")
		return nil, err
	}
	return &conn{stream, session, w.server}, nil
}

// conn is a stream with the session that it stands for.
type conn struct {
	*wt.Stream
	session *wt.Session
	server  *Server
}

func (c *conn) LocalAddr() net.Addr  { return c.session.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.session.RemoteAddr() }

// CloseWrite tells the peer that nothing more is coming.
func (c *conn) CloseWrite() error { return c.Stream.Close() }

// Close closes the session. It does not wait for the peer to be told, which takes a moment.
func (c *conn) Close() error {
	if !c.server.begin(nil) {
		return nil // all sessions are being closed
	}
	go func() {
		defer c.server.group.Done()
		c.session.CloseWithError(0, "")
	}()
	return nil
}
