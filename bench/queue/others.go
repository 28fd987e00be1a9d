//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdpost/holdpost/queue"
)

const (
	others   = 1000
	calmTime = 2 * time.Second
	beat     = time.Millisecond // between two of their events
)

// latency is from publish to delivery.
type latency struct {
	Events int           `json:"events"`
	P50    time.Duration `json:"p50ns"`
	P99    time.Duration `json:"p99ns"`
}

// bystanders are consumers that have missed nothing; one after the other gets an event.
type bystanders struct {
	stop  context.CancelFunc
	group sync.WaitGroup
	all   []*queue.Consumer

	mu sync.Mutex // guards the fields below
	ns []int64
}

func startOthers(ctx context.Context, b *queue.Broker) (*bystanders, error) {
	ctx, cancel := context.WithCancel(ctx)
	o := &bystanders{stop: cancel}
	for i := range others {
		q, err := b.Queue(ctx, queue.QueueConfig{Topic: fmt.Sprintf("other/%d", i), Name: "me", From: queue.StartNew, Ephemeral: true})
		if err == nil {
			var c *queue.Consumer
			if c, err = q.Attach(queue.ConsumerConfig{Sink: o}); err == nil {
				o.all = append(o.all, c)
			}
		}
		if err != nil {
			o.close()
			return nil, err
		}
	}
	o.group.Go(func() {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			args := fmt.Appendf(nil, `[%d]`, time.Now().UnixNano())
			m := queue.Message{Topic: fmt.Sprintf("other/%d", i%others), Event: "tick", Args: args}
			if b.PublishAsync(ctx, m, func(queue.Published, error) {}) != nil {
				return // it shows as events that are missing
			}
		}
	})
	return o, nil
}

func (o *bystanders) Deliver(d queue.Delivery) bool {
	var sent int64
	if _, err := fmt.Sscanf(string(d.Args), "[%d]", &sent); err == nil {
		o.mu.Lock()
		o.ns = append(o.ns, time.Now().UnixNano()-sent)
		o.mu.Unlock()
	}
	return true
}

func (o *bystanders) Gap(queue.Gap) {}
func (o *bystanders) Flush()        {}

// take returns the latency since it was called last.
func (o *bystanders) take() latency {
	o.mu.Lock()
	ns := o.ns
	o.ns = nil
	o.mu.Unlock()
	if len(ns) == 0 {
		return latency{}
	}
	return latency{len(ns), percentile(ns, 0.5), percentile(ns, 0.99)}
}

func (o *bystanders) close() {
	o.stop()
	o.group.Wait()
	for _, c := range o.all {
		c.Close()
	}
}
