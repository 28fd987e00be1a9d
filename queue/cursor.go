package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

const (
	cursorVersion = 1
	cursorPrefix  = "cur."

	saveEvery = time.Second
)

// A cursor is stored as
//
//	version (1 byte, 1) · epoch (8 bytes) · topic · name · floor (uvarint) · number of entries (uvarint) · entries
//
// where an entry is the distance to the sequence before it (uvarint) and tries<<1 | acked (uvarint).

func cursorSubject(topic, name string) string {
	return cursorPrefix + token(topic) + "." + token(name)
}

func (q *Queue) appendCursorLocked(b []byte) []byte {
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, q.broker.epoch)
	b = appendField(b, q.topic)
	b = appendField(b, q.name)
	b = binary.AppendUvarint(b, q.window.floor)
	b = binary.AppendUvarint(b, uint64(len(q.window.entries)))
	seq := q.window.floor
	for _, e := range q.window.entries {
		b = binary.AppendUvarint(b, e.seq-seq)
		seq = e.seq
		v := uint64(e.tries) << 1
		if e.acked {
			v |= 1
		}
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// restore takes in a stored cursor, of this epoch or of one that ended with a loss.
func (q *Queue) restore(b []byte) error {
	if len(b) < 9 || b[0] != cursorVersion {
		return errors.New("malformed cursor")
	}
	epoch := binary.BigEndian.Uint64(b[1:])
	r := reader{rest: b[9:]}
	topic, name := string(r.field()), string(r.field())
	floor := r.uvarint()
	n := r.uvarint()
	if r.bad || n > maxWindow || topic != q.topic || name != q.name {
		return errors.New("malformed cursor")
	}
	entries := make([]entry, 0, n)
	for seq := floor; n > 0; n-- {
		seq += r.uvarint()
		v := r.uvarint()
		if now, _, ok := q.broker.translate(q.topic, Offset{epoch, seq}); ok && now == seq { // else lost: nothing to know
			entries = append(entries, entry{seq: seq, tries: uint32(v >> 1), acked: v&1 != 0})
		}
	}
	if r.bad {
		return errors.New("malformed cursor")
	}
	at, gaps, ok := q.broker.translate(q.topic, Offset{epoch, floor})
	if !ok { // an epoch without a record: all that one can say is that nothing is sure
		at, entries = 0, nil
		gaps = []Gap{{Topic: q.topic, From: Offset{epoch, floor}, To: Offset{q.broker.epoch, 0}, Cause: "loss"}}
	}
	q.window = window{floor: at, entries: entries}
	q.window.settle()
	q.gaps = gaps
	return nil
}

// touchLocked has the cursor saved soon. mu is held.
func (q *Queue) touchLocked() {
	if q.dirty || q.ephemeral || q.deleted != nil {
		return
	}
	q.dirty = true
	b := q.broker
	b.dirtyMu.Lock()
	b.dirty[q] = struct{}{}
	b.dirtyMu.Unlock()
}

// save queues the cursor for the next commit. If that fails the cursor is dirty again.
func (b *Broker) save(q *Queue) {
	q.mu.Lock()
	if !q.dirty {
		q.mu.Unlock()
		return
	}
	q.cleanLocked()
	r := &request{subject: cursorSubject(q.topic, q.name), data: q.appendCursorLocked(nil)}
	r.done = func(r *request) {
		if r.err != nil {
			b.log.Warn("save cursor", "topic", q.topic, "queue", q.name, "cause", r.err)
			q.touch()
		}
	}
	err := b.committer.push(r) // in the order of the states: still under mu
	if err != nil {
		q.touchLocked()
	}
	q.mu.Unlock()
}

func (q *Queue) touch() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.touchLocked()
}

func (q *Queue) cleanLocked() {
	q.dirty = false
	b := q.broker
	b.dirtyMu.Lock()
	delete(b.dirty, q)
	b.dirtyMu.Unlock()
}

// saveAll queues the cursors of all queues that have changed.
func (b *Broker) saveAll() {
	b.dirtyMu.Lock()
	qs := make([]*Queue, 0, len(b.dirty))
	for q := range b.dirty {
		qs = append(qs, q)
	}
	b.dirtyMu.Unlock()
	for _, q := range qs {
		b.save(q)
	}
}

// store returns when the cursor is durable.
func (q *Queue) store(ctx context.Context) error {
	q.mu.Lock()
	data := q.appendCursorLocked(nil)
	q.mu.Unlock()
	_, err := q.broker.put(ctx, cursorSubject(q.topic, q.name), data)
	return err
}

// put stores a message of the stream of cursors, durably, and returns its sequence there. When ctx ends first the message may
// be stored or not.
func (b *Broker) put(ctx context.Context, subject string, data []byte) (seq uint64, err error) {
	done := make(chan struct{})
	r := &request{subject: subject, data: data, done: func(*request) { close(done) }}
	if err := b.committer.push(r); err != nil {
		return 0, err
	}
	select {
	case <-done:
		return r.seq, r.err
	case <-ctx.Done():
		r.withdraw()
		return 0, context.Cause(ctx)
	}
}
