package engineio

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

const v3Polling = "EIO=3&transport=polling"

// openV3 opens a polling session of revision 3 and returns what later requests of it begin with.
func (h *host) openV3(query string) (sid string, r *recorder) {
	h.t.Helper()
	status, body := h.Request("GET", query, "")
	length, packet, _ := strings.Cut(body, ":")
	var hs struct {
		SID, MaxPayload, PingInterval any
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(packet, "0")), &hs); status != 200 || err != nil || length != fmt.Sprint(len(packet)) {
		h.t.Fatalf("handshake: %d %q: %v", status, body, err)
	}
	r = h.last()
	return query + "&sid=" + r.session.ID(), r
}

func TestRevision3Polling(t *testing.T) {
	bubble(t, Config{AllowEIO3: true}, func(t *testing.T, h *host) {
		for _, query := range []string{v3Polling, "transport=polling"} {
			q, r := h.openV3(query)
			if r.session.Revision() != 3 {
				t.Error("another revision")
			}
			h.wantAnswer("POST of texts", h.background("POST", q, "6:4hello3:4😀10:b4AQIDBA=="), 200, "ok")
			if got := strings.Join(r.messages(), "|"); got != "hello|😀|binary 01020304" {
				t.Errorf("got %s", got)
			}
			r.session.Send(true, NewText([]byte("a€")), NewText([]byte("😀")))
			h.wantAnswer("texts", h.background("GET", q, ""), 200, "3:4a€3:4😀")
			r.session.Send(true, NewText([]byte("€")), NewBinary([]byte{1, 2}))
			h.wantAnswer("with a binary message", h.background("GET", q, ""), 200, "\x00\x04\xff4€\x01\x03\xff\x04\x01\x02")
			h.wantAnswer("ping", h.background("POST", q, "1:2"), 200, "ok")
			h.wantAnswer("pong", h.background("GET", q, ""), 200, "1:3")
			poll := h.background("GET", q, "")
			r.session.Close(ReasonForcedClose)
			h.wantAnswer("close", poll, 200, "1:1")
			h.wantEnd("closed", r, ReasonForcedClose)
		}
		q, r := h.openV3(v3Polling + "&b64=1")
		r.session.Send(true, NewText([]byte("a")), NewBinary([]byte{1, 2, 3, 4}))
		h.wantAnswer("a binary message as text", h.background("GET", q, ""), 200, "2:4a10:b4AQIDBA==")
		poll := h.background("GET", q, "")
		h.wantAnswer("close", h.background("POST", q, "1:1"), 200, "ok")
		h.wantAnswer("noop", poll, 200, "1:6")
		h.wantEnd("closed by the client", r, ReasonTransportClose)
	})
}

func TestRevision3BinaryBody(t *testing.T) {
	bubble(t, Config{AllowEIO3: true}, func(t *testing.T, h *host) {
		q, r := h.openV3(v3Polling)
		post := func(body string) int {
			resp, err := h.Web.Post("http://test/socket.io/?"+q, "application/octet-stream", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		if status := post("\x00\x06\xff4hello\x01\x03\xff\x04\x01\x02"); status != 200 || strings.Join(r.messages(), "|") != "hello|binary 0102" {
			t.Errorf("%d, %q", status, r.messages())
		}
		r.session.Send(true, NewBinary([]byte{1}))
		resp, err := h.Web.Get("http://test/socket.io/?" + q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != "application/octet-stream" {
			t.Errorf("binary response is %q", got)
		}
		if status := post("\x00\x09\xff4hello"); status != 400 {
			t.Errorf("malformed: %d", status)
		}
		h.wantEnd("malformed", r, ReasonParseError)
		q, r = h.openV3(v3Polling)
		h.wantAnswer("malformed texts", h.background("POST", q, "4hello"), 400, "")
		h.wantEnd("malformed texts", r, ReasonParseError)
		q, r = h.openV3(v3Polling)
		first := h.background("GET", q, "")
		if status, _ := h.Request("GET", q, ""); status != 400 {
			t.Errorf("second poll: %d", status)
		}
		h.wantAnswer("overlap", first, 200, "1:1")
		h.wantEnd("overlap", r, ReasonTransportError)
	})
}

func TestRevision3WebSocket(t *testing.T) {
	bubble(t, Config{AllowEIO3: true, PerMessageDeflate: true, CompressFrom: 1}, func(t *testing.T, h *host) {
		h.serve = echo
		conn, err := h.Dial()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, peertest.WebSocketRequest("EIO=3&transport=websocket", "Sec-WebSocket-Extensions", "permessage-deflate"))
		br := bufio.NewReader(conn)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		c := h.NewPeer()
		defer c.Close()
		defer conn.Close()
		c.Read(&readConn{conn, br})
		start := time.Now()
		if open := c.Next(); !strings.HasPrefix(open, `0{"sid":`) {
			t.Fatalf("first comes %q", open)
		}
		if d := time.Since(start); d != corkTimeout {
			t.Errorf("%v behind the response, with which a client that begins to listen only then would miss it", d)
		}
		c.Write(conn, frame.Text, "4hello")
		c.Want("text", "4hello")
		c.Write(conn, frame.Binary, "\x04\x01\x02")
		c.Want("binary", "binary 040102")
		c.Write(conn, frame.Text, "b4AQI=")
		c.Want("base64 as text", "binary 040102")
		c.Write(conn, frame.Text, "2")
		c.Want("pong", "3")
		c.Write(conn, frame.Text, "2probe")
		c.Want("a stray probe", "3")
		c.WantIdle("the server does not ping", 44*time.Second)
		c.Write(conn, frame.Text, "2")
		c.Want("pong", "3")
		r := h.last()
		confirmed := make(chan bool, 1)
		r.session.Confirm(func(ok bool) { confirmed <- ok })
		start = time.Now()
		c.Want("no ping", "close 1005")
		if d := time.Since(start); d < 45*time.Second || d > 46*time.Second {
			t.Errorf("timeout after %v", d)
		}
		h.wantEnd("no ping", r, ReasonPingTimeout)
		if <-confirmed {
			t.Error("confirmed")
		}
	})
}

func TestRevision3Ends(t *testing.T) {
	for name, tt := range map[string]struct {
		op     frame.Opcode
		in     string
		reason Reason
	}{
		"pong":               {frame.Text, "3", ReasonTransportError},
		"pong as binary":     {frame.Binary, "\x03", ReasonTransportError},
		"close":              {frame.Text, "1", ReasonTransportClose},
		"unknown type":       {frame.Text, "7", ReasonParseError},
		"unknown, as binary": {frame.Binary, "4abc", ReasonParseError},
		"empty binary":       {frame.Binary, "", ReasonParseError},
		"base64 of v4":       {frame.Text, "bAQI=", ReasonParseError},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{AllowEIO3: true}, func(t *testing.T, h *host) {
				conn := h.DialWebSocket("EIO=3&transport=websocket")
				c := h.NewPeer()
				defer c.Close()
				defer conn.Close()
				c.Read(conn)
				c.Next()
				c.Write(conn, tt.op, tt.in)
				c.Want(name, "close 1005")
				h.wantEnd(name, h.last(), tt.reason)
			})
		})
	}
}

func TestRevision3Upgrade(t *testing.T) {
	bubble(t, Config{AllowEIO3: true}, func(t *testing.T, h *host) {
		h.serve = echo
		q, r := h.openV3(v3Polling)
		poll := h.background("GET", q, "")
		conn := h.DialWebSocket(strings.Replace(q, "polling", "websocket", 1))
		c := h.NewPeer()
		defer c.Close()
		defer conn.Close()
		c.Read(conn)
		c.Write(conn, frame.Text, "2probe")
		c.Want("probe", "3probe")
		h.wantAnswer("the poll is let go", poll, 200, "1:6")
		c.Write(conn, frame.Text, "5")
		c.Write(conn, frame.Text, "4a")
		c.Want("echo", "4a")
		start := time.Now()
		c.WantIdle("the client may take its time for the next ping", 40*time.Second)
		c.Write(conn, frame.Text, "2")
		c.Want("pong", "3")
		c.Want("no ping", "close 1005")
		if d := time.Since(start); d < 85*time.Second || d > 86*time.Second {
			t.Errorf("timeout after %v", d)
		}
		h.wantEnd("no ping", r, ReasonPingTimeout)
	})
}

// A session keeps its revision (CVE-2026-102599), and without being asked to the server serves one only.
func TestRevisions(t *testing.T) {
	bubble(t, Config{AllowEIO3: true}, func(t *testing.T, h *host) {
		q3, _ := h.openV3(v3Polling)
		q4, _ := h.openPolling()
		for _, query := range []string{strings.Replace(q3, "EIO=3", "EIO=4", 1), strings.Replace(q4, "EIO=4", "EIO=3", 1), strings.Replace(q4, "EIO=4&", "", 1)} {
			if w := h.ask("GET", query); w.Code != 400 || w.Body.String() != body3 {
				t.Errorf("%s: %d %s", query, w.Code, w.Body)
			}
			query = strings.Replace(query, "polling", "websocket", 1)
			if w := h.ask("GET", query, upgradeHeaders...); w.Code != 400 || w.Body.String() != "Bad request" {
				t.Errorf("%s: %d %s", query, w.Code, w.Body)
			}
		}
		for _, eio := range []string{"EIO=5&", "EIO=33&", "EIO=3&EIO=3&"} {
			if w := h.ask("GET", eio+"transport=polling"); w.Body.String() != body5 {
				t.Errorf("%s: %d %s", eio, w.Code, w.Body)
			}
		}
		if n := h.srv.Len(); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

// Pings that nobody takes the answers of are bounded like everything else that waits for a peer.
func TestRevision3PingFlood(t *testing.T) {
	bubble(t, Config{AllowEIO3: true, QueuePackets: 50}, func(t *testing.T, h *host) {
		q, r := h.openV3(v3Polling)
		h.wantAnswer("as many as may wait", h.background("POST", q, strings.Repeat("1:2", 50)), 200, "ok")
		if n := r.session.Queued(); n == 0 || len(r.reasons()) > 0 {
			t.Errorf("%d bytes queued, closed with %q", n, r.reasons())
		}
		h.background("POST", q, "1:2")
		synctest.Wait()
		h.wantEnd("one more", r, ReasonSlowPeer)
	})
}
