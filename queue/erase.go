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

	deletePatience = time.Minute // how long the log may take to delete what it was asked to at once
	cutRarely      = time.Minute // between two looks for what is too old for the log, at most
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
	defer b.trims.Add(1)
	return b.deleting(ctx, upto+1-first, func(ctx context.Context) error {
		if err := b.events.Purge(ctx, jetstream.WithPurgeSequence(upto+1)); err != nil {
			return err
		}
		return b.write(ctx, func() error { return b.index.Trim(upto + 1) })
	})
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
	n := 0
	err = b.deleting(ctx, uint64(len(seqs)), func(ctx context.Context) (err error) {
		if n, err = b.eraseFront(ctx, seqs); err != nil {
			return err
		}
		for ; n < len(seqs) && !b.isClosed(); n++ {
			err := b.events.DeleteMsg(ctx, seqs[n])
			if err != nil && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return err
			} // else retention of the log was faster
		}
		return nil
	})
	if err == nil { // else all of it is asked for again, with the note of it
		err = b.write(ctx, func() error { return b.index.Erased(seqs[:n]) })
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return len(seqs) == eraseEvents, nil
}

// deleting has events deleted from the log, at most so many, and returns when that is durable. It is not cut short: a request that
// nobody waits for any more may be carried out when nobody expects it, and then the store guard would miss the events.
func (b *Broker) deleting(ctx context.Context, most uint64, f func(context.Context) error) error {
	over, err := b.engine.Deleting(most)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deletePatience)
	defer cancel()
	if err := errors.Join(f(ctx), b.noteFront(ctx)); err != nil { // the note makes it durable
		return err // and the guard goes on to expect it
	}
	over()
	return nil
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
