package peertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/holdpost/holdpost/internal/frame"
)

// DialWebSocket makes a WebSocket of a new connection. What the server sent behind its response is left to be read.
func (h *Host) DialWebSocket(query string, header ...string) *WebSocketConn {
	h.t.Helper()
	conn, err := h.Dial()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, WebSocketRequest(query, header...)); err != nil {
		h.t.Fatal(err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: "GET"})
	if err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		body, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("websocket handshake: %s %s", resp.Status, body)
	}
	return &WebSocketConn{conn, br}
}

// WebSocketRequest returns a handshake to /socket.io/. Headers are pairs of name and value.
func WebSocketRequest(query string, header ...string) string {
	var b strings.Builder
	b.WriteString("GET /socket.io/?" + query + " HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")
	for i := 0; i < len(header); i += 2 {
		b.WriteString(header[i] + ": " + header[i+1] + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// A WebSocketConn is a connection behind the handshake's response.
type WebSocketConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *WebSocketConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// Read reports what comes on a WebSocket, until it ends.
func (p *Peer) Read(conn net.Conn) { p.readers.Go(func() { p.readFrames(conn, nil) }) }

// readFrames reports what comes; if there is a probed channel the first packet goes there.
func (p *Peer) readFrames(conn net.Conn, probed chan<- string) {
	f := &Frames{In: p.In, probed: probed}
	r := frame.Reader{Limits: &frame.Limits{MaxMessage: 1 << 30, Client: true, Compressed: true}}
	defer r.Release()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := r.Feed(buf[:n], f); err != nil {
				p.t.Errorf("server's frames: %v", err)
			}
		}
		if err != nil {
			conn.Close()
			if probed != nil && f.probed != nil {
				close(probed)
			}
			if !f.closed {
				p.In <- "gone"
			}
			return
		}
	}
}

// Frames is a [frame.Handler] that reports frames as a [Peer] does.
type Frames struct {
	In chan<- string

	probed chan<- string
	closed bool
}

// Message implements [frame.Handler].
func (f *Frames) Message(op frame.Opcode, payload []byte) error {
	text := string(payload)
	if op == frame.Binary {
		text = fmt.Sprintf("binary %x", payload)
	}
	if f.probed != nil {
		f.probed <- text
		f.probed = nil
		return nil
	}
	f.In <- text
	return nil
}

// Control implements [frame.Handler].
func (f *Frames) Control(op frame.Opcode, payload []byte) error {
	switch op {
	case frame.Close:
		code, _ := frame.ParseClose(payload)
		f.closed = true
		f.In <- fmt.Sprint("close ", code)
	case frame.Pong:
		f.In <- fmt.Sprintf("pong %q", payload)
	}
	return nil
}

// Write writes one frame.
func (p *Peer) Write(conn net.Conn, op frame.Opcode, payload string) {
	if _, err := conn.Write(frame.AppendMasked(nil, op, true, [4]byte{1, 2, 3, 4}, []byte(payload))); err != nil {
		p.In <- "write: " + err.Error()
	}
}
