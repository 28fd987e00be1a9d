package external

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

// leader returns the server that leads a stream.
func leader(t *testing.T, js jetstream.JetStream, stream string, servers []*natstest.Server) *natstest.Server {
	t.Helper()
	var found *natstest.Server
	until(t, "a leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return false
		}
		i := slices.IndexFunc(servers, func(x *natstest.Server) bool { return x.Name == s.CachedInfo().Cluster.Leader })
		if i >= 0 {
			found = servers[i]
		}
		return i >= 0
	})
	return found
}

// load publishes from some goroutines, each an event as soon as the one before is stored, until the test says enough.
type load struct {
	stop    chan struct{}
	group   sync.WaitGroup
	stored  [4]int       // by publisher, once it has ended
	acked   atomic.Int64 // of all
	last    atomic.Int64 // when the last one was acknowledged, ns since 1970
	longest atomic.Int64 // between two of them, ns
}

func startLoad(t *testing.T, n *node) *load {
	l := &load{stop: make(chan struct{})}
	l.last.Store(time.Now().UnixNano())
	for p := range l.stored {
		l.group.Go(func() {
			for i := 0; ; {
				select {
				case <-l.stop:
					l.stored[p] = i
					return
				default:
				}
				m := queue.Message{Topic: fmt.Sprint("load/", p), Event: "e", ID: fmt.Sprint(i), Args: fmt.Appendf(nil, "[%d]", i)}
				_, err := n.Publish(context.Background(), m)
				if err == nil {
					i++
					l.acked.Add(1)
					now := time.Now().UnixNano()
					l.longest.Store(max(l.longest.Load(), now-l.last.Swap(now)))
					continue
				}
				if !errors.Is(err, queue.ErrUnknown) && !errors.Is(err, queue.ErrUnavailable) {
					t.Errorf("publish: %v", err)
					return
				}
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	return l
}

// more waits until so many more events are stored, and returns how long none was meanwhile.
func (l *load) more(t *testing.T, n int64) time.Duration {
	t.Helper()
	l.longest.Store(0)
	enough := l.acked.Load() + n
	until(t, "events to be stored", func() bool { return l.acked.Load() >= enough })
	return time.Duration(l.longest.Load())
}

// end stops the load, and checks that a node has everything that was acknowledged, once and in order.
func (l *load) end(t *testing.T, n *node) {
	t.Helper()
	close(l.stop)
	l.group.Wait()
	until(t, "the index to catch up", func() bool {
		_, err := n.History(t.Context(), "load/0", queue.StartFirst, 1)
		return err == nil
	})
	for p, want := range l.stored {
		i := 0
		for e, err := range n.Events(t.Context(), fmt.Sprint("load/", p), queue.StartFirst) {
			if err != nil {
				t.Fatal(err)
			}
			if e.ID != fmt.Sprint(i) {
				t.Fatalf("publisher %d: event %s where %d should be, of %d", p, e.ID, i, want)
			}
			i++
		}
		if i != want && i != want+1 { // the last one may be stored without an answer
			t.Errorf("publisher %d: %d events, %d were acknowledged", p, i, want)
		}
	}
}

// The server that leads the log is killed, while events are published: they go on within ten seconds, and none is lost, comes twice, or
// out of order. It comes back, and the others are killed too, all at once.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	servers := natstest.RunCluster(t, natstest.Config{}, 3)
	e := startOn(t, Config{}, servers...)
	if e.Replicas() != 3 {
		t.Fatalf("%d replicas", e.Replicas())
	}
	n := open(t, e, t.TempDir())
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "load/*", Name: "ann", From: queue.StartFirst})
	if err != nil {
		t.Fatal(err)
	}
	seen := &counter{}
	c, err := q.Attach(queue.ConsumerConfig{Sink: seen})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := startLoad(t, n)
	t.Logf("before: no event for %v", l.more(t, 500))
	killed := leader(t, e.js, guard.Events, servers)
	killed.Kill()
	t.Logf("leader killed: no event for %v", l.more(t, 500))
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("it is back: no event for %v", l.more(t, 500))
	for _, s := range servers {
		s.Kill()
	}
	until(t, "the broker to notice", func() bool { return n.Health() != nil })
	for _, s := range servers {
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("all killed: no event for %v", l.more(t, 500))
	l.end(t, n)
	last := n.End()
	until(t, "all to be delivered", func() bool { return seen.last.Load() == last.Seq })
	until(t, "health", func() bool { return n.Health() == nil && e.Health() == nil })
	if seen.disorder.Load() > 0 {
		t.Errorf("%d events were delivered out of order", seen.disorder.Load())
	}
}

// counter is a sink that looks at the order.
type counter struct{ last, disorder atomic.Uint64 }

func (c *counter) Deliver(d queue.Delivery) bool {
	if d.Offset.Seq <= c.last.Swap(d.Offset.Seq) {
		c.disorder.Add(1)
	}
	return true
}
func (c *counter) Gap(queue.Gap) {}
func (c *counter) Flush()        {}
