//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/bench/load"
	"github.com/holdpost/holdpost/queue"
)

// replay is one personal queue that reads a topic from its first event on.
type replay struct {
	Events int     `json:"events"`
	Rate   float64 `json:"rate"`      // events/s
	CPU    float64 `json:"cpuMicros"` // of the whole process, per event
}

func measureReplay(ctx context.Context, b *queue.Broker, events, bytes int) (*replay, error) {
	ctx, cancel := context.WithTimeout(ctx, herdTime)
	defer cancel()
	const topic = "replay"
	args := payload(bytes)
	stored := make(chan error, events)
	for range events {
		if err := b.PublishAsync(ctx, queue.Message{Topic: topic, Event: "tick", Args: args}, func(_ queue.Published, err error) { stored <- err }); err != nil {
			return nil, err
		}
	}
	for range events {
		if err := <-stored; err != nil {
			return nil, err
		}
	}
	q, err := b.Queue(ctx, queue.QueueConfig{Topic: topic, Name: "reader", From: queue.StartFirst})
	if err != nil {
		return nil, err
	}
	if n, err := q.Unread(ctx); err != nil || n == 0 { // which waits for the index
		return nil, fmt.Errorf("%d unread events, %w", n, err)
	}
	cpu, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	r := &reader{left: int64(events), done: make(chan struct{})}
	start := time.Now()
	c, err := q.Attach(queue.ConsumerConfig{Sink: r})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d events are missing: %w", atomic.LoadInt64(&r.left), context.Cause(ctx))
	}
	took := time.Since(start)
	after, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &replay{Events: events, Rate: float64(events) / took.Seconds(), CPU: float64(after.Sub(cpu).Total.Nanoseconds()) / 1e3 / float64(events)}, nil
}

// reader counts what comes.
type reader struct {
	left int64
	done chan struct{}
}

func (r *reader) Deliver(queue.Delivery) bool {
	if atomic.AddInt64(&r.left, -1) == 0 {
		close(r.done)
	}
	return true
}

func (r *reader) Gap(queue.Gap) {}
func (r *reader) Flush()        {}
