package engineio

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// A candidate is a WebSocket that says it wants to take over a session.
type candidate struct {
	*peertest.Peer
	conn net.Conn
}

func (h *host) candidate(query string) *candidate {
	h.t.Helper()
	_, sid, _ := strings.Cut(query, "sid=")
	conn := h.DialWebSocket("EIO=4&transport=websocket&sid=" + sid)
	c := &candidate{h.NewPeer(), conn}
	c.Read(conn)
	h.t.Cleanup(func() {
		conn.Close()
		c.Close()
	})
	return c
}

func (c *candidate) say(packets ...string) {
	for _, packet := range packets {
		c.Write(c.conn, frame.Text, packet)
	}
	synctest.Wait()
}

func TestUpgradeStepByStep(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		poll := h.background("GET", query, "")
		ws := h.candidate(query)
		ws.say("2probe")
		ws.Want("the probe is answered", "3probe")
		h.wantAnswer("the waiting poll is let go at once", poll, 200, "6")
		h.wantAnswer("and the next", h.background("GET", query, ""), 200, "6")
		h.wantAnswer("POST still works", h.background("POST", query, "4posted"), 200, "ok")
		r.session.Send(true, NewText([]byte("a")))
		h.wantAnswer("what is sent goes by polling", h.background("GET", query, ""), 200, "4a")
		r.session.Send(true, NewText([]byte("b")))
		ws.WantIdle("and waits if there is no poll", time.Second)
		ws.say("5")
		ws.Want("until the switch", "4b")
		ws.say("4sent")
		if got := strings.Join(r.messages(), "|"); got != "posted|sent" {
			t.Errorf("got %q", got)
		}
		if got := r.session.Transport(); got != WebSocket {
			t.Errorf("transport is %s", got)
		}
		h.wantAnswer("polls are over", h.background("GET", query, ""), 400, body3)
		h.wantAnswer("and POSTs", h.background("POST", query, "4x"), 400, body3)
		r.session.Send(true, NewText([]byte("c")))
		ws.Want("the socket is unaffected", "4c")
	})
}

// Some clients upgrade before they poll for the first time, and some leave a poll waiting.
func TestUpgradeEarlyOrWithAPoll(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		ws := h.candidate(query)
		ws.say("2probe", "5", "4a")
		ws.Want("the probe is answered", "3probe")
		r.session.Send(true, NewText([]byte("b")))
		ws.Want("it works", "4b")
		if got := strings.Join(r.messages(), "|"); got != "a" {
			t.Errorf("got %q", got)
		}
	})
}

// A poll that was sent after the upgrade may come before it, over another connection. It is refused as it would be behind it.
func TestUpgradeOvertakenByAPoll(t *testing.T) {
	probe, upgrade := masked(frame.Text, true, "2probe"), masked(frame.Text, true, "5")
	for name, c := range map[string]struct {
		before, after string // what the WebSocket says before and after the poll came
		status        int
		body          string
		patience      time.Duration
	}{
		"before probe and upgrade":  {"", probe + upgrade, 400, body3, 0},
		"between probe and upgrade": {probe, upgrade, 400, body3, 0},
		"no upgrade":                {probe, "", 200, "6", overtakeTime},
		"no upgrade yet":            {"", probe, 200, "6", 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, h *host) {
				query, r := h.openPolling()
				ws := h.candidate(query)
				io.WriteString(ws.conn, c.before)
				synctest.Wait()
				start := time.Now()
				poll := h.background("GET", query, "")
				io.WriteString(ws.conn, c.after)
				h.wantAnswer("the poll", poll, c.status, c.body)
				if d := time.Since(start); d != c.patience {
					t.Errorf("answered after %v", d)
				}
				ws.Want("the probe is answered", "3probe")
				r.session.Send(true, NewText([]byte("on")))
				if c.status == 200 {
					h.wantAnswer("it still polls", h.background("GET", query, ""), 200, "4on")
				} else {
					ws.Want("it is upgraded", "4on")
				}
			})
		})
	}
}

// A poll that waited before the WebSocket came is let go, even if probe and upgrade come together.
func TestUpgradeWithAPollThatWaits(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, _ := h.openPolling()
		poll := h.background("GET", query, "")
		ws := h.candidate(query)
		io.WriteString(ws.conn, masked(frame.Text, true, "2probe")+masked(frame.Text, true, "5"))
		h.wantAnswer("the poll", poll, 200, "6")
	})
}

func TestUpgradeWhilePosting(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		conn, answer := h.slowPost(query, "Content-Length: 7")
		defer conn.Close()
		ws := h.candidate(query)
		ws.say("2probe")
		ws.Want("the probe is answered", "3probe")
		io.WriteString(conn, "4posted")
		h.wantAnswer("the POST", answer, 200, "ok")
		ws.say("5", "4sent")
		if got := strings.Join(r.messages(), "|"); got != "posted|sent" {
			t.Errorf("got %q", got)
		}
	})
}

// A candidate that misbehaves loses its connection; the session goes on as it was.
func TestUpgradeMisbehaves(t *testing.T) {
	probe, upgrade := masked(frame.Text, true, "2probe"), masked(frame.Text, true, "5")
	for name, raw := range map[string]string{
		"upgrade without probe": upgrade,
		"probe twice":           probe + probe,
		"data before":           masked(frame.Text, true, "4a"),
		"data after the probe":  probe + masked(frame.Text, true, "4a"),
		"another probe":         masked(frame.Text, true, "2other"),
		"a ping":                masked(frame.Text, true, "2"),
		"binary probe":          masked(frame.Binary, true, "2probe"),
		"garbage":               "\xff\xff\xff",
		"empty":                 masked(frame.Text, true, ""),
		"too big":               "\x81\xff\x00\x00\x00\x00\x7f\x00\x00\x00",
		"close frame":           masked(frame.Close, true, ""),
		"silence":               "",
		"silence after probe":   probe,
		"half a frame":          "\x81",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, h *host) {
				query, r := h.openPolling()
				poll := h.background("GET", query, "")
				ws := h.candidate(query)
				start := time.Now()
				go io.WriteString(ws.conn, raw)
				for {
					got := ws.Next()
					if got == "gone" || strings.HasPrefix(got, "close") {
						break
					}
					if got != "3probe" {
						t.Errorf("got %q", got)
					}
				}
				if d := time.Since(start); strings.HasPrefix(name, "silence") && (d < 10*time.Second || d > 11*time.Second) || d > 11*time.Second {
					t.Errorf("closed after %v", d)
				}
				if raw == probe {
					h.wantAnswer("the poll was let go", poll, 200, "6")
					poll = h.background("GET", query, "")
				}
				r.session.Send(true, NewText([]byte("still here")))
				h.wantAnswer("the session goes on", poll, 200, "4still here")
				if len(r.messages())+len(r.reasons()) > 0 {
					t.Errorf("got %q, closed with %q", r.messages(), r.reasons())
				}
				again := h.candidate(query)
				again.say("2probe", "5")
				again.Want("a second attempt works", "3probe")
				if r.session.Transport() != WebSocket {
					t.Error("it did not take over")
				}
			})
		})
	}
}

// The handshake of a second WebSocket succeeds, and it is closed: the session has one already, or is about to.
func TestSecondWebSocket(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		first := h.candidate(query)
		first.say("2probe")
		first.Want("the first", "3probe")
		second := h.candidate(query)
		second.Want("one while upgrading", "close 1005")
		first.say("5")
		third := h.candidate(query)
		third.Want("one after the upgrade", "close 1005")
		r.session.Send(true, NewText([]byte("a")))
		first.Want("nothing of this touches the session", "4a")
	})
	bubble(t, Config{}, func(t *testing.T, h *host) {
		c := h.connect(WebSocket)
		other := h.candidate("sid=" + c.SID)
		other.Want("one that began as a websocket", "close 1005")
		c.record().session.Send(true, NewText([]byte("a")))
		c.Want("nothing of this touches the session", "4a")
	})
}

// A ping that went out by polling must be answered after the switch too, else nothing would ever end the session.
func TestHeartbeatOverTheSwitch(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		h.wantAnswer("the ping", h.background("GET", query, ""), 200, "2")
		ws := h.candidate(query)
		ws.say("2probe", "5")
		ws.Want("the probe is answered", "3probe")
		start := time.Now()
		ws.Want("the ping is never answered", "close 1005")
		if d := time.Since(start); d < 40*time.Second || d > 41*time.Second { // the upgrade has bought time, once
			t.Errorf("timeout after %v", d)
		}
		h.wantEnd("no pong", r, ReasonPingTimeout)
	})
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		h.wantAnswer("the ping", h.background("GET", query, ""), 200, "2")
		ws := h.candidate(query)
		ws.say("2probe", "5", "3")
		ws.Want("the probe is answered", "3probe", "2")
		if len(r.reasons()) > 0 {
			t.Errorf("closed with %q", r.reasons())
		}
	})
}

func TestCloseDuringUpgrade(t *testing.T) {
	for name, do := range map[string]func(s *Session){
		"close": func(s *Session) { s.Close(ReasonForcedClose) }, "abort": func(s *Session) { s.Abort(ReasonForcedClose) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, h *host) {
				query, r := h.openPolling()
				ws := h.candidate(query)
				ws.say("2probe")
				ws.Want("the probe is answered", "3probe")
				if name == "close" {
					r.session.Send(true, NewText([]byte("a")))
				}
				do(r.session)
				ws.Want("the candidate is let go", "gone")
				if name == "close" {
					h.wantAnswer("the session ends as it was", h.background("GET", query, ""), 200, "4a\x1e1")
				}
				h.wantEnd(name, r, ReasonForcedClose)
			})
		})
	}
}

// Messages both ways while the transport changes under them: all arrive, once, in order.
func TestOrderOverTheSwitch(t *testing.T) {
	for delay := range 20 {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			const count = 500
			c := h.connect(Polling)
			s := c.record().session
			sent := make(chan bool)
			go func() {
				defer close(sent)
				for i := range count {
					s.Send(i%7 != 0, NewText(fmt.Append(nil, i)))
					if i%(delay+1) == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				s.Flush()
			}()
			for i := range delay {
				c.Send(fmt.Sprint("4before ", i))
			}
			time.Sleep(time.Duration(delay) * 3 * time.Millisecond)
			c.Upgrade()
			c.Send("4after")
			for i := range count {
				c.Want("in order", fmt.Sprint("4", i))
			}
			<-sent
			synctest.Wait()
			got := c.record().messages()
			if len(got) != delay+1 || got[delay] != "after" {
				t.Errorf("the other way: %q", got)
			}
		})
	}
}
