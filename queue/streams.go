package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue/internal/guard"
)

const (
	eventStream  = guard.Events
	cursorStream = guard.Cursors

	heartbeat = jetstream.PullHeartbeat(2 * time.Second) // after two that do not come a consumer is made anew: its server is gone

	streamSlack = 64 << 10 // what an envelope, its subject and a dead letter's reason add to an event
)

// openStreams, which may be called again, makes the streams or brings their limits up to date. The log's age is not one of theirs: the engine would go by
// a clock that may have been set wrong.
func (b *Broker) openStreams(ctx context.Context, api, tail *nats.Conn) error {
	c := b.config
	size := c.MaxBytes
	if size < 0 {
		size = -1
	}
	js, err := jetstream.New(api)
	if err != nil {
		return err
	}
	direct := b.engine.Replicas() == 1 // a replica may be behind, and then it would not know what was stored just now
	b.events, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: eventStream, Subjects: []string{subjectPrefix + ">"}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxBytes: size, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: int32(c.MaxEventBytes + streamSlack),
		Duplicates: c.DedupeWindow, Replicas: b.engine.Replicas(), AllowDirect: direct, AllowAtomicPublish: true,
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", eventStream, err)
	}
	b.later, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: delayedStream, Subjects: []string{delayedPrefix + ">"}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: int32(c.MaxEventBytes + streamSlack),
		Duplicates: c.DedupeWindow, Replicas: b.engine.Replicas(), AllowDirect: direct,
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", delayedStream, err)
	}
	b.cursors, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: cursorStream, Subjects: []string{cursorPrefix + ">", declaredPrefix + ">", trimmedPrefix + ">", keptPrefix + ">", frontSubject}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: 1,
		Replicas: b.engine.Replicas(), AllowDirect: direct,
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", cursorStream, err)
	}
	b.kept, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: receiptStream, Subjects: []string{receiptPrefix + ">"}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: c.ReceiptAge, MaxMsgs: -1, MaxBytes: c.ReceiptBytes, MaxMsgsPerSubject: -1,
		Replicas: b.engine.Replicas(), AllowDirect: direct,
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", receiptStream, err)
	}
	for _, subject := range []string{
		subjectPrefix + "-", delayedPrefix + "-", cursorPrefix + "-", declaredPrefix + "-", trimmedPrefix + "-", keptPrefix + "-", frontSubject, receiptPrefix + "-",
	} {
		if err := listens(ctx, api, subject); err != nil {
			return fmt.Errorf("who stores %s: %w", subject, err)
		}
	}
	js, err = jetstream.New(tail)
	if err != nil {
		return err
	}
	if b.tailOf, err = js.Stream(ctx, eventStream); err != nil {
		return err
	}
	for _, s := range []jetstream.Stream{b.events, b.cursors} { // what the servers answered to the change may be older
		if _, err := s.Info(ctx); err != nil {
			return err
		}
	}
	return nil
}

// listens returns nil when a stream listens on the subject, which the servers of a cluster hear of from each other, and this user may
// publish to it. What it sends is for no stream.
func listens(ctx context.Context, nc *nats.Conn, subject string) error {
	_, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: nats.Header{nats.ExpectedStreamHdr: {"-"}}})
	return err
}

// ordered makes a consumer of a part of a stream.
func ordered(ctx context.Context, stream jetstream.Stream, part jetstream.OrderedConsumerConfig) (c jetstream.Consumer, err error) {
	err = guard.Patiently(ctx, func(ctx context.Context) error {
		c, err = stream.OrderedConsumer(ctx, part)
		return err
	})
	return c, err
}

// openIndex makes the index fit the log: the same epoch, nothing that the log does not have, and the tail can go on after
// what it has applied.
func (b *Broker) openIndex(ctx context.Context, s jetstream.StreamState) error {
	first := max(s.FirstSeq, 1)
	if s.Msgs == 0 {
		first = s.LastSeq + 1
	}
	if b.index.Epoch() != b.epoch || b.index.Applied() > s.LastSeq {
		if err := b.index.Reset(b.epoch); err != nil {
			return fmt.Errorf("reset index: %w", err)
		}
		cut, err := b.cut(ctx, first)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(b.engine.Losses(), func(l Loss) bool { return l.From <= 1 && l.To == first-1 }) {
			cut = 0 // not retention took what is gone, and readers are told of the loss
		}
		if err := b.index.Begin(first, cut); err != nil {
			return err
		}
	}
	b.opened = s.LastSeq
	if s.Msgs > 0 { // the log may end in holes
		last, err := b.events.GetLastMsgForSubject(ctx, subjectPrefix+">")
		if err != nil {
			return fmt.Errorf("last event: %w", err)
		}
		b.caught = last.Sequence
	}
	if first > 1 { // before the skip: it tells the index that it never saw some of what is gone
		if err := b.index.Trim(first); err != nil {
			return fmt.Errorf("trim index: %w", err)
		}
	}
	if first > b.index.Applied()+1 {
		if err := b.index.Skip(first - 1); err != nil {
			return fmt.Errorf("skip in index: %w", err)
		}
	}
	return nil
}

// cut returns up to where the log's own retention has taken events, of which nobody knows the topics, when it begins at first.
// What was deleted below on purpose is known from the notes about topics.
func (b *Broker) cut(ctx context.Context, first uint64) (uint64, error) {
	m, err := b.cursors.GetLastMsgForSubject(ctx, frontSubject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return first - 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("where the log began: %w", err)
	}
	r := fields{rest: m.Data}
	if began, cut := r.uvarint(), r.uvarint(); !r.bad && began == first {
		return cut, nil
	}
	return first - 1, nil // retention has gone on since
}
