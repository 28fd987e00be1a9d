package queue

import (
	"sync"
	"sync/atomic"
	"time"
)

// reader goes through the events of a queue in order and hands them to its consumers. A personal queue has one for each
// consumer, a shared queue has one for all.
type reader struct {
	// static after construction
	queue *Queue
	only  *Consumer // of a personal queue; nil: the queue's consumers in turn
	alone [1]*Consumer

	closed atomic.Bool

	// owned by whoever delivers: the tail while live, else the worker that serves it
	pos     uint64      // every event up to here was handed out, or skipped for a reason
	flushes []*Consumer // whose sinks were called since the last flush
	trims   uint64      // Broker.trims when trimmed was found
	trimmed uint64      // of a pattern: what retention took

	place int // in its audience, -1 outside; guarded by hub.mu

	mu         sync.Mutex // guards the fields below
	state      state
	delivering bool // live, and the tail is calling a sink
	resumed    bool // Resume was called while a sink was being served
	work       bool // there is something that only a worker can do

	// guarded by queue.mu
	redo       []uint64 // to be handed out again now
	fresh      bool     // something was added to redo
	later      []uint64 // to be handed out again when their entry is due
	announce   []uint64 // to be handed out once the store knows of it
	announcing bool     // the store is about to
	blocked    bool     // stopped for want of room
	timer      *time.Timer
	timerDue   time.Time
}

// state says who may deliver. The lock order is hub.mu, reader.mu; Queue.mu is taken alone.
type state uint8

const (
	queued  state = iota // a worker will serve it
	running              // a worker serves it
	live                 // the tail serves it
	parked               // nobody does, until it is resumed or woken
)

// kick brings a reader to a worker: because a sink has room again or because there is work that the tail can't do.
func (r *reader) kick(work bool) {
	r.mu.Lock()
	switch {
	case r.closed.Load():
		r.mu.Unlock()
		return
	case r.state == parked:
		r.state = queued
		r.mu.Unlock()
	case r.state == live && !r.delivering:
		if !work { // nobody has refused anything since it became live, or others had room
			r.mu.Unlock()
			return
		}
		r.state = queued
		r.mu.Unlock()
		r.queue.broker.hub.leave(r)
	default: // whoever serves it looks at these afterwards
		r.resumed = r.resumed || !work
		r.work = r.work || work
		r.mu.Unlock()
		return
	}
	r.queue.broker.workers.push(r)
}

func kick(rs []*reader) {
	for _, r := range rs {
		r.kick(true)
	}
}

// close ends the reader. A delivery that has begun may still be running.
func (r *reader) close() {
	if !r.closed.Swap(true) {
		r.queue.broker.hub.leave(r)
	}
}

// turnLive is called with hub.mu held, by the worker that serves the reader.
func (r *reader) turnLive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.work || r.closed.Load() {
		return false
	}
	r.state = live
	return true
}

// begin is called by the worker that took the reader from the line.
func (r *reader) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.resumed, r.work = running, false, false
	return !r.closed.Load()
}

// park is called by a worker when nobody can take more. It returns false if that has changed meanwhile.
func (r *reader) park() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resumed || r.work {
		r.state = queued
		return false
	}
	r.state = parked
	return true
}

// requeue is called by a worker that has more to do for the reader, after others had their turn.
func (r *reader) requeue() {
	r.mu.Lock()
	r.state = queued
	r.mu.Unlock()
}

// deliver hands over the events of its topics in one batch of the tail. The reader may have become live, or left, after the
// batch was fixed: then these events came from the index, and pos says so.
func (r *reader) deliver(events []*Event) {
	r.mu.Lock()
	if r.state != live || r.closed.Load() {
		r.mu.Unlock()
		return
	}
	r.delivering = true
	r.resumed = false
	r.mu.Unlock()

	room := true
	for _, e := range events {
		if e.Offset.Seq <= r.pos {
			continue
		}
		if r.closed.Load() {
			break
		}
		if room = r.hand(e); !room {
			break
		}
	}
	r.flush()
	r.queue.announce(r)

	r.mu.Lock()
	r.delivering = false
	next := live
	if !room {
		next = parked
		if r.resumed {
			next = queued
		}
	}
	if r.work {
		next = queued
	}
	r.state = next
	r.mu.Unlock()
	if next == live {
		return
	}
	r.queue.broker.hub.leave(r)
	if next == queued {
		r.queue.broker.workers.push(r)
	}
}

// hand gives an event to a consumer, if there is one for it. It returns false if there was no room.
func (r *reader) hand(e *Event) (room bool) {
	seq := e.Offset.Seq
	for {
		c, attempt, v := r.queue.admit(r, e)
		switch v {
		case stopped:
			return false
		case spent:
			r.queue.bury(e, attempt)
			fallthrough
		case passed:
			r.pos = max(r.pos, seq)
			return true
		}
		resumes := c.resumes.Load()
		if c.sink.Deliver(Delivery{Event: e, Attempt: attempt, to: c}) {
			r.pos = max(r.pos, seq)
			r.touch(c)
			return true
		}
		if !r.queue.takeBack(c, seq, attempt, resumes) {
			return false // it was resumed meanwhile, and is served again in its turn
		}
	}
}

func (r *reader) touch(c *Consumer) {
	if !c.touched {
		c.touched = true
		r.flushes = append(r.flushes, c)
	}
}

// flush tells the sinks that were called that this is all for now.
func (r *reader) flush() {
	for i, c := range r.flushes {
		c.touched = false
		c.sink.Flush()
		r.flushes[i] = nil
	}
	r.flushes = r.flushes[:0]
}

// tellGaps tells the consumers what is missing before the next event.
func (r *reader) tellGaps() {
	type told struct {
		c    *Consumer
		gaps []Gap
	}
	var all []told
	q := r.queue
	q.mu.Lock()
	for _, c := range q.served(r) {
		if len(c.gaps) > 0 && !c.closed.Load() {
			all = append(all, told{c, c.gaps})
			c.gaps = nil
		}
	}
	q.mu.Unlock()
	for _, x := range all {
		for _, g := range x.gaps {
			x.c.sink.Gap(g)
		}
		r.touch(x.c)
	}
}
