package engineio

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
)

func TestOrder(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		const senders, units = 4, 200
		var wg sync.WaitGroup
		for sender := range senders {
			wg.Go(func() {
				for i := range units {
					s.Send(i%3 == 0, NewText(fmt.Appendf(nil, "%d %d a", sender, i)), NewText(fmt.Appendf(nil, "%d %d b", sender, i)))
				}
				s.Flush()
			})
		}
		next := [senders]int{}
		for range senders * units {
			first := c.Next()
			var sender, i int
			fmt.Sscanf(first, "4%d %d a", &sender, &i)
			if want := fmt.Sprintf("4%d %d a", sender, next[sender]); first != want {
				t.Fatalf("got %q, want %q", first, want)
			}
			c.Want("the other half of the unit", fmt.Sprintf("4%d %d b", sender, i))
			next[sender]++
		}
		wg.Wait()
		synctest.Wait() // for the writer to count off what has arrived
		if n := s.Queued(); n != 0 {
			t.Errorf("%d bytes queued when all has arrived", n)
		}
	})
}

func TestCork(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		synctest.Wait()
		for _, x := range []string{"a", "b", "c"} {
			s.Send(false, NewText([]byte(x)))
		}
		synctest.Wait()
		if n := s.Queued(); n == 0 {
			t.Error("went out without a flush")
		}
		start := time.Now()
		c.Want("it goes out by itself", "4a", "4b", "4c")
		if d := time.Since(start); d > 5*time.Millisecond {
			t.Errorf("after %v", d)
		}
		s.Send(false, NewText([]byte("d")))
		s.Flush()
		start = time.Now()
		c.Want("or with the flush", "4d")
		if d := time.Since(start); d > 0 {
			t.Errorf("after %v", d)
		}
	})
}

func TestNotifyDrained(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		s := c.record().session
		synctest.Wait()
		done := make(chan int, 10)
		s.NotifyDrained(func() { done <- s.Queued() })
		if len(done) != 1 {
			t.Fatal("not at once with nothing queued")
		}
		<-done
		s.Send(false, NewText([]byte("a")))
		s.NotifyDrained(func() { done <- s.Queued() })
		s.NotifyDrained(func() { done <- s.Queued() })
		if len(done) != 0 {
			t.Fatal("drained before it was flushed")
		}
		s.Flush()
		if n := <-done + <-done; n != 0 {
			t.Errorf("drained with %d bytes queued", n)
		}
		c.Want("it has gone out", "4a")
	})
}

func TestQueueBounds(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		size   int
		fit    int
	}{
		{"bytes", Config{QueueBytes: 1000}, 100 - 3, 10}, // with digit and frame header
		{"packets", Config{QueuePackets: 10}, 1, 10},
	}
	for _, tt := range tests {
		for _, transport := range []string{Polling, WebSocket} {
			t.Run(tt.name+"/"+transport, func(t *testing.T) {
				bubble(t, tt.config, func(t *testing.T, h *host) { queueBounds(t, h, transport, tt.size, tt.fit) })
			})
		}
	}
}

func queueBounds(t *testing.T, h *host, transport string, size, fit int) {
	if transport == Polling {
		h.openPolling()
	} else {
		conn := h.DialWebSocket("EIO=4&transport=websocket") // nobody reads what comes
		defer conn.Close()
	}
	synctest.Wait()
	r := h.last()
	m := NewText([]byte(strings.Repeat("x", size)))
	for i := range fit {
		if !r.session.Send(false, m) {
			t.Fatalf("message %d does not fit", i)
		}
	}
	if r.session.Send(false, m) {
		t.Error("one more fits")
	}
	h.wantEnd("over the bounds", r, ReasonSlowPeer)
}

// Whoever sends without flushing does not fill the queue by that alone, and so have the session closed.
func TestUnflushed(t *testing.T) {
	for name, c := range map[string]Config{"packets": {QueuePackets: 100}, "bytes": {QueueBytes: 3 * pieceSize}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where the time that flushes does not pass meanwhile
				c.PingInterval = -1
				srv := (&host{t: t}).server(c)
				s := srv.newSession(httptest.NewRequest("GET", "/socket.io/?EIO=4&transport=websocket", nil))
				ws := &socket{session: s, link: new(tapLink), frames: frame.Reader{Limits: srv.limits}}
				s.ws = ws
				srv.begin(s)
				for i := range 1000 {
					if !s.Send(false, NewText(make([]byte, 200))) {
						t.Fatalf("message %d is refused", i)
					}
					if n := s.Queued(); n > pieceSize {
						t.Fatalf("%d bytes are queued", n)
					}
				}
				ws.lost(io.EOF)
				srv.Close()
			})
		})
	}
}

func TestBigUnitOnAnEmptyQueue(t *testing.T) {
	run(t, Config{QueueBytes: 1000}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		synctest.Wait()
		big := strings.Repeat("x", 300_000)
		if !c.record().session.Send(true, NewText([]byte(big))) {
			t.Fatal("refused")
		}
		c.Want("it arrives", "4"+big)
	})
}

// Random sizes around every border of the framing and the writer, both ways.
func TestSizes(t *testing.T) {
	run(t, Config{QueueBytes: 64 << 20}, func(t *testing.T, h *host, transport string) {
		h.serve = echo
		c := h.connect(transport)
		r := rand.New(rand.NewPCG(1, 2))
		sizes := []int{0, 1, 123, 124, 125, 126, 127, 65533, 65534, 65535, 65536, 65537, pieceSize - 5, pieceSize - 4, pieceSize - 3, pieceSize, 999_999}
		for range 40 {
			sizes = append(sizes, r.IntN(40_000))
		}
		for _, n := range sizes {
			text := strings.Repeat("z", n)
			c.Send("4" + text)
			c.Want(fmt.Sprintf("%d bytes", n), "4"+text)
		}
	})
}

func TestVolatile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{})
		c := h.connect(WebSocket)
		s := c.record().session
		synctest.Wait()
		if !s.SendVolatile(NewText([]byte("now"))) {
			t.Error("dropped although nothing is queued")
		}
		c.Want("it arrives", "4now")
		synctest.Wait()
		s.Send(false, NewText([]byte("corked")))
		if s.SendVolatile(NewText([]byte("behind"))) {
			t.Error("taken although something is queued")
		}
		s.Flush()
		c.Want("what was sent before", "4corked")

		conn := h.DialWebSocket("EIO=4&transport=websocket")
		defer conn.Close()
		conn.Read(make([]byte, 200))
		s = h.last().session
		s.Send(true, NewText([]byte("not read")))
		time.Sleep(time.Second)
		if s.SendVolatile(NewText([]byte("x"))) {
			t.Error("taken although the peer reads nothing")
		}
		conn.Read(make([]byte, 200))
		synctest.Wait()
		if !s.SendVolatile(NewText([]byte("y"))) {
			t.Error("dropped although the peer reads again")
		}
	})
}

func TestVolatileWithoutPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{})
		_, body := h.Request("GET", "EIO=4&transport=polling", "")
		s := h.last().session
		if s.SendVolatile(NewText([]byte("x"))) {
			t.Errorf("taken although no poll waits (%s)", body)
		}
		got := make(chan string)
		go func() {
			_, body := h.Request("GET", "EIO=4&transport=polling&sid="+s.ID(), "")
			got <- body
		}()
		synctest.Wait()
		if !s.SendVolatile(NewText([]byte("y"))) {
			t.Error("dropped although a poll waits")
		}
		if body := <-got; body != "4y" {
			t.Errorf("poll got %q", body)
		}
	})
}
