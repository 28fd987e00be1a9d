package queue

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Minute
)

// verdict says what becomes of an event that a reader has come to.
type verdict int

const (
	handed  verdict = iota // to the consumer that admit returned
	passed                 // it is not for this queue, is settled, or will come again by itself
	stopped                // nobody can take it now
	spent                  // it was delivered too often
)

// admit decides about an event that the reader has come to, in order or again, and puts it in flight if somebody can take it.
// One that has an entry the reader has passed, whatever the verdict: if nobody can take it now it comes again.
func (q *Queue) admit(r *reader, e *Event) (to *Consumer, attempt int, v verdict) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.paused || q.deleted != nil {
		r.blocked = true
		return nil, 0, stopped
	}
	seq := e.Offset.Seq
	if seq <= q.purged || !q.wants(e) {
		q.passLocked(r, seq)
		return nil, 0, passed
	}
	w := q.window.find(seq)
	if q.mustWait(r, w, seq) {
		return nil, 0, q.stopLocked(r, w)
	}
	if w == nil && seq > q.window.top && r.leases() {
		if len(q.window.entries) >= q.now.MaxPending || q.firstAgainLocked(r) {
			r.blocked = true
			return nil, 0, stopped
		}
		w = q.window.open(seq)
		r.pos = max(r.pos, seq)
	}
	if w == nil && r.only == nil {
		return nil, 0, passed // acknowledged
	}
	now := time.Now()
	if q.broker.expired(e) {
		q.noteLocked(expired, seq, nil, 0, "")
		q.ackLocked(seq) // nobody is to get it any more
		q.passLocked(r, seq)
		return nil, 0, passed
	}
	if w != nil {
		switch {
		case w.dying || w.holder != nil || q.holdLocked(w, e):
			return nil, 0, passed
		case w.due.After(now):
			r.laterLocked(w)
			return nil, 0, passed
		case q.exhausted(w):
			w.dying = true
			return nil, int(w.tries), spent
		case q.careful(seq) && !w.announced:
			if w.suspect {
				q.trial = seq
			}
			r.announce = append(r.announce, seq)
			return nil, 0, passed
		}
	}
	c := q.pickLocked(r)
	if c == nil {
		return nil, 0, q.stopLocked(r, w)
	}
	return c, q.leaseLocked(c, w, seq, now), handed
}

// stopLocked has the reader woken when there is room, and the event with this entry, if it has one, handed out then.
func (q *Queue) stopLocked(r *reader, w *entry) verdict {
	r.blocked = true
	if w != nil {
		r.againLocked(w.seq)
	}
	return stopped
}

// leaseLocked puts an event in flight. w is nil for an automatic consumer, and for what another consumer of a personal queue
// has acknowledged.
func (q *Queue) leaseLocked(c *Consumer, w *entry, seq uint64, now time.Time) (attempt int) {
	attempt = 1
	if w != nil {
		attempt += int(w.tries)
	}
	c.sent = seq
	q.noteLocked(delivered, seq, c, attempt, "")
	if !c.leases {
		return attempt
	}
	c.handed++
	l := lease{attempt: attempt, order: c.handed}
	if q.now.AckTimeout > 0 {
		l.deadline = now.Add(q.now.AckTimeout)
		c.reader.armLocked(l.deadline)
	}
	c.inflight[seq] = l
	if w != nil {
		w.flying++
		if c.reader.only == nil {
			w.holder = c
		}
	}
	return attempt
}

// wants says whether an event is for this queue.
func (q *Queue) wants(e *Event) bool { return q.now.wants(e, q.id) }

func (s *settings) wants(e *Event, queue string) bool {
	return (len(s.Events) == 0 || slices.Contains(s.Events, e.Name)) && (e.Queue == "" || e.Queue == queue)
}

// passLocked moves the window over an event that the queue does not want. That alone does not have the cursor saved: to pass
// over it again after a restart costs less.
func (q *Queue) passLocked(r *reader, seq uint64) {
	if !r.leases() && r.only.sent > q.window.top {
		return // what was handed out below is not acknowledged
	}
	q.window.top = max(q.window.top, seq)
}

// holdLocked holds an event back while an earlier one with its key is not settled.
func (q *Queue) holdLocked(w *entry, e *Event) bool {
	if !q.now.Ordered || e.Key == "" {
		return false
	}
	if w.key == "" {
		w.key = e.Key
		q.keys[e.Key] = append(q.keys[e.Key], w.seq)
	}
	return q.keys[e.Key][0] != w.seq
}

// exhausted says whether an event was delivered as often as the queue allows.
func (q *Queue) exhausted(w *entry) bool {
	return q.now.MaxDeliveries > 0 && int(w.tries) >= q.now.MaxDeliveries
}

// pickLocked returns a consumer that can take an event, the next in turn, or nil.
func (q *Queue) pickLocked(r *reader) *Consumer {
	if r.only != nil {
		if r.only.roomLocked() > 0 {
			return r.only
		}
		return nil
	}
	for range q.consumers {
		q.turn++
		if c := q.consumers[q.turn%len(q.consumers)]; c.roomLocked() > 0 {
			return c
		}
	}
	return nil
}

// roomLocked returns how many more events the consumer may get.
func (c *Consumer) roomLocked() int {
	switch {
	case c.refused || c.closed.Load():
		return 0
	case !c.leases:
		return sliceEvents
	}
	return max(0, c.prefetch-len(c.inflight))
}

// slotsLocked returns how many events the consumers of a reader may get.
func (q *Queue) slotsLocked(r *reader) int {
	if q.paused || q.deleted != nil {
		return 0
	}
	n := 0
	for _, c := range q.served(r) {
		n += c.roomLocked()
	}
	return n
}

// credit returns how many new events are worth reading, up to most; with 0 the reader is woken when that changes.
func (q *Queue) credit(r *reader, most int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.slotsLocked(r)
	if r.leases() {
		n = min(n, q.now.MaxPending-len(q.window.entries))
	}
	if n <= 0 {
		r.blocked = true
		return 0
	}
	if len(q.now.Events) > 0 { // who knows how many of them it wants
		return most
	}
	return min(n, most)
}

// takeBack takes back an event that the sink refused. It returns false if the sink was resumed meanwhile.
func (q *Queue) takeBack(c *Consumer, seq uint64, attempt int, resumes uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.noteLocked(nacked, seq, c, attempt, "its consumer had no room")
	if _, ok := c.inflight[seq]; ok {
		if w := q.releaseLocked(c, seq); w != nil {
			c.reader.againLocked(seq)
		}
	}
	if c.resumes.Load() != resumes {
		return false
	}
	c.refused = true
	return true
}

// releaseLocked ends a lease, and returns the event's entry if it is not acknowledged.
func (q *Queue) releaseLocked(c *Consumer, seq uint64) *entry {
	delete(c.inflight, seq)
	w := q.window.find(seq)
	if w == nil {
		return nil
	}
	w.flying--
	w.holder = nil
	return w
}

// change makes a change to the queue, and wakes the readers that can go on because of it.
func (q *Queue) change(f func()) {
	q.mu.Lock()
	f()
	var wake []*reader
	look := func(r *reader) {
		if !r.blocked && !r.fresh || r.closed.Load() {
			return
		}
		if q.slotsLocked(r) == 0 {
			r.blocked = true
			return
		}
		if r.fresh || len(r.redo) > 0 || !r.leases() || len(q.window.entries) < q.now.MaxPending {
			r.blocked, r.fresh = false, false
			wake = append(wake, r)
		}
	}
	if q.shared != nil {
		look(q.shared)
	} else {
		for _, c := range q.consumers {
			look(c.reader)
		}
	}
	q.mu.Unlock()
	kick(wake)
}

// backoff returns how long an event rests after its nth delivery failed.
func (q *Queue) backoff(n int) time.Duration {
	if list := q.now.Backoff; len(list) > 0 {
		return list[min(n, len(list))-1]
	}
	d := lastRetry
	if n <= 10 {
		d = min(d, firstRetry<<(n-1))
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) // so that what failed together does not come back together
}
