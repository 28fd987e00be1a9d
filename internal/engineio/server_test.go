package engineio

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestShutdown(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		synctest.Wait()
		c.record().session.Send(false, NewText([]byte("last words")))
		if err := h.srv.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		c.Want("what was sent goes out", "4last words")
		if transport == Polling {
			c.Want("and the close", "1")
		} else {
			c.Want("and the close", "close 1005")
		}
		c.ended("shutdown", ReasonShutdown)
		if w := h.ask("GET", "EIO=4&transport=polling"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("then %d", w.Code)
		}
	})
}

func TestShutdownTakesTooLong(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		stuck := h.DialWebSocket("EIO=4&transport=websocket") // and never reads
		defer stuck.Close()
		r := h.last()
		r.session.Send(true, NewText(make([]byte, 1<<20)))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.srv.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: %v", err)
		}
		h.wantEnd("shutdown", r, ReasonShutdown)
	})
}

// A polling client that has vanished does not hold a shutdown up as long as it could hold up its own close.
func TestShutdownAndAClientThatVanished(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		_, r := h.openPolling() // and never polls
		start := time.Now()
		if err := h.srv.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if d := time.Since(start); d > lingerTimeout+2*time.Second {
			t.Errorf("took %v", d)
		}
		h.wantEnd("shutdown", r, ReasonShutdown)
	})
}

// Open sessions of every kind, and connections in every stage, end with Close.
func TestClose(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		polling, ws, upgraded := h.connect(Polling), h.connect(WebSocket), h.connect("upgrade")
		query, _ := h.openPolling()
		h.candidate(query).say("2probe")
		stuck := h.DialWebSocket("EIO=4&transport=websocket")
		defer stuck.Close()
		h.last().session.Send(true, NewText(make([]byte, 1<<20)))
		lingering := h.DialWebSocket("EIO=4&transport=websocket")
		defer lingering.Close()
		h.last().session.Abort(ReasonForcedClose)
		start := time.Now()
		h.srv.Close()
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
		for _, c := range []*peer{polling, ws, upgraded} {
			c.ended("closed", ReasonShutdown)
		}
		if n := h.srv.Len(); n != 0 {
			t.Errorf("%d sessions left", n)
		}
		h.srv.Close() // again
	})
}

// A server without sessions runs nothing.
func TestIdleServerRunsNothing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		running := func() (wheel, corks bool) {
			h.srv.wheel.mu.Lock()
			defer h.srv.wheel.mu.Unlock()
			h.srv.corks.mu.Lock()
			defer h.srv.corks.mu.Unlock()
			return h.srv.wheel.running, h.srv.corks.running
		}
		c := h.connect(WebSocket)
		s := c.record().session
		s.Send(false, NewText([]byte("x")))
		if wheel, corks := running(); !wheel || !corks {
			t.Errorf("with a session and a cork: wheel %v, corks %v", wheel, corks)
		}
		time.Sleep(time.Second)
		if _, corks := running(); corks {
			t.Error("nothing is corked, and it runs")
		}
		s.Abort(ReasonForcedClose)
		time.Sleep(5 * time.Second)
		if wheel, _ := running(); wheel {
			t.Error("no session, and the wheel runs")
		}
		again := h.connect(Polling)
		again.Want("and starts again", "2")
	})
}

func TestWheelManyTurns(t *testing.T) {
	bubble(t, Config{PingInterval: -1}, func(t *testing.T, h *host) {
		h.openPolling()
		s := h.last().session
		for _, d := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 51200 * time.Millisecond, 52 * time.Second, 10 * time.Minute} {
			start := time.Now()
			done := make(chan time.Duration)
			s.Deadline(d, func() { done <- time.Since(start) })
			if got := <-done; got < d || got > d+200*time.Millisecond {
				t.Errorf("%v took %v", d, got)
			}
		}
	})
}

func TestOpenIsRequired(t *testing.T) {
	defer func() {
		if v := recover(); v == nil || !strings.Contains(v.(string), "Open") {
			t.Errorf("recovered %v", v)
		}
	}()
	New(Config{})
}

// Sessions are closed at the rate of the configuration, faster when there is little time, and all of them in the end.
func TestShutdownRate(t *testing.T) {
	for _, c := range []struct {
		sessions, rate int
		patience       time.Duration // of the context; 0 is none
		want           time.Duration
	}{
		{100, 0, 0, 0},
		{100, 50, 0, 2 * time.Second},
		{10, 2, 0, 5 * time.Second},
		{300, 200, 0, 1500 * time.Millisecond},
		{100, 5, 10 * time.Second, 5 * time.Second},
	} {
		bubble(t, Config{ShutdownRate: c.rate}, func(t *testing.T, h *host) {
			for range c.sessions {
				h.connect(WebSocket)
			}
			synctest.Wait()
			ctx := context.Background()
			if c.patience > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.patience)
				defer cancel()
			}
			start := time.Now()
			if err := h.srv.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if d := time.Since(start); d < c.want*9/10 || d > c.want+100*time.Millisecond {
				t.Errorf("%d sessions at %d a second took %v, want %v", c.sessions, c.rate, d, c.want)
			}
		})
	}
}

// Those with most queued go first, and no more of them than are needed.
func TestShed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		queued := func(n int) *recorder {
			conn := h.DialWebSocket("EIO=4&transport=websocket") // and never reads
			t.Cleanup(func() { conn.Close() })
			r := h.last()
			r.session.Send(true, NewText(make([]byte, n)))
			return r
		}
		little, much, more := queued(100_000), queued(1_000_000), queued(2_000_000)
		idle := h.connect(WebSocket)
		synctest.Wait()
		if n := h.srv.Shed(2_001_000); n != 2 {
			t.Errorf("%d were closed", n)
		}
		h.wantEnd("most", more, ReasonSlowPeer)
		h.wantEnd("second", much, ReasonSlowPeer)
		if n := h.srv.Len(); n != 2 {
			t.Errorf("%d sessions are left", n)
		}
		if n := h.srv.Shed(1 << 40); n != 1 {
			t.Errorf("then %d were closed", n)
		}
		h.wantEnd("little", little, ReasonSlowPeer)
		if n := h.srv.Shed(0); n != 0 {
			t.Errorf("for nothing %d were closed", n)
		}
		idle.record().session.Send(true, NewText([]byte("still here")))
		idle.Want("with nothing queued", "4still here")
	})
}
