package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Minute
)

// Consume gives the queue's events to h, one at a time and in order, until ctx ends; then it returns the cause of ctx, after
// h has returned. With a closed broker it returns [ErrClosed].
//
// An event is acknowledged when h returns nil. When h returns a [RejectError] it becomes a dead letter; after any other error
// it comes again after a second, the next time after two, and so on, up to fifteen minutes, while later events go on. The
// event is valid as long as anybody refers to it. Of the configuration only Prefetch counts: events that wait for h, at most.
func (q *Queue) Consume(ctx context.Context, config ConsumerConfig, h func(ctx context.Context, d *Delivery) error) error {
	s := &funnel{more: make(chan struct{}, 1)}
	c, err := q.Attach(ConsumerConfig{Manual: true, Prefetch: config.Prefetch, Sink: s})
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		d := s.take()
		if d == nil {
			select {
			case <-s.more:
			case <-ctx.Done():
			case <-q.broker.quit:
				return fmt.Errorf("consume %q: %w", q.topic, ErrClosed)
			}
			continue
		}
		err := h(ctx, d)
		if reject, ok := errors.AsType[*RejectError](err); ok {
			c.Reject(d.Offset, reject.Reason)
		} else if err != nil {
			c.Retry(d.Offset, backoff(d.Attempt))
		} else {
			c.Ack(d.Offset)
		}
	}
}

// backoff doubles with every attempt, and is spread by a fifth either way.
func backoff(attempt int) time.Duration {
	d := lastRetry
	if attempt <= 10 {
		d = min(d, firstRetry<<(attempt-1))
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// funnel is a sink that keeps deliveries for one goroutine. Prefetch bounds it.
type funnel struct {
	more chan struct{}

	mu    sync.Mutex // guards the fields below
	queue []*Delivery
	gap   *Gap
}

func (s *funnel) Deliver(d Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Gap, s.gap = s.gap, nil
	s.queue = append(s.queue, &d)
	return true
}

func (s *funnel) Gap(g Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gap != nil {
		g.From = s.gap.From
	}
	s.gap = &g
}

func (s *funnel) Flush() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *funnel) take() *Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil
	}
	d := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	return d
}
