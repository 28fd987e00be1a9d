package queue

import (
	"context"
	"fmt"
	"iter"
	"slices"
)

const (
	defaultPage = 100
	maxPage     = 1000
	pageBytes   = 4 << 20
)

// Page is a part of a topic's history.
type Page struct {
	Events   []*Event // ascending
	Next     Offset   // where the next page begins: Next.After()
	Complete bool     // nothing is stored after these events yet, or, backwards, nothing is kept before them
	Gap      *Gap     // what is missing before the first of them, nil if nothing is
}

// History reads up to limit events of a topic from a place on; 0 is 100, the most is 1,000, and a page ends early after about
// 4 MiB. With a negative limit it reads as many events before that place, the last of them. It sees every event whose publish
// returned before the call. From "new" it reads nothing, and tells where new events will begin; backwards that is the end.
// Errors: [Error], [ErrUnavailable], [ErrClosed], the cause of ctx.
func (b *Broker) History(ctx context.Context, topic string, from Start, limit int) (Page, error) {
	p, err := b.history(ctx, topic, from, limit)
	if err != nil {
		return Page{}, fmt.Errorf("history of %q: %w", topic, err)
	}
	return p, nil
}

func (b *Broker) history(ctx context.Context, topic string, from Start, limit int) (Page, error) {
	if err := b.checkTopic(topic); err != nil {
		return Page{}, err
	}
	where, err := from.place()
	if err != nil {
		return Page{}, err
	}
	if b.isClosed() {
		return Page{}, ErrClosed
	}
	if err := b.caughtUp(ctx); err != nil {
		return Page{}, err
	}
	pos, gaps, err := b.resolve(ctx, topic, where)
	if err != nil {
		return Page{}, err
	}
	if limit < 0 {
		return b.backward(topic, pos, min(-limit, maxPage))
	}
	if limit == 0 {
		limit = defaultPage
	}
	return b.forward(topic, pos, gaps, min(limit, maxPage), where.first)
}

func (b *Broker) forward(topic string, pos uint64, gaps []Gap, limit int, first bool) (p Page, err error) {
	if len(gaps) > 0 {
		p.Gap = &gaps[len(gaps)-1]
		p.Gap.From = gaps[0].From
	}
	applied := max(pos, b.hub.mark.load())
	for {
		lost, err := b.missing(topic, pos)
		if err != nil {
			return Page{}, err
		}
		if lost > pos && !first {
			p.Gap = merge(p.Gap, b.gap(topic, pos, lost))
		}
		pos = max(pos, lost)
		last, _, err := b.index.Topic(topic)
		if err != nil {
			return Page{}, err
		}
		if last.Last.Seq <= pos { // as clients that come back mostly find it: looking for events takes three times as long
			p.Events, p.Complete = p.Events[:0], true
			break
		}
		p.Events, p.Complete, err = b.page(topic, pos, applied, limit, pageBytes, p.Events[:0])
		if err != nil {
			return Page{}, err
		}
		// As in workers.read: a trim between the two looks may have hidden events.
		if lost, err = b.missing(topic, pos); err != nil {
			return Page{}, err
		}
		if lost <= pos {
			break
		}
	}
	p.Next = Offset{b.epoch, applied}
	if n := len(p.Events); n > 0 && !p.Complete {
		p.Next.Seq = p.Events[n-1].Offset.Seq
	}
	p.Events = b.everybodys(p.Events)
	return p, nil
}

// backward reads the last events up to a position.
func (b *Broker) backward(topic string, upto uint64, limit int) (Page, error) {
	p := Page{Complete: true}
	lost, err := b.missing(topic, 0)
	if err != nil {
		return Page{}, err
	}
	if err := b.index.Back(topic, lost, upto, limit+1, fill(&p.Events, &p.Complete, limit, pageBytes)); err != nil {
		return Page{}, err
	}
	p.Next = Offset{b.epoch, lost}
	if n := len(p.Events); n > 0 && !p.Complete {
		p.Next.Seq = p.Events[n-1].Offset.Seq - 1
	}
	slices.Reverse(p.Events)
	p.Events = b.everybodys(p.Events)
	return p, nil
}

// everybodys leaves out what is for one queue alone, and what has expired.
func (b *Broker) everybodys(events []*Event) []*Event {
	return slices.DeleteFunc(events, func(e *Event) bool { return e.Queue != "" || b.expired(e) })
}

// Events returns the events of a topic from a place on that were stored before the iteration began, in order. A [*Gap] as an error
// tells that events are missing before the next one; the iteration goes on. After any other error, which is one of
// [Broker.History], nothing follows.
func (b *Broker) Events(ctx context.Context, topic string, from Start) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		end := b.durable.load()
		for complete := false; !complete; {
			p, err := b.History(ctx, topic, from, maxPage)
			if err != nil {
				yield(nil, err)
				return
			}
			if p.Gap != nil && !yield(nil, p.Gap) {
				return
			}
			for _, e := range p.Events {
				if e.Offset.Seq > end || !yield(e, nil) {
					return
				}
			}
			from, complete = p.Next.After(), p.Complete
		}
	}
}

// Backward returns the events of a topic before a place, the newest first, up to the oldest that is kept. After an error, which is
// one of [Broker.History], nothing follows.
func (b *Broker) Backward(ctx context.Context, topic string, from Start) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for complete := false; !complete; {
			p, err := b.History(ctx, topic, from, -maxPage)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range slices.Backward(p.Events) {
				if !yield(e, nil) {
					return
				}
			}
			from, complete = p.Next.After(), p.Complete
		}
	}
}

// Event returns the event that was published to a topic with an id, or at the offset of which id is the text; of several the
// last. It is [ErrNotFound] if the topic does not have it, or not any more; other errors are those of [Broker.History].
func (b *Broker) Event(ctx context.Context, topic, id string) (*Event, error) {
	e, err := b.event(ctx, topic, id)
	if err != nil {
		return nil, fmt.Errorf("event %q of %q: %w", id, topic, err)
	}
	return e, nil
}

func (b *Broker) event(ctx context.Context, topic, id string) (*Event, error) {
	if err := b.checkTopic(topic); err != nil {
		return nil, err
	}
	if b.isClosed() {
		return nil, ErrClosed
	}
	if err := b.caughtUp(ctx); err != nil {
		return nil, err
	}
	seq, err := b.index.FindID(topic, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if o, err := ParseOffset(id); seq == 0 && err == nil && o.Epoch == b.epoch {
		seq = o.Seq
	}
	e, err := b.lookup(topic, seq)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if e == nil || len(b.everybodys([]*Event{e})) == 0 {
		return nil, ErrNotFound
	}
	return e, nil
}

// Last returns the offset of the topic's last event, kept or not; the zero offset if there never was one.
func (b *Broker) Last(topic string) (Offset, error) {
	i, _, err := b.index.Topic(topic)
	if err != nil {
		return Offset{}, fmt.Errorf("last of %q: %w", topic, err)
	}
	return i.Last, nil
}

// Topics returns the names of up to limit topics that come after the given one, ascending; 0 is 100, the most is 1,000.
func (b *Broker) Topics(ctx context.Context, after string, limit int) ([]string, error) {
	if limit <= 0 {
		limit = defaultPage
	}
	if b.isClosed() {
		return nil, ErrClosed
	}
	if err := b.caughtUp(ctx); err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	names, err := b.index.Topics(after, min(limit, maxPage))
	if err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	return names, nil
}

// resolve turns a start into a position, and tells what is known to be lost after it.
func (b *Broker) resolve(ctx context.Context, topic string, from place) (pos uint64, gaps []Gap, err error) {
	switch {
	case from.fresh:
		return b.durable.load(), nil, nil
	case from.first:
		pos, err = b.missingOf(topic, 0)
		return pos, nil, err
	case from.last && isPattern(topic):
		return 0, nil, refuse("invalid_offset", "a pattern has no last event")
	case from.last || !from.at.IsZero():
		if err := b.caughtUp(ctx); err != nil {
			return 0, nil, err
		}
		if pos, err = b.find(topic, from); err != nil {
			return 0, nil, err
		}
		pos, err = b.missingOf(topic, pos) // what came before is not asked for
		return pos, nil, err
	}
	pos, gaps, ok := b.locate(topic, from.after)
	if !ok {
		return 0, nil, refuse("invalid_offset", "offset %s is not of this log", from.after)
	}
	return pos, gaps, nil
}

// find returns the position before the last event of a topic, or before the first from a time on.
func (b *Broker) find(topic string, from place) (pos uint64, err error) {
	switch {
	case from.last:
		err = b.index.Back(topic, 0, b.index.Applied(), 1, func(e *Event) bool {
			pos = e.Offset.Seq - 1
			return false
		})
	case isPattern(topic):
		pos, err = b.index.FindAll(from.at)
	default:
		pos, err = b.index.Find(topic, from.at)
	}
	return pos, err
}

// missingOf is missing for a topic or a pattern.
func (b *Broker) missingOf(topic string, pos uint64) (uint64, error) {
	p := newPattern(topic)
	if p == nil {
		return b.missing(topic, pos)
	}
	lost, err := b.index.TrimmedOf(p.prefix, p.match)
	if err != nil {
		return pos, err
	}
	return max(pos, lost), nil
}

// locate translates an offset that somebody brings. One beyond the log is not ok.
func (b *Broker) locate(topic string, o Offset) (pos uint64, gaps []Gap, ok bool) {
	if o.Epoch == b.epoch && o.Seq > b.durable.load() {
		return 0, nil, false
	}
	return b.translate(topic, o)
}

// translate turns an offset of any epoch on record into a position of this one, and the ranges lost after it into gaps.
// Below what was lost, and above a hole, a sequence means what it always meant; what was lost at the end is used again.
func (b *Broker) translate(topic string, o Offset) (pos uint64, gaps []Gap, ok bool) {
	pos = o.Seq
	if o.Epoch == b.epoch {
		return pos, nil, true
	}
	for _, l := range b.engine.Losses() {
		if ok = ok || l.Epoch == o.Epoch; !ok {
			continue
		}
		if l.From > l.To {
			pos = min(pos, l.From-1)
			continue
		}
		if pos < l.To {
			from := pos
			if from < l.From {
				from = l.From - 1
			}
			gaps = append(gaps, Gap{Topic: topic, From: Offset{l.Epoch, from}, To: Offset{l.Epoch, l.To}, Cause: "loss"})
		}
		if l.From <= pos && pos <= l.To {
			pos = l.From - 1
		}
	}
	return pos, gaps, ok
}

// lostBefore returns the position of this epoch at which the last of some losses lies.
func (b *Broker) lostBefore(gaps []Gap) (seq uint64) {
	for _, l := range b.engine.Losses() {
		for _, g := range gaps {
			if g.To == (Offset{l.Epoch, l.To}) {
				seq = max(seq, l.From-1)
			}
		}
	}
	return seq
}

// missing returns the last sequence above pos at which retention took an event of the topic, or may have; pos if it took
// none.
func (b *Broker) missing(topic string, pos uint64) (uint64, error) {
	lost, err := b.index.Trimmed(topic)
	if err != nil {
		return pos, err
	}
	return max(pos, lost), nil
}

func (b *Broker) gap(topic string, after, to uint64) Gap {
	return Gap{Topic: topic, From: Offset{b.epoch, after}, To: Offset{b.epoch, to}, Cause: "retention"}
}
