package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	defaultExpiry = 30 * 24 * time.Hour // of personal queues
	expireOften   = time.Second         // between two looks at the queues, at least
	expireRarely  = time.Hour           // and at most
)

// expire deletes, now and then, the queues that nobody has used for as long as they say. A queue that is in use and never
// changes is saved all the same, so the time of its cursor tells.
func (b *Broker) expire() {
	for {
		often := time.Duration(b.shortest.Load()) / 10
		timer := time.NewTimer(min(max(often, expireOften), expireRarely))
		select {
		case <-timer.C:
			if err := b.expireQueues(b.life); err != nil && !b.isClosed() {
				b.log.Warn("look for queues that nobody uses", "cause", err)
			}
		case <-b.shorter:
		case <-b.quit:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// livesFor takes note of how long a queue lives.
func (b *Broker) livesFor(expiry time.Duration) {
	for {
		shortest := b.shortest.Load()
		if expiry <= 0 || int64(expiry) >= shortest {
			return
		}
		if b.shortest.CompareAndSwap(shortest, int64(expiry)) {
			break
		}
	}
	select {
	case b.shorter <- struct{}{}:
	default:
	}
}

func (b *Broker) expireQueues(ctx context.Context) error {
	for s, err := range b.storedQueues(ctx) {
		if err != nil {
			return err
		}
		expiry := s.settings.withDefaults().Expiry
		b.livesFor(expiry)
		if expiry <= 0 || time.Since(s.saved) < expiry/2 {
			continue
		}
		if q := b.loaded(s.topic, s.name); q != nil && q.freshen() || time.Since(s.saved) < expiry {
			continue
		}
		q, err := b.queue(ctx, QueueConfig{Topic: s.topic, Name: s.name, MustExist: true})
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			err = q.delete(ctx, true)
		}
		if err != nil {
			return fmt.Errorf("delete queue %q of %q: %w", s.name, s.topic, err)
		}
		b.log.Info("deleted a queue that nobody used", "topic", s.topic, "queue", s.name, "for", expiry)
	}
	return nil
}

// freshen has a queue that is in use saved if that was long ago. It returns false for one that is not in use.
func (q *Queue) freshen() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.busyLocked() {
		return false
	}
	q.freshenLocked()
	return true
}

func (q *Queue) busyLocked() bool {
	return len(q.consumers) > 0 || q.pulled != nil && len(q.pulled.inflight) > 0
}

func (q *Queue) freshenLocked() {
	if expiry := q.now.Expiry; expiry > 0 && time.Since(q.saved) > expiry/4 {
		q.touchLocked()
	}
}
