package index

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const fewEvents = 8 // deleted one by one; more of a topic as a range, since each range burdens later reads

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
	defer x.revert(&err)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{seqKey}, UpperBound: appendSeq([]byte{seqKey}, first)})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := x.db.NewBatch()
	defer b.Close()
	topics := map[string]*trimmed{}
	seen, end := 0, first
	for ok := it.First(); ok; ok = it.Next() {
		if seen == trimBatch {
			more, end = true, seqOf(it.Key())
			break
		}
		seen++
		v, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		p, err := decodePlace(v)
		if err != nil {
			return false, fmt.Errorf("event %d: %w", seqOf(it.Key()), err)
		}
		t := topics[p.topic]
		if t == nil {
			t = new(trimmed)
			topics[p.topic] = t
		}
		t.last = seqOf(it.Key())
		if err := x.forget(b, t.last, p); err != nil {
			return false, err
		}
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
	for topic, t := range topics {
		if err := x.trimTopic(b, topic, t); err != nil {
			return false, err
		}
	}
	for _, kind := range []byte{seqKey, droppedKey} {
		if err := b.DeleteRange([]byte{kind}, appendSeq([]byte{kind}, end), nil); err != nil {
			return false, err
		}
	}
	s.floor = max(s.floor, end)
	for _, t := range topics {
		s.cut = max(s.cut, t.last)
	}
	if unseen && !more {
		s.blind = max(s.blind, first-1)
		s.cut = s.blind
	}
	return more, x.commit(b, s)
}

func (x *Index) trimTopic(b *pebble.Batch, topic string, t *trimmed) error {
	if err := x.missed(topic, t.last); err != nil {
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
