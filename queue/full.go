package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// fullness counts what is on its way to a topic that refuses events at its limit, so that many publishers at a time can't get
// beyond it.
type fullness struct {
	mu     sync.Mutex // guards the field below
	topics map[string]*onItsWay
}

// onItsWay is what was accepted for a topic and is not in the index.
type onItsWay struct {
	unanswered int   // events that are not stored, or not known to be
	bytes      int64 // of all of them
	stored     []storedSize
}

type storedSize struct {
	seq   uint64
	bytes int64
}

// topicsOnWay is when what the index has by now is looked for.
const topicsOnWay = 10_000

// admit refuses an event that its topic has no room for, and else counts it.
func (f *fullness) admit(ctx context.Context, b *Broker, policy *policy, p *publication, size int) error {
	if err := b.caughtUp(ctx); err != nil {
		return err
	}
	topic, bytes := p.topic, int64(size)
	f.mu.Lock()
	defer f.mu.Unlock()
	applied := b.index.Applied() // first: what arrives now is counted twice rather than not at all
	if len(f.topics) >= topicsOnWay {
		for topic, way := range f.topics {
			if way.arrived(applied); way.unanswered == 0 && len(way.stored) == 0 {
				delete(f.topics, topic)
			}
		}
	}
	way := f.topics[topic]
	if way == nil {
		way = &onItsWay{}
		f.topics[topic] = way
	}
	way.arrived(applied)
	i, _, err := b.index.Topic(topic)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	events := i.Events + int64(way.unanswered+len(way.stored)) + 1
	if policy.MaxEvents > 0 && events > policy.MaxEvents || policy.MaxBytes > 0 && i.Bytes+way.bytes+bytes > policy.MaxBytes {
		return refuse("topic_full", "topic %q has %d events and %d bytes, and takes no more", topic, i.Events, i.Bytes)
	}
	way.unanswered++
	way.bytes += bytes
	p.answered = func(p Published, err error) { f.answered(topic, bytes, p, err) }
	return nil
}

// answered takes in the outcome of an event.
func (f *fullness) answered(topic string, bytes int64, p Published, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	way := f.topics[topic]
	way.unanswered--
	if err == nil && !p.Duplicate {
		i, _ := slices.BinarySearchFunc(way.stored, p.Offset.Seq, func(s storedSize, seq uint64) int { return int(int64(s.seq) - int64(seq)) })
		way.stored = slices.Insert(way.stored, i, storedSize{p.Offset.Seq, bytes})
		return
	}
	way.bytes -= bytes
}

// arrived forgets what the index has.
func (w *onItsWay) arrived(applied uint64) {
	n := 0
	for n < len(w.stored) && w.stored[n].seq <= applied {
		w.bytes -= w.stored[n].bytes
		n++
	}
	w.stored = slices.Delete(w.stored, 0, n)
}
