package engineio

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/holdpost/holdpost/internal/engineio/wire"
)

var errFirstPacket = errors.New("a stream must begin with an open packet")

// A streamAcceptor is the response writer of a request for a WebTransport session. HTTP/3 is not this package's: whoever
// serves it has such a writer.
type streamAcceptor interface {
	// AcceptStream accepts the session and returns the first stream that the client opens on it, for as long as ctx allows.
	// To close the stream is to close the session; its CloseWrite method ends what is written. The caller owns it, also
	// after the request was served. After an error the response is over.
	AcceptStream(ctx context.Context) (net.Conn, error)
}

// acceptor looks for one below the writers that middlewares put around, like [http.NewResponseController].
func acceptor(w http.ResponseWriter) streamAcceptor {
	for {
		switch v := w.(type) {
		case streamAcceptor:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}

// serveWebTransport serves a request for a WebTransport session; it returns false if this is none. Clients say nothing in its
// query: whether they want a new session or take over one is what the first packet on the stream tells, so a refusal
// after it can only close the session.
func (srv *Server) serveWebTransport(w http.ResponseWriter, r *http.Request) bool {
	a := acceptor(w)
	if a == nil {
		return false
	}
	no := srv.foreign(r)
	if !srv.streams {
		no = unknownTransport
	}
	if no != nil {
		srv.refuse(w, r, no)
		return true
	}
	ctx, cancel := context.WithTimeout(r.Context(), srv.config.UpgradeTimeout)
	defer cancel()
	conn, err := a.AcceptStream(ctx)
	if err != nil {
		srv.refused(r, badRequest.because(err))
		return true
	}
	deadline, _ := ctx.Deadline()
	if no := srv.beginStream(conn, deadline, r); no != nil {
		srv.refused(r, no)
		conn.Close()
	}
	return true
}

// beginStream makes a session of a stream, or has the stream take over one.
func (srv *Server) beginStream(conn net.Conn, deadline time.Time, r *http.Request) *Refusal {
	sid, err := readOpen(conn, deadline)
	if err != nil {
		return badRequest.because(err)
	}
	c := &socket{link: newLink(conn, &srv.tasks), stream: &wire.StreamReader{Max: srv.config.MaxPayload}}
	if sid == "" {
		if no := srv.vetoed(r); no != nil {
			return no
		}
		srv.openSocket(c, nil, r, nil)
		return nil
	}
	s := srv.session(sid)
	if s == nil {
		return unknownSession
	}
	c.session, c.stage = s, wantProbe
	if srv.config.NoUpgrades || s.v3 || !s.adopt(c) {
		return badRequest.because(errUpgrade)
	}
	c.link.start(c, nil)
	return nil
}

// readOpen reads the packet that a client begins a stream with: an open packet, which may have the id of the session that
// it wants to take over.
func readOpen(conn net.Conn, deadline time.Time) (sid string, err error) {
	conn.SetReadDeadline(deadline)
	var b [128]byte
	if _, err := io.ReadFull(conn, b[:1]); err != nil {
		return "", err
	}
	n := int(b[0])
	if n == 0 || n > 125 { // longer ones, and binary ones
		return "", errFirstPacket
	}
	if _, err := io.ReadFull(conn, b[:n]); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Time{})
	if wire.Type(b[0]) != wire.Open {
		return "", errFirstPacket
	}
	if n == 1 {
		return "", nil
	}
	var open struct {
		SID string `json:"sid"`
	}
	if err := json.Unmarshal(b[1:n], &open); err != nil {
		return "", err
	}
	if open.SID == "" {
		return "", errFirstPacket
	}
	return open.SID, nil
}
