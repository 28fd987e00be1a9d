package queue_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// recorder is a sink that keeps what it gets.
type recorder struct {
	hook func(d queue.Delivery) bool // nil: there is always room

	busy atomic.Bool

	mu      sync.Mutex
	got     []queue.Delivery
	gaps    []queue.Gap
	flushes int
	bad     string
}

func (r *recorder) enter() func() {
	if r.busy.Swap(true) {
		r.mu.Lock()
		r.bad = "two calls at a time"
		r.mu.Unlock()
	}
	return func() { r.busy.Store(false) }
}

func (r *recorder) Deliver(d queue.Delivery) bool {
	defer r.enter()()
	if r.hook != nil && !r.hook(d) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, d)
	return true
}

func (r *recorder) Gap(g queue.Gap) {
	defer r.enter()()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps = append(r.gaps, g)
}

func (r *recorder) Flush() {
	defer r.enter()()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushes++
}

func (r *recorder) deliveries() []queue.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder) gapsTold() []queue.Gap {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.gaps)
}

// args returns the arguments of what came, as text.
func (r *recorder) args() []string {
	var s []string
	for _, d := range r.deliveries() {
		s = append(s, string(d.Args))
	}
	return s
}

func (r *recorder) want(t testing.TB, args ...string) {
	t.Helper()
	until(t, fmt.Sprintf("%d deliveries", len(args)), func() bool { return len(r.deliveries()) >= len(args) })
	if got := r.args(); !slices.Equal(got, args) {
		t.Fatalf("got %q, want %q", got, args)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != "" {
		t.Fatal(r.bad)
	}
}

func attach(t testing.TB, q *queue.Queue, c queue.ConsumerConfig) *queue.Consumer {
	t.Helper()
	consumer, err := q.Attach(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(consumer.Close)
	return consumer
}

func texts(topic string, from, to int) []string {
	var s []string
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprintf(`[%q,%d]`, topic, i))
	}
	return s
}
