package queue

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Pull takes up to most events of a shared queue, and waits for the first of them, but no longer than wait; then it returns
// none. Each is in flight for the queue's AckTimeout, and is settled by the methods of its Delivery, by whoever finds it with
// [Queue.InFlight], or comes again. most is as ConsumerConfig.Prefetch. Errors: those of [Queue.Attach], an [Error] of code
// "invalid_queue" for a personal queue, and the cause of ctx when it ended first.
func (q *Queue) Pull(ctx context.Context, most int, wait time.Duration) ([]Delivery, error) {
	if q.shared == nil {
		return nil, fmt.Errorf("pull from %q: %w", q.topic, refuse("invalid_queue", "queue %q is personal: its events are not pulled", q.name))
	}
	s := &basket{more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	c, err := q.Attach(ConsumerConfig{Sink: s, Name: "pull", Prefetch: most, Closed: func(err error) { ended <- err }})
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-s.more:
	case <-timer.C:
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-q.broker.quit:
		err = ErrClosed
	}
	got := q.unpull(c, s)
	if len(got) == 0 && err != nil {
		return nil, fmt.Errorf("pull from %q: %w", q.topic, err)
	}
	return got, nil
}

// unpull detaches the consumer of a Pull, and keeps in flight what it got.
func (q *Queue) unpull(c *Consumer, s *basket) []Delivery {
	c.closed.Store(true)
	got, gap := s.empty()
	q.change(func() {
		for i, d := range got {
			seq := d.Offset.Seq
			l, ok := c.inflight[seq]
			if !ok {
				continue // the queue was taken over: it is on its way to somebody else, and that shows when it is settled
			}
			delete(c.inflight, seq)
			q.pulled.inflight[seq] = l
			if w := q.window.find(seq); w != nil {
				w.holder = q.pulled
			}
			got[i].to = q.pulled
		}
		for seq := range c.inflight { // the basket has refused it, or is about to
			q.releaseLocked(c, seq)
		}
		if gap != nil {
			q.owed = append(q.owed, *gap)
		}
		q.removeLocked(c)
	})
	return got
}

// InFlight returns an event that a consumer or a caller of [Queue.Pull] was handed and has not settled, to settle it. attempt is
// that of its Delivery. The error is an [Error] of code "not_in_flight".
func (q *Queue) InFlight(o Offset, attempt int) (Delivery, error) {
	d := Delivery{Event: &Event{Topic: q.topic, Offset: o}, Attempt: attempt, to: q.holder(o, attempt)}
	if d.to == nil {
		return Delivery{}, fmt.Errorf("queue %q of %q: %w", q.name, q.topic, errNotInFlight)
	}
	e, err := q.lookup(o.Seq)
	if err != nil {
		return Delivery{}, fmt.Errorf("queue %q of %q: %w", q.name, q.topic, err)
	}
	if e != nil { // else retention took it meanwhile
		d.Event = e
	}
	return d, nil
}

// holder returns who has an event in hand, or nil.
func (q *Queue) holder(o Offset, attempt int) *Consumer {
	q.mu.Lock()
	defer q.mu.Unlock()
	if o.Epoch != q.broker.epoch {
		return nil
	}
	has := func(c *Consumer) bool {
		l, ok := c.inflight[o.Seq]
		return ok && l.attempt == attempt
	}
	if q.pulled != nil && has(q.pulled) {
		return q.pulled
	}
	for _, c := range q.consumers {
		if has(c) {
			return c
		}
	}
	return nil
}

// basket is the sink of a Pull.
type basket struct {
	more chan struct{}

	mu     sync.Mutex // guards the fields below
	closed bool
	got    []Delivery
	gap    *Gap
}

func (s *basket) Deliver(d Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	d.Gap, s.gap = s.gap, nil
	s.got = append(s.got, d)
	return true
}

func (s *basket) Gap(g Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gap = merge(s.gap, g)
}

func (s *basket) Flush() {
	s.mu.Lock()
	some := len(s.got) > 0
	s.mu.Unlock()
	if some {
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

func (s *basket) empty() ([]Delivery, *Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.got, s.gap
}

// merge adds a gap to one that nobody was told of yet.
func merge(untold *Gap, g Gap) *Gap {
	if untold != nil {
		g.From = untold.From
	}
	return &g
}
