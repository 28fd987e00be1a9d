package queue

import (
	"context"
	"fmt"
	"sync"
)

// Consume gives the queue's events to h, one at a time, until ctx ends; then it returns the cause of ctx, after h has returned.
// With a closed broker it returns [ErrClosed], and when the consumer is closed otherwise what [ConsumerConfig] says about that.
// It is the same as any other consumer to the queue: call it several times to work on a shared queue in parallel.
//
// An event is acknowledged when h returns nil, unless h has settled it by a method of d. After an error it comes again when
// the queue's Backoff is over, while later events go on. An h that takes longer than the queue's AckTimeout calls Extend now
// and then. The event is valid as long as anybody refers to it.
//
// Of the configuration Name, Prefetch and Exclusive count. Prefetch bounds the events that wait for h: of a shared queue one by
// default, so that none waits here while another consumer is idle.
func (q *Queue) Consume(ctx context.Context, config ConsumerConfig, h func(ctx context.Context, d *Delivery) error) error {
	if config.Prefetch == 0 && q.shared != nil {
		config.Prefetch = 1
	}
	s := &funnel{more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	c, err := q.Attach(ConsumerConfig{
		Sink: s, Name: config.Name, Manual: true, Prefetch: config.Prefetch, Exclusive: config.Exclusive,
		Closed: func(err error) { ended <- err },
	})
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
			case err := <-ended:
				return fmt.Errorf("consume %q: %w", q.topic, err)
			case <-q.broker.quit:
				return fmt.Errorf("consume %q: %w", q.topic, ErrClosed)
			}
			continue
		}
		if d.Extend() != nil { // it waited too long, and comes again
			continue
		}
		handling, end := d.Begin(ctx)
		err := h(handling, d)
		end(err)
		if err != nil {
			d.Retry(-1)
		} else {
			d.Ack()
		}
	}
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
	s.gap = merge(s.gap, g)
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
