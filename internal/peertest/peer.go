package peertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
)

// The ways to connect.
const (
	Polling   = "polling"
	WebSocket = "websocket"
	Upgrade   = "upgrade" // polling first, and then a WebSocket
)

// Transports lists them, for tests over all of them.
var Transports = []string{Polling, WebSocket, Upgrade}

// A Peer is a scripted client. Packets appear in arrival order whatever transport brings them, binary messages as
// "binary " and hex, the end of a WebSocket as "close " and its code, or "gone" without a close frame.
type Peer struct {
	SID  string      // the session's id
	Open string      // the open packet, without its digit
	In   chan string // what has come; Next takes from it

	t    testing.TB
	host *Host

	mu   sync.Mutex
	conn net.Conn // nil while polling

	requests context.Context // ends at Close, and all requests with it
	cancel   context.CancelFunc
	stop     chan struct{} // closed to end polling after the poll that is under way
	polled   chan struct{} // closed when polling has ended; nil if there was none
	readers  sync.WaitGroup
}

// NewPeer returns a peer without a session, for tests that speak for themselves.
func (h *Host) NewPeer() *Peer {
	p := &Peer{t: h.t, host: h, In: make(chan string, 1<<16), stop: make(chan struct{})}
	p.requests, p.cancel = context.WithCancel(context.Background())
	return p
}

// Connect opens a session over one of the [Transports]. Headers are pairs of name and value. It is closed with the test.
func (h *Host) Connect(transport string, header ...string) *Peer {
	h.t.Helper()
	return h.ConnectQuery(transport, "", header...)
}

// ConnectQuery is Connect with more parameters in the URL: "a=1&b=2".
func (h *Host) ConnectQuery(transport, query string, header ...string) *Peer {
	h.t.Helper()
	if query != "" {
		query = "&" + query
	}
	p := h.NewPeer()
	var open string
	if transport == WebSocket {
		p.use(h.DialWebSocket("EIO=4&transport=websocket"+query, header...))
		p.Read(p.Conn())
		open = p.Next()
	} else {
		status, body := h.Request("GET", "EIO=4&transport=polling"+query, "", header...)
		if status != 200 {
			h.t.Fatalf("handshake: %d %s", status, body)
		}
		packets := strings.Split(body, "\x1e")
		open = packets[0]
		for _, packet := range packets[1:] {
			p.In <- packet
		}
	}
	var hs struct{ SID string }
	p.Open = strings.TrimPrefix(open, "0")
	if err := json.Unmarshal([]byte(p.Open), &hs); err != nil || len(hs.SID) != 20 {
		h.t.Fatalf("open packet %q: %v", open, err)
	}
	p.SID = hs.SID
	if transport != WebSocket {
		p.polled = make(chan struct{})
		go p.poll() // Close waits for it
	}
	h.t.Cleanup(p.Close)
	if transport == Upgrade {
		p.Upgrade()
	}
	return p
}

// Upgrade moves a polling session to a WebSocket as clients do it: probe, let the last poll end, switch.
func (p *Peer) Upgrade() {
	p.t.Helper()
	conn := p.host.DialWebSocket("EIO=4&transport=websocket&sid=" + p.SID)
	probed := make(chan string, 1)
	p.readers.Go(func() { p.readFrames(conn, probed) })
	p.Write(conn, frame.Text, "2probe")
	if answer := <-probed; answer != "3probe" {
		p.t.Fatalf("answer to the probe is %q", answer)
	}
	close(p.stop)
	<-p.polled
	p.Write(conn, frame.Text, "5")
	p.use(conn)
}

func (p *Peer) use(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
}

// poll polls until the session ends or moves; the poll that is under way then is let go on.
func (p *Peer) poll() {
	defer close(p.polled)
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		status, body, err := p.host.TryRequest(p.requests, "GET", "EIO=4&transport=polling&sid="+p.SID, "")
		if err != nil || status != 200 {
			p.In <- fmt.Sprint("poll ", status)
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
				p.In <- fmt.Sprintf("binary %x", q.Data)
			default:
				p.In <- packet
				if packet == "1" {
					return
				}
			}
		}
	}
}

// Send sends one packet in its text form.
func (p *Peer) Send(packet string) {
	p.t.Helper()
	if conn := p.Conn(); conn != nil {
		p.Write(conn, frame.Text, packet)
		return
	}
	p.post(packet)
}

// SendBad sends something that a session does not survive.
func (p *Peer) SendBad(packet string) {
	p.t.Helper()
	if conn := p.Conn(); conn != nil {
		p.Write(conn, frame.Text, packet)
		return
	}
	if status, text := p.host.Request("POST", "EIO=4&transport=polling&sid="+p.SID, packet); status != 400 || text != "" {
		p.t.Errorf("POST %q: %d %q", packet, status, text)
	}
}

// Throw sends something without a look at what a POST is answered.
func (p *Peer) Throw(packet string) {
	if conn := p.Conn(); conn != nil {
		p.Write(conn, frame.Text, packet)
		return
	}
	_, _, _ = p.host.TryRequest(p.requests, "POST", "EIO=4&transport=polling&sid="+p.SID, packet)
}

// ThrowBinary is Throw for a binary message.
func (p *Peer) ThrowBinary(data []byte) {
	if conn := p.Conn(); conn != nil {
		p.Write(conn, frame.Binary, string(data))
		return
	}
	p.Throw(string(wire.AppendBinary(nil, data)))
}

// SendBinary sends one binary message.
func (p *Peer) SendBinary(data []byte) {
	p.t.Helper()
	if conn := p.Conn(); conn != nil {
		p.Write(conn, frame.Binary, string(data))
		return
	}
	p.post(string(wire.AppendBinary(nil, data)))
}

func (p *Peer) post(body string) {
	p.t.Helper()
	status, text := p.host.Request("POST", "EIO=4&transport=polling&sid="+p.SID, body)
	if status != 200 || text != "ok" {
		p.t.Errorf("POST %q: %d %q", body, status, text)
	}
}

// Conn returns the WebSocket, nil while polling.
func (p *Peer) Conn() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// Patience is how long a test waits for what must come; mostly of the clock in the bubble.
const Patience = 2 * time.Minute

// Next waits for the next packet.
func (p *Peer) Next() string {
	p.t.Helper()
	select {
	case packet := <-p.In:
		return packet
	case <-time.After(Patience):
		p.t.Fatal("nothing came")
		return ""
	}
}

// Want waits for the packets, which must be the next to come.
func (p *Peer) Want(what string, packets ...string) {
	p.t.Helper()
	for _, want := range packets {
		if got := p.Next(); got != want {
			p.t.Fatalf("%s: got %s, want %s", what, Clip(got), Clip(want))
		}
	}
}

// WantIdle says that nothing comes for that long.
func (p *Peer) WantIdle(what string, d time.Duration) {
	p.t.Helper()
	select {
	case packet := <-p.In:
		p.t.Fatalf("%s: got %s, want nothing", what, Clip(packet))
	case <-time.After(d):
	}
}

// Close hangs up without a word, and returns when nothing more will come. It may be called more than once.
func (p *Peer) Close() {
	p.cancel()
	if conn := p.Conn(); conn != nil {
		conn.Close()
	}
	if p.polled != nil {
		<-p.polled
	}
	p.readers.Wait()
}

// Clip quotes s, and only the beginning of a long one.
func Clip(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q… (%d bytes)", s[:80], len(s))
	}
	return fmt.Sprintf("%q", s)
}
