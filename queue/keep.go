package queue

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// What a program keeps is in the stream of cursors: of each name the last value, behind the name as a field.
const keptPrefix = "kpt."

// Keep keeps a value under a name, in the place of the one before; nil keeps none. It is for what a program has to know again when it
// begins, on this node or on the next one that has the log: unlike an event no retention takes it, and a backup has it. It is durable
// when Keep returns nil; the errors are those of [Broker.Publish], and after one the value may be kept or not.
//
// All that is kept is read at once: it is meant for some ten thousands of names of some bytes.
func (b *Broker) Keep(ctx context.Context, name string, value []byte) error {
	if err := b.keepValue(ctx, name, value); err != nil {
		return fmt.Errorf("keep %q: %w", name, err)
	}
	return nil
}

func (b *Broker) keepValue(ctx context.Context, name string, value []byte) error {
	if err := checkName("invalid_name", "name", name, maxKept); err != nil {
		return err
	}
	if value == nil {
		return b.bury(ctx, keptPrefix+token(name))
	}
	if len(value) > b.config.MaxEventBytes {
		return refuse("too_large", "the value has %d bytes, more than %d", len(value), b.config.MaxEventBytes)
	}
	_, err := b.put(ctx, keptPrefix+token(name), append(appendField(nil, name), value...))
	return err
}

// maxKept bounds a name that something is kept under: a prefix, and any other name.
const maxKept = 2 * maxName

// Kept returns what is kept under names with a prefix, by name. The errors are those of [Broker.History].
func (b *Broker) Kept(ctx context.Context, prefix string) (map[string][]byte, error) {
	if b.isClosed() {
		return nil, ErrClosed
	}
	kept := make(map[string][]byte)
	err := b.eachMessage(ctx, b.cursors, from(1, keptPrefix+">"), func(m jetstream.Msg, _ uint64) bool {
		r := fields{rest: m.Data()}
		switch name := string(r.field()); {
		case len(m.Data()) == 0: // nothing any more
		case r.bad:
			b.log.Error("undecodable value", "subject", m.Subject())
		case strings.HasPrefix(name, prefix):
			kept[name] = r.rest
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read what is kept: %w", err)
	}
	return kept, nil
}

// bury removes what the stream of cursors has on a subject, durably.
func (b *Broker) bury(ctx context.Context, subject string) error {
	grave, err := b.put(ctx, subject, nil) // an empty message: a purge alone would not survive a power cut
	if err != nil {
		return err
	}
	if err := b.cursors.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(grave+1)); err != nil {
		b.log.Warn("purge what was deleted", "subject", subject, "cause", err)
	}
	return nil
}
