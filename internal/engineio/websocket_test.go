package engineio

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

func masked(op frame.Opcode, fin bool, payload string) string {
	return string(frame.AppendMasked(nil, op, fin, [4]byte{9, 8, 7, 6}, []byte(payload)))
}

func TestFrames(t *testing.T) {
	const limit = 1000
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name, raw string
		want      string // what the client sees in the end
		got       string // what the application got
		reason    Reason
	}{
		{"the limit", masked(frame.Text, true, "4"+x(limit-1)) + masked(frame.Close, true, ""), "close 1005", x(limit - 1), ReasonTransportClose},
		{"one over", masked(frame.Text, true, "4"+x(limit)), "close 1009", "", ReasonTransportError},
		{"one over in many", strings.Repeat(masked(frame.Text, false, "4"), limit) + masked(frame.Text, false, "4"), "close 1002", "", ReasonTransportError},
		{"not masked", "\x81\x014", "close 1002", "", ReasonTransportError},
		{"garbage", "\xff\xff\xff\xff", "close 1002", "", ReasonTransportError},
		{"reserved opcode", masked(3, true, ""), "close 1002", "", ReasonTransportError},
		{"invalid UTF-8", masked(frame.Text, true, "4\xff"), "close 1007", "", ReasonTransportError},
		{"invalid UTF-8 behind a message", masked(frame.Text, true, "4a") + masked(frame.Text, true, "4\xff"), "close 1007", "a", ReasonTransportError},
		{"length 2^63", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", "close 1002", "", ReasonTransportError},
		{"length 2^62", "\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00", "close 1009", "", ReasonTransportError},
		{"fragments for ever", masked(frame.Text, false, "4") + strings.Repeat(masked(frame.Continuation, false, ""), 17), "close 1008", "", ReasonTransportError},
		{"close with a code", masked(frame.Close, true, "\x03\xe8bye"), "close 1000", "", ReasonTransportClose},
		{"close, then data", masked(frame.Close, true, "") + masked(frame.Text, true, "4a"), "close 1005", "", ReasonTransportClose},
		{"close with a bad code", masked(frame.Close, true, "\x03\xed"), "close 1002", "", ReasonTransportError},
		{"unknown packet", masked(frame.Text, true, "abc"), "close 1005", "", ReasonParseError},
		{"empty text", masked(frame.Text, true, ""), "close 1005", "", ReasonParseError},
		{"base64 in text", masked(frame.Text, true, "bAQI=") + masked(frame.Text, true, "1"), "close 1005", "binary 0102", ReasonTransportClose},
		{"close packet, then data", masked(frame.Text, true, "4a") + masked(frame.Text, true, "1") + masked(frame.Text, true, "4b"), "close 1005", "a", ReasonTransportClose},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, pieces := range []int{1 << 20, 1} {
				bubble(t, Config{MaxPayload: limit}, func(t *testing.T, h *host) {
					c := h.connect(WebSocket)
					conn := c.Conn()
					go func() {
						for raw := []byte(tt.raw); len(raw) > 0; {
							n, err := conn.Write(raw[:min(pieces, len(raw))])
							if err != nil {
								return
							}
							raw = raw[n:]
						}
					}()
					c.Want(tt.name, tt.want)
					r := c.ended(tt.name, tt.reason)
					if got := strings.Join(r.messages(), "|"); got != tt.got {
						t.Errorf("got %s, want %s", peertest.Clip(got), peertest.Clip(tt.got))
					}
				})
			}
		})
	}
}

// What arrives in one segment with the handshake is the first of the stream (CVE-2022-21676).
func TestFramesBehindTheRequest(t *testing.T) {
	for name, tt := range map[string]struct{ raw, want string }{
		"a message":   {masked(frame.Text, true, "4hi"), "4hi"},
		"garbage":     {"\xff\xff\xff\xff", "close 1002"},
		"half header": {"\x81", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, h *host) {
				h.serve = echo
				conn, err := h.Dial()
				if err != nil {
					t.Fatal(err)
				}
				p := h.NewPeer()
				go io.WriteString(conn, peertest.WebSocketRequest("EIO=4&transport=websocket")+tt.raw)
				var head []byte
				for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
					if _, err := conn.Read(b); err != nil {
						t.Fatal(err)
					}
				}
				p.Read(conn)
				if open := p.Next(); !strings.HasPrefix(open, "0{") {
					t.Fatalf("first comes %q", open)
				}
				if tt.want != "" {
					p.Want("then", tt.want)
				} else {
					p.WantIdle("it waits for the rest", 5*time.Second)
				}
				conn.Close()
				p.Close()
			})
		})
	}
}

func TestClientPings(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		c := h.connect(WebSocket)
		conn := c.Conn()
		io.WriteString(conn, masked(frame.Ping, true, ""))
		c.Want("an empty ping", `pong ""`)
		io.WriteString(conn, masked(frame.Ping, true, "a")+masked(frame.Ping, true, "b")+masked(frame.Text, true, "4x")+masked(frame.Ping, true, "c"))
		c.Want("only the newest is answered", `pong "c"`)
		io.WriteString(conn, masked(frame.Pong, true, "unasked"))
		c.WantIdle("a pong means nothing", time.Second)
	})
}

// A flood of pings that reads nothing makes one pong wait, and starts nothing.
func TestPingFlood(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		conn := h.DialWebSocket("EIO=4&transport=websocket")
		defer conn.Close()
		if b := make([]byte, 200); true {
			conn.Read(b) // the open packet
		}
		synctest.Wait()
		r, before := h.last(), runtime.NumGoroutine()
		flood := masked(frame.Ping, true, strings.Repeat("p", 125))
		for range 10_000 {
			if _, err := io.WriteString(conn, flood); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before+1 {
			t.Errorf("%d goroutines, %d before", n, before)
		}
		if n := r.session.Queued(); n > 1000 {
			t.Errorf("%d bytes queued", n)
		}
		time.Sleep(11 * time.Second)
		h.wantEnd("never reads", r, ReasonSlowPeer)
	})
}

func TestIncompleteMessage(t *testing.T) {
	for name, raw := range map[string]string{
		"half a header": "\x81", "half a message": masked(frame.Text, true, "4abc")[:8], "no last fragment": masked(frame.Text, false, "4a"),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{PingInterval: time.Hour}, func(t *testing.T, h *host) {
				c := h.connect(WebSocket)
				start := time.Now()
				io.WriteString(c.Conn(), raw)
				c.Want("it has a term", "close 1008")
				if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
					t.Errorf("closed after %v", d)
				}
				c.ended(name, ReasonTransportError)
			})
		})
	}
}

// A stream of messages that never stands at the end of one is not incomplete.
func TestNeverQuiteComplete(t *testing.T) {
	bubble(t, Config{PingInterval: time.Hour}, func(t *testing.T, h *host) {
		c := h.connect(WebSocket)
		one := masked(frame.Text, true, "4abc")
		io.WriteString(c.Conn(), one[:4])
		for range 100 {
			time.Sleep(time.Second)
			io.WriteString(c.Conn(), one[4:]+one[:4])
		}
		synctest.Wait()
		if r := c.record(); len(r.messages()) != 100 || len(r.reasons()) > 0 {
			t.Errorf("%d messages, closed with %q", len(r.messages()), r.reasons())
		}
	})
}

// Who vanishes and who hangs up look the same; either way nothing stays.
func TestConnectionLost(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		c := h.connect(WebSocket)
		c.Conn().Close()
		c.ended("connection lost", ReasonTransportClose)
		if n := h.srv.Len(); n != 0 {
			t.Errorf("%d sessions left", n)
		}
	})
}

// A peer that reads nothing is closed after 10 s, and holds up nobody: sending to it never waits.
func TestSlowReader(t *testing.T) {
	bubble(t, Config{PingInterval: -1}, func(t *testing.T, h *host) {
		conn := h.DialWebSocket("EIO=4&transport=websocket")
		defer conn.Close()
		conn.Read(make([]byte, 200))
		r := h.last()
		start := time.Now()
		for r.session.Send(true, NewText(make([]byte, 10_000))) {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(start); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("given up after %v", d)
		}
		h.wantEnd("reads nothing", r, ReasonSlowPeer)
	})
}

// A peer that reads slowly but does read is slow, and alive.
func TestSlowButAlive(t *testing.T) {
	bubble(t, Config{PingInterval: -1}, func(t *testing.T, h *host) {
		conn := h.DialWebSocket("EIO=4&transport=websocket")
		defer conn.Close()
		conn.Read(make([]byte, 200))
		r := h.last()
		for i := range 20 {
			r.session.Send(true, NewText(fmt.Append(nil, strings.Repeat("x", 20_000), i)))
		}
		buf := make([]byte, 8000)
		for r.session.Queued() > 0 {
			time.Sleep(3 * time.Second)
			if _, err := conn.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.reasons(); len(got) > 0 {
			t.Errorf("closed with %q", got)
		}
	})
}
