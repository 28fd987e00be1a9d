package engineio

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
)

// A peer is a scripted client. Packets appear in arrival order whatever transport brings them, binary messages as
// "binary " and hex, the end of a WebSocket as "close " and its code.
type peer struct {
	t    *testing.T
	host *host
	sid  string
	in   chan string

	mu   sync.Mutex
	conn net.Conn // nil while polling

	stop   context.CancelFunc // ends the polls
	polled chan struct{}      // closed when they have ended
	wait   sync.WaitGroup
}

// connect opens a session over polling, websocket, or polling and then websocket ("upgrade").
func (h *host) connect(transport string) *peer {
	h.t.Helper()
	p := &peer{t: h.t, host: h, in: make(chan string, 1<<16)}
	var open string
	if transport == WebSocket {
		p.conn = h.dialWebSocket("")
		p.wait.Go(func() { p.readFrames(p.conn, nil) })
		open = p.next()
	} else {
		status, body := h.request("GET", "EIO=4&transport=polling", "")
		if status != 200 {
			h.t.Fatalf("handshake: %d %s", status, body)
		}
		packets := strings.Split(body, "\x1e")
		open = packets[0]
		for _, packet := range packets[1:] {
			p.in <- packet
		}
	}
	var hs struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(open, "0")), &hs); err != nil || len(hs.SID) != 20 {
		h.t.Fatalf("open packet %q: %v", open, err)
	}
	p.sid = hs.SID
	if transport != WebSocket {
		ctx, cancel := context.WithCancel(context.Background())
		p.stop, p.polled = cancel, make(chan struct{})
		p.wait.Go(func() { p.poll(ctx) })
	}
	if transport == "upgrade" {
		p.upgrade()
	}
	h.t.Cleanup(p.close)
	return p
}

// upgrade does what clients do: probe, let the last poll end, switch.
func (p *peer) upgrade() {
	p.t.Helper()
	conn := p.host.dialWebSocket(p.sid)
	probed := make(chan string, 1)
	p.wait.Go(func() { p.readFrames(conn, probed) })
	p.write(conn, frame.Text, "2probe")
	if answer := <-probed; answer != "3probe" {
		p.t.Fatalf("answer to the probe is %q", answer)
	}
	p.stop()
	<-p.polled
	p.write(conn, frame.Text, "5")
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
}

// poll polls until the session ends or moves; the poll that is under way then is let go on.
func (p *peer) poll(ctx context.Context) {
	defer close(p.polled)
	for ctx.Err() == nil {
		status, body, err := p.host.tryRequest(context.Background(), "GET", "EIO=4&transport=polling&sid="+p.sid, "")
		if err != nil || status != 200 {
			p.in <- fmt.Sprint("poll ", status)
			return
		}
		for packet := range strings.SplitSeq(body, "\x1e") {
			switch {
			case packet == "6":
			case packet[0] == 'b':
				q, err := wire.Parse([]byte(packet))
				if err != nil {
					p.t.Errorf("packet %q: %v", packet, err)
				}
				p.in <- fmt.Sprintf("binary %x", q.Data)
			default:
				p.in <- packet
				if packet == "1" {
					return
				}
			}
		}
	}
}

// dialWebSocket makes a WebSocket of a new connection. What the server sent behind its response is left to be read.
func (h *host) dialWebSocket(sid string) net.Conn {
	h.t.Helper()
	conn, err := h.dial()
	if err != nil {
		h.t.Fatal(err)
	}
	query := "EIO=4&transport=websocket"
	if sid != "" {
		query += "&sid=" + sid
	}
	if _, err := io.WriteString(conn, webSocketRequest(query)); err != nil {
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
	return &bufferedConn{conn, br}
}

func webSocketRequest(query string, header ...string) string {
	return "GET /socket.io/?" + query + " HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + strings.Join(header, "\r\n") + "\r\n"
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// readFrames reports what comes; if there is a probed channel the first packet goes there.
func (p *peer) readFrames(conn net.Conn, probed chan<- string) {
	f := &frames{peer: p, probed: probed}
	r := frame.Reader{Limits: &frame.Limits{MaxMessage: 1 << 30, Client: true}}
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
				p.in <- "gone"
			}
			return
		}
	}
}

type frames struct {
	peer   *peer
	probed chan<- string
	closed bool
}

func (f *frames) Message(op frame.Opcode, payload []byte) error {
	text := string(payload)
	if op == frame.Binary {
		text = fmt.Sprintf("binary %x", payload)
	}
	if f.probed != nil {
		f.probed <- text
		f.probed = nil
		return nil
	}
	f.peer.in <- text
	return nil
}

func (f *frames) Control(op frame.Opcode, payload []byte) error {
	switch op {
	case frame.Close:
		code, _ := frame.ParseClose(payload)
		f.closed = true
		f.peer.in <- fmt.Sprint("close ", code)
	case frame.Pong:
		f.peer.in <- fmt.Sprintf("pong %q", payload)
	}
	return nil
}

func (p *peer) write(conn net.Conn, op frame.Opcode, payload string) {
	if _, err := conn.Write(frame.AppendMasked(nil, op, true, [4]byte{1, 2, 3, 4}, []byte(payload))); err != nil {
		p.in <- "write: " + err.Error()
	}
}

// send sends one packet in its text form.
func (p *peer) send(packet string) {
	p.t.Helper()
	if conn := p.socket(); conn != nil {
		p.write(conn, frame.Text, packet)
		return
	}
	p.post(packet)
}

// sendBad sends something that a session does not survive.
func (p *peer) sendBad(packet string) {
	p.t.Helper()
	if conn := p.socket(); conn != nil {
		p.write(conn, frame.Text, packet)
		return
	}
	if status, text := p.host.request("POST", "EIO=4&transport=polling&sid="+p.sid, packet); status != 400 || text != "" {
		p.t.Errorf("POST %q: %d %q", packet, status, text)
	}
}

func (p *peer) sendBinary(data []byte) {
	p.t.Helper()
	if conn := p.socket(); conn != nil {
		p.write(conn, frame.Binary, string(data))
		return
	}
	p.post(string(wire.AppendBinary(nil, data)))
}

func (p *peer) post(body string) {
	p.t.Helper()
	status, text := p.host.request("POST", "EIO=4&transport=polling&sid="+p.sid, body)
	if status != 200 || text != "ok" {
		p.t.Errorf("POST %q: %d %q", body, status, text)
	}
}

func (p *peer) socket() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

const patience = 2 * time.Minute // of the clock in the bubble, mostly

func (p *peer) next() string {
	p.t.Helper()
	select {
	case packet := <-p.in:
		return packet
	case <-time.After(patience):
		p.t.Fatal("nothing came")
		return ""
	}
}

// want waits for the packets, which must be the next to come.
func (p *peer) want(what string, packets ...string) {
	p.t.Helper()
	for _, want := range packets {
		if got := p.next(); got != want {
			p.t.Fatalf("%s: got %s, want %s", what, clip(got), clip(want))
		}
	}
}

// wantIdle says that nothing comes for that long.
func (p *peer) wantIdle(what string, d time.Duration) {
	p.t.Helper()
	select {
	case packet := <-p.in:
		p.t.Fatalf("%s: got %s, want nothing", what, clip(packet))
	case <-time.After(d):
	}
}

func clip(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q… (%d bytes)", s[:80], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// ended waits for the session's end and checks its reason.
func (p *peer) ended(what string, reason Reason) *recorder {
	p.t.Helper()
	r := p.record()
	for range 1200 {
		if len(r.reasons()) > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got := r.reasons(); !slices.Equal(got, []string{string(reason)}) {
		p.t.Fatalf("%s: closed with %q, want %q", what, got, reason)
	}
	return r
}

// record returns the application's side of the session.
func (p *peer) record() *recorder {
	p.t.Helper()
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	for _, r := range p.host.sessions {
		if r.session.ID() == p.sid {
			return r
		}
	}
	p.t.Fatalf("no session %q", p.sid)
	return nil
}

func (p *peer) close() {
	if p.stop != nil {
		p.stop()
	}
	p.record().session.Abort(ReasonForcedClose)
	if conn := p.socket(); conn != nil {
		conn.Close()
	}
	p.wait.Wait()
}

// run runs the scenario over every transport, in a bubble of its own clock.
func run(t *testing.T, c Config, scenario func(t *testing.T, h *host, transport string)) {
	t.Helper()
	for _, transport := range []string{Polling, WebSocket, "upgrade"} {
		t.Run(transport, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { scenario(t, newHost(t, c), transport) })
		})
	}
}
