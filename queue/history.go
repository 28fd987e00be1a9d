package queue

import (
	"context"
	"fmt"
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
	Next     Offset   // where the next page begins: StartAfter(Next)
	Complete bool     // nothing is stored after these events yet
	Gap      *Gap     // what is missing before the first of them, nil if nothing is
}

// History reads up to limit events of a topic; 0 is 100, the most is 1,000, and a page ends early after about 4 MiB. It sees
// every event whose publish returned before the call. From "new" it reads nothing, and tells where new events will begin.
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
	if limit <= 0 {
		limit = defaultPage
	}
	p := Page{Complete: true}
	if len(gaps) > 0 {
		p.Gap = &gaps[len(gaps)-1]
		p.Gap.From = gaps[0].From
	}
	applied := max(pos, b.hub.mark.load())
	var last uint64
	for {
		lost, err := b.missing(topic, pos)
		if err != nil {
			return Page{}, err
		}
		if lost > pos && !where.first {
			g := b.gap(topic, pos, lost)
			if p.Gap != nil {
				g.From = p.Gap.From
			}
			p.Gap = &g
		}
		pos = max(pos, lost)
		p.Events, p.Complete, err = b.page(topic, pos, applied, min(limit, maxPage), pageBytes, p.Events[:0])
		if err != nil {
			return Page{}, err
		}
		if n := len(p.Events); n > 0 {
			last = p.Events[n-1].Offset.Seq
		}
		// As in workers.read: a trim between the two looks may have hidden events.
		if lost, err = b.missing(topic, pos); err != nil {
			return Page{}, err
		}
		if lost <= pos {
			break
		}
	}
	p.Events = slices.DeleteFunc(p.Events, func(e *Event) bool { return e.Queue != "" }) // one queue's second try is nobody else's history
	p.Next = Offset{b.epoch, last}
	if p.Complete {
		p.Next.Seq = applied
	}
	return p, nil
}

// Last returns the offset of the topic's last event, kept or not; the zero offset if there never was one.
func (b *Broker) Last(topic string) (Offset, error) {
	seq, err := b.index.Last(topic)
	if err != nil {
		return Offset{}, fmt.Errorf("last of %q: %w", topic, err)
	}
	if seq == 0 {
		return Offset{}, nil
	}
	return Offset{b.epoch, seq}, nil
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
		if pos, err = b.missing(topic, 0); err != nil {
			return 0, nil, err
		}
		return pos, nil, nil
	case !from.at.IsZero():
		if err := b.caughtUp(ctx); err != nil {
			return 0, nil, err
		}
		if pos, err = b.index.Find(topic, from.at); err != nil {
			return 0, nil, err
		}
		lost, err := b.missing(topic, pos) // what came before that time is not asked for
		return max(pos, lost), nil, err
	}
	pos, gaps, ok := b.locate(topic, from.after)
	if !ok {
		return 0, nil, refuse("invalid_offset", "offset %s is not of this log", from.after)
	}
	return pos, gaps, nil
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
		if ok = ok || l.Epoch == o.Epoch; !ok || l.From > l.To {
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

// missing returns the last sequence above pos at which retention took an event of the topic, or may have; pos if it took
// none.
func (b *Broker) missing(topic string, pos uint64) (uint64, error) {
	if pos+1 >= b.first.Load() {
		return pos, nil
	}
	lost, err := b.index.Trimmed(topic)
	if err != nil {
		return pos, err
	}
	return max(pos, lost), nil
}

func (b *Broker) gap(topic string, after, to uint64) Gap {
	return Gap{Topic: topic, From: Offset{b.epoch, after}, To: Offset{b.epoch, to}, Cause: "retention"}
}
