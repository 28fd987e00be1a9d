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
)

// expireEvents has the events dropped whose time is over.
func (t *tail) expire() bool {
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
	for {
		select {
		case <-timer.C:
		case <-b.quit:
			return
		}
		pause := erasePause
		if b.unwell() == nil {
			start := time.Now()
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
