package queue

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
)

const (
	mostGaps = 64 // that a queue remembers; the newest

	cursorVersion = 3
	cursorPrefix  = "cur."

	saveEvery = time.Second
)

// A queue is stored as
//
//	version (1 byte, 3) · epoch (8 bytes) · topic · name · configuration (JSON, or empty) · paused (1 byte)
//	· top (uvarint) · number of entries (uvarint) · entries · number of gaps (uvarint) · gaps
//
// where an entry is the distance to the sequence before it (uvarint), the deliveries that came to nothing and whether the last
// of them is only announced (uvarint, the lowest bit), and the time before which it is not handed out again, in ms since 1970
// (uvarint, 0 is none); and a gap, an accepted loss that nobody acknowledged yet, is two offsets, each its epoch (8 bytes) and its
// sequence (uvarint).

func cursorSubject(topic, name string) string { return cursorPrefix + queueID(topic, name) }

func queueID(topic, name string) string { return token(topic) + "." + token(name) }

func (q *Queue) appendCursorLocked(b []byte) []byte {
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, q.broker.epoch)
	b = appendField(b, q.topic)
	b = appendField(b, q.name)
	b = appendField(b, q.settings.encode())
	paused := byte(0)
	if q.paused {
		paused = 1
	}
	b = append(b, paused)
	b = binary.AppendUvarint(b, q.window.top)
	b = binary.AppendUvarint(b, uint64(len(q.window.entries)))
	seq := uint64(0)
	for _, e := range q.window.entries {
		b = binary.AppendUvarint(b, e.seq-seq)
		seq = e.seq
		tries := uint64(e.tries)
		if e.announced || e.flying > 0 { // if this is the last that the store hears, it came to nothing
			tries++
		}
		tries <<= 1
		if e.announced && !q.broker.isClosed() {
			tries |= 1
		}
		b = binary.AppendUvarint(b, tries)
		due := int64(0)
		if !e.due.IsZero() {
			due = e.due.UnixMilli()
		}
		b = binary.AppendUvarint(b, uint64(max(0, due)))
	}
	b = binary.AppendUvarint(b, uint64(len(q.gaps)))
	for _, g := range q.gaps {
		for _, o := range []Offset{g.From, g.To} {
			b = binary.BigEndian.AppendUint64(b, o.Epoch)
			b = binary.AppendUvarint(b, o.Seq)
		}
	}
	return b
}

// storedQueue is a decoded cursor.
type storedQueue struct {
	epoch       uint64
	topic, name string
	settings    settings
	paused      bool
	window      window
	gaps        []Gap
	saved       time.Time
}

func decodeCursor(b []byte) (storedQueue, error) {
	bad := errors.New("malformed cursor")
	if len(b) < 9 || b[0] != cursorVersion {
		return storedQueue{}, bad
	}
	s := storedQueue{epoch: binary.BigEndian.Uint64(b[1:])}
	r := fields{rest: b[9:]}
	s.topic, s.name = string(r.field()), string(r.field())
	if config := r.field(); len(config) > 0 && json.Unmarshal(config, &s.settings) != nil {
		return storedQueue{}, bad
	}
	s.paused = r.byte() == 1
	s.window.top = r.uvarint()
	n := r.uvarint()
	if r.bad || n > mostPending {
		return storedQueue{}, bad
	}
	s.window.entries = make([]*entry, 0, n)
	for seq := uint64(0); n > 0; n-- {
		step := r.uvarint()
		seq += step
		tries := r.uvarint()
		e := &entry{seq: seq, tries: uint32(tries >> 1), suspect: tries&1 != 0}
		if ms := r.uvarint(); ms > 0 {
			e.due = time.UnixMilli(int64(ms))
		}
		if step == 0 || seq > s.window.top {
			return storedQueue{}, bad
		}
		s.window.entries = append(s.window.entries, e)
	}
	if n = r.uvarint(); n > mostGaps {
		return storedQueue{}, bad
	}
	for ; n > 0; n-- {
		g := Gap{Topic: s.topic, Cause: "loss"}
		for _, o := range []*Offset{&g.From, &g.To} {
			*o = Offset{Epoch: r.uint64(), Seq: r.uvarint()}
		}
		s.gaps = append(s.gaps, g)
	}
	if r.bad || len(r.rest) > 0 {
		return storedQueue{}, bad
	}
	return s, nil
}

// restore takes in a stored queue, of this epoch or of one that ended with a loss.
func (q *Queue) restore(b []byte) error {
	s, err := decodeCursor(b)
	if err != nil {
		return err
	}
	if s.topic != q.topic || s.name != q.name {
		return errors.New("the cursor of another queue")
	}
	q.settings, q.paused = s.settings, s.paused
	top, _, ok := q.broker.translate(q.topic, Offset{s.epoch, s.window.top})
	_, lost, _ := q.broker.translate(q.topic, Offset{s.epoch, s.window.floor()})
	q.gaps = append(s.gaps, lost...)
	if len(q.gaps) > mostGaps {
		q.gaps = q.gaps[len(q.gaps)-mostGaps:]
	}
	if !ok { // an epoch without a record: all that one can say is that nothing is sure
		q.gaps = []Gap{{Topic: q.topic, From: Offset{s.epoch, s.window.floor()}, To: Offset{q.broker.epoch, 0}, Cause: "loss"}}
		return nil
	}
	q.window.top = top
	for _, e := range s.window.entries {
		if now, _, _ := q.broker.translate(q.topic, Offset{s.epoch, e.seq}); now == e.seq { // else lost: nothing to know
			q.window.entries = append(q.window.entries, e)
		}
	}
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

// save queues the cursor for the next commit, if it has changed.
func (b *Broker) save(q *Queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dirty {
		q.saveLocked(func(error) {})
	}
}

// saveLocked queues the cursor for the next commit, after which done is called. If that fails, or with an error, the cursor is
// dirty again.
func (q *Queue) saveLocked(done func(error)) error {
	if q.deleted != nil {
		return ErrNotFound
	}
	if q.dirty {
		q.cleanLocked()
	}
	q.saved = time.Now()
	q.storeReceiptsLocked()
	b := q.broker
	r := &request{subject: cursorSubject(q.topic, q.name), data: q.appendCursorLocked(nil)}
	r.done = func(r *request) {
		if r.err != nil {
			b.log.Warn("save cursor", "topic", q.topic, "queue", q.name, "cause", r.err)
			q.touch()
		}
		done(r.err)
	}
	err := b.committer.push(r) // still under mu, so in the order of the states
	if err != nil {
		q.touchLocked()
	}
	return err
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

// store returns when the queue as it is now is durable. When ctx ends first it may be or not.
func (q *Queue) store(ctx context.Context) error {
	if q.ephemeral {
		return nil
	}
	done := make(chan error, 1)
	q.mu.Lock()
	err := q.saveLocked(func(err error) { done <- err })
	q.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stored returns when everything that was queued for the log before is durable.
func (b *Broker) stored(ctx context.Context) error {
	done := make(chan error, 1)
	if err := b.committer.push(&request{known: 1, done: func(r *request) { done <- r.err }}); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
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
