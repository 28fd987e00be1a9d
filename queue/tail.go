package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	tailEvents = 500     // events in one batch
	tailBytes  = 8 << 20 // and about so many bytes

	expireEvery = time.Second
)

// source is the log's events in order, from the one after what the index has.
type source struct {
	messages chan jetstream.Msg
	consume  jetstream.ConsumeContext
	received atomic.Uint64 // the sequence of the last of messages
}

func (b *Broker) openTail(ctx context.Context) (*source, error) {
	consumer, err := ordered(ctx, b.tailOf, from(b.index.Applied()+1, subjectPrefix+">"))
	if err != nil {
		return nil, fmt.Errorf("tail: %w", err)
	}
	s := &source{messages: make(chan jetstream.Msg, tailEvents)}
	s.consume, err = consumer.Consume(func(m jetstream.Msg) {
		s.received.Store(sequence(m))
		select {
		case s.messages <- m:
		case <-b.quit:
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(4*tailEvents, 2*tailBytes), heartbeat, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		b.log.Warn("tail", "cause", err) // it starts again by itself, where it was
	}))
	if err != nil {
		return nil, fmt.Errorf("tail: %w", err)
	}
	return s, nil
}

// follow moves events from the log to the index and then to the live consumers. Nothing gets past it that is not durable: an
// event that a power cut can undo must not be seen, here or in the index on disk, since its sequence would be used again.
func (b *Broker) follow(s *source) {
	defer func() {
		s.consume.Stop()
		<-s.consume.Closed()
	}()
	expiry := time.NewTicker(expireEvery)
	defer expiry.Stop()
	t := tail{Broker: b, source: s, last: b.index.Applied(), limited: make(map[string]*policy)}
	for {
		if !t.skipHoles() {
			return
		}
		var m jetstream.Msg
		if m, t.held = t.held, nil; m == nil {
			select {
			case <-b.quit:
				return
			case first := <-b.trim:
				if !t.trim(min(first, t.last+1)) { // what has not come yet it will find to be a hole
					return
				}
				continue
			case f := <-b.tasks:
				f()
				continue
			case <-expiry.C:
				if !t.expire() {
					return
				}
				continue
			case m = <-s.messages:
			}
		}
		if !t.take(m) || !t.collect() || !t.flush() {
			return
		}
	}
}

// tail is what its goroutine has in hand.
type tail struct {
	*Broker
	source  *source
	number  uint64
	batch   []*Event
	touched []*audience
	limited map[string]*policy // topics of the batch that may have too much
	last    uint64             // the last sequence that came
	trimmed uint64
	held    jetstream.Msg // came after a hole, which must not be known of before all before it is indexed

	// The log begins at first, and did so or earlier when the message with the sequence asked had come.
	first, asked uint64
}

// collect takes what more there is, up to a batch.
func (t *tail) collect() bool {
	bytes := 0
	for len(t.batch) < tailEvents && bytes < tailBytes {
		select {
		case m := <-t.source.messages:
			if seq := sequence(m); seq > t.last+1 && !t.deleted(seq) {
				t.held = m
				return true
			}
			bytes += len(m.Data())
			if !t.take(m) {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// take decodes a message. One that can't be decoded is not ours: it is reported and passed over.
func (t *tail) take(m jetstream.Msg) bool {
	seq := sequence(m)
	if seq <= t.last {
		return true
	}
	if seq != t.last+1 && !t.deleted(seq) && !t.hole(t.last, seq-1) { // nothing is in the batch then
		return false
	}
	t.last = seq
	e, err := decodeEnvelope(m.Data())
	if err != nil {
		t.log.Error("tail: undecodable event", "seq", seq, "cause", err)
		return true
	}
	e.Offset = Offset{t.epoch, seq}
	e.TraceParent = traceOf(m.Headers())
	if meta, err := m.Metadata(); err == nil {
		e.Time = meta.Timestamp
	}
	if e.ttl > 0 {
		e.Expires = e.Time.Add(e.ttl)
	}
	t.batch = append(t.batch, e)
	return true
}

func sequence(m jetstream.Msg) uint64 {
	meta, err := m.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}

// flush hands the batch on, as it becomes durable.
func (t *tail) flush() bool {
	for rest := t.batch; len(rest) > 0; {
		n := t.gate(rest)
		if n == 0 {
			return false
		}
		if !t.insist("index events", func() error { return t.index.Apply(rest[:n], t.policies.rule) }) {
			return false
		}
		for _, e := range rest[:n] {
			if e.ID == "" {
				e.ID = e.Offset.String()
			}
		}
		t.number++
		t.touched = t.hub.fan(rest[:n], rest[n-1].Offset.Seq, t.number, t.touched)
		if !t.shorten(rest[:n]) {
			return false
		}
		rest = rest[n:]
	}
	clear(t.batch)
	t.batch = t.batch[:0]
	if t.index.Applied() >= t.last {
		return true
	}
	if t.committer.require(t.last); !t.durable.wait(t.last, t.quit, nil) {
		return false
	}
	return t.skip(t.last)
}

func (t *tail) skip(to uint64) bool {
	if !t.insist("skip in index", func() error { return t.index.Skip(to) }) {
		return false
	}
	t.hub.fan(nil, to, 0, nil)
	return true
}

// deleted says whether what is missing before a message that came was deleted on purpose, in the middle of the log: who misses
// something by that is in the index. It does not ask the log.
func (t *tail) deleted(seq uint64) bool { return t.first <= t.last+1 && seq <= t.asked }

// hole passes over sequences that the log does not have. If retention took the events before they came here the index is
// told, and the live readers are sent to the workers, which tell them. Else they were deleted on purpose, or the operator
// accepted their loss.
func (t *tail) hole(after, to uint64) bool {
	asked := t.source.received.Load()
	if !t.insist("look at a hole in the log", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), ackPatience)
		defer cancel()
		info, err := t.tailOf.Info(ctx)
		if err == nil {
			t.first, t.asked = info.State.FirstSeq, max(asked, to+1)
		}
		return err
	}) {
		return false
	}
	t.last = to
	if t.first <= after+1 {
		return t.skip(to)
	}
	t.log.Warn("the log lost events before they were indexed", "from", after+1, "to", to, "first", t.first)
	if !t.trim(to+1) || !t.skip(to) {
		return false
	}
	t.hub.kickAll()
	return true
}

// gate waits until the first event is durable, and returns how many are; 0 when the broker closes.
func (t *tail) gate(events []*Event) int {
	if first := events[0].Offset.Seq; t.durable.load() < first {
		t.committer.require(first) // its publisher may be long gone
		if !t.durable.wait(first, t.quit, nil) {
			return 0
		}
	}
	mark := t.durable.load()
	n := 1
	for n < len(events) && events[n].Offset.Seq <= mark {
		n++
	}
	return n
}

// skipHoles moves over the end of the log as it stood at Open, where no event is left.
func (t *tail) skipHoles() bool {
	if t.last < t.caught || t.last >= t.opened {
		return true
	}
	t.last = t.opened
	return t.skip(t.opened)
}

// trim drops from the index what the log no longer has. Readers look at first after they have read.
func (t *tail) trim(first uint64) bool {
	if first <= t.trimmed {
		return true
	}
	t.trimmed = first
	defer t.trims.Add(1)
	return t.insist("trim index", func() error { return t.index.Trim(first) })
}

// insist repeats what the index must do until it does it; false when the broker closes first. The index shares the disk with
// the log: when it is full, publishing stops too, and nothing is lost by waiting.
func (b *Broker) insist(what string, f func() error) bool {
	for {
		err := f()
		if err == nil {
			b.stuck.Store(nil)
			return true
		}
		b.log.Error(what, "cause", err)
		err = fmt.Errorf("%w: %s: %w", ErrUnavailable, what, err)
		b.stuck.Store(&err)
		select {
		case <-b.quit:
			return false
		case <-time.After(readAgain):
		}
	}
}
