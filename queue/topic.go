package queue

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Notes about topics are in the stream of cursors: what a topic was created with, and up to where retention took its events.
// The index has them all; when it is built anew they are read again. A note is the topic's name, as a field, and the
// configuration as JSON, or the sequence as a uvarint.
const (
	declaredPrefix = "top."
	trimmedPrefix  = "trm."

	// Where the log began after events were deleted on purpose, and up to where its own retention had taken events by then: two
	// uvarints.
	frontSubject = "frt"
)

// TopicInfo is the state of a topic at one moment.
type TopicInfo struct {
	TopicConfig // what holds for it, with defaults; Pattern is the one that matched

	Name    string
	Created bool   // by [Broker.CreateTopic]
	First   Offset // of the oldest event that is kept, the zero offset if none is
	Last    Offset // of the newest one, kept or not, the zero offset if there never was one
	Events  int64
	Bytes   int64 // of names, arguments and attachments
}

// CreateTopic gives a topic a configuration of its own, which counts from then on instead of that of any pattern, and lets a
// topic be published to that must exist. Creating it again changes the configuration; a changed MaxAge counts for events that
// are published from then on. It is durable when CreateTopic returns nil. An [Error] of code "invalid_topic" says what is wrong
// with the configuration; the others are those of [Broker.Publish].
func (b *Broker) CreateTopic(ctx context.Context, c TopicConfig) error {
	if err := b.createTopic(ctx, c); err != nil {
		return fmt.Errorf("create topic %q: %w", c.Pattern, err)
	}
	return nil
}

func (b *Broker) createTopic(ctx context.Context, c TopicConfig) error {
	topic := c.Pattern
	if err := b.checkTopic(topic); err != nil {
		return err
	}
	if err := c.check("invalid_topic", b.config); err != nil {
		return err
	}
	if age := b.policies.logAge; age > 0 && (c.MaxAge < 0 || c.MaxAge > age) {
		return refuse("invalid_topic", "no event is kept longer than %v, which the broker is configured for", age)
	}
	with, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return b.declare(ctx, topic, with)
}

// declare notes what a topic is created with, nil if it is not any more.
func (b *Broker) declare(ctx context.Context, topic string, with []byte) error {
	note := appendField(nil, topic)
	if with != nil {
		note = append(note, with...)
	}
	seq, err := b.put(ctx, declaredPrefix+token(topic), note)
	if err != nil {
		return err
	}
	err = b.write(ctx, func() error { return b.index.Declare(topic, with, seq) })
	b.policies.forget(topic)
	return err
}

// Topic returns the state of a topic, with every event whose publish returned before the call. A topic that was not created
// and has no events is [ErrNotFound]; other errors are those of [Broker.History].
func (b *Broker) Topic(ctx context.Context, topic string) (TopicInfo, error) {
	i, err := b.topic(ctx, topic)
	if err != nil {
		return TopicInfo{}, fmt.Errorf("topic %q: %w", topic, err)
	}
	return i, nil
}

func (b *Broker) topic(ctx context.Context, topic string) (TopicInfo, error) {
	if err := b.checkTopic(topic); err != nil {
		return TopicInfo{}, err
	}
	if b.isClosed() {
		return TopicInfo{}, ErrClosed
	}
	if err := b.caughtUp(ctx); err != nil {
		return TopicInfo{}, err
	}
	p, err := b.policies.of(topic)
	if err != nil {
		return TopicInfo{}, err
	}
	i, _, err := b.index.Topic(topic)
	if err != nil {
		return TopicInfo{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if i.Events == 0 && !p.declared {
		return TopicInfo{}, ErrNotFound
	}
	i.TopicConfig, i.Created = p.TopicConfig, p.declared
	err = b.index.Range(topic, 0, b.index.Applied(), 1, func(e *Event) bool {
		i.First = e.Offset
		return false
	})
	if err != nil {
		return TopicInfo{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return i, nil
}

// DeleteTopic removes all events that were published to a topic before the call, from the disk too, and the configuration that it
// was created with. Queues stay, and their readers are told a [Gap]. It is durable when DeleteTopic returns nil; after another
// error than ErrNotFound some may be removed and some not. Errors are those of [Broker.Topic].
func (b *Broker) DeleteTopic(ctx context.Context, topic string) error {
	if err := b.deleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("delete topic %q: %w", topic, err)
	}
	return nil
}

func (b *Broker) deleteTopic(ctx context.Context, topic string) error {
	i, err := b.topic(ctx, topic)
	if err != nil {
		return err
	}
	if i.Created {
		if err := b.declare(ctx, topic, nil); err != nil {
			return err
		}
	}
	upto := b.durable.load()
	if err := b.noteTrimmed(ctx, topic, upto); err != nil {
		return err
	}
	if err := b.purge(ctx, topic, upto); err != nil {
		return err
	}
	if err := b.write(ctx, func() error { return b.index.Clear(topic, upto, true) }); err != nil {
		return err
	}
	b.trims.Add(1)
	return nil
}

// purge removes a topic's events from the log.
func (b *Broker) purge(ctx context.Context, topic string, upto uint64) error {
	subject := subjectPrefix + token(topic)
	info, err := b.events.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	err = b.deleting(ctx, info.State.Subjects[subject], func(ctx context.Context) error {
		return b.events.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(upto+1))
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// noteTrimmed notes, durably, up to where events of a topic are gone.
func (b *Broker) noteTrimmed(ctx context.Context, topic string, upto uint64) error {
	_, err := b.put(ctx, trimmedPrefix+token(topic), binary.AppendUvarint(appendField(nil, topic), upto))
	return err
}

// noteFront notes where the log begins after events were deleted.
func (b *Broker) noteFront(ctx context.Context) error {
	info, err := b.events.Info(ctx)
	if err != nil {
		return err
	}
	first := max(info.State.FirstSeq, 1)
	if info.State.Msgs == 0 {
		first = info.State.LastSeq + 1
	}
	_, err = b.put(ctx, frontSubject, binary.AppendUvarint(binary.AppendUvarint(nil, first), b.index.Cut()))
	return err
}

// readNotes takes the notes that the index does not have into it. Only Open calls it, before the tail writes the index.
func (b *Broker) readNotes(ctx context.Context) error {
	noted := b.index.Noted()
	if last := b.cursors.CachedInfo().State.LastSeq; last < noted { // its end was lost, and positions are used again
		if err := b.index.Note(last); err != nil {
			return fmt.Errorf("read notes about topics: %w", err)
		}
		noted = last
	}
	var failed error
	err := b.eachMessage(ctx, b.cursors, from(noted+1, declaredPrefix+">", trimmedPrefix+">"), func(m jetstream.Msg, at uint64) bool {
		failed = b.readNote(m, at)
		noted = max(noted, at)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && noted > b.index.Noted() {
		err = b.index.Note(noted)
	}
	if err != nil {
		return fmt.Errorf("read notes about topics: %w", err)
	}
	return nil
}

func (b *Broker) readNote(m jetstream.Msg, at uint64) error {
	r := fields{rest: m.Data()}
	topic := string(r.field())
	if r.bad {
		b.log.Error("undecodable note", "subject", m.Subject())
		return nil
	}
	if m.Subject() == declaredPrefix+token(topic) {
		var with []byte
		if len(r.rest) > 0 {
			with = r.rest
		}
		return b.index.Declare(topic, with, at)
	}
	upto := r.uvarint()
	return b.index.Clear(topic, upto, false)
}

// write has the tail, which alone writes the index, do something, and waits for it.
func (b *Broker) write(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	select {
	case b.tasks <- func() { done <- f() }:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-b.quit:
		return ErrClosed
	}
	select { // its turn has come
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil
	case <-b.quit:
		return ErrClosed
	}
}
