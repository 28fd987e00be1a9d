package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdpost/holdpost/queue"
)

const topicsKnown = 16_384 // topics whose state the writer keeps in memory

// commit writes the batch together with the state of the index and of the topics that it changed, and then shows the state to
// readers.
func (x *Index) commit(b *pebble.Batch, s state) error {
	for topic := range x.changed {
		x.key = appendTopic(x.key[:0], topicKey, topic)
		x.value = x.topics[topic].append(x.value[:0]) // it was made when it was marked as changed
		if err := b.Set(x.key, x.value, nil); err != nil {
			return err
		}
	}
	x.value = s.append(x.value[:0])
	if err := b.Set([]byte{stateKey}, x.value, nil); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	x.state.Store(&s)
	clear(x.changed)
	if len(x.topics) > topicsKnown {
		clear(x.topics)
	}
	return nil
}

// revert is deferred by what changes topics: after an error what is known of them may be ahead of the store.
func (x *Index) revert(err *error) {
	if *err != nil {
		clear(x.topics)
		clear(x.changed)
	}
}

// topic returns the state of a topic, which the next commit writes.
func (x *Index) topic(name string) (*topicState, error) {
	x.changed[name] = struct{}{}
	if s := x.topics[name]; s != nil {
		return s, nil
	}
	s, err := x.topicState(name)
	if err != nil {
		return nil, err
	}
	x.topics[name] = &s
	return &s, nil
}

// Reset empties the index for the epoch.
func (x *Index) Reset(epoch uint64) error {
	b := x.db.NewBatch()
	defer b.Close()
	clear(x.topics)
	err := b.DeleteRange([]byte{stateKey}, []byte{endKey}, nil)
	if err == nil {
		err = x.commit(b, state{epoch: epoch})
	}
	if err != nil {
		return fmt.Errorf("reset index: %w", err)
	}
	return nil
}

// Begin moves an empty index to where the log begins. Up to cut the log's own retention took events, or may have, of any topic.
func (x *Index) Begin(first, cut uint64) error {
	s := *x.state.Load()
	s.applied, s.floor, s.blind, s.cut = first-1, first, cut, cut
	b := x.db.NewBatch()
	defer b.Close()
	if err := x.commit(b, s); err != nil {
		return fmt.Errorf("begin index at %d: %w", first, err)
	}
	return nil
}

// Apply takes in events in ascending order and moves Applied to the last one, all or nothing. rule says for how long a topic
// keeps events, 0 for as long as the log does, and whether it keeps only the last event with each key. nil is neither.
func (x *Index) Apply(batch []*queue.Event, rule func(topic string) (keep time.Duration, compact bool)) (err error) {
	defer x.revert(&err)
	if len(batch) == 0 {
		return nil
	}
	if rule == nil {
		rule = func(string) (time.Duration, bool) { return 0, false }
	}
	b := x.db.NewBatch()
	defer b.Close()
	s := *x.state.Load()
	late, last := superseded(batch, rule)
	for _, e := range last { // before anything is set: what is there now decides
		if err := x.dropBefore(b, e); err != nil {
			return fmt.Errorf("index event %d: %w", e.Offset.Seq, err)
		}
	}
	for i, e := range batch {
		err := errors.New("it is not the next one")
		if e.Offset.Seq > s.applied {
			err = x.apply(b, e, rule, late != nil && late[i])
		}
		if err != nil {
			return fmt.Errorf("index event %d, after %d: %w", e.Offset.Seq, s.applied, err)
		}
		s.applied = e.Offset.Seq
	}
	if err := x.commit(b, s); err != nil {
		return fmt.Errorf("index events up to %d: %w", s.applied, err)
	}
	return nil
}

// superseded says, for topics that keep only the last event with each key, which events of a batch are followed by one with the
// same key, and which are the last with theirs.
func superseded(batch []*queue.Event, rule func(string) (time.Duration, bool)) (late []bool, last []*queue.Event) {
	type named struct{ topic, key string }
	var seen map[named]bool
	for i, e := range slices.Backward(batch) {
		if e.Key == "" {
			continue
		}
		if _, compact := rule(e.Topic); !compact {
			continue
		}
		if seen == nil {
			seen, late = make(map[named]bool), make([]bool, len(batch))
		}
		if late[i] = seen[named{e.Topic, e.Key}]; !late[i] {
			seen[named{e.Topic, e.Key}] = true
			last = append(last, e)
		}
	}
	return late, last
}

// dropBefore drops the event before e with the same key.
func (x *Index) dropBefore(b *pebble.Batch, e *queue.Event) error {
	x.key = appendName(appendTopic(x.key[:0], keyKey, e.Topic), e.Key)
	before, err := x.getSeq(x.key)
	if err != nil {
		return err
	}
	return x.dropSeq(b, before, false)
}

func (x *Index) apply(b *pebble.Batch, e *queue.Event, rule func(string) (time.Duration, bool), late bool) error {
	t, err := x.topic(e.Topic)
	if err != nil {
		return err
	}
	seq := e.Offset.Seq
	t.last = seq
	if late {
		return b.Set(appendSeq([]byte{droppedKey}, seq), nil, nil)
	}
	if seq <= t.trimmed { // the index is built anew, and a note about the topic says that this went before
		return b.Set(appendSeq([]byte{droppedKey}, seq), []byte(e.Topic), nil)
	}
	t.events++
	t.bytes += uint64(size(e))
	x.key = appendSeq(appendTopic(x.key[:0], eventKey, e.Topic), seq)
	x.value = appendEvent(x.value[:0], e)
	if err := b.Set(x.key, x.value, nil); err != nil {
		return err
	}
	x.key = appendSeq(append(x.key[:0], seqKey), seq)
	x.value = appendPlace(x.value[:0], e)
	if err := b.Set(x.key, x.value, nil); err != nil {
		return err
	}
	for _, n := range [...]struct {
		kind byte
		name string
	}{{keyKey, e.Key}, {idKey, e.ID}} {
		if n.name == "" {
			continue
		}
		x.key = appendName(appendTopic(x.key[:0], n.kind, e.Topic), n.name)
		x.value = appendSeq(x.value[:0], seq)
		if err := b.Set(x.key, x.value, nil); err != nil {
			return err
		}
	}
	if !e.Expires.IsZero() {
		if err := x.setEnd(b, e.Expires, seq, endsByTTL); err != nil {
			return err
		}
	}
	if keep, _ := rule(e.Topic); keep > 0 {
		return x.setEnd(b, e.Time.Add(keep), seq, endsByAge)
	}
	return nil
}

func (x *Index) setEnd(b *pebble.Batch, at time.Time, seq uint64, why byte) error {
	x.key = append(x.key[:0], endingKey)
	x.key = binary.BigEndian.AppendUint64(x.key, uint64(max(0, at.UnixNano())))
	x.key = appendSeq(x.key, seq)
	return b.Set(x.key, []byte{why}, nil)
}

// Skip moves Applied to seq, where the log holds nothing of ours. It never moves it back.
func (x *Index) Skip(seq uint64) error {
	s := *x.state.Load()
	if seq <= s.applied {
		return nil
	}
	s.applied = seq
	b := x.db.NewBatch()
	defer b.Close()
	if err := x.commit(b, s); err != nil {
		return fmt.Errorf("index position %d: %w", seq, err)
	}
	return nil
}
