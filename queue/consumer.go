package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

const (
	defaultPrefetch = 64
	maxPrefetch     = 1024
)

// Sink takes what a consumer gets. Its methods are called by one goroutine at a time, which serves other consumers too: they
// must not block. No lock of this package is held meanwhile, so a sink may call any method of its consumer.
type Sink interface {
	// Deliver hands over the next event. It returns false if there is no room for it now: the event is kept, or given to
	// another consumer of a shared queue, and nothing more comes until [Consumer.Resume].
	Deliver(d Delivery) bool

	// Gap tells that events before the next one are missing.
	Gap(g Gap)

	// Flush is called after the last of a number of calls.
	Flush()
}

// Gap tells that events of a topic in (From, To] may be missing, and are lost to this reader. It is told to every consumer of
// the queue until something at or after To was acknowledged: To itself may be.
type Gap struct {
	Topic    string // or pattern, of the queue
	From, To Offset
	Cause    string // "retention": too old, too many, or deleted; "loss": the operator accepted a loss of the store
}

// Error says what is missing; a Gap is an error where events are iterated over.
func (g *Gap) Error() string {
	return fmt.Sprintf("events of %q after %s up to %s may be missing: %s", g.Topic, g.From, g.To, g.Cause)
}

// ConsumerConfig configures [Queue.Attach].
type ConsumerConfig struct {
	Sink Sink   // required
	Name string // who it is, for people who look at the queue; may be empty

	// Context is that of whoever wants the consumer: once it has ended nothing is attached, and nothing taken over. A consumer that is
	// attached does not end with it. nil: somebody always wants it.
	Context context.Context

	// Manual has each event acknowledged on its own, by the methods of its [Delivery]; else [Consumer.AckThrough]
	// acknowledges all up to one. An event that is not acknowledged within the queue's AckTimeout is handed out again.
	Manual bool

	// Prefetch bounds the events that are handed out and not acknowledged: 0 is 64, the most is 1024. An automatic consumer
	// of a personal queue has no such bound.
	Prefetch int

	// Exclusive takes the queue over: its other consumers are closed, and only another exclusive one can be attached as long
	// as this one is.
	Exclusive bool

	// Closed is called once if the consumer is closed by something else than its Close: with an [Error] of code "taken_over",
	// or with [ErrNotFound] when the queue is deleted. It must not block. nil: nobody is told.
	Closed func(error)
}

// Consumer takes the events of a queue. Its methods may be called from any goroutine, from inside its sink too, and do
// nothing once it is closed.
type Consumer struct {
	// static after construction
	queue     *Queue
	reader    *reader
	sink      Sink
	name      string
	leases    bool // what it was handed is in flight, until it is settled
	prefetch  int
	exclusive bool
	ended     func(error)

	closed  atomic.Bool
	resumes atomic.Uint32 // calls of Resume

	touched bool // the sink was called and not flushed; owned by whoever delivers

	// guarded by queue.mu
	inflight map[uint64]lease
	handed   uint64 // events handed out
	sent     uint64 // the last one
	refused  bool   // it had no room, and has not been resumed since
	gaps     []Gap  // to be told before the next event
}

// lease is an event in a consumer's hands.
type lease struct {
	attempt  int
	order    uint64    // Consumer.handed when it was handed out
	deadline time.Time // zero is none
}

// Attach adds a consumer. On a personal queue it gets every event that is not acknowledged, as any other consumer of the queue
// does; on a shared one it gets its share of them. It waits for nothing: events start to arrive at the sink, perhaps before
// Attach has returned. The error is [ErrClosed], [ErrNotFound] if the queue was deleted, an [Error] with code "queue_exclusive", or
// the cause of config.Context.
func (q *Queue) Attach(config ConsumerConfig) (*Consumer, error) {
	if config.Sink == nil {
		return nil, errors.New("attach consumer: no sink")
	}
	c := &Consumer{
		queue: q, reader: q.shared, sink: config.Sink, name: config.Name, leases: config.Manual || q.shared != nil,
		exclusive: config.Exclusive, ended: config.Closed,
	}
	wanted := config.Context
	if wanted == nil {
		wanted = context.Background()
	}
	if c.leases {
		c.prefetch = min(config.Prefetch, maxPrefetch)
		if c.prefetch <= 0 {
			c.prefetch = defaultPrefetch
		}
		c.inflight = make(map[uint64]lease)
	}
	displaced, err := q.join(wanted, c)
	if err != nil {
		return nil, fmt.Errorf("attach consumer to %q: %w", q.topic, err)
	}
	for _, other := range displaced {
		other.end(refuse("taken_over", "queue %q was taken over", q.name))
	}
	if q.shared == nil {
		if !q.broker.workers.push(c.reader) {
			q.detach(c)
			return nil, fmt.Errorf("attach consumer to %q: %w", q.topic, ErrClosed)
		}
	} else if q.broker.isClosed() {
		q.detach(c)
		return nil, fmt.Errorf("attach consumer to %q: %w", q.topic, ErrClosed)
	} else {
		q.shared.kick(true)
	}
	return c, nil
}

// join makes c one of the queue's consumers while it is wanted, and returns those that have to go.
func (q *Queue) join(wanted context.Context, c *Consumer) (displaced []*Consumer, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wanted.Err() != nil {
		return nil, context.Cause(wanted)
	}
	if q.deleted != nil {
		return nil, fmt.Errorf("%w: the queue was deleted", ErrNotFound)
	}
	switch {
	case c.exclusive:
		displaced = slices.Clone(q.consumers)
	case slices.ContainsFunc(q.consumers, func(x *Consumer) bool { return x.exclusive }):
		return nil, refuse("queue_exclusive", "another consumer has queue %q to itself", q.name)
	}
	c.gaps = append(slices.Clone(q.gaps), q.owed...)
	q.owed = nil
	if c.reader == nil {
		r := &reader{queue: q, only: c, alone: [1]*Consumer{c}, pos: q.window.top, place: -1}
		for _, e := range q.window.entries {
			r.redo = append(r.redo, e.seq)
		}
		c.reader = r
	}
	q.consumers = append(q.consumers, c)
	q.freshenLocked()
	return displaced, nil
}

// served returns the consumers of a reader. mu is held.
func (q *Queue) served(r *reader) []*Consumer {
	if r.only != nil {
		return r.alone[:]
	}
	return q.consumers
}

// Close detaches the consumer. What it has not acknowledged is handed out again: to the next consumer of a personal queue, to
// another one of a shared queue. A call of the sink that has begun may still be running when Close returns; no other follows.
func (c *Consumer) Close() {
	if c.closed.Swap(true) {
		return
	}
	if c.reader.only != nil {
		c.reader.close()
	}
	c.queue.detach(c)
}

// end closes the consumer for a reason that it did not have itself.
func (c *Consumer) end(err error) {
	if c.closed.Load() {
		return
	}
	c.Close()
	if c.ended != nil {
		c.ended(err)
	}
}

// Resume tells that the sink has room again after it refused an event.
func (c *Consumer) Resume() {
	if c.closed.Load() {
		return
	}
	c.resumes.Add(1)
	c.queue.change(func() { c.refused = false })
	c.reader.kick(false)
}

func (q *Queue) detach(c *Consumer) {
	save := false
	q.change(func() {
		if !q.removeLocked(c) {
			return
		}
		for seq := range c.inflight {
			q.failLocked(c, seq, "its consumer went away", 0)
		}
		if r := c.reader; r.only != nil {
			if r.timer != nil {
				r.timer.Stop()
			}
			r.redo, r.later, r.announce, r.timer = nil, nil, nil, nil
		}
		save = len(q.consumers) == 0 && q.dirty
	})
	if save {
		q.broker.save(q)
	}
}

func (q *Queue) removeLocked(c *Consumer) bool {
	i := slices.Index(q.consumers, c)
	if i < 0 {
		return false
	}
	q.consumers = slices.Delete(q.consumers, i, i+1)
	return true
}
