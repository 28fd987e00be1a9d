package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// QueueInfo is the state of a queue at one moment.
type QueueInfo struct {
	QueueConfig // what it was given; the zero From

	Cursor    Offset // everything up to here is acknowledged
	Unread    int    // events that are not; counted up to 10,000
	InFlight  int    // of them handed out
	Waiting   int    // of them handed out before, and to come again
	Dead      int    // dead letters that were not given back; counted up to 10,000
	Paused    bool
	Consumers []string  // their names
	Saved     time.Time // when it was last stored, the zero time for now; only from [Broker.Queues]
}

// Info returns the state of the queue. Its errors are those of [Queue.Unread].
func (q *Queue) Info(ctx context.Context) (QueueInfo, error) {
	unread, err := q.Unread(ctx)
	if err != nil {
		return QueueInfo{}, err
	}
	q.mu.Lock()
	i := q.infoLocked()
	q.mu.Unlock()
	i.Unread = unread
	dead, err := q.deadLetters(ctx, true)
	switch {
	case err == nil:
		i.Dead, err = dead.Unread(ctx)
	case errors.Is(err, ErrNotFound): // none was given back yet
		i.Dead, err = q.broker.index.Count(deadPrefix+q.name, "", 0, maxUnread)
	}
	if err != nil {
		return QueueInfo{}, fmt.Errorf("count dead letters of %q: %w", q.name, err)
	}
	return i, nil
}

func (q *Queue) infoLocked() QueueInfo {
	i := QueueInfo{QueueConfig: q.settings.config(q.topic, q.name), Paused: q.paused}
	i.Ephemeral = q.ephemeral
	i.Cursor = Offset{q.broker.epoch, q.window.floor()}
	for _, w := range q.window.entries {
		switch {
		case w.flying > 0:
			i.InFlight++
		case w.tries > 0:
			i.Waiting++
		}
	}
	for _, c := range q.consumers {
		i.Consumers = append(i.Consumers, c.name)
	}
	return i
}

// Peek returns up to limit of the queue's events that are not acknowledged, oldest first, and takes nothing: 0 is 100, the most
// is 1,000. Attempt is that of the delivery last made, 0 before the first. The deliveries can't be settled.
func (q *Queue) Peek(ctx context.Context, limit int) ([]Delivery, error) {
	b := q.broker
	if limit = min(limit, maxPage); limit <= 0 {
		limit = defaultPage
	}
	if err := b.caughtUp(ctx); err != nil {
		return nil, fmt.Errorf("peek at %q: %w", q.topic, err)
	}
	type open struct {
		seq     uint64
		attempt int
	}
	var first []open
	q.mu.Lock()
	top, now := q.window.top, q.now
	for _, w := range q.window.entries[:min(limit, len(q.window.entries))] {
		first = append(first, open{w.seq, int(w.tries + min(w.flying, 1))})
	}
	q.mu.Unlock()
	var ds []Delivery
	for _, o := range first {
		e, err := q.lookup(o.seq)
		if err != nil {
			return nil, fmt.Errorf("peek at %q: %w", q.topic, err)
		}
		if e != nil {
			ds = append(ds, Delivery{Event: e, Attempt: o.attempt})
		}
	}
	for all := false; len(ds) < limit && !all; {
		var page []*Event
		var err error
		if page, all, err = q.page(top, b.index.Applied(), limit-len(ds), pageBytes, nil); err != nil {
			return nil, fmt.Errorf("peek at %q: %w", q.topic, err)
		}
		for _, e := range page {
			top = e.Offset.Seq
			if now.wants(e, q.id) {
				ds = append(ds, Delivery{Event: e})
			}
		}
	}
	return ds, nil
}

// Queues returns the durable queues, those first that were not used for longest. It reads the store as it goes, and the state
// of a queue that is in use as it is now; Dead is not counted. After an error nothing follows.
func (b *Broker) Queues(ctx context.Context) iter.Seq2[QueueInfo, error] {
	return func(yield func(QueueInfo, error) bool) {
		for s, err := range b.storedQueues(ctx) {
			var i QueueInfo
			if err == nil {
				i, err = b.infoOf(s)
			}
			if err != nil {
				yield(QueueInfo{}, fmt.Errorf("list queues: %w", err))
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

func (b *Broker) infoOf(s storedQueue) (QueueInfo, error) {
	q := b.loaded(s.topic, s.name)
	if q == nil {
		q = b.newQueue(s.topic, s.name)
		q.settings, q.now, q.paused, q.window = s.settings, s.settings.withDefaults(), s.paused, s.window
	}
	q.mu.Lock()
	i := q.infoLocked()
	top, n := q.window.top, len(q.window.entries)
	q.mu.Unlock()
	i.Saved = s.saved
	more, err := q.count(top, max(0, maxUnread-n))
	i.Unread = n + more
	return i, err
}

// loaded returns a queue that somebody holds, or nil.
func (b *Broker) loaded(topic, name string) *Queue {
	b.queuesMu.Lock()
	defer b.queuesMu.Unlock()
	q := b.queues[queueKey{topic, name}].Value()
	if q == nil {
		return nil
	}
	select {
	case <-q.ready:
		if q.err == nil {
			return q
		}
	default:
	}
	return nil
}

// storedQueues reads the stream of cursors, in the order in which they were saved.
func (b *Broker) storedQueues(ctx context.Context) iter.Seq2[storedQueue, error] {
	return func(yield func(storedQueue, error) bool) {
		if b.isClosed() {
			yield(storedQueue{}, ErrClosed)
			return
		}
		err := b.eachMessage(ctx, b.cursors, from(1, cursorPrefix+">"), func(m jetstream.Msg, _ uint64) bool {
			if len(m.Data()) == 0 { // a deleted queue
				return true
			}
			s, err := decodeCursor(m.Data())
			if err != nil {
				b.log.Error("undecodable queue", "subject", m.Subject(), "cause", err)
				return true
			}
			if meta, err := m.Metadata(); err == nil {
				s.saved = meta.Timestamp
			}
			return yield(s, nil)
		})
		if err != nil {
			yield(storedQueue{}, err)
		}
	}
}

// from reads a stream's messages on some subjects from a sequence on.
func from(seq uint64, subjects ...string) jetstream.OrderedConsumerConfig {
	return jetstream.OrderedConsumerConfig{FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: seq}
}

// eachMessage reads a part of a stream as it was when the call began, until f returns false.
func (b *Broker) eachMessage(ctx context.Context, stream jetstream.Stream, part jetstream.OrderedConsumerConfig, f func(jetstream.Msg, uint64) bool) error {
	unavailable := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	end, err := endOf(ctx, stream, part)
	if err != nil {
		return unavailable(err)
	}
	if end == 0 {
		return nil
	}
	consumer, err := ordered(ctx, stream, part)
	if err != nil {
		return unavailable(err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000), heartbeat)
	if err != nil {
		return unavailable(err)
	}
	defer messages.Stop()
	for at, waited := uint64(0), time.Duration(0); at < end; {
		short, cancel := context.WithTimeout(ctx, ackLook)
		m, err := messages.Next(jetstream.NextContext(short))
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && waited < ackPatience: // the end may have been deleted meanwhile
			waited += ackLook
			now, err := endOf(ctx, stream, part)
			if err != nil {
				return unavailable(err)
			}
			end = min(end, now)
			continue
		case err != nil:
			return unavailable(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return unavailable(err)
		}
		waited, at = 0, meta.Sequence.Stream
		if !f(m, at) {
			return nil
		}
	}
	return nil
}

// endOf returns the last sequence of a part of a stream, 0 if it has none. A consumer can't tell: it may be where a replica is that is
// behind.
func endOf(ctx context.Context, stream jetstream.Stream, part jetstream.OrderedConsumerConfig) (end uint64, err error) {
	for _, subject := range part.FilterSubjects {
		m, err := stream.GetLastMsgForSubject(ctx, subject)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return 0, err
		case part.OptStartTime == nil && m.Sequence >= part.OptStartSeq, part.OptStartTime != nil && !m.Time.Before(*part.OptStartTime):
			end = max(end, m.Sequence)
		}
	}
	return end, nil
}
