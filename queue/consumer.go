package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
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
	// Deliver hands over the next event. It returns false if there is no room for it now: the event is kept, and nothing
	// more comes until [Consumer.Resume].
	Deliver(d Delivery) bool

	// Gap tells that events before the next one are missing.
	Gap(g Gap)

	// Flush is called after the last of a number of calls.
	Flush()
}

// Delivery is an event on its way to one consumer.
type Delivery struct {
	*Event
	Attempt int  // 1, and one more for each time that it was handed out before without being acknowledged
	Gap     *Gap // only in [Queue.Consume]: what is missing right before this event
}

// Gap tells that events of a topic in (From, To] may be missing, and are lost to this reader. It is told to every consumer of
// the queue until something at or after To was acknowledged: To itself may be.
type Gap struct {
	Topic    string
	From, To Offset
	Cause    string // "retention": too old, or too many; "loss": the operator accepted a loss of the store
}

// ConsumerConfig configures [Queue.Attach].
type ConsumerConfig struct {
	Manual   bool // each event is acknowledged on its own; else [Consumer.AckThrough] acknowledges all up to one
	Prefetch int  // manual: events handed out and not acknowledged, at most; 0 is 64, the most is 1024
	Sink     Sink // required
}

// Consumer takes the events of a queue. Its methods may be called from any goroutine, from inside its sink too, and do
// nothing once it is closed.
type Consumer struct {
	// static after construction
	queue    *Queue
	sink     Sink
	manual   bool
	prefetch int

	closed atomic.Bool

	// owned by whoever delivers: the tail while live, else the worker that serves it
	pos  uint64   // every event of the topic up to here was delivered, or skipped for a reason
	skip []uint64 // acknowledged before it attached
	gaps []Gap    // to be told first

	place int // in its audience, -1 outside; guarded by hub.mu

	mu         sync.Mutex // guards the fields below
	state      state
	delivering bool // live, and the tail is calling the sink
	resumed    bool // Resume was called while the sink was being served
	work       bool // there is something that only a worker can do

	// guarded by queue.mu; manual only
	inflight map[uint64]struct{} // handed out, neither acknowledged nor to be handed out again
	redo     []uint64            // to be handed out again now
	later    []uint64            // to be handed out again when their entry is due
	timer    *time.Timer         // for the first of later
	timerDue time.Time
	blocked  bool // stopped because too much is unacknowledged
}

// state says who may deliver. The lock order is hub.mu, Consumer.mu; Queue.mu is taken alone.
type state uint8

const (
	queued  state = iota // a worker will serve it
	running              // a worker serves it
	live                 // the tail serves it
	parked               // nobody does, until it is resumed or woken
)

// Attach adds a consumer that gets every event from the queue's cursor on, except what was acknowledged one by one. It
// waits for nothing: events start to arrive at the sink, perhaps before Attach has returned. The error is [ErrClosed] or
// [ErrDeleted].
func (q *Queue) Attach(config ConsumerConfig) (*Consumer, error) {
	if config.Sink == nil {
		return nil, errors.New("attach consumer: no sink")
	}
	c := &Consumer{queue: q, sink: config.Sink, manual: config.Manual, place: -1}
	if c.manual {
		c.prefetch = min(config.Prefetch, maxPrefetch)
		if c.prefetch <= 0 {
			c.prefetch = defaultPrefetch
		}
		c.inflight = make(map[uint64]struct{})
	}
	q.mu.Lock()
	if q.deleted != nil {
		q.mu.Unlock()
		return nil, fmt.Errorf("attach consumer to %q: %w", q.topic, ErrDeleted)
	}
	c.pos = q.window.floor
	c.skip = q.window.acked()
	c.gaps = slices.Clone(q.gaps)
	q.consumers = append(q.consumers, c)
	q.mu.Unlock()
	if !q.broker.workers.push(c) {
		q.detach(c)
		return nil, fmt.Errorf("attach consumer to %q: %w", q.topic, ErrClosed)
	}
	return c, nil
}

// Close detaches the consumer. What it has not acknowledged is delivered again to the queue's next consumer. A call of the
// sink that has begun may still be running when Close returns; no other follows.
func (c *Consumer) Close() {
	if c.closed.Swap(true) {
		return
	}
	c.queue.broker.hub.leave(c)
	c.queue.detach(c)
}

// Resume tells that the sink has room again after it refused an event.
func (c *Consumer) Resume() { c.kick(false) }

// kick brings a consumer to a worker: because its sink has room again or because there is work that the tail can't do.
func (c *Consumer) kick(work bool) {
	c.mu.Lock()
	switch {
	case c.closed.Load():
		c.mu.Unlock()
		return
	case c.state == parked:
		c.state = queued
		c.mu.Unlock()
	case c.state == live && !c.delivering:
		if !work { // it never refused anything
			c.mu.Unlock()
			return
		}
		c.state = queued
		c.mu.Unlock()
		c.queue.broker.hub.leave(c)
	default: // whoever serves it looks at these afterwards
		c.resumed = c.resumed || !work
		c.work = c.work || work
		c.mu.Unlock()
		return
	}
	c.queue.broker.workers.push(c)
}

// turnLive is called with hub.mu held, by the worker that serves the consumer.
func (c *Consumer) turnLive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.work || c.closed.Load() {
		return false
	}
	c.state = live
	return true
}

// begin is called by the worker that took the consumer from the queue.
func (c *Consumer) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.resumed, c.work = running, false, false
	return !c.closed.Load()
}

// park is called by a worker whose consumer can't take more. It returns false if that has changed meanwhile.
func (c *Consumer) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resumed || c.work {
		c.state = queued
		return false
	}
	c.state = parked
	return true
}

// requeue is called by a worker that has more to do for the consumer, after others had their turn.
func (c *Consumer) requeue() {
	c.mu.Lock()
	c.state = queued
	c.mu.Unlock()
}

// deliver hands over the events of its topic in one batch of the tail. The consumer may have become live, or left, after the
// batch was fixed: then it got these events from the index, and pos says so.
func (c *Consumer) deliver(events []*Event) {
	c.mu.Lock()
	if c.state != live || c.closed.Load() {
		c.mu.Unlock()
		return
	}
	c.delivering = true
	c.resumed = false
	c.mu.Unlock()

	called, room := false, true
	for _, e := range events {
		if e.Offset.Seq <= c.pos {
			continue
		}
		if c.closed.Load() {
			break
		}
		var d bool
		if d, room = c.offer(e); !room {
			break
		}
		called = called || d
	}
	if called {
		c.sink.Flush()
	}

	c.mu.Lock()
	c.delivering = false
	next := live
	if !room {
		next = parked
		if c.resumed {
			next = queued
		}
	}
	if c.work {
		next = queued
	}
	c.state = next
	c.mu.Unlock()
	if next == live {
		return
	}
	c.queue.broker.hub.leave(c)
	if next == queued {
		c.queue.broker.workers.push(c)
	}
}

// offer gives the event after pos to the sink. It returns whether the sink got it, and false if there was no room.
func (c *Consumer) offer(e *Event) (delivered, room bool) {
	seq := e.Offset.Seq
	for len(c.skip) > 0 && c.skip[0] < seq {
		c.skip = c.skip[1:]
	}
	if len(c.skip) > 0 && c.skip[0] == seq {
		c.pos = seq
		return false, true
	}
	attempt := 1
	if c.manual {
		var a admission
		if attempt, a = c.queue.admit(c, seq); a != admitted {
			if a == delayed {
				c.pos = seq
				return false, true
			}
			return false, false
		}
	}
	if !c.sink.Deliver(Delivery{Event: e, Attempt: attempt}) {
		c.queue.unadmit(c, seq)
		return false, false
	}
	c.pos = seq
	return true, true
}
