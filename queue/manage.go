package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Pause stops the queue from handing out events, until [Queue.Resume]. What was handed out can be settled. It is durable when
// Pause returns nil.
func (q *Queue) Pause(ctx context.Context) error { return q.pause(ctx, true) }

// Resume lets a paused queue go on.
func (q *Queue) Resume(ctx context.Context) error { return q.pause(ctx, false) }

func (q *Queue) pause(ctx context.Context, paused bool) error {
	q.change(func() { q.paused = paused })
	if err := q.store(ctx); err != nil {
		return fmt.Errorf("pause queue %q of %q: %w", q.name, q.topic, err)
	}
	return nil
}

// Purge acknowledges everything that the queue holds: every event that was published before the call. It is durable when Purge
// returns nil.
func (q *Queue) Purge(ctx context.Context) error {
	upto := q.broker.durable.load()
	q.change(func() { q.purged = upto })
	q.ackThrough(upto, nil)
	if err := q.store(ctx); err != nil {
		return fmt.Errorf("purge queue %q of %q: %w", q.name, q.topic, err)
	}
	return nil
}

// Redrive gives up to most of the queue's dead letters back to it, oldest first, and returns how many; 0 is 100, the most is
// 1,000. Each is published once more, as an event of its topic that this queue alone gets, and without what the dead letter
// added to it. The dead letters stay where they are; a later Redrive goes on behind them. When it fails half way what was
// given back may be given back again. Errors are those of [Broker.Publish] and [Broker.History].
func (q *Queue) Redrive(ctx context.Context, most int) (n int, err error) {
	n, err = q.redrive(ctx, most)
	if err != nil {
		return n, fmt.Errorf("redrive queue %q of %q: %w", q.name, q.topic, err)
	}
	return n, nil
}

func (q *Queue) redrive(ctx context.Context, most int) (n int, err error) {
	b := q.broker
	dead, err := q.deadLetters(ctx, false)
	if err != nil {
		return 0, err
	}
	if most = min(most, maxPage); most <= 0 {
		most = defaultPage
	}
	p, err := b.history(ctx, dead.topic, dead.Cursor().After(), most)
	if err != nil || len(p.Events) == 0 {
		return 0, err
	}
	var group sync.WaitGroup
	failed := make([]error, len(p.Events))
	for i, e := range p.Events {
		m, ok := q.revived(e)
		if !ok {
			continue // another queue's of the same name
		}
		n++
		group.Add(1)
		_, err := b.publish(ctx, m, func(_ Published, err error) {
			failed[i] = err
			group.Done()
		})
		if err != nil {
			failed[i] = err
			group.Done()
			break
		}
	}
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		return 0, err
	}
	dead.ackThrough(p.Events[len(p.Events)-1].Offset.Seq, nil)
	return n, dead.store(ctx)
}

// deadLetters returns a queue whose cursor says which dead letters were given back.
func (q *Queue) deadLetters(ctx context.Context, mustExist bool) (*Queue, error) {
	return q.broker.queue(ctx, QueueConfig{Topic: deadPrefix + q.name, Name: q.topic, From: StartFirst, MustExist: mustExist})
}

// revived returns the event that a dead letter was.
func (q *Queue) revived(dead *Event) (Message, bool) {
	var args []json.RawMessage
	var why struct{ Topic, Queue string }
	if json.Unmarshal(dead.Args, &args) != nil || len(args) == 0 || json.Unmarshal(args[len(args)-1], &why) != nil ||
		why.Queue != q.name || !q.covers(why.Topic) {
		return Message{}, false
	}
	text := make([]string, len(args)-1)
	for i := range text {
		text[i] = string(args[i])
	}
	return Message{
		Topic: why.Topic, Event: dead.Name, ID: "redrive " + dead.Offset.String(), Key: dead.Key,
		Args: []byte("[" + strings.Join(text, ",") + "]"), Attachments: dead.Attachments, TraceParent: dead.TraceParent, queue: q.id,
	}, true
}
