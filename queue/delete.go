package queue

import (
	"context"
	"fmt"
	"slices"
)

// Delete ends the queue: it holds nothing any more. Its consumers are closed, and the next [Broker.Queue] of this topic and
// name makes a new one. When Delete returns nil that is durable; with an error of [Broker.Publish] or the cause of ctx the queue may
// be deleted or not, and can be used as before if it is not. Deleting a queue that is deleted does nothing.
func (q *Queue) Delete(ctx context.Context) error {
	if err := q.delete(ctx, false); err != nil {
		return fmt.Errorf("delete queue %q of %q: %w", q.name, q.topic, err)
	}
	return nil
}

func (q *Queue) delete(ctx context.Context, unlessBusy bool) error {
	decided, mine := q.beginDelete(unlessBusy)
	for ; !mine; decided, mine = q.beginDelete(unlessBusy) {
		if decided == nil {
			return nil
		}
		select {
		case <-decided:
			if q.deleting() == decided {
				return nil
			} // else the other one could not
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(decided)
	if q.ephemeral {
		return nil
	}
	b := q.broker
	if err := b.bury(ctx, cursorSubject(q.topic, q.name)); err != nil {
		q.mu.Lock()
		q.deleted = nil
		q.mu.Unlock()
		q.touch()
		return err
	}
	b.disown(q)
	return nil
}

// beginDelete closes the consumers and keeps the cursor from being saved. mine is false if somebody else is deleting the queue,
// and, with a nil channel, if it is busy and was not to be.
func (q *Queue) beginDelete(unlessBusy bool) (decided chan struct{}, mine bool) {
	q.mu.Lock()
	if unlessBusy && q.busyLocked() {
		q.mu.Unlock()
		return nil, false
	}
	if q.deleted != nil {
		defer q.mu.Unlock()
		return q.deleted, false
	}
	q.deleted = make(chan struct{})
	if q.dirty {
		q.cleanLocked()
	}
	if q.pulled != nil {
		clear(q.pulled.inflight)
	}
	decided = q.deleted
	consumers := slices.Clone(q.consumers)
	q.mu.Unlock()
	for _, c := range consumers {
		c.end(fmt.Errorf("%w: queue %q was deleted", ErrNotFound, q.name))
	}
	return decided, true
}

// deleting returns a channel that is closed when it is decided whether the queue is deleted, or nil if nobody deletes it.
func (q *Queue) deleting() chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.deleted
}
