package external

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/index"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// startOn starts an engine that is closed with the test.
func startOn(t *testing.T, c Config, servers ...*natstest.Server) *Engine {
	t.Helper()
	c.Logger = quiet()
	if c.URLs == nil {
		c.URLs = natstest.URLs(servers)
	}
	e, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// refused returns the error of an engine that must not start.
func refused(t *testing.T, c Config, servers ...*natstest.Server) error {
	t.Helper()
	c.Logger = quiet()
	if c.URLs == nil {
		c.URLs = natstest.URLs(servers)
	}
	e, err := Start(t.Context(), c)
	if err == nil {
		e.Close()
		t.Fatal("it started")
	}
	return err
}

// sleep stops an engine as its process would be stopped.
func (e *Engine) sleep() {
	e.closing.Do(func() {
		close(e.stop)
		e.loop.Wait()
	})
}

// crash leaves an engine as the end of its process would.
func (e *Engine) crash() {
	e.sleep()
	e.release()
}

// node is a broker on an engine.
type node struct {
	*queue.Broker
	engine *Engine
	index  *index.Index
}

// open opens a broker on an engine, with the index of a directory. Both are closed with the test, or by close.
func open(t *testing.T, e *Engine, dir string) *node {
	t.Helper()
	ix := openIndex(t, dir)
	n := &node{engine: e, index: ix}
	var err error
	if n.Broker, err = queue.Open(t.Context(), queue.Config{Engine: e, Index: ix, Logger: quiet(), MaxBytes: -1, ReceiptBytes: 1 << 20}); err != nil {
		ix.Close()
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	return n
}

func openIndex(t *testing.T, dir string) *index.Index {
	t.Helper()
	ix, err := index.Open(dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// stop closes the broker; the engine may be crashed or closed then.
func (n *node) stop() {
	if n.index == nil {
		return
	}
	n.Broker.Close()
	n.index.Close()
	n.index = nil
}

func message(i int) queue.Message {
	return queue.Message{Topic: "t", Event: "e", ID: fmt.Sprint(i), Args: fmt.Appendf(nil, "[%d]", i)}
}

func (n *node) publish(t *testing.T, i int) queue.Published {
	t.Helper()
	p, err := n.Publish(t.Context(), message(i))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// insist publishes an event until it is stored.
func (n *node) insist(t *testing.T, i int) queue.Published {
	t.Helper()
	var p queue.Published
	until(t, fmt.Sprintf("event %d to be stored", i), func() bool {
		var err error
		p, err = n.Publish(t.Context(), message(i))
		if err != nil && !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, queue.ErrUnknown) {
			t.Fatal(err)
		}
		return err == nil
	})
	return p
}

// texts returns the arguments of all events of the topic, in order.
func (n *node) texts(t *testing.T) (all []string) {
	t.Helper()
	for e, err := range n.Events(t.Context(), "t", queue.StartFirst) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(e.Args))
	}
	return all
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("[%d]", i))
	}
	return all
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// operator returns what somebody else has who may do everything.
func operator(t *testing.T, s *natstest.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// gaps is a sink that collects what it is told.
type sink struct {
	events chan *queue.Event
	gaps   chan queue.Gap
}

func newSink() *sink { return &sink{make(chan *queue.Event, 1000), make(chan queue.Gap, 10)} }

func (s *sink) Deliver(d queue.Delivery) bool { s.events <- d.Event; return true }
func (s *sink) Gap(g queue.Gap)               { s.gaps <- g }
func (s *sink) Flush()                        {}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case x := <-c:
		return x
	case <-ctx.Done():
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
