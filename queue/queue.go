package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"weak"

	"github.com/nats-io/nats.go/jetstream"
)

// maxUnread is where Unread stops counting.
const maxUnread = 10_000

// QueueConfig names a queue, and says where a new one begins.
type QueueConfig struct {
	Topic string
	Name  string // of a personal queue: the identity that it belongs to. 1 to 255 bytes; an ephemeral queue needs none
	From  Start  // where a queue that is made now begins; one that exists goes on where it stood

	// Ephemeral keeps the queue in memory: it belongs to this one *Queue, lives as long, and is shared with nobody, whatever
	// its name.
	Ephemeral bool
}

// Queue is a personal queue: a reader's place in a topic. Each of its consumers gets every event from the cursor on; the
// cursor is up to where everything was acknowledged. Its methods may be called from any goroutine.
//
// All calls of [Broker.Queue] for one topic and name return the same Queue as long as anybody holds it. It needs no closing:
// what is not used costs no memory, and its cursor is in the store.
type Queue struct {
	// static after construction
	broker    *Broker
	topic     string
	name      string
	ephemeral bool
	ready     chan struct{} // closed when the queue was loaded, or err set
	err       error

	mu        sync.Mutex    // guards the fields below; a leaf but for Broker.dirtyMu
	deleted   chan struct{} // not nil while the queue is being deleted, and after; closed when that is decided
	window    window
	gaps      []Gap // accepted losses that nobody acknowledged yet
	consumers []*Consumer
	dirty     bool
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
	if err := b.checkTopic(c.Topic); err != nil {
		return nil, err
	}
	if c.Name != "" || !c.Ephemeral {
		if err := checkName("invalid_queue", "queue name", c.Name, maxName); err != nil {
			return nil, err
		}
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
		err := q.start(ctx, from)
		return q, err
	}
	for {
		q, mine := b.intern(c.Topic, c.Name)
		if mine {
			q.err = q.load(ctx, from)
			if q.err != nil {
				b.disown(q)
			}
			close(q.ready)
			return q, q.err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
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
			return q, nil
		}
		if !errors.Is(q.err, context.Canceled) && !errors.Is(q.err, context.DeadlineExceeded) {
			return q, q.err
		} // whoever loaded it gave up
	}
}

func (b *Broker) newQueue(topic, name string) *Queue {
	return &Queue{broker: b, topic: topic, name: name, ready: make(chan struct{})}
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

// load reads the queue's cursor, or makes the queue.
func (q *Queue) load(ctx context.Context, from place) error {
	subject := cursorSubject(q.topic, q.name)
	stored, err := q.broker.cursors.GetLastMsgForSubject(ctx, subject)
	switch {
	case err == nil && len(stored.Data) > 0: // else it was deleted
		return q.restore(stored.Data)
	case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fmt.Errorf("%w: read cursor: %w", ErrUnavailable, err)
	}
	if err := q.start(ctx, from); err != nil {
		return err
	}
	return q.store(ctx)
}

// start places a new queue.
func (q *Queue) start(ctx context.Context, from place) error {
	floor, gaps, err := q.broker.resolve(ctx, q.topic, from)
	q.window.floor, q.gaps = floor, gaps
	return err
}

// Topic returns the name of the queue's topic.
func (q *Queue) Topic() string { return q.topic }

// Name returns the queue's name.
func (q *Queue) Name() string { return q.name }

// Cursor returns the position up to which everything is acknowledged.
func (q *Queue) Cursor() Offset {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Offset{q.broker.epoch, q.window.floor}
}

// Unread returns how many events of the queue are not acknowledged; it stops counting at 10,000. It counts every event whose
// publish returned before the call, and waits for the index to have them.
func (q *Queue) Unread(ctx context.Context) (int, error) {
	b := q.broker
	if err := b.caughtUp(ctx); err != nil {
		return 0, fmt.Errorf("count unread of %q: %w", q.topic, err)
	}
	q.mu.Lock()
	floor, acked := q.window.floor, len(q.window.acked())
	q.mu.Unlock()
	n, err := b.index.Count(q.topic, floor, maxUnread+acked)
	if err != nil {
		return 0, fmt.Errorf("count unread of %q: %w", q.topic, err)
	}
	return max(0, n-acked), nil
}

// Seen acknowledges every event up to and including o, for a client that comes back with the offset of the event that it saw
// last. An offset of another topic's event is ignored: of this queue it says nothing. So is one that retention took.
// [Consumer.AckThrough] says what else is. It waits for the index to have all that was published before the call; errors are
// [ErrUnavailable], [ErrClosed] and the cause of ctx.
func (q *Queue) Seen(ctx context.Context, o Offset) error {
	b := q.broker
	seq, _, ok := b.locate(q.topic, o)
	if !ok || seq == 0 {
		return nil
	}
	if err := b.caughtUp(ctx); err != nil {
		return fmt.Errorf("acknowledge what was seen of %q: %w", q.topic, err)
	}
	topic, ok, err := b.index.TopicAt(seq)
	if err != nil {
		return fmt.Errorf("acknowledge what was seen of %q: %w", q.topic, err)
	}
	if ok && topic == q.topic {
		q.ackThrough(seq)
	}
	return nil
}

func (q *Queue) ackThrough(seq uint64) {
	q.mu.Lock()
	if q.window.ackThrough(seq) || len(q.gaps) > 0 {
		q.gaps = nil
		q.touchLocked()
	}
	for _, c := range q.consumers {
		for s := range c.inflight {
			if s <= seq {
				delete(c.inflight, s)
			}
		}
	}
	wake := q.unblockLocked()
	q.mu.Unlock()
	kick(wake)
}

// ackLocked acknowledges one event.
func (q *Queue) ackLocked(seq uint64) {
	if q.window.ack(seq) {
		q.gaps = nil
		q.touchLocked()
	}
}

// unblockLocked returns the consumers that stopped for want of acknowledgements.
func (q *Queue) unblockLocked() []*Consumer {
	var wake []*Consumer
	for _, c := range q.consumers {
		if c.blocked && len(c.inflight) < c.prefetch {
			c.blocked = false
			wake = append(wake, c)
		}
	}
	return wake
}

func kick(cs []*Consumer) {
	for _, c := range cs {
		c.kick(true)
	}
}

// forget drops what is known about events that retention took.
func (q *Queue) forget(through uint64) {
	q.mu.Lock()
	if len(q.window.entries) > 0 {
		q.window.forget(through)
	}
	wake := q.unblockLocked()
	q.mu.Unlock()
	kick(wake)
}

// lose drops one event, in flight again, that retention took.
func (q *Queue) lose(c *Consumer, seq uint64) {
	q.mu.Lock()
	delete(c.inflight, seq)
	q.ackLocked(seq)
	wake := q.unblockLocked()
	q.mu.Unlock()
	kick(wake)
}

func (q *Queue) detach(c *Consumer) {
	q.mu.Lock()
	i := slices.Index(q.consumers, c)
	if i < 0 {
		q.mu.Unlock()
		return
	}
	q.consumers = slices.Delete(q.consumers, i, i+1)
	for seq := range c.inflight {
		if at, ok := q.window.find(seq); ok && q.window.failed(seq, q.window.entries[at].due) {
			q.touchLocked()
		}
	}
	clear(c.inflight)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.redo, c.later, c.timer = nil, nil, nil
	save := len(q.consumers) == 0 && q.dirty
	q.mu.Unlock()
	if save {
		q.broker.save(q)
	}
}
