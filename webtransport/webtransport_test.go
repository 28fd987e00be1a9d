package webtransport_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
)

func TestDirect(t *testing.T) {
	h := newHost(t, &holdpost.Config{}, nil)
	c := h.connect()
	c.say(`421["transport"]`)
	c.want(`431["webtransport","test",true,true]`)
	big := strings.Repeat("b", 200_000)
	c.say(`422["echo","a",1]`, `451-3["echo",{"_placeholder":true,"num":0}]`, "\x00"+big, `424["echo","`+big+`"]`)
	c.want(`432["a",1]`, `461-3[{"_placeholder":true,"num":0}]`, "\x00"+big, `434["`+big+`"]`)
	c.session.CloseWithError(0, "")
	h.wantGone(holdpost.ReasonTransportClose)
}

// What is sent last arrives though the connection is closed right behind it.
func TestServerDisconnects(t *testing.T) {
	h := newHost(t, &holdpost.Config{}, nil)
	c := h.connect()
	c.say(`42["bye"]`)
	c.want(`42["last","word"]`, "41")
	c.wantClosed("disconnect")
	h.wantGone(holdpost.ReasonServerDisconnect)
}

func TestUpgrade(t *testing.T) {
	h := newHost(t, &holdpost.Config{}, nil)
	opened := h.get("EIO=4&transport=polling")
	if !strings.Contains(opened, `"upgrades":["websocket","webtransport"]`) {
		t.Fatalf("open packet %q", opened)
	}
	sid := sidOf(opened)
	polling := "EIO=4&transport=polling&sid=" + sid
	h.request("POST", polling, "40")
	h.get(polling)
	c := h.open("\x1f" + `0{"sid":"` + sid + `"}`)
	c.say("2probe")
	c.want("3probe")
	if got := h.get(polling); got != "6" {
		t.Errorf("poll after the probe: %q", got)
	}
	c.say("5", `421["transport"]`)
	if got := c.next(); !strings.HasPrefix(got, `431["webtransport"`) {
		t.Errorf("after the upgrade: %q", got)
	}
	if got := h.get(polling); !strings.Contains(got, "Bad request") {
		t.Errorf("poll after the upgrade: %q", got)
	}
	h.open("\x1f" + `0{"sid":"` + sid + `"}`).wantClosed("a second upgrade")
	c.say("41")
	h.wantGone(holdpost.ReasonClientDisconnect)
}

func TestHeartbeat(t *testing.T) {
	h := newHost(t, &holdpost.Config{PingInterval: 200 * time.Millisecond, PingTimeout: 200 * time.Millisecond}, nil)
	c := h.connect()
	for range 2 {
		if p, err := c.read(); err != nil || p != "2" {
			t.Fatalf("%q %v", p, err)
		}
		c.say("3")
	}
	c.wantClosed("a ping without its pong")
	h.wantGone(holdpost.ReasonPingTimeout)
}

// Who may not connect by WebSocket may not by WebTransport either.
func TestRefused(t *testing.T) {
	closed := errors.New("closed today")
	var mu sync.Mutex // a handler goes on when the client has its answer
	var seen []string
	var late atomic.Bool
	c := &holdpost.Config{
		Origins: []string{"https://app.example"},
		AllowRequest: func(r *http.Request) error {
			if late.Load() {
				return closed
			}
			return nil
		},
	}
	h := newHost(t, c, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen = append(seen, r.Method)
			mu.Unlock()
			if r.Header.Get("X-Blocked") != "" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			next.ServeHTTP(struct{ unwrapper }{unwrapper{w}}, r)
		})
	})
	for _, tt := range []struct {
		name   string
		header http.Header
		want   int
	}{
		{"allowed", http.Header{"Origin": {"https://app.example"}}, 200},
		{"no browser", nil, 200},
		{"foreign origin", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"origin null", http.Header{"Origin": {"null"}}, 403},
		{"middleware", http.Header{"X-Blocked": {"1"}}, 418},
	} {
		if _, got := h.session(tt.header); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	mu.Lock()
	if len(seen) != 5 || seen[0] != http.MethodConnect {
		t.Errorf("the middleware saw %q", seen)
	}
	mu.Unlock()
	late.Store(true)
	h.open("\x010").wantClosed("not allowed")
	if got := h.get("EIO=4&transport=webtransport"); !strings.Contains(got, "Transport unknown") {
		t.Errorf("without CONNECT: %q", got)
	}
	off := newHost(t, &holdpost.Config{Transports: []string{"polling"}}, nil)
	if _, got := off.session(nil); got != 400 {
		t.Errorf("not switched on: %d", got)
	}
	still := newHost(t, &holdpost.Config{NoUpgrades: true}, nil)
	sid := still.poll()
	still.open("\x1f" + `0{"sid":"` + sid + `"}`).wantClosed("an upgrade where there are none")
}

type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func TestNotWhatAClientSays(t *testing.T) {
	h := newHost(t, &holdpost.Config{MaxPayload: 1000}, nil)
	sid := strings.Repeat("a", 20)
	for name, first := range map[string]string{
		"a message":              "\x014",
		"a close":                "\x011",
		"a binary message":       "\x83\x01\x02\x03",
		"nothing":                "\x00",
		"a long packet":          "\x7e\x00\x80",
		"an open packet of text": "\x050text",
		"an array":               "\x030[]",
		"no id":                  "\x030{}",
		"an id that is none":     "\x090{\"sid\":1",
		"somebody else's id":     "\x1f" + `0{"sid":"` + sid + `"}`,
		"the prototype":          "\x14" + `0{"sid":"__proto__"}`,
	} {
		h.open(first).wantClosed(name)
	}
	for name, bytes := range map[string]string{
		"a packet of length 0": "\x00",
		"the limit and one":    "\x7e\x03\xe9",
		"an endless length":    "\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		"no packet":            "\x03abc",
		"invalid UTF-8":        "\x024\xff",
		"a ping":               "\x012",
	} {
		c := h.connect()
		c.raw(bytes)
		c.wantClosed(name)
		<-h.gone
	}
	c := h.connect()
	c.say(`421["echo","` + strings.Repeat("x", 1000-len(`421["echo",""]`)) + `"]`)
	if got := c.next(); len(got) < 900 {
		t.Errorf("at the limit: %.100q", got)
	}
}

// A session that nothing comes of is closed in time, and leaves nothing.
func TestSilent(t *testing.T) {
	h := newHost(t, &holdpost.Config{UpgradeTimeout: 300 * time.Millisecond}, nil)
	before := 0
	for round := range 5 {
		t.Run("", func(t *testing.T) { // which closes the client's connections at its end
			h := &host{t: t, address: h.address, roots: h.roots}
			session, _ := h.session(nil)
			c := &client{t: t, session: session}
			c.wantClosed("without a stream")
			h.open("").wantClosed("with a stream that says nothing")
			h.open("\x1f0").wantClosed("with a packet that is never complete")
			h.open("\x00").wantClosed("with no packet")
		})
		deadline := time.Now().Add(patience)
		for round > 0 && runtime.NumGoroutine() > before {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
			runtime.Gosched()
		}
		before = max(before, runtime.NumGoroutine())
	}
	if n := h.sockets.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// Of the streams of a session one counts. Others are open until the peer has as many as it may.
func TestManyStreams(t *testing.T) {
	h := newHost(t, &holdpost.Config{}, nil)
	c := h.connect()
	opened := 0
	for range 20 {
		stream, err := c.session.OpenStream()
		if err != nil {
			break
		}
		opened++
		stream.Write([]byte("\x010"))
		stream.CancelWrite(0)
		stream.CancelRead(0)
	}
	if opened > 4 {
		t.Errorf("%d streams", opened)
	}
	c.say(`421["echo",1]`)
	c.want("431[1]")
	if n := h.sockets.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A client that reads nothing is disconnected, and harms nobody.
func TestReadsNothing(t *testing.T) {
	h := newHost(t, &holdpost.Config{}, nil)
	other := h.connect()
	silent := h.connect()
	silent.say(`42["flood"]`)
	h.wantGone(holdpost.ReasonSlowPeer)
	other.say(`421["echo",1]`)
	other.want("431[1]")
}

func TestShutdown(t *testing.T) {
	h := newHost(t, &holdpost.Config{}, nil)
	c := h.connect()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.sockets.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	h.wantGone(holdpost.ReasonServerShutdown)
	c.wantClosed("shutdown")
	h.server.Close()
	h.server.Close()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := h.server.Serve(conn); err != http.ErrServerClosed {
		t.Errorf("serve after the close: %v", err)
	}
}
