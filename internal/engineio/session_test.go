package engineio

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEcho(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		h.serve = echo
		c := h.connect(transport)
		c.Send("4hello")
		c.Want("text comes back", "4hello")
		c.SendBinary([]byte{1, 2, 3})
		c.Want("binary comes back", "binary 010203")
		c.Send("4")
		c.Want("an empty message is a message", "4")
		c.SendBinary(nil)
		c.Want("an empty binary message too", "binary ")
		c.Send("4\u20ac")
		c.Want("more than ASCII comes back", "4\u20ac")
	})
}

func TestHeartbeat(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		start := time.Now() // the upgrade may take a moment
		c := h.connect(transport)
		for range 3 {
			c.Want("server pings", "2")
			c.Send("3")
		}
		if d := time.Since(start); d < 75*time.Second || d > 76*time.Second {
			t.Errorf("three pings took %v", d)
		}
		c.Want("one more", "2")
		start = time.Now()
		c.ended("without a pong", ReasonPingTimeout)
		if d := time.Since(start); d < 20*time.Second || d > 21*time.Second {
			t.Errorf("timeout after %v", d)
		}
	})
}

// Heartbeats as short as tests have them are exact: the protocol's own test suite gives a session that does not answer not a
// millisecond more.
func TestShortHeartbeat(t *testing.T) {
	bubble(t, Config{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		for range 3 {
			start := time.Now()
			h.wantAnswer("ping", h.background("GET", query, ""), 200, "2")
			if d := time.Since(start); d < 300*time.Millisecond || d > 301*time.Millisecond {
				t.Errorf("ping after %v", d)
			}
			h.wantAnswer("pong", h.background("POST", query, "3"), 200, "ok")
		}
		time.Sleep(499 * time.Millisecond)
		if got := r.reasons(); len(got) > 0 {
			t.Errorf("ended early: %q", got)
		}
		time.Sleep(2 * time.Millisecond)
		h.wantEnd("no pong", r, ReasonPingTimeout)
	})
}

// A ping that goes out a little late is to be answered no later, one that goes out much later is.
func TestLatePing(t *testing.T) {
	c := Config{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond}
	for late, want := range map[time.Duration]time.Duration{10 * time.Millisecond: 190 * time.Millisecond, time.Minute: 180 * time.Millisecond} {
		bubble(t, c, func(t *testing.T, h *host) {
			_, r := h.openPolling()
			s, w := r.session, &h.srv.wheel
			w.stop()
			time.Sleep(c.PingInterval + late)
			s.visit()
			time.Sleep(want - time.Millisecond)
			s.visit()
			if got := r.reasons(); len(got) > 0 {
				t.Errorf("%v late: ended early: %q", late, got)
			}
			time.Sleep(2 * time.Millisecond)
			s.visit()
			h.wantEnd("no pong", r, ReasonPingTimeout)
		})
	}
}

// Who polls when its answer to a ping is overdue learns of the end, even if the wheel is late.
func TestOverdue(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		time.Sleep(30 * time.Second)
		h.srv.wheel.stop()
		time.Sleep(16 * time.Second)
		h.wantAnswer("poll", h.background("GET", query, ""), 400, body1)
		h.wantEnd("no pong", r, ReasonPingTimeout)
	})
}

// A pong may stand behind a big message on a slow line, so that anything that comes after a ping buys time, once.
func TestHeartbeatExtended(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		c.Want("server pings", "2")
		start := time.Now()
		time.Sleep(10 * time.Second)
		c.Send("4still here")
		c.WantIdle("more time", 25*time.Second)
		c.Send("4and here")
		c.ended("no pong in twice the time", ReasonPingTimeout)
		if d := time.Since(start); d < 40*time.Second || d > 41*time.Second {
			t.Errorf("timeout after %v", d)
		}
	})
}

func TestPongsThatNobodyAskedFor(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		start := time.Now()
		c := h.connect(transport)
		for range 100 {
			c.Send("3")
		}
		c.Want("the ping comes when it is due", "2")
		if d := time.Since(start); d < 25*time.Second || d > 26*time.Second {
			t.Errorf("ping after %v", d)
		}
	})
}

func TestNoHeartbeat(t *testing.T) {
	run(t, Config{PingInterval: -1}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		c.WantIdle("heartbeat is off", time.Hour)
	})
}

func TestCloses(t *testing.T) {
	tests := []struct {
		name   string
		do     func(c *peer, s *Session)
		reason Reason
	}{
		{"close", func(c *peer, s *Session) { s.Close(ReasonForcedClose) }, ReasonForcedClose},
		{"abort", func(c *peer, s *Session) { s.Abort("kicked") }, "kicked"},
		{"both", func(c *peer, s *Session) {
			for range 5 {
				go s.Close(ReasonForcedClose)
				go s.Abort(ReasonForcedClose)
			}
		}, ReasonForcedClose},
		{"close packet", func(c *peer, s *Session) { c.Send("1") }, ReasonTransportClose},
		{"ping from the client", func(c *peer, s *Session) { c.SendBad("2") }, ReasonTransportError},
		{"unknown packet", func(c *peer, s *Session) { c.SendBad("7") }, ReasonParseError},
		{"empty packet", func(c *peer, s *Session) { c.SendBad("") }, ReasonParseError},
		{"bad base64", func(c *peer, s *Session) { c.SendBad("bAAA") }, ReasonParseError},
		{"handler refuses", func(c *peer, s *Session) { c.SendBad("4refuse") }, ReasonParseError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, Config{}, func(t *testing.T, h *host, transport string) {
				h.serve = func(s *Session, data []byte, binary bool) error {
					if string(data) == "refuse" {
						return fmt.Errorf("refused")
					}
					return nil
				}
				c := h.connect(transport)
				for _, ignored := range []string{"0", "5", "6", "3"} {
					c.Send(ignored)
				}
				synctest.Wait()
				s := c.record().session
				drained, confirmed := make(chan bool, 1), make(chan bool, 1)
				tt.do(c, s)
				s.NotifyDrained(func() { drained <- true })
				s.Confirm(func(ok bool) { confirmed <- ok })
				c.ended(tt.name, tt.reason)
				<-drained
				if <-confirmed {
					t.Error("confirmed although it was closed")
				}
				if s.Send(true, NewText(nil)) || s.SendVolatile(NewText(nil)) {
					t.Error("takes messages when closed")
				}
				if h.srv.Len() != 0 {
					t.Errorf("%d sessions left", h.srv.Len())
				}
				if status, body := h.Request("GET", "EIO=4&transport=polling&sid="+c.SID, ""); status != 400 || !strings.Contains(body, `"code":1`) {
					t.Errorf("then a poll gets %d %s", status, body)
				}
			})
		})
	}
}

// Close lets out what was sent before, and nothing that is sent after.
func TestCloseDrains(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		var want []string
		for i := range 100 {
			text := fmt.Sprint(i)
			s.Send(false, NewText([]byte(text)))
			want = append(want, "4"+text)
		}
		s.Close(ReasonForcedClose)
		if s.Send(true, NewText([]byte("late"))) {
			t.Error("takes messages while closing")
		}
		c.Want("everything that was sent", want...)
		if transport == Polling {
			c.Want("and the close", "1")
		} else {
			c.Want("and the close", "close 1005")
		}
		c.ended("closed", ReasonForcedClose)
	})
}

func TestConfirm(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		var confirmed []int
		var mu sync.Mutex
		confirm := func(i int) {
			s.Confirm(func(ok bool) {
				if !ok {
					t.Error("not confirmed")
				}
				mu.Lock()
				defer mu.Unlock()
				confirmed = append(confirmed, i)
			})
		}
		want := func(n ...int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(confirmed, n) {
				t.Errorf("confirmed %v, want %v", confirmed, n)
			}
		}
		start := time.Now()
		s.Send(true, NewText([]byte("a")))
		confirm(1)
		c.Want("the first ping goes at once", "4a", "2")
		confirm(2) // after the ping: its answer proves nothing of this one
		confirm(3)
		want()
		c.Send("3")
		want(1)
		c.Want("one ping for both", "2")
		if d := time.Since(start); d < 900*time.Millisecond || d > 1200*time.Millisecond { // they are a second apart to the tick
			t.Errorf("second ping after %v", d)
		}
		c.Send("3")
		want(1, 2, 3)
		start = time.Now()
		c.Want("an idle session is pinged by the heartbeat only", "2")
		if d := time.Since(start); d < 25*time.Second || d > 26*time.Second {
			t.Errorf("next ping after %v", d)
		}
	})
}

func TestDeadline(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		start := time.Now()
		fired := make(chan string, 10)
		s.Deadline(time.Second, func() { fired <- "replaced" })
		s.Deadline(3*time.Second, func() { fired <- "first" })
		if got := <-fired; got != "first" {
			t.Errorf("fired %q", got)
		}
		if d := time.Since(start); d < 3*time.Second || d > 3200*time.Millisecond {
			t.Errorf("fired after %v", d)
		}
		s.Deadline(time.Second, func() { fired <- "cleared" })
		s.Deadline(0, nil)
		time.Sleep(5 * time.Second)
		s.Deadline(time.Second, func() { fired <- "after the end" })
		s.Abort(ReasonForcedClose)
		time.Sleep(5 * time.Second)
		if len(fired) > 0 {
			t.Errorf("fired %q", <-fired)
		}
	})
}

func TestSessionFacts(t *testing.T) {
	run(t, Config{KeepHeaders: []string{"x-app"}}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		if got := s.Query().Get("EIO"); got != "4" || !strings.HasPrefix(s.URL(), "/socket.io/?EIO=4&transport=") {
			t.Errorf("URL %q, EIO %q", s.URL(), got)
		}
		want := transport
		if transport == "upgrade" {
			synctest.Wait()
			want = WebSocket
		}
		if got := s.Transport(); got != want {
			t.Errorf("transport is %q", got)
		}
		if s.Secure() || s.RemoteAddr() == "" || len(s.Header()) != 0 || time.Since(s.Opened()) > time.Second {
			t.Errorf("secure %v, from %q, header %v, opened %v", s.Secure(), s.RemoteAddr(), s.Header(), s.Opened())
		}
		n := 0
		for range h.srv.Sessions() {
			n++
		}
		if n != 1 || h.srv.Len() != 1 {
			t.Errorf("%d sessions, Len %d", n, h.srv.Len())
		}
	})
}

func TestKeptHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{})
		h.Request("GET", "EIO=4&transport=polling", "", "Cookie", "a=b", "X-Other", "no", "Origin", "https://x")
		got := h.last().session.Header()
		if got.Get("Cookie") != "a=b" || got.Get("Origin") != "https://x" || got.Get("X-Other") != "" {
			t.Errorf("kept %v", got)
		}
	})
}

// What Open sends comes right behind the open packet, and Open may close.
func TestOpenSends(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		h.open = func(s *Session) { s.Send(false, NewText([]byte("a")), NewText([]byte("b"))) }
		c := h.connect(transport)
		c.Want("sent by Open", "4a", "4b")
	})
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		if transport == "upgrade" {
			return
		}
		h.open = func(s *Session) {
			s.Send(true, NewText([]byte("bye")))
			s.Close(ReasonForcedClose)
		}
		c := h.connect(transport)
		c.Want("what was sent before the close", "4bye")
		c.ended("closed by Open", ReasonForcedClose)
	})
}
