package queue

import (
	"slices"
	"time"
)

// What comes again: events in redo now, events in later when they are due. redo is ascending, and has each event once.

func (r *reader) leases() bool { return r.only == nil || r.only.leases }

// redoLocked lets an event be handed out again, and has the reader woken for it. queue.mu is held.
func (r *reader) redoLocked(seq uint64) {
	r.againLocked(seq)
	r.fresh = true
}

func (r *reader) againLocked(seq uint64) {
	if r.closed.Load() {
		return
	}
	if i, ok := slices.BinarySearch(r.redo, seq); !ok {
		r.redo = slices.Insert(r.redo, i, seq)
	}
}

// laterLocked lets an event be handed out again when it is due. queue.mu is held.
func (r *reader) laterLocked(w *entry) {
	if r.closed.Load() {
		return
	}
	r.later = append(r.later, w.seq)
	r.armLocked(w.due)
}

// armLocked has ripen called at a time, or earlier. queue.mu is held.
func (r *reader) armLocked(at time.Time) {
	if r.timer != nil {
		if !at.Before(r.timerDue) {
			return
		}
		r.timer.Stop()
	}
	r.timerDue = at
	r.timer = time.AfterFunc(max(0, time.Until(at)), r.ripen)
}

// ripen moves what is due from later to redo, and takes back what was not acknowledged in time.
func (r *reader) ripen() {
	q := r.queue
	q.change(func() {
		r.timer = nil
		if r.closed.Load() {
			return
		}
		now := time.Now()
		var next time.Time
		for _, c := range q.served(r) {
			next = earlier(next, q.expireLocked(c, now))
		}
		if q.pulled != nil {
			next = earlier(next, q.expireLocked(q.pulled, now))
		}
		r.later = slices.DeleteFunc(r.later, func(seq uint64) bool {
			w := q.window.find(seq)
			switch {
			case w == nil || w.dying:
				return true
			case w.due.After(now):
				next = earlier(next, w.due)
				return false
			}
			r.redoLocked(seq)
			return true
		})
		if !next.IsZero() {
			r.armLocked(next)
		}
	})
}

// expireLocked takes back what a consumer has had for too long, and returns when the next of its leases ends, zero for never.
func (q *Queue) expireLocked(c *Consumer, now time.Time) (next time.Time) {
	for seq, l := range c.inflight {
		switch {
		case l.deadline.IsZero():
		case l.deadline.After(now):
			next = earlier(next, l.deadline)
		default:
			q.failLocked(c, seq, "it was not acknowledged in time", q.backoff(l.attempt))
		}
	}
	return next
}

// earlier takes the zero time for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// failLocked counts a delivery that came to nothing. The event comes again after the delay.
func (q *Queue) failLocked(c *Consumer, seq uint64, why string, delay time.Duration) {
	w := q.releaseLocked(c, seq)
	if w == nil {
		return
	}
	q.clearedLocked(w)
	w.tries++
	q.noteLocked(nacked, seq, c, int(w.tries), why)
	w.why = why
	w.announced = false
	w.due = time.Time{}
	q.touchLocked()
	if delay > 0 && !q.exhausted(w) {
		w.due = time.Now().Add(delay)
		c.reader.laterLocked(w)
	} else {
		c.reader.redoLocked(seq)
	}
}

// firstAgainLocked says whether an event is to be handed out again now, which comes before any that is new: since a worker looked
// last, somebody may have given one back, or the store may know of a delivery by now; whoever did that has the reader woken.
func (q *Queue) firstAgainLocked(r *reader) bool {
	r.redo = slices.DeleteFunc(r.redo, func(seq uint64) bool { return !q.waitsLocked(r, seq) })
	return len(r.redo) > 0
}

// waitsLocked says whether an event of redo is still to be handed out: neither settled meanwhile, nor in somebody's hands.
func (q *Queue) waitsLocked(r *reader, seq uint64) bool {
	w := q.window.find(seq)
	if w == nil || w.dying || w.holder != nil {
		return false
	}
	if r.only == nil {
		return true
	}
	_, has := r.only.inflight[seq]
	return !has
}

// nextAgain takes the next event to be handed out again. With room false there is one, and nobody who can take it.
func (q *Queue) nextAgain(r *reader) (seq uint64, ok, room bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(r.redo) > 0 {
		if q.slotsLocked(r) == 0 {
			r.blocked = true
			return 0, false, false
		}
		i, ok := slices.BinarySearch(r.redo, q.trial) // all others wait for its end
		if !ok {
			i = 0
		}
		seq = r.redo[i]
		r.redo = slices.Delete(r.redo, i, i+1)
		if q.waitsLocked(r, seq) {
			return seq, true, true
		}
	}
	return 0, false, true
}

// putBack undoes nextAgain.
func (q *Queue) putBack(r *reader, seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.againLocked(seq)
}
