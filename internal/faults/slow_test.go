package faults

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// counter is a sink that takes everything, in order, or nothing as long as it is stuck.
type counter struct {
	stuck atomic.Bool
	last  uint64
	got   atomic.Int64
	bad   atomic.Bool // something came twice, or late
}

func (c *counter) Deliver(d queue.Delivery) bool {
	if c.stuck.Load() {
		return false
	}
	if d.Offset.Seq <= c.last {
		c.bad.Store(true)
	}
	c.last = d.Offset.Seq
	c.got.Add(1)
	return true
}

func (c *counter) Gap(queue.Gap) { c.bad.Store(true) }

func (c *counter) Flush() {}

// TestSlowAmongMany has a tenth of a thousand consumers take nothing. The others get everything meanwhile, and those all that they
// missed once they can take it.
func TestSlowAmongMany(t *testing.T) {
	const consumers, slow, events = 1000, 100, 300
	n, err := life{Dir: t.TempDir(), Reserve: -1}.open(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sinks := make([]*counter, consumers)
	attached := make([]*queue.Consumer, consumers)
	var group sync.WaitGroup
	for i := range consumers {
		group.Go(func() {
			q, err := n.broker.Queue(ctx, queue.QueueConfig{Topic: topics[0], Name: fmt.Sprint(i), From: queue.StartFirst})
			if err != nil {
				t.Error(err)
				return
			}
			sinks[i] = &counter{}
			sinks[i].stuck.Store(i < slow)
			if attached[i], err = q.Attach(queue.ConsumerConfig{Sink: sinks[i]}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for i := range events {
		if _, err := n.broker.Publish(ctx, queue.Message{Topic: topics[0], Event: "e", Args: fmt.Appendf(nil, "[%d]", i)}); err != nil {
			t.Fatal(err)
		}
	}
	all := func(sinks []*counter) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i, s := range sinks {
			for s.got.Load() < events {
				select {
				case <-tick.C:
				case <-ctx.Done():
					t.Fatalf("consumer %d has %d of %d events", i, s.got.Load(), events)
				}
			}
			if s.bad.Load() || s.got.Load() > events {
				t.Errorf("consumer %d: %d events, not each once and in order", i, s.got.Load())
			}
		}
	}
	all(sinks[slow:])
	for i, s := range sinks[:slow] {
		if s.got.Load() > 0 {
			t.Errorf("consumer %d took something", i)
		}
		s.stuck.Store(false)
		attached[i].Resume()
	}
	all(sinks[:slow])
	for _, c := range attached {
		c.Close()
	}
}
