package engineio

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// raw sends bytes on a connection of their own and returns the status of the answer, 0 for none. Nothing of the request
// may be in its head.
func (h *host) raw(request string) (status int) {
	h.t.Helper()
	conn, err := h.Dial()
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		io.WriteString(conn, request)
	}()
	defer func() { conn.Close(); <-written }()
	var head bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &head)), nil)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	if strings.Contains(strings.ToLower(head.String()), "injected") {
		h.t.Errorf("the request is in the answer: %q", head.String())
	}
	return resp.StatusCode
}

// Bytes that are no request, or one that proxies disagree about, are answered and done with: nothing behind them is read
// as a request of its own, and no session comes of it.
func TestHostileRequests(t *testing.T) {
	const poll = "/socket.io/?EIO=4&transport=polling&sid=x"
	tests := []struct {
		name, request string
		status        int
	}{
		{"absolute form", "GET http://injected" + poll + " HTTP/1.1\nHost: test\n\n", 400},
		{"two slashes", "GET /" + poll + " HTTP/1.1\nHost: test\n\n", 404},
		{"up and away", "GET /socket.io/../admin HTTP/1.1\nHost: test\n\n", 404},
		{"up, escaped", "GET /socket.io/%2e%2e/admin HTTP/1.1\nHost: test\n\n", 404},
		{"escaped twice", "GET /socket.io/%252e%252e/admin HTTP/1.1\nHost: test\n\n", 404},
		{"NUL in the path", "GET /socket.io/%00 HTTP/1.1\nHost: test\n\n", 404},
		{"backslash", "GET /socket.io\\" + poll + " HTTP/1.1\nHost: test\n\n", 404},
		{"line break in sid", "GET " + poll + "%0d%0aInjected:%201 HTTP/1.1\nHost: test\n\n", 400},
		{"line break in transport", "GET /socket.io/?EIO=4&transport=%0d%0aInjected:%201 HTTP/1.1\nHost: test\n\n", 400},
		{"NUL in Origin", "GET " + poll + " HTTP/1.1\nHost: test\nOrigin: http://a\x00injected\n\n", 400},
		{"bare CR in a header", "GET " + poll + " HTTP/1.1\nHost: test\nCookie: a\rInjected: 1\n\n", 400},
		{"folded header", "GET " + poll + " HTTP/1.1\nHost: test\nCookie: a\n Injected: 1\n\n", 400},
		{"space before the colon", "POST " + poll + " HTTP/1.1\nHost: test\nContent-Length : 1\n\n4", 400},
		{"two hosts", "GET " + poll + " HTTP/1.1\nHost: test\nHost: injected\n\n", 400},
		{"no host", "GET " + poll + " HTTP/1.1\n\n", 400},
		{"two lengths", "POST " + poll + " HTTP/1.1\nHost: test\nContent-Length: 1\nContent-Length: 2\n\n4", 400},
		{"length and chunks, which win", "POST LIVE HTTP/1.1\nHost: test\nContent-Length: 6\nTransfer-Encoding: chunked\n\n2\n4a\n0\n\nG", 200},
		{"negative length", "POST " + poll + " HTTP/1.1\nHost: test\nContent-Length: -1\n\n", 400},
		{"length with a sign", "POST " + poll + " HTTP/1.1\nHost: test\nContent-Length: +1\n\n4", 400},
		{"other encoding", "POST " + poll + " HTTP/1.1\nHost: test\nTransfer-Encoding: gzip, chunked\n\n0\n\n", 501},
		{"odd chunk", "POST LIVE HTTP/1.1\nHost: test\nTransfer-Encoding: chunked\n\n-1\n4\n\n", 400},
		{"HTTP/1.0 upgrade", "GET /socket.io/?EIO=4&transport=websocket HTTP/1.0\nUpgrade: websocket\nConnection: Upgrade\n\n", 426},
		{"preface of HTTP/2", "PRI * HTTP/2.0\n\nSM\n\n", 404},
		{"upgrade to HTTP/2", "GET " + poll + " HTTP/1.1\nHost: test\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n\n", 400},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400},
		{"garbage", "\x00\x01\x02\x03\n\n", 400},
		{"CONNECT", "CONNECT test:80 HTTP/1.1\nHost: test\n\n", 404},
		{"a long method", strings.Repeat("X", 1024) + " " + poll + " HTTP/1.1\nHost: test\n\n", 400},
		{"a long line", "GET /socket.io/?" + strings.Repeat("x", 2<<20) + " HTTP/1.1\nHost: test\n\n", 431},
		{"a long header", "GET " + poll + " HTTP/1.1\nHost: test\nX: " + strings.Repeat("x", 2<<20) + "\n\n", 431},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, Config{})
			c := h.connect(Polling)
			request := strings.ReplaceAll(tt.request, "LIVE", "/socket.io/?EIO=4&transport=polling&sid="+c.SID)
			if status := h.raw(strings.ReplaceAll(request, "\n", "\r\n")); status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if n := h.srv.Len(); n > 1 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// The flaws of other servers and of what they stand on, by the numbers under which they were published. Each is tried
// against a server with a bystander: he is served all the while, and afterwards the server holds what it held before.
// Those of the packets themselves are in package packet.
func TestAdvisories(t *testing.T) {
	const limit = 100_000
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		id     string
		attack func(h *host) string
		want   string
	}{
		{"CVE-2020-36048, a body without end", func(h *host) string {
			c := h.connect(Polling)
			defer c.Close()
			body := &endless{}
			resp, err := h.Web.Post("http://test/socket.io/?EIO=4&transport=polling&sid="+c.SID, "text/plain", body)
			if err != nil {
				return err.Error()
			}
			resp.Body.Close()
			c.record().session.Abort(ReasonForcedClose)
			return fmt.Sprint(resp.StatusCode)
		}, "413"},
		{"CVE-2021-32640, a slow header", func(h *host) string {
			return h.webSocket("Sec-WebSocket-Protocol: "+strings.Repeat(" ", 30_000)+"x\r\n", masked(frame.Close, true, ""))
		}, "close 1005"},
		{"CVE-2024-37890, two thousand headers", func(h *host) string {
			return h.webSocket(strings.Repeat("X: y\r\n", 2000), masked(frame.Close, true, ""))
		}, "close 1005"},
		{"CVE-2022-41940, reset during a refused upgrade", func(h *host) string {
			for range 100 {
				conn, err := h.Dial()
				if err != nil {
					return err.Error()
				}
				io.WriteString(conn, peertest.WebSocketRequest("EIO=4&transport=websocket&sid=unknown"))
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
			return ""
		}, ""},
		{"CVE-2023-31125 and CVE-2026-102600, names of the prototype", func(h *host) string {
			for _, name := range []string{"__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__defineGetter__"} {
				a, _ := h.Request("GET", "EIO=4&transport="+name, "")
				b, _ := h.Request("GET", "EIO=4&transport=polling&sid="+name, "")
				if a != 400 || b != 400 {
					return fmt.Sprint(name, a, b)
				}
			}
			return ""
		}, ""},
		{"CVE-2026-59725, binary body left open", func(h *host) string {
			c := h.connect(Polling)
			defer c.Close()
			return fmt.Sprint(h.raw("POST /socket.io/?EIO=4&transport=polling&sid=" + c.SID +
				" HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\nContent-Length: 50000\r\n\r\nabc"))
		}, "400"},
		{"CVE-2026-102599, another revision on upgrade", func(h *host) string {
			c := h.connect(Polling)
			defer c.Close()
			defer c.record().session.Abort(ReasonForcedClose)
			return fmt.Sprint(h.raw(peertest.WebSocketRequest("EIO=3&transport=websocket&sid=" + c.SID)))
		}, "400"},
		{"CVE-2026-45736, as many fragments as allowed", func(h *host) string {
			return h.webSocket("", masked(frame.Text, false, "4")+strings.Repeat(masked(frame.Continuation, false, "x"), 1022)+
				masked(frame.Continuation, true, "x")+masked(frame.Close, true, ""))
		}, "4" + x(1023) + " close 1005"},
		{"CVE-2026-48779, fragments for ever", func(h *host) string {
			return h.webSocket("", masked(frame.Text, false, "4")+strings.Repeat(masked(frame.Continuation, false, "x"), 1024))
		}, "close 1008"},
		{"the limit in a thousand fragments", func(h *host) string {
			return h.webSocket("", masked(frame.Text, false, "4"+x(99))+strings.Repeat(masked(frame.Continuation, false, x(100)), 998)+
				masked(frame.Continuation, true, x(100))+masked(frame.Close, true, ""))
		}, "4" + x(limit-1) + " close 1005"},
		{"one over in a thousand fragments", func(h *host) string {
			return h.webSocket("", masked(frame.Text, false, "4"+x(99))+strings.Repeat(masked(frame.Continuation, false, x(100)), 998)+
				masked(frame.Continuation, true, x(101)))
		}, "close 1009"},
		{"CVE-2026-48802, a flood of pongs", func(h *host) string {
			before := runtime.NumGoroutine()
			got := h.webSocket("", strings.Repeat(masked(frame.Text, true, "3"), 100_000)+masked(frame.Close, true, ""))
			if n := runtime.NumGoroutine(); n > before+10 {
				return fmt.Sprintf("%d goroutines, %d before", n, before)
			}
			return got
		}, "close 1005"},
		{"a flood of packets that mean nothing", func(h *host) string {
			return h.webSocket("", strings.Repeat(masked(frame.Text, true, "6")+masked(frame.Text, true, "5"), 50_000)+masked(frame.Close, true, ""))
		}, "close 1005"},
	}
	for _, tt := range tests {
		t.Run(tt.id, func(t *testing.T) {
			h := serveHost(t, Config{MaxPayload: limit}, listen(t, "tcp"))
			h.serve = func(s *Session, data []byte, _ bool) error {
				s.Send(false, NewText(data))
				return nil
			}
			bystander := h.connect(WebSocket)
			served := func() {
				bystander.Send("4hello")
				bystander.Want("the bystander", "4hello")
			}
			served()
			before := heap()
			if got := tt.attack(h); got != tt.want {
				t.Errorf("got %s, want %s", peertest.Clip(got), peertest.Clip(tt.want))
			}
			served()
			eventually(t, "only the bystander is left", func() bool { return h.srv.Len() == 1 })
			h.mu.Lock()
			h.sessions = h.sessions[:1] // what the test itself keeps
			h.mu.Unlock()
			h.Web.CloseIdleConnections()
			eventually(t, "the heap is as before", func() bool { return heap() < before+2<<20 })
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// endless is a body that goes on until nobody reads it any more.
type endless struct{}

func (*endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '4'
	}
	return len(b), nil
}

// webSocket opens a session, sends a stream and returns all that comes before the end, but the open packet.
func (h *host) webSocket(header, stream string) string {
	h.t.Helper()
	conn, err := h.Dial()
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	request := strings.TrimSuffix(peertest.WebSocketRequest("EIO=4&transport=websocket"), "\r\n") + header + "\r\n"
	go io.WriteString(conn, request+stream)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		return fmt.Sprint(resp, err)
	}
	p := h.NewPeer()
	p.Read(&readConn{conn, br})
	var got []string
	for len(got) == 0 || got[len(got)-1] != "gone" && !strings.HasPrefix(got[len(got)-1], "close ") {
		got = append(got, p.Next())
	}
	conn.Close()
	p.Close()
	return strings.Join(got[1:], " ")
}

// A readConn is a connection of which something was read ahead.
type readConn struct {
	net.Conn
	io.Reader
}

func (c *readConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }
