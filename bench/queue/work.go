//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/holdpost/holdpost/bench/load"
	"github.com/holdpost/holdpost/queue"
)

// work is a shared queue whose consumers acknowledge each event on its own.
type work struct {
	Consumers int     `json:"consumers"`
	Prefetch  int     `json:"prefetch"`
	Events    int     `json:"events"`
	Rate      float64 `json:"rate"`      // settled events/s, while the queue works off what has piled up
	CPU       float64 `json:"cpuMicros"` // of the whole process, per event
}

// measureWork lets events pile up, and then has n consumers work them off; each acknowledges from a goroutine of its own.
func measureWork(ctx context.Context, b *queue.Broker, name string, n, prefetch, events int) (*work, error) {
	ctx, cancel := context.WithTimeout(ctx, herdTime)
	defer cancel()
	q, err := b.Queue(ctx, queue.QueueConfig{Topic: name, Name: name, Shared: true, From: queue.StartFirst})
	if err != nil {
		return nil, err
	}
	done := make(chan error, events)
	for i := range events {
		err := b.PublishAsync(ctx, queue.Message{Topic: name, Event: "job", Args: missedArgs(0, i)}, func(_ queue.Published, err error) { done <- err })
		if err != nil {
			return nil, err
		}
	}
	for range events {
		if err := <-done; err != nil {
			return nil, err
		}
	}
	cpu, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for i := range n {
		s := worker{jobs: make(chan queue.Delivery, prefetch), done: done}
		c, err := q.Attach(queue.ConsumerConfig{Sink: s, Name: fmt.Sprint(i), Prefetch: prefetch})
		if err != nil {
			return nil, err
		}
		defer close(s.jobs)
		defer c.Close()
		go s.run()
	}
	for settled := range events {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d events settled: %w", settled, events, context.Cause(ctx))
		}
	}
	took := time.Since(start)
	after, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &work{
		Consumers: n, Prefetch: prefetch, Events: events,
		Rate: float64(events) / took.Seconds(), CPU: float64(after.Sub(cpu).Total.Nanoseconds()) / 1e3 / float64(events),
	}, nil
}

// worker is a consumer with one goroutine that does the work.
type worker struct {
	jobs chan queue.Delivery
	done chan<- error
}

func (w worker) run() {
	for d := range w.jobs {
		w.done <- d.Ack()
	}
}

func (w worker) Deliver(d queue.Delivery) bool {
	select {
	case w.jobs <- d:
		return true
	default:
		return false // not before the prefetch is broken
	}
}

func (w worker) Gap(g queue.Gap) { w.done <- fmt.Errorf("gap %v", g) }
func (w worker) Flush()          {}
