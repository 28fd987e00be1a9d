package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Receipts of queues that keep them are in a stream of their own, some of a queue in each message:
//
//	version (1 byte, 1) · epoch (8 bytes) · topic · name · receipts
//
// where a receipt is what happened (1 byte), the event's sequence, the attempt and the time in ms since 1970 (uvarints), the consumer
// and the reason. They are stored within a second, and dropped by age and size.
const (
	receiptStream  = "RCP"
	receiptPrefix  = "rcp."
	receiptVersion = 1

	receiptsWait = 1000   // of a queue, before they are stored at once
	mostUnstored = 16_000 // of a queue, that could not be stored and wait to be tried again
)

// receiptsToStore is a message of receipts on its way to the store.
type receiptsToStore struct {
	id    string // by which it is stored once
	data  []byte
	count int
}

// Receipt is one thing that happened to an event.
type Receipt struct {
	What     string    // "stored", "delivered", "acked", "nacked", "expired" or "dead-lettered"
	Time     time.Time // the zero time if nobody kept it
	Queue    string    // but for "stored": of which queue
	Offset   Offset    // of the event; with "acked" from a consumer that acknowledges all up to one, of that one
	Consumer string    // its name, if the consumer has one
	Attempt  int       // of the delivery; 0 is not known. An attempt that its consumer had no room for is made again
	Reason   string    // of "nacked" and "dead-lettered"
}

var whats = []string{"delivered", "acked", "nacked", "expired", "dead-lettered", throughWhat}

const (
	delivered = iota
	acked
	nacked
	expired
	deadLettered
	ackedThrough

	throughWhat = "acked through" // in the store; acked to everybody else
)

// noteLocked keeps a receipt if the queue keeps them. c may be nil.
func (q *Queue) noteLocked(what byte, seq uint64, c *Consumer, attempt int, reason string) {
	if !q.settings.Receipts || q.ephemeral {
		return
	}
	name := ""
	if c != nil {
		name = c.name
	}
	b := append(q.receipts, what)
	b = binary.AppendUvarint(b, seq)
	b = binary.AppendUvarint(b, uint64(attempt))
	b = binary.AppendUvarint(b, uint64(time.Now().UnixMilli()))
	b = appendField(b, name)
	q.receipts = appendField(b, reason)
	q.touchLocked()
	if q.noted++; q.noted >= receiptsWait {
		q.storeReceiptsLocked()
	}
}

// storeReceiptsLocked queues the receipts for the next commit, those first that could not be stored before. What fails is tried again
// with the next ones; of very many some are lost, which is logged: the events are not.
func (q *Queue) storeReceiptsLocked() {
	all := q.unstored
	q.unstored, q.waiting = nil, 0
	if q.noted > 0 {
		data := binary.BigEndian.AppendUint64([]byte{receiptVersion}, q.broker.epoch)
		data = append(appendField(appendField(data, q.topic), q.name), q.receipts...)
		all = append(all, receiptsToStore{rand.Text(), data, q.noted})
		q.receipts, q.noted = q.receipts[:0], 0
	}
	for _, x := range all {
		r := &request{subject: receiptPrefix + q.id, msgID: x.id, data: x.data, done: func(r *request) {
			if r.err != nil {
				q.mu.Lock()
				defer q.mu.Unlock()
				q.notStoredLocked(x, r.err)
			}
		}}
		if err := q.broker.committer.push(r); err != nil {
			q.notStoredLocked(x, err)
		}
	}
}

func (q *Queue) notStoredLocked(x receiptsToStore, err error) {
	if q.waiting+x.count <= mostUnstored {
		q.unstored = append(q.unstored, x)
		q.waiting += x.count
		q.touchLocked()
		return
	}
	q.broker.log.Warn("store receipts", "topic", q.topic, "queue", q.name, "count", x.count, "cause", err)
}

// decodeReceipts calls f for each receipt in a message, until f returns false.
func decodeReceipts(data []byte, f func(Receipt) bool) error {
	if len(data) < 9 || data[0] != receiptVersion {
		return errors.New("malformed receipts")
	}
	epoch := binary.BigEndian.Uint64(data[1:])
	r := fields{rest: data[9:]}
	r.field()
	name := string(r.field())
	for len(r.rest) > 0 && !r.bad {
		what := r.byte()
		x := Receipt{Queue: name, Offset: Offset{epoch, r.uvarint()}, Attempt: int(r.uvarint()), Time: time.UnixMilli(int64(r.uvarint()))}
		x.Consumer, x.Reason = string(r.field()), string(r.field())
		if r.bad || int(what) >= len(whats) {
			return errors.New("malformed receipts")
		}
		if x.What = whats[what]; !f(x) {
			return nil
		}
	}
	return nil
}

// Receipts returns what happened to the queue's events since a time, in the order in which it was stored, which is within a second.
// It is empty for a queue that keeps no receipts. An error is [ErrUnavailable], [ErrClosed] or the cause of ctx, and then nothing
// follows.
func (q *Queue) Receipts(ctx context.Context, since time.Time) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		err := q.eachReceipt(ctx, since, func(x Receipt) bool {
			if x.Time.Before(since) {
				return true
			}
			if x.What == throughWhat {
				x.What = whats[acked]
			}
			return yield(x, nil)
		})
		if err != nil {
			yield(Receipt{}, fmt.Errorf("receipts of %q: %w", q.name, err))
		}
	}
}

// eachReceipt reads the stored receipts, from some before since on.
func (q *Queue) eachReceipt(ctx context.Context, since time.Time, f func(Receipt) bool) error {
	b := q.broker
	if b.isClosed() {
		return ErrClosed
	}
	q.mu.Lock()
	q.storeReceiptsLocked()
	q.mu.Unlock()
	if err := b.stored(ctx); err != nil {
		return err
	}
	return b.eachMessage(ctx, b.kept, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{receiptPrefix + q.id}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	}, func(m jetstream.Msg, _ uint64) (more bool) {
		more = true
		if err := decodeReceipts(m.Data(), func(x Receipt) bool { more = f(x); return more }); err != nil {
			b.log.Error("undecodable receipts", "subject", m.Subject(), "cause", err)
		}
		return more
	})
}

// ReceiptsOf answers what became of an event in this queue: when it was stored, and then to whom it was delivered, and when, and
// what came of that, in order. id is what the event was published with, or the text of its offset. The last receipt says how
// things are: "acked" and "dead-lettered" are for good; with "delivered" it is in flight, and with "stored" or "nacked" it waits. A
// queue that keeps no receipts, or not any more, still knows how things are; the times are missing then. The error is
// [ErrNotFound] if the queue's topic does not have the event, or not any more; others are those of [Broker.Event].
func (q *Queue) ReceiptsOf(ctx context.Context, id string) ([]Receipt, error) {
	rs, err := q.receiptsOf(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("receipts of %q in queue %q of %q: %w", id, q.name, q.topic, err)
	}
	return rs, nil
}

func (q *Queue) receiptsOf(ctx context.Context, id string) ([]Receipt, error) {
	e, err := q.find(ctx, id)
	if err != nil {
		return nil, err
	}
	rs := []Receipt{{What: "stored", Time: e.Time, Offset: e.Offset}}
	q.mu.Lock()
	now := q.now
	q.mu.Unlock()
	if !now.wants(e, q.id) {
		return rs, nil
	}
	if now.Receipts {
		over := false
		err := q.eachReceipt(ctx, e.Time.Add(-time.Second), func(x Receipt) bool {
			switch {
			case x.Offset == e.Offset:
				over = x.What == whats[acked] || x.What == whats[expired] || x.What == whats[deadLettered]
			case x.What == throughWhat && x.Offset.Epoch == e.Offset.Epoch && x.Offset.Seq > e.Offset.Seq:
				over = true
			default:
				return true
			}
			if x.What == throughWhat {
				x.What = whats[acked]
			}
			rs = append(rs, x)
			return !over
		})
		if err != nil || over {
			return rs, err
		}
	}
	return q.state(ctx, e, rs)
}

// find returns the event with an id or offset in the queue's topic.
func (q *Queue) find(ctx context.Context, id string) (*Event, error) {
	if q.pattern == nil {
		return q.broker.event(ctx, q.topic, id)
	}
	o, err := ParseOffset(id) // ids are the topics' own
	if err != nil {
		return nil, err
	}
	if err := q.broker.caughtUp(ctx); err != nil {
		return nil, err
	}
	e, err := q.lookup(o.Seq)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if e == nil || e.Offset != o || !q.covers(e.Topic) {
		return nil, ErrNotFound
	}
	return e, nil
}

// state adds what the queue itself knows of an event.
func (q *Queue) state(ctx context.Context, e *Event, rs []Receipt) ([]Receipt, error) {
	dead, err := q.broker.event(ctx, deadPrefix+q.name, deadID(e))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	add := func(x Receipt) []Receipt {
		if last := rs[len(rs)-1]; last.What == x.What && (x.Attempt == 0 || last.Attempt == x.Attempt) {
			return rs
		}
		x.Queue, x.Offset = q.name, e.Offset
		return append(rs, x)
	}
	w := q.window.find(e.Offset.Seq)
	switch {
	case w == nil && e.Offset.Seq > q.window.top:
		return rs, nil
	case w == nil && dead != nil:
		return add(Receipt{What: "dead-lettered", Time: dead.Time, Reason: reasonOf(dead)}), nil
	case w == nil:
		return add(Receipt{What: "acked"}), nil
	case w.flying > 0:
		x := Receipt{What: "delivered", Attempt: int(w.tries) + 1}
		for _, c := range slices.Concat(q.consumers, []*Consumer{q.pulled}) {
			if c != nil {
				if _, holds := c.inflight[w.seq]; holds {
					x.Consumer = c.name
				}
			}
		}
		return add(x), nil
	case w.tries > 0:
		return add(Receipt{What: "nacked", Attempt: int(w.tries), Reason: w.why}), nil
	}
	return rs, nil
}

// reasonOf returns why an event is a dead letter.
func reasonOf(dead *Event) string {
	var args []json.RawMessage
	var why struct{ Reason string }
	if json.Unmarshal(dead.Args, &args) == nil && len(args) > 0 {
		json.Unmarshal(args[len(args)-1], &why) // else it is not one of ours
	}
	return why.Reason
}

// ReceiptsOf answers what became of an event in all durable queues that read its topic, one queue after the other, each as
// [Queue.ReceiptsOf] does. It looks at every queue there is. After an error nothing follows.
func (b *Broker) ReceiptsOf(ctx context.Context, topic, id string) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		fail := func(err error) { yield(Receipt{}, fmt.Errorf("receipts of %q in topic %q: %w", id, topic, err)) }
		e, err := b.event(ctx, topic, id)
		if err != nil {
			fail(err)
			return
		}
		if !yield(Receipt{What: "stored", Time: e.Time, Offset: e.Offset}, nil) {
			return
		}
		for s, err := range b.storedQueues(ctx) {
			if err != nil {
				fail(err)
				return
			}
			if p := newPattern(s.topic); s.topic != topic && (p == nil || !p.match(topic)) {
				continue
			}
			rs, err := b.receiptsIn(ctx, s, e)
			if err != nil {
				fail(err)
				return
			}
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// receiptsIn returns what became of an event in one queue.
func (b *Broker) receiptsIn(ctx context.Context, s storedQueue, e *Event) ([]Receipt, error) {
	q, err := b.queue(ctx, QueueConfig{Topic: s.topic, Name: s.name, MustExist: true})
	if errors.Is(err, ErrNotFound) {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	rs, err := q.receiptsOf(ctx, e.Offset.String())
	if errors.Is(err, ErrNotFound) {
		return nil, nil // the event is
	}
	return rs[min(1, len(rs)):], err
}
