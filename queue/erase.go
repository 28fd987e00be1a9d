package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	expireEvents = 5000 // events that the tail drops in one go
	eraseEvents  = 1000 // events that are deleted from the log in one go
	erasePause   = time.Second
	cutRarely    = time.Minute // between two looks for what is too old for the log, at most
)

// expired says whether an event's time is over.
func (b *Broker) expired(e *Event) bool {
	return !e.Expires.IsZero() && !e.Expires.After(time.Now()) && b.engine.Clock() == nil
}

// expire has the events dropped whose time is over.
func (t *tail) expire() bool {
	if t.engine.Clock() != nil {
		return true
	}
	for more := true; more; {
		if !t.insist("expire events", func() error {
			n, trimmed, err := t.index.Expire(time.Now(), expireEvents)
			if trimmed {
				t.trims.Add(1)
			}
			more = n == expireEvents
			return err
		}) {
			return false
		}
	}
	return true
}

// shorten drops what is too much in the topics of a batch.
func (t *tail) shorten(batch []*Event) bool {
	clear(t.limited)
	for _, e := range batch {
		if p, err := t.policies.of(e.Topic); err == nil && p.limited() && !p.Refuse {
			t.limited[e.Topic] = p
		}
	}
	for topic, p := range t.limited {
		if !t.insist("shorten a topic", func() error {
			n, err := t.index.Shorten(topic, p.MaxEvents, p.MaxBytes)
			if n > 0 {
				t.trims.Add(1)
			}
			return err
		}) {
			return false
		}
	}
	return true
}

// erase deletes from the log, bit by bit, what was dropped from the index. It takes half of the time at most.
func (b *Broker) erase() {
	timer := time.NewTimer(erasePause)
	defer timer.Stop()
	var cut time.Time
	for {
		select {
		case <-timer.C:
		case <-b.quit:
			return
		}
		pause := erasePause
		if b.unwell() == nil {
			start := time.Now()
			if start.Sub(cut) >= min(max(b.policies.logAge/100, erasePause), cutRarely) {
				cut = start
				if err := b.cutOff(b.life); err != nil && !b.isClosed() {
					b.log.Warn("drop what is too old from the log", "cause", err)
				}
			}
			more, err := b.eraseSome(b.life)
			if err != nil && !b.isClosed() {
				b.log.Warn("delete dropped events from the log", "cause", err)
			} else if more {
				pause = time.Since(start)
			}
		}
		timer.Reset(pause)
	}
}

// cutOff drops from the log what is older than any topic keeps it.
func (b *Broker) cutOff(ctx context.Context) error {
	if b.policies.logAge < 0 || b.engine.Clock() != nil || b.Ready() != nil {
		return nil
	}
	upto, err := b.index.FindAll(time.Now().Add(-b.policies.logAge))
	if err != nil {
		return err
	}
	info, err := b.events.Info(ctx)
	if err != nil {
		return err
	}
	if first := info.State.FirstSeq; info.State.Msgs == 0 || upto < first {
		return nil
	} else if err := b.cutThrough(ctx, first, upto); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func (b *Broker) cutThrough(ctx context.Context, first, upto uint64) error {
	over, err := b.engine.Deleting(upto + 1 - first)
	if err != nil {
		return err
	}
	defer over()
	if err := b.events.Purge(ctx, jetstream.WithPurgeSequence(upto+1)); err != nil {
		return err
	}
	defer b.trims.Add(1)
	if err := b.write(ctx, func() error { return b.index.Trim(upto + 1) }); err != nil {
		return err
	}
	return b.noteFront(ctx)
}

func (b *Broker) eraseSome(ctx context.Context) (more bool, err error) {
	seqs, trimmed, err := b.index.Dropped(eraseEvents)
	if err != nil || len(seqs) == 0 {
		return false, err
	}
	for _, topic := range trimmed { // once they are gone the index can't tell any more, if it has to be built anew
		upto, err := b.index.Trimmed(topic)
		if err == nil {
			err = b.noteTrimmed(ctx, topic, upto)
		}
		if err != nil {
			return false, err
		}
	}
	over, err := b.engine.Deleting(uint64(len(seqs)))
	if err != nil {
		return false, err
	}
	defer over()
	n, err := b.eraseFront(ctx, seqs)
	for _, seq := range seqs[n:] {
		if err != nil {
			break
		}
		if err = b.events.DeleteMsg(ctx, seq); errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) || errors.Is(err, jetstream.ErrMsgNotFound) {
			err = nil // retention of the log was faster
		}
		if err == nil {
			n++
		}
	}
	if n > 0 {
		finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackPatience)
		defer cancel()
		err = errors.Join(err, b.noteFront(finish), b.write(ctx, func() error { return b.index.Erased(seqs[:n]) })) // the note makes it durable
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return len(seqs) == eraseEvents, nil
}

// eraseFront cuts off those events with which the log begins, which costs next to nothing.
func (b *Broker) eraseFront(ctx context.Context, seqs []uint64) (n int, err error) {
	info, err := b.events.Info(ctx)
	if err != nil {
		return 0, err
	}
	next := info.State.FirstSeq
	for n < len(seqs) && seqs[n] <= next {
		if seqs[n] == next {
			next++
		}
		n++
	}
	if n == 0 {
		return 0, nil
	}
	return n, b.events.Purge(ctx, jetstream.WithPurgeSequence(seqs[n-1]+1))
}
