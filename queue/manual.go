package queue

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

const (
	maxReason   = 1024
	rejectAgain = time.Second // after which a reject that could not be stored lets the event come again
)

// AckThrough acknowledges every event of the queue up to and including o. Offsets beyond the log and of epochs that nobody
// remembers are ignored. The queue's cursor never moves back.
func (c *Consumer) AckThrough(o Offset) {
	if c.closed.Load() {
		return
	}
	if seq, _, ok := c.queue.broker.locate(c.queue.topic, o); ok {
		c.queue.ackThrough(seq)
	}
}

// Ack acknowledges one event. An offset that was not handed out is ignored.
func (c *Consumer) Ack(o Offset) {
	if c.closed.Load() || o.Epoch != c.queue.broker.epoch {
		return
	}
	q := c.queue
	q.mu.Lock()
	delete(c.inflight, o.Seq)
	q.ackLocked(o.Seq)
	wake := q.unblockLocked()
	q.mu.Unlock()
	kick(wake)
}

// Retry gives an event back: it is delivered again after the delay, to this consumer, or to the queue's next one when this
// one is closed. An offset that is not in flight is ignored.
func (c *Consumer) Retry(o Offset, after time.Duration) {
	if c.closed.Load() || o.Epoch != c.queue.broker.epoch {
		return
	}
	q := c.queue
	q.mu.Lock()
	if _, ok := c.inflight[o.Seq]; !ok {
		q.mu.Unlock()
		return
	}
	delete(c.inflight, o.Seq)
	var due time.Time
	if after > 0 {
		due = time.Now().Add(after)
	}
	again := false
	if q.window.failed(o.Seq, due) {
		q.touchLocked()
		if after > 0 {
			c.laterLocked(o.Seq, due)
		} else {
			c.redo = append(c.redo, o.Seq)
			again = true
		}
	}
	wake := q.unblockLocked()
	q.mu.Unlock()
	kick(wake)
	if again {
		c.kick(true)
	}
}

// Reject gives an event up: it is published to the topic dead/ followed by the queue's name, and acknowledged once it is
// stored there. The dead letter has the event's name and arguments, and one argument more, an object:
//
//	{"reason", "topic", "queue", "offset", "id", "attempts", "publishedAt"}
//
// Its own id is the event's offset, so that it is stored once. The reason is cut at 1024 bytes. When the dead letter can't be
// stored the event is delivered again. Reject does not wait; an offset that is not in flight is ignored.
func (c *Consumer) Reject(o Offset, reason string) {
	q := c.queue
	if c.closed.Load() || o.Epoch != q.broker.epoch {
		return
	}
	q.mu.Lock()
	_, ok := c.inflight[o.Seq]
	attempts := 1
	if i, found := q.window.find(o.Seq); found {
		attempts += int(q.window.entries[i].tries)
	}
	q.mu.Unlock()
	if !ok {
		return
	}
	e, err := q.broker.lookup(q.topic, o.Seq)
	if err != nil {
		q.broker.log.Error("reject: read event", "topic", q.topic, "queue", q.name, "offset", o, "cause", err)
		c.Retry(o, rejectAgain)
		return
	}
	if e == nil { // gone meanwhile
		c.Ack(o)
		return
	}
	m := deadLetter(e, q.name, reason, attempts)
	p := q.broker.prepare(&m, m.envelopeSize(), 0, func(_ Published, err error) {
		if err == nil {
			c.settleReject(o.Seq)
			return
		}
		q.broker.log.Error("reject: store dead letter", "topic", q.topic, "queue", q.name, "offset", o, "cause", err)
		c.Retry(o, rejectAgain)
	})
	if err := q.broker.committer.push(&p.request); err != nil {
		c.Retry(o, rejectAgain)
	}
}

// settleReject acknowledges a dead letter's event, also if the consumer was closed meanwhile.
func (c *Consumer) settleReject(seq uint64) {
	q := c.queue
	q.mu.Lock()
	delete(c.inflight, seq)
	q.ackLocked(seq)
	wake := q.unblockLocked()
	q.mu.Unlock()
	kick(wake)
}

func deadLetter(e *Event, queue, reason string, attempts int) Message {
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") // drops half a character
	}
	why, _ := json.Marshal(struct { // strings and numbers: it can't fail
		Reason      string    `json:"reason"`
		Topic       string    `json:"topic"`
		Queue       string    `json:"queue"`
		Offset      string    `json:"offset"`
		ID          string    `json:"id"`
		Attempts    int       `json:"attempts"`
		PublishedAt time.Time `json:"publishedAt"`
	}{strings.ToValidUTF8(reason, "\uFFFD"), e.Topic, queue, e.Offset.String(), e.ID, attempts, e.Time.UTC()})
	args := []byte("[")
	if n := len(e.Args); n > 2 {
		args = append(args, e.Args[1:n-1]...)
		if len(strings.TrimSpace(string(args[1:]))) > 0 {
			args = append(args, ',')
		}
	}
	args = append(append(args, why...), ']')
	return Message{Topic: deadPrefix + queue, ID: e.Offset.String(), Event: e.Name, Args: args, Attachments: e.Attachments}
}

// admit asks the queue whether a manual consumer may get an event, and counts it as in flight if so.
func (q *Queue) admit(c *Consumer, seq uint64) (attempt int, a admission) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(c.inflight) >= c.prefetch || c.closed.Load() {
		c.blocked = true
		return 0, full
	}
	attempt, a = q.window.admit(seq, time.Now())
	switch a {
	case admitted:
		c.inflight[seq] = struct{}{}
	case delayed:
		i, _ := q.window.find(seq)
		c.laterLocked(seq, q.window.entries[i].due)
	case full:
		c.blocked = true
	}
	return attempt, a
}

func (q *Queue) unadmit(c *Consumer, seq uint64) {
	if !c.manual {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(c.inflight, seq)
}

// laterLocked lets an event come to this consumer again when it is due. queue.mu is held.
func (c *Consumer) laterLocked(seq uint64, due time.Time) {
	if c.closed.Load() {
		return
	}
	c.later = append(c.later, seq)
	if c.timer != nil {
		if !due.Before(c.timerDue) {
			return
		}
		c.timer.Stop()
	}
	c.timerDue = due
	c.timer = time.AfterFunc(max(0, time.Until(due)), c.ripen)
}

// ripen moves what is due from later to redo.
func (c *Consumer) ripen() {
	q := c.queue
	q.mu.Lock()
	if c.closed.Load() {
		q.mu.Unlock()
		return
	}
	now := time.Now()
	var first time.Time
	c.later = slices.DeleteFunc(c.later, func(seq uint64) bool {
		i, ok := q.window.find(seq)
		if !ok || q.window.entries[i].acked {
			return true
		}
		due := q.window.entries[i].due
		if due.After(now) {
			if first.IsZero() || due.Before(first) {
				first = due
			}
			return false
		}
		c.redo = append(c.redo, seq)
		return true
	})
	c.timer = nil
	if !first.IsZero() {
		c.timerDue = first
		c.timer = time.AfterFunc(time.Until(first), c.ripen)
	}
	again := len(c.redo) > 0
	q.mu.Unlock()
	if again {
		c.kick(true)
	}
}

// nextRedo takes the next event to be handed out again, false when there is none or no room for it.
func (q *Queue) nextRedo(c *Consumer) (seq uint64, attempt int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(c.redo) > 0 {
		if len(c.inflight) >= c.prefetch {
			c.blocked = true
			return 0, 0, false
		}
		seq = c.redo[0]
		c.redo = c.redo[1:]
		i, found := q.window.find(seq)
		if !found || q.window.entries[i].acked {
			continue
		}
		if _, twice := c.inflight[seq]; twice {
			continue
		}
		c.inflight[seq] = struct{}{}
		return seq, int(q.window.entries[i].tries) + 1, true
	}
	c.redo = nil
	return 0, 0, false
}

// undoRedo puts an event back that the sink refused.
func (q *Queue) undoRedo(c *Consumer, seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := c.inflight[seq]; ok {
		delete(c.inflight, seq)
		c.redo = slices.Insert(c.redo, 0, seq)
	}
}
