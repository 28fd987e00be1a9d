package queue

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/nats-io/nats.go/jetstream"
)

// maxUnread is where Unread stops counting.
const maxUnread = 10_000

// Queue is a reader's place in a topic, or in all topics that match a pattern. A personal queue hands every event to each of its
// consumers, a shared queue hands it to one. Its methods may be called from any goroutine.
//
// All calls of [Broker.Queue] for one topic and name return the same Queue as long as anybody holds it. It needs no closing:
// what is not used costs no memory, and what it knows is in the store.
type Queue struct {
	// static after construction
	broker    *Broker
	topic     string
	name      string
	pattern   *pattern // nil: topic is one topic
	id        string   // what Event.Queue has for this one
	ephemeral bool
	ready     chan struct{} // closed when the queue was loaded, or err set

	// static once ready is closed
	err       error
	abandoned bool      // whoever loaded it gave up, which is nobody else's error
	shared    *reader   // of a shared queue
	pulled    *Consumer // of a shared queue: holds what callers of Pull got

	mu        sync.Mutex // guards the fields below; a leaf but for Broker.dirtyMu and committer.mu
	settings  settings
	now       settings      // with defaults
	deleted   chan struct{} // not nil while the queue is being deleted, and after; closed when that is decided
	paused    bool
	window    window
	keys      map[string][]uint64 // ordered: the unsettled events with a key, ascending; only the first may be handed out
	gaps      []Gap               // accepted losses that nobody acknowledged yet
	owed      []Gap               // of a shared queue, which nobody was there to be told of
	purged    uint64              // nothing up to here is handed out any more
	trial     uint64              // nothing but this event is handed out; 0 is none
	consumers []*Consumer
	turn      int // which of them was served last
	dirty     bool
	saved     time.Time // when the cursor was stored last
	receipts  []byte    // to be stored
	noted     int       // their number
	unstored  []receiptsToStore
	waiting   int // receipts in unstored
}

type queueKey struct{ topic, name string }

// Queue returns the queue of this topic and name. If there is none it is made, and durable when Queue returns, unless it
// is ephemeral. Its errors are those of [Broker.Publish], with the codes "invalid_queue" and "invalid_offset" for what is
// wrong with the configuration.
func (b *Broker) Queue(ctx context.Context, c QueueConfig) (*Queue, error) {
	q, err := b.queue(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("queue %q of %q: %w", c.Name, c.Topic, err)
	}
	return q, nil
}

func (b *Broker) queue(ctx context.Context, c QueueConfig) (*Queue, error) {
	if err := b.checkQueue(c); err != nil {
		return nil, err
	}
	from, err := c.From.place()
	if err != nil {
		return nil, err
	}
	if b.isClosed() {
		return nil, ErrClosed
	}
	if c.Ephemeral {
		q := b.newQueue(c.Topic, c.Name)
		q.ephemeral = true
		q.configure(settings{Shared: c.Shared, Ordered: c.Ordered}.with(c))
		err := q.start(ctx, from)
		return q, err
	}
	for {
		q, mine := b.intern(c.Topic, c.Name)
		if mine {
			if q.err = q.load(ctx, from, c); q.err != nil {
				q.abandoned = ctx.Err() != nil
				b.disown(q)
			}
			close(q.ready)
		} else {
			select {
			case <-q.ready:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if q.err == nil {
			if going := q.deleting(); going != nil {
				select {
				case <-going:
					continue
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
			return q, q.adjust(ctx, c)
		}
		if mine || !q.abandoned {
			return nil, q.err
		}
	}
}

func (b *Broker) newQueue(topic, name string) *Queue {
	return &Queue{broker: b, topic: topic, name: name, pattern: newPattern(topic), id: queueID(topic, name), ready: make(chan struct{})}
}

// intern returns the one Queue of this key. It is mine if the caller has to load it.
func (b *Broker) intern(topic, name string) (q *Queue, mine bool) {
	key := queueKey{topic, name}
	b.queuesMu.Lock()
	defer b.queuesMu.Unlock()
	if p, ok := b.queues[key]; ok {
		if q := p.Value(); q != nil {
			return q, false
		}
	}
	q = b.newQueue(topic, name)
	b.queues[key] = weak.Make(q)
	runtime.AddCleanup(q, b.sweep, key)
	return q, true
}

// sweep forgets a queue that nobody holds.
func (b *Broker) sweep(key queueKey) {
	b.queuesMu.Lock()
	defer b.queuesMu.Unlock()
	if p, ok := b.queues[key]; ok && p.Value() == nil {
		delete(b.queues, key)
	}
}

func (b *Broker) disown(q *Queue) {
	key := queueKey{q.topic, q.name}
	b.queuesMu.Lock()
	defer b.queuesMu.Unlock()
	if p, ok := b.queues[key]; ok && p.Value() == q {
		delete(b.queues, key)
	}
}

// load reads the queue from the store, or makes it.
func (q *Queue) load(ctx context.Context, from place, c QueueConfig) error {
	subject := cursorSubject(q.topic, q.name)
	stored, err := q.broker.cursors.GetLastMsgForSubject(ctx, subject)
	switch {
	case err == nil && len(stored.Data) > 0: // else it was deleted
		if err := q.restore(stored.Data); err != nil {
			return err
		}
		q.saved = stored.Time
		q.configure(q.settings)
		return nil
	case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fmt.Errorf("%w: read cursor: %w", ErrUnavailable, err)
	case c.MustExist:
		return ErrNotFound
	}
	q.configure(settings{Shared: c.Shared, Ordered: c.Ordered}.with(c))
	if err := q.start(ctx, from); err != nil {
		return err
	}
	if stored == nil {
		if err := q.perhapsForgotten(ctx, from); err != nil {
			return err
		}
	}
	return q.store(ctx)
}

// perhapsForgotten places anew a queue that is not on record where there may be some missing: if it was one of them it has to hand out
// all that it had not, and nobody knows what that is. So it begins where it may have stood, as long as the log has everything that was
// published since the loss. Later it begins where it is told, and its readers are told a gap. A reader that named an offset or a time
// is taken at its word.
func (q *Queue) perhapsForgotten(ctx context.Context, from place) error {
	b := q.broker
	begin, end, ok := b.engine.Forgotten()
	if !ok || !from.fresh && !from.first && !from.last {
		return nil
	}
	info, err := b.events.Info(ctx)
	if err != nil {
		return fmt.Errorf("%w: where the log begins: %w", ErrUnavailable, err)
	}
	if info.State.FirstSeq > end.Seq+1 {
		q.gaps = append(q.gaps, Gap{Topic: q.topic, From: begin, To: Offset{b.epoch, q.window.top}, Cause: "loss"})
		return nil
	}
	stood, gaps, _ := b.translate(q.topic, begin)
	q.window.top, q.gaps = min(q.window.top, stood), gaps
	if q.shared != nil {
		q.shared.pos = q.window.top
	}
	b.log.Info("a queue is not on record, and may have been lost: it begins anew", "topic", q.topic, "queue", q.name, "after", q.window.top)
	return nil
}

// start places a new queue.
func (q *Queue) start(ctx context.Context, from place) error {
	floor, gaps, err := q.broker.resolve(ctx, q.topic, from)
	q.window.top, q.gaps = floor, gaps
	if q.shared != nil {
		q.shared.pos = floor
	}
	return err
}

// configure sets up a queue that nobody has yet.
func (q *Queue) configure(s settings) {
	q.settings, q.now = s, s.withDefaults()
	if !q.ephemeral {
		q.broker.livesFor(q.now.Expiry)
	}
	if !s.Shared {
		return
	}
	q.keys = make(map[string][]uint64)
	q.shared = &reader{queue: q, pos: q.window.top, place: -1, state: parked}
	for _, e := range q.window.entries {
		q.shared.redo = append(q.shared.redo, e.seq)
	}
	q.pulled = &Consumer{queue: q, reader: q.shared, leases: true, inflight: make(map[uint64]lease)}
}

// adjust lays a configuration over a queue that exists, and returns once that is durable.
func (q *Queue) adjust(ctx context.Context, c QueueConfig) error {
	if c.Shared && q.shared == nil {
		return refuse("invalid_queue", "queue %q of %q is personal", q.name, q.topic)
	}
	q.mu.Lock()
	if c.Ordered && !q.settings.Ordered {
		q.mu.Unlock()
		return refuse("invalid_queue", "queue %q of %q is not ordered by key", q.name, q.topic)
	}
	s := q.settings.with(c)
	same := reflect.DeepEqual(s, q.settings)
	q.settings, q.now = s, s.withDefaults()
	q.mu.Unlock()
	if same {
		return nil
	}
	q.broker.livesFor(s.withDefaults().Expiry)
	q.change(func() {}) // there may be room now
	return q.store(ctx)
}

// Topic returns the name of the queue's topic.
func (q *Queue) Topic() string { return q.topic }

// Name returns the queue's name.
func (q *Queue) Name() string { return q.name }

// Cursor returns the position up to which everything is acknowledged.
func (q *Queue) Cursor() Offset {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Offset{q.broker.epoch, q.window.floor()}
}

// Unread returns how many events of the queue are not acknowledged; it stops counting at 10,000. It counts every event whose
// publish returned before the call, and waits for the index to have them.
func (q *Queue) Unread(ctx context.Context) (int, error) {
	if err := q.broker.caughtUp(ctx); err != nil {
		return 0, fmt.Errorf("count unread of %q: %w", q.topic, err)
	}
	q.mu.Lock()
	top, n := q.window.top, len(q.window.entries)
	q.mu.Unlock()
	if n >= maxUnread {
		return maxUnread, nil
	}
	more, err := q.count(top, maxUnread-n)
	if err != nil {
		return 0, fmt.Errorf("count unread of %q: %w", q.topic, err)
	}
	return n + more, nil
}

// Seen acknowledges every event up to and including o, for a client that comes back with the offset of the event that it saw
// last. An offset of another topic's event is ignored: of this queue it says nothing. So is one that retention took, and
// any one on a shared queue. [Consumer.AckThrough] says what else is. It waits for the index to have all that was published
// before the call; errors are [ErrUnavailable], [ErrClosed] and the cause of ctx.
func (q *Queue) Seen(ctx context.Context, o Offset) error {
	b := q.broker
	seq, _, ok := b.locate(q.topic, o)
	if !ok || seq == 0 || q.shared != nil {
		return nil
	}
	if err := b.caughtUp(ctx); err != nil {
		return fmt.Errorf("acknowledge what was seen of %q: %w", q.topic, err)
	}
	topic, ok, err := b.index.TopicAt(seq)
	if err != nil {
		return fmt.Errorf("acknowledge what was seen of %q: %w", q.topic, err)
	}
	if ok && q.covers(topic) {
		q.ackThrough(seq, nil)
	}
	return nil
}

// covers says whether the queue reads a topic.
func (q *Queue) covers(topic string) bool {
	if q.pattern != nil {
		return q.pattern.match(topic)
	}
	return topic == q.topic
}
