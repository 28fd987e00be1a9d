package index

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdpost/holdpost/queue"
)

// commit writes the batch together with the state, and then shows the state to readers.
func (x *Index) commit(b *pebble.Batch, s state) error {
	x.value = s.append(x.value[:0])
	if err := b.Set([]byte{stateKey}, x.value, nil); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	x.state.Store(&s)
	return nil
}

// Reset empties the index for the epoch.
func (x *Index) Reset(epoch uint64) error {
	b := x.db.NewBatch()
	defer b.Close()
	err := b.DeleteRange([]byte{stateKey}, []byte{endKey}, nil)
	if err == nil {
		err = x.commit(b, state{epoch: epoch})
	}
	if err != nil {
		return fmt.Errorf("reset index: %w", err)
	}
	return nil
}

// Apply takes in events in ascending order and moves Applied to the last one, all or nothing.
func (x *Index) Apply(batch []*queue.Event) error {
	if len(batch) == 0 {
		return nil
	}
	b := x.db.NewBatch()
	defer b.Close()
	clear(x.lasts)
	s := *x.state.Load()
	for _, e := range batch {
		if e.Offset.Seq <= s.applied {
			return fmt.Errorf("index event %d: position is already %d", e.Offset.Seq, s.applied)
		}
		s.applied = e.Offset.Seq
		x.lasts[e.Topic] = e.Offset.Seq
		x.key = appendSeq(appendTopic(x.key[:0], eventKey, e.Topic), e.Offset.Seq)
		x.value = appendEvent(x.value[:0], e)
		err := b.Set(x.key, x.value, nil)
		if err == nil {
			x.key = appendSeq(append(x.key[:0], seqKey), e.Offset.Seq)
			x.value = append(x.value[:0], e.Topic...)
			err = b.Set(x.key, x.value, nil)
		}
		if err != nil {
			return fmt.Errorf("index event %d: %w", e.Offset.Seq, err)
		}
	}
	for topic, last := range x.lasts {
		if err := x.setSeq(b, topicKey, topic, last); err != nil {
			return fmt.Errorf("index topic: %w", err)
		}
	}
	if err := x.commit(b, s); err != nil {
		return fmt.Errorf("index events up to %d: %w", s.applied, err)
	}
	return nil
}

func (x *Index) setSeq(b *pebble.Batch, kind byte, topic string, seq uint64) error {
	x.key = appendTopic(x.key[:0], kind, topic)
	x.value = appendSeq(x.value[:0], seq)
	return b.Set(x.key, x.value, nil)
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

const (
	trimBatch = 50_000 // events looked at in one write batch
	fewEvents = 8      // deleted one by one; more of a topic as a range, since each range burdens later reads
)

// trimmed collects what a batch removes of a topic.
type trimmed struct {
	few  [fewEvents]uint64
	n    int
	last uint64
}

// Trim drops all events below first, and remembers for each topic what it lost. If the index has not come as far as
// first, events went that it never saw, and every topic counts as trimmed up to there.
func (x *Index) Trim(first uint64) error {
	for {
		more, err := x.trim(first)
		if err != nil {
			return fmt.Errorf("trim index below %d: %w", first, err)
		}
		if !more {
			return nil
		}
	}
}

func (x *Index) trim(first uint64) (more bool, err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{seqKey}, UpperBound: appendSeq([]byte{seqKey}, first)})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	topics := map[string]*trimmed{}
	seen, end := 0, first
	for ok := it.First(); ok; ok = it.Next() {
		if seen == trimBatch {
			more, end = true, seqOf(it.Key())
			break
		}
		seen++
		name, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		t := topics[string(name)]
		if t == nil {
			t = new(trimmed)
			topics[string(name)] = t
		}
		t.last = seqOf(it.Key())
		if t.n < fewEvents {
			t.few[t.n] = t.last
		}
		t.n++
	}
	if err := it.Error(); err != nil {
		return false, err
	}
	s := *x.state.Load()
	unseen := first > 0 && s.applied < first-1
	if seen == 0 && s.floor >= first && !(unseen && s.blind < first-1) {
		return false, nil
	}
	b := x.db.NewBatch()
	defer b.Close()
	for topic, t := range topics {
		if err := x.trimTopic(b, topic, t); err != nil {
			return false, err
		}
	}
	if err := b.DeleteRange([]byte{seqKey}, appendSeq([]byte{seqKey}, end), nil); err != nil {
		return false, err
	}
	s.floor = max(s.floor, end)
	if unseen && !more {
		s.blind = max(s.blind, first-1)
	}
	return more, x.commit(b, s)
}

func (x *Index) trimTopic(b *pebble.Batch, topic string, t *trimmed) error {
	if err := x.setSeq(b, trimmedKey, topic, t.last); err != nil {
		return err
	}
	x.key = appendTopic(x.key[:0], eventKey, topic)
	if t.n > fewEvents {
		return b.DeleteRange(x.key, above(append([]byte(nil), x.key...), t.last), nil)
	}
	prefix := len(x.key)
	for _, seq := range t.few[:t.n] {
		x.key = appendSeq(x.key[:prefix], seq)
		if err := b.Delete(x.key, nil); err != nil {
			return err
		}
	}
	return nil
}
