package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/index"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("QUEUE_TEST_CHILD"); role != "" {
		os.Exit(child(role, os.Getenv("QUEUE_TEST_DIR")))
	}
	leaktest.Main(m)
}

// node is a broker with all that it stands on.
type node struct {
	*queue.Broker
	dir    string
	engine engine
	index  *index.Index
	once   sync.Once
}

type engine interface {
	queue.Engine
	Close() error
}

type setup struct {
	config func(*queue.Config)
	accept bool // the loss of events
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(dir string, s setup) (*node, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n := &node{dir: dir}
	var err error
	if n.engine, err = startEngine(ctx, dir, s); err != nil {
		return nil, err
	}
	if n.index, err = index.Open(filepath.Join(dir, "index"), quiet()); err != nil {
		n.engine.Close()
		return nil, err
	}
	c := queue.Config{Engine: n.engine, Index: n.index, Logger: quiet()}
	if s.config != nil {
		s.config(&c)
	}
	if n.Broker, err = queue.Open(ctx, c); err != nil {
		n.index.Close()
		n.engine.Close()
		return nil, err
	}
	return n, nil
}

func startEngine(ctx context.Context, dir string, s setup) (engine, error) {
	if urls := os.Getenv(natsEnv); urls != "" {
		return startExternal(ctx, urls, dir, s)
	}
	return embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(dir, "store"), Logger: quiet(), Reserve: 1 << 20, AcceptLoss: s.accept,
	})
}

func (n *node) stop() {
	n.once.Do(func() {
		n.Broker.Close()
		n.index.Close()
		n.engine.Close()
	})
}

func open(t testing.TB, dir string) *node { return openWith(t, dir, setup{}) }

func openWith(t testing.TB, dir string, s setup) *node {
	t.Helper()
	n, err := start(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	return n
}

// until waits for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func (n *node) publish(t testing.TB, topic string, i int) queue.Published {
	t.Helper()
	p, err := n.Publish(t.Context(), message(topic, i))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func message(topic string, i int) queue.Message {
	return queue.Message{Topic: topic, Event: "e", ID: fmt.Sprintf("%s#%d", topic, i), Args: fmt.Appendf(nil, `[%q,%d]`, topic, i)}
}

func (n *node) personal(t testing.TB, topic, name string, from queue.Start) *queue.Queue {
	t.Helper()
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: topic, Name: name, From: from})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func seen(t testing.TB, q *queue.Queue, o queue.Offset) {
	t.Helper()
	if err := q.Seen(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}
