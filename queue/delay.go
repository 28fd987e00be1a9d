package queue

import (
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue/internal/guard"
)

// Events that are to be published later wait in a stream of their own: the time in ns since 1970 and the position of the log
// when they were accepted, as uvarints, and the event as it will be published. Of each, its time and sequence are in memory.
const (
	delayedStream = guard.Delayed
	delayedPrefix = "dly."

	maxDelay    = 10 * 365 * 24 * time.Hour
	delayedPage = 500         // events that are published in one go
	delayedWait = time.Second // before what could not be published is tried again, and between two looks at the clock
)

// due says whether the event is to be published later.
func (m *Message) due() bool { return m.Delay > 0 || m.At.After(time.Now()) }

// delay stores an event for later.
func (b *Broker) delay(ctx context.Context, m Message, done func(Published, error)) (*publication, error) {
	if n := b.delayed.Load(); n >= int64(b.config.MaxDelayed) {
		return nil, fmt.Errorf("%w: %d events wait to be published later", ErrFull, n)
	}
	at := m.At
	if m.Delay > 0 {
		at = time.Now().Add(m.Delay)
	}
	p := &publication{topic: m.Topic}
	if m.ID != "" {
		p.msgID = dedupeID(m.Topic, m.ID)
	} else {
		m.ID = rand.Text() // by which it can be told whether it was published
	}
	data := binary.AppendUvarint(nil, uint64(at.UnixNano()))
	data = binary.AppendUvarint(data, b.durable.load())
	p.data = m.appendEnvelope(data)
	cost, err := b.takeRoom(ctx, len(p.data))
	if err != nil {
		return nil, err
	}
	p.cost = cost
	p.subject = delayedPrefix + token(m.Topic)
	p.trace = traceParent(m.TraceParent)
	p.done = func(r *request) {
		b.room.give(cost)
		if r.err != nil {
			done(Published{}, fmt.Errorf("publish %q later: %w", m.Topic, r.err))
			return
		}
		done(Published{Topic: m.Topic, ID: m.ID, Duplicate: r.duplicate}, nil)
	}
	if err := b.committer.push(&p.request); err != nil {
		p.undo(b)
		return nil, err
	}
	return p, nil
}

// wake is when a delayed event is to be published.
type wake struct {
	at  int64
	seq uint64
}

// wakes is a heap.
type wakes []wake

func (w wakes) Len() int { return len(w) }
func (w wakes) Less(i, j int) bool {
	return w[i].at < w[j].at || w[i].at == w[j].at && w[i].seq < w[j].seq
}
func (w wakes) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *wakes) Push(x any)   { *w = append(*w, x.(wake)) }
func (w *wakes) Pop() any {
	old := *w
	x := old[len(old)-1]
	*w = old[:len(old)-1]
	return x
}

// openDelayed begins to read what is delayed.
func (b *Broker) openDelayed(ctx context.Context) (<-chan wake, jetstream.ConsumeContext, error) {
	consumer, err := ordered(ctx, b.later, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, nil, fmt.Errorf("delayed events: %w", err)
	}
	more := make(chan wake, delayedPage)
	consume, err := consumer.Consume(func(m jetstream.Msg) {
		at, n := binary.Uvarint(m.Data())
		meta, err := m.Metadata()
		if n <= 0 || err != nil {
			b.log.Error("undecodable delayed event", "subject", m.Subject(), "cause", err)
			return
		}
		select {
		case more <- wake{int64(at), meta.Sequence.Stream}:
		case <-b.quit:
		}
	}, jetstream.PullMaxMessages(4*delayedPage), heartbeat)
	if err != nil {
		return nil, nil, fmt.Errorf("delayed events: %w", err)
	}
	return more, consume, nil
}

// publishDelayed publishes what is delayed when its time has come.
func (b *Broker) publishDelayed(more <-chan wake, consume jetstream.ConsumeContext) {
	defer func() {
		consume.Stop()
		<-consume.Closed()
	}()
	var waiting wakes
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-b.quit:
			return
		case w := <-more:
			heap.Push(&waiting, w)
			b.delayed.Store(int64(len(waiting)))
			if waiting[0] != w {
				continue
			}
		case <-timer.C:
		}
		var due []wake
		for now := time.Now().UnixNano(); len(waiting) > 0 && waiting[0].at <= now && len(due) < delayedPage; {
			due = append(due, heap.Pop(&waiting).(wake))
		}
		for _, w := range b.publishDue(due) {
			w.at = time.Now().Add(delayedWait).UnixNano()
			heap.Push(&waiting, w)
		}
		b.delayed.Store(int64(len(waiting)))
		pause := delayedWait // the clock may be turned forward
		if len(waiting) > 0 {
			pause = min(pause, time.Until(time.Unix(0, waiting[0].at)))
		}
		timer.Reset(max(0, pause))
	}
}

// publishDue publishes delayed events, and returns those that it could not publish.
func (b *Broker) publishDue(due []wake) (failed []wake) {
	if len(due) == 0 {
		return nil
	}
	if b.refuses(b.life) != nil || b.engine.Clock() != nil || b.caughtUp(b.life) != nil { // later is better than too early
		return due
	}
	type result struct {
		w   wake
		err error
	}
	results := make(chan result, len(due))
	for _, w := range due {
		err := b.publishOne(w, func(err error) { results <- result{w, err} })
		if err != nil {
			results <- result{w, err}
		}
	}
	for range due {
		r := <-results
		if r.err == nil || errors.Is(r.err, errGone) {
			r.err = b.later.DeleteMsg(b.life, r.w.seq)
			if errors.Is(r.err, jetstream.ErrMsgDeleteUnsuccessful) {
				r.err = nil // another node was faster
			}
		}
		if r.err == nil {
			continue
		}
		failed = append(failed, r.w)
		if !b.isClosed() {
			b.log.Warn("publish a delayed event", "cause", r.err)
		}
	}
	return failed
}

// errGone says that a delayed event needs not be published.
var errGone = errors.New("published before, or not decodable")

// publishOne publishes a delayed event, unless it was published by a process that ended before it could note that. An error means
// that done is not called.
func (b *Broker) publishOne(w wake, done func(error)) error {
	stored, err := b.later.GetMsg(b.life, w.seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return errGone
	}
	if err != nil {
		return err
	}
	r := fields{rest: stored.Data}
	r.uvarint()
	after := r.uvarint()
	e, err := decodeEnvelope(r.rest)
	if err != nil {
		b.log.Error("undecodable delayed event", "seq", w.seq, "cause", err)
		return errGone
	}
	seq, err := b.index.FindID(e.Topic, e.ID)
	if err != nil {
		return err
	}
	if seq > after {
		return errGone
	}
	p := b.prepare(&Message{
		Topic: e.Topic, Event: e.Name, ID: e.ID, Key: e.Key, TTL: e.ttl, ReplyTo: e.ReplyTo, Args: e.Args, Attachments: e.Attachments,
		TraceParent: traceOf(stored.Header),
	}, len(stored.Data), 0, func(_ Published, err error) {
		if c, ok := errors.AsType[*Error](err); ok && c.Code == "conflict" {
			err = errGone // the id was used for something else meanwhile
		}
		done(err)
	})
	return b.committer.push(&p.request)
}

// Request publishes an event and waits for the answer to it: the first event that is published to its ReplyTo, a topic that
// Request makes. Whoever gets the event publishes there. When ctx ends first the error is its cause; the event was published all
// the same, and may be answered. Other errors are those of [Broker.Publish].
func (b *Broker) Request(ctx context.Context, m Message) (*Event, error) {
	m.ReplyTo = replyPrefix + rand.Text()
	q, err := b.Queue(ctx, QueueConfig{Topic: m.ReplyTo, Ephemeral: true})
	if err != nil {
		return nil, fmt.Errorf("request to %q: %w", m.Topic, err)
	}
	s := answer(make(chan *Event, 1))
	c, err := q.Attach(ConsumerConfig{Sink: s})
	if err != nil {
		return nil, fmt.Errorf("request to %q: %w", m.Topic, err)
	}
	defer c.Close()
	if _, err := b.Publish(ctx, m); err != nil {
		return nil, err
	}
	select {
	case e := <-s:
		return e, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("request to %q: no answer: %w", m.Topic, context.Cause(ctx))
	case <-b.quit:
		return nil, fmt.Errorf("request to %q: no answer: %w", m.Topic, ErrClosed)
	}
}

// answer is a sink that takes one event.
type answer chan *Event

func (a answer) Deliver(d Delivery) bool {
	select {
	case a <- d.Event:
	default: // a second answer
	}
	return true
}

func (a answer) Gap(Gap) {}
func (a answer) Flush()  {}
