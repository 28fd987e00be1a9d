package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

const (
	maxBatch      = 1000    // events in one batch
	maxBatchBytes = 8 << 20 // and their size together
)

// PublishBatch publishes events, of one topic or of several, together: all of them are stored, next to each other and in their
// order, or none is. At most 1,000 events of 8 MiB together; none of them with a delay or an ExpectLast but the first.
//
// The outcome is as that of [Broker.Publish]. A batch whose ids are all known, from a batch with the same content, is a
// duplicate; one of which some are is refused as a conflict.
func (b *Broker) PublishBatch(ctx context.Context, ms []Message) (ps []Published, err error) {
	if b.config.OnPublish != nil {
		ms = slices.Clone(ms)
		for i := range ms {
			var end func(error)
			ms[i], end = b.begin(ctx, ms[i])
			defer func() { end(err) }()
		}
	}
	if ps, err = b.publishBatch(ctx, ms); err != nil {
		return nil, fmt.Errorf("publish a batch: %w", err)
	}
	return ps, nil
}

func (b *Broker) publishBatch(ctx context.Context, ms []Message) ([]Published, error) {
	switch len(ms) {
	case 0:
		return nil, nil
	case 1:
		p, err := b.publishAndWait(ctx, ms[0])
		return []Published{p}, err
	}
	if len(ms) > maxBatch {
		return nil, refuse("too_large", "a batch of %d events has more than %d", len(ms), maxBatch)
	}
	whole := &publication{}
	whole.event = true
	var undo []*publication
	defer func() {
		for _, p := range undo {
			p.undo(b)
		}
	}()
	size := 0
	for i, m := range ms {
		p, err := b.batchPart(ctx, m, i)
		if err != nil {
			return nil, fmt.Errorf("event %d, to %q: %w", i, m.Topic, err)
		}
		undo = append(undo, p)
		whole.batch = append(whole.batch, &p.request)
		size += len(p.data)
	}
	if size > maxBatchBytes {
		return nil, refuse("too_large", "a batch of %d bytes is larger than %d", size, maxBatchBytes)
	}
	if err := b.refuses(ctx); err != nil {
		return nil, err
	}
	cost, err := b.takeRoom(ctx, size)
	if err != nil {
		return nil, err
	}
	whole.cost = cost
	parts := undo
	outcome := make(chan error, 1)
	whole.done = func(r *request) {
		b.room.give(cost)
		first := r.seq - uint64(len(parts)-1)
		for i, p := range parts {
			p.seq = first + uint64(i)
			if p.answered != nil {
				p.answered(Published{Offset: Offset{b.epoch, p.seq}}, r.err)
			}
		}
		outcome <- r.err
	}
	if err := b.committer.push(&whole.request); err != nil {
		b.room.give(cost)
		return nil, err
	}
	undo = nil // they have their answer from now on, unless the whole is withdrawn
	select {
	case err = <-outcome:
	case <-ctx.Done():
		if whole.withdraw() {
			undo = parts
			b.room.give(cost)
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
	if errors.Is(err, errRepeated) {
		return b.batchBefore(ctx, ms, parts)
	}
	if err != nil {
		return nil, err
	}
	ps := make([]Published, len(ms))
	for i, m := range ms {
		ps[i] = b.published(m, parts[i].seq)
	}
	return ps, nil
}

// batchPart prepares one event of a batch, which takes no room of its own.
func (b *Broker) batchPart(ctx context.Context, m Message, i int) (*publication, error) {
	policy, err := b.check(&m)
	if err != nil {
		return nil, err
	}
	if m.due() || m.ExpectLast != nil && i > 0 {
		return nil, refuse("invalid_batch", "an event of a batch has no delay, and no expectation but the first")
	}
	last := ""
	if m.ExpectLast != nil {
		if last, err = b.expect(ctx, m.Topic, *m.ExpectLast); err != nil {
			return nil, err
		}
	}
	p := b.prepare(&m, m.envelopeSize(), 0, nil)
	p.last = last
	if policy.Refuse {
		if err := b.fullness.admit(ctx, b, policy, p, m.size()); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (b *Broker) published(m Message, seq uint64) Published {
	p := Published{Topic: m.Topic, Offset: Offset{b.epoch, seq}, ID: m.ID}
	if p.ID == "" {
		p.ID = p.Offset.String()
	}
	return p
}

// batchBefore returns where the events of a batch are stored that was published before.
func (b *Broker) batchBefore(ctx context.Context, ms []Message, parts []*publication) ([]Published, error) {
	if err := b.caughtUp(ctx); err != nil {
		return nil, err
	}
	ps := make([]Published, len(ms))
	for i, m := range ms {
		if m.ID == "" {
			return nil, errRepeated
		}
		seq, err := b.index.FindID(m.Topic, m.ID)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if seq == 0 || i > 0 && seq != ps[0].Offset.Seq+uint64(i) {
			return nil, errRepeated
		}
		if ps[i], err = b.repeated(b.published(m, seq), parts[i].data); err != nil {
			return nil, err
		}
	}
	return ps, nil
}
