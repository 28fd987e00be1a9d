package queue

import (
	"slices"
	"time"
)

// Delivery is an event on its way to one consumer. Its methods settle it: each may be called from any goroutine, and returns an
// [Error] of code "not_in_flight" when that comes too late, because the event was settled, its time was up, or the consumer is
// closed; then nothing is changed. They wait for nothing.
type Delivery struct {
	*Event
	Attempt int  // 1, and one more for each time that it was handed out before without being acknowledged
	Gap     *Gap // only in [Queue.Consume]: what is missing right before this event

	to *Consumer
}

var errNotInFlight = refuse("not_in_flight", "the event is not in flight")

// Ack acknowledges the event: it does not come again. To an automatic consumer of a personal queue it acknowledges all up to the
// event.
func (d Delivery) Ack() error {
	switch c := d.to; {
	case c == nil:
		return errNotInFlight
	case !c.leases:
		c.AckThrough(d.Offset)
		return nil
	default:
		return c.settle(d.Offset.Seq, d.Attempt, func() {
			c.queue.noteLocked(acked, d.Offset.Seq, c, d.Attempt, "")
			c.queue.ackLocked(d.Offset.Seq)
		})
	}
}

// Retry gives the event back: it is handed out again after the delay, which a restart does not forget. A negative delay is the
// queue's Backoff. After its last delivery it becomes a dead letter instead.
func (d Delivery) Retry(after time.Duration) error {
	c := d.to
	if c == nil || !c.leases {
		return errNotInFlight
	}
	q := c.queue
	return c.settle(d.Offset.Seq, d.Attempt, func() {
		if after < 0 {
			after = q.backoff(d.Attempt)
		}
		q.failLocked(c, d.Offset.Seq, "its consumer gave it back", after)
	})
}

// Reject gives the event up: it becomes a dead letter with the reason, which is cut at 1024 bytes, and is acknowledged once that
// is stored. If it can't be stored the event is handed out again.
func (d Delivery) Reject(reason string) error {
	c := d.to
	if c == nil || !c.leases {
		return errNotInFlight
	}
	err := c.settle(d.Offset.Seq, d.Attempt, func() {
		if w := c.queue.window.find(d.Offset.Seq); w != nil {
			w.dying = true
			c.queue.clearedLocked(w)
		}
	})
	if err == nil {
		c.queue.sendDead(d.Event, reason, d.Attempt)
	}
	return err
}

// Extend starts the AckTimeout anew: somebody is still at work on the event.
func (d Delivery) Extend() error {
	c := d.to
	if c == nil || !c.leases {
		return errNotInFlight
	}
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := c.inflight[d.Offset.Seq]
	if !ok || l.attempt != d.Attempt {
		return errNotInFlight
	}
	if !l.deadline.IsZero() {
		l.deadline = time.Now().Add(q.now.AckTimeout)
		c.inflight[d.Offset.Seq] = l
	}
	return nil
}

// settle ends the lease of a delivery.
func (c *Consumer) settle(seq uint64, attempt int, f func()) (err error) {
	q := c.queue
	q.change(func() {
		if l, ok := c.inflight[seq]; !ok || l.attempt != attempt {
			err = errNotInFlight
			return
		}
		f()
		if _, ok := c.inflight[seq]; ok {
			q.releaseLocked(c, seq)
		}
	})
	return err
}

// AckThrough acknowledges every event of a personal queue up to and including o; of a shared queue every event that this
// consumer was handed, up to o and including it. Offsets beyond the log and of epochs that nobody remembers are ignored. A
// cursor never moves back.
func (c *Consumer) AckThrough(o Offset) {
	if c.closed.Load() {
		return
	}
	q := c.queue
	seq, _, ok := q.broker.locate(q.topic, o)
	if !ok {
		return
	}
	if q.shared == nil {
		q.ackThrough(seq, c)
		return
	}
	q.change(func() {
		upto, ok := c.inflight[seq]
		if !ok {
			return
		}
		for seq, l := range c.inflight {
			if l.order <= upto.order {
				q.noteLocked(acked, seq, c, l.attempt, "")
				q.ackLocked(seq)
				delete(c.inflight, seq)
			}
		}
	})
}

// ackThrough acknowledges everything up to an event; c is who does, or nil.
func (q *Queue) ackThrough(seq uint64, c *Consumer) {
	q.change(func() {
		if seq > q.window.floor() {
			q.noteLocked(ackedThrough, seq, c, 0, "")
		}
		q.dropThroughLocked(seq)
		if q.window.settleThrough(seq) {
			q.touchLocked()
		}
		q.pastGapsLocked(seq)
		for _, c := range q.consumers {
			for s := range c.inflight {
				if s <= seq {
					delete(c.inflight, s)
				}
			}
		}
	})
}

// ackLocked acknowledges one event.
func (q *Queue) ackLocked(seq uint64) {
	w := q.window.settle(seq)
	if w == nil {
		return
	}
	q.pastGapsLocked(seq)
	q.touchLocked()
	q.dropLocked(w)
}

// pastGapsLocked forgets the losses once an event after them was acknowledged.
func (q *Queue) pastGapsLocked(seq uint64) {
	if len(q.gaps) > 0 && seq > q.broker.lostBefore(q.gaps) {
		q.gaps = nil
		q.touchLocked()
	}
}

// dropLocked lets those go that waited for an event which is settled now: the next with the same key, and, after a trial, all.
func (q *Queue) dropLocked(w *entry) {
	q.clearedLocked(w)
	if w.key == "" {
		return
	}
	line := q.keys[w.key]
	i := slices.Index(line, w.seq)
	if line = slices.Delete(line, i, i+1); len(line) == 0 {
		delete(q.keys, w.key)
		return
	}
	q.keys[w.key] = line
	if i == 0 {
		q.shared.redoLocked(line[0])
	}
}

// forgetLocked drops what is known about events that retention took.
func (q *Queue) forgetLocked(through uint64) {
	q.dropThroughLocked(through)
	q.window.forget(through)
}

func (q *Queue) dropThroughLocked(seq uint64) {
	for _, w := range q.window.entries {
		if w.seq > seq {
			return
		}
		q.dropLocked(w)
	}
}
