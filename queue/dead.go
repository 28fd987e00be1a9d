package queue

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const maxReason = 1024

// A dead letter is published to the topic dead/ followed by the queue's name. It has the event's name and arguments, and one
// argument more, an object:
//
//	{"reason", "topic", "queue", "offset", "id", "attempts", "publishedAt"}
//
// Its own id is deadID, so that it is stored once.

// deadID says which event of the log it was, in whatever epoch.
func deadID(e *Event) string { return fmt.Sprintf("%d@%d", e.Offset.Seq, e.Time.UnixNano()) }

// bury makes a dead letter of an event that was delivered too often.
func (q *Queue) bury(e *Event, attempts int) {
	q.mu.Lock()
	why := "the server ended meanwhile"
	if w := q.window.find(e.Offset.Seq); w != nil && w.why != "" {
		why = w.why
	}
	q.mu.Unlock()
	q.sendDead(e, fmt.Sprintf("gave up after %d deliveries; the last time %s", attempts, why), attempts)
}

// sendDead stores the dead letter of an event whose entry is dying, and then acknowledges the event.
func (q *Queue) sendDead(e *Event, reason string, attempts int) {
	b := q.broker
	seq := e.Offset.Seq
	failed := func(err error) {
		b.log.Error("store dead letter", "topic", e.Topic, "queue", q.name, "offset", e.Offset, "cause", err)
		q.change(func() { q.reviveLocked(seq, attempts, reason) })
	}
	m := deadLetter(e, q.name, reason, attempts)
	p := b.prepare(&m, m.envelopeSize(), 0, func(_ Published, err error) {
		if err != nil && Code(err) != "conflict" { // which says that an earlier process has stored it, and did not live to acknowledge the event
			failed(err)
			return
		}
		q.change(func() {
			q.noteLocked(deadLettered, seq, nil, attempts, reason)
			q.ackLocked(seq)
		})
	})
	if err := b.committer.push(&p.request); err != nil {
		failed(err)
	}
}

// reviveLocked lets an event come again whose dead letter could not be stored: that delivery came to nothing, too.
func (q *Queue) reviveLocked(seq uint64, attempts int, reason string) {
	w := q.window.find(seq)
	if w == nil {
		return
	}
	if w.dying = false; attempts > int(w.tries) {
		w.tries, w.why = uint32(attempts), "it was rejected: "+reason
	}
	w.announced = false
	w.due = time.Now().Add(readAgain)
	if q.shared != nil {
		q.shared.laterLocked(w)
		return
	}
	for _, c := range q.consumers {
		c.reader.laterLocked(w)
	}
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
	return Message{Topic: deadPrefix + queue, ID: deadID(e), Event: e.Name, Key: e.Key, Args: args, Attachments: e.Attachments, TraceParent: e.TraceParent}
}
