package engineio

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
)

const (
	acceptHead = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 §1.3
)

// notAccepted are headers that a middleware may have set and that have no place in the response to a handshake.
var notAccepted = map[string]bool{
	"Connection": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true, "Upgrade": true,
	"Sec-Websocket-Accept": true, "Sec-Websocket-Extensions": true, "Sec-Websocket-Protocol": true,
}

// serveWebSocket makes a WebSocket of the request's connection: for a new session if s is nil, else to take over s.
func (srv *Server) serveWebSocket(w http.ResponseWriter, r *http.Request, s *Session) {
	key, ok := srv.checkHandshake(w, r)
	if !ok {
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil { // not HTTP/1.1, or a middleware in between that hides the connection
		srv.refuse(w, r, upgradeRequired)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	limits, extensions := srv.limits, ""
	if srv.config.PerMessageDeflate {
		if extensions = acceptDeflate(r.Header); extensions != "" {
			limits = srv.deflated
		}
	}
	accept := appendAccept(make([]byte, 0, 512), key, extensions, firstProtocol(r.Header), w.Header())
	c := &socket{session: s, link: newLink(conn, &srv.tasks), frames: frame.Reader{Limits: limits}}
	if s == nil {
		srv.openSocket(c, buffered(rw), r, accept)
		return
	}
	c.stage = wantProbe
	if !s.adopt(c) {
		// The client has seen others answer like this: the handshake succeeds and the connection closes.
		_ = srv.write(c.link, append(accept, closeFrame.frame()...))
		c.link.closeWrite()
		c.link.close()
		return
	}
	if err := srv.write(c.link, accept); err != nil {
		c.link.close()
		c.lost(err)
		return
	}
	c.link.start(c, buffered(rw))
}

// openSocket begins a session. What it has to say at once goes out together with out, the handshake's response; in revision 3 up to
// 5 ms behind it, for clients that ask for the first message only once they see that the connection is open.
func (srv *Server) openSocket(c *socket, initial []byte, r *http.Request, out []byte) {
	s := srv.newSession(r)
	s.ws, c.session = c, s
	s.writing = true
	s.enqueueOpen(nil)
	if !srv.begin(s) {
		_ = srv.write(c.link, append(out, c.encode(busyFrame)...))
		c.link.close()
		return
	}
	s.mu.Lock()
	size, packets := 0, 0
	if s.queue != nil && !s.v3 {
		for _, m := range s.queue.take(nil, maxPollPackets, pieceSize) {
			out = append(out, c.encode(m)...)
			size += m.Len()
			packets++
		}
		if s.queue.len() == 0 {
			s.queue.free()
			s.queue = nil
		}
	}
	s.mu.Unlock()
	err := srv.write(c.link, out)
	s.mu.Lock()
	s.writtenLocked(size, packets)
	if err != nil {
		s.writing = false
		s.mu.Unlock()
		c.link.close()
		c.lost(err)
		return
	}
	if s.v3 {
		s.writing = false
		s.corkLocked()
	} else {
		s.writeLocked()
	}
	c.link.start(c, initial)
}

// write writes to a fresh connection, whose goroutine may still wait for it.
func (srv *Server) write(l link, b []byte) error {
	n, err := l.try(b)
	if err != nil || n == len(b) {
		return err
	}
	err = l.write(b[n:], srv.config.WriteTimeout)
	l.calm()
	return err
}

// checkHandshake checks what RFC 6455 §4.2.1 asks of the request, and answers it if it falls short.
func (srv *Server) checkHandshake(w http.ResponseWriter, r *http.Request) (key string, ok bool) {
	keys, versions := r.Header["Sec-Websocket-Key"], r.Header["Sec-Websocket-Version"]
	if len(versions) != 1 || versions[0] != "13" {
		w.Header().Set("Sec-WebSocket-Version", "13")
		srv.refuse(w, r, upgradeRequired)
		return "", false
	}
	if len(keys) == 1 && len(keys[0]) == 24 && r.ProtoAtLeast(1, 1) && r.ContentLength == 0 {
		var nonce [18]byte
		if n, err := base64.StdEncoding.Decode(nonce[:], []byte(keys[0])); err == nil && n == 16 {
			return keys[0], true
		}
	}
	srv.refuse(w, r, badRequest.because(errHandshake))
	return "", false
}

// appendAccept appends the response to a handshake (RFC 6455 §4.2.2), with what middlewares have set in front of it.
func appendAccept(dst []byte, key, extensions, protocol string, set http.Header) []byte {
	var in [24 + len(acceptGUID)]byte
	copy(in[copy(in[:], key):], acceptGUID)
	sum := sha1.Sum(in[:])
	dst = append(dst, acceptHead...)
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if extensions != "" {
		dst = append(append(dst, "\r\nSec-WebSocket-Extensions: "...), extensions...)
	}
	if protocol != "" {
		dst = append(append(dst, "\r\nSec-WebSocket-Protocol: "...), protocol...)
	}
	dst = append(dst, "\r\n"...)
	if len(set) > 0 {
		out := &appender{dst}
		_ = set.WriteSubset(out, notAccepted) // replaces line breaks, and an appender takes everything
		dst = out.b
	}
	return append(dst, "\r\n"...)
}

// firstProtocol returns the first subprotocol that a client offers. They mean nothing here, but a browser that has named
// some hangs up when it is granted none.
func firstProtocol(h http.Header) string {
	for _, list := range h["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.Trim(name, " \t"); isToken(name) {
				return name
			}
		}
	}
	return ""
}

// isToken reports whether s is a token (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// buffered returns what the client has sent behind its request.
func buffered(rw *bufio.ReadWriter) []byte {
	n := rw.Reader.Buffered()
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	_, _ = rw.Reader.Read(b)
	return b
}
