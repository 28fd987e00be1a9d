package index

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdpost/holdpost/queue"
)

// events opens an iterator over the topic's events in (after, upto].
func (x *Index) events(topic string, after, upto uint64) (*pebble.Iterator, error) {
	prefix := appendTopic(make([]byte, 0, len(topic)+16), eventKey, topic)
	lower := above(append(make([]byte, 0, len(prefix)+9), prefix...), after)
	return x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: above(prefix, upto)})
}

// Range calls f for the topic's events with sequences in (after, upto], ascending, until f returns false or limit events
// were handed out; limit <= 0 is no limit. f may keep the events.
func (x *Index) Range(topic string, after, upto uint64, limit int, f func(*queue.Event) bool) error {
	return x.walk(topic, after, upto, limit, (*pebble.Iterator).First, (*pebble.Iterator).Next, f)
}

// Back is Range from the last event to the first.
func (x *Index) Back(topic string, after, upto uint64, limit int, f func(*queue.Event) bool) error {
	return x.walk(topic, after, upto, limit, (*pebble.Iterator).Last, (*pebble.Iterator).Prev, f)
}

func (x *Index) walk(topic string, after, upto uint64, limit int, begin, step func(*pebble.Iterator) bool, f func(*queue.Event) bool) (err error) {
	if upto <= after {
		return nil
	}
	epoch := x.Epoch()
	it, err := x.events(topic, after, upto)
	if err != nil {
		return fmt.Errorf("read topic %q: %w", topic, err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = fmt.Errorf("read topic %q: %w", topic, e)
		}
	}()
	var d decoder
	n := 0
	for ok := begin(it); ok; ok = step(it) {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read topic %q: %w", topic, err)
		}
		e, err := d.whole(v, topic, queue.Offset{Epoch: epoch, Seq: seqOf(it.Key())})
		if err != nil {
			return err
		}
		if n++; !f(e) || n == limit {
			return nil
		}
	}
	return nil // an error of the iterator comes with Close
}

// Scan calls f for the events of all topics that match with sequences in (after, upto], ascending, until f returns false or
// limit events were handed out; limit <= 0 is no limit. f may keep the events. It passes over the other topics' events one by
// one, at a fraction of what reading them would take.
func (x *Index) Scan(match func(topic string) bool, after, upto uint64, limit int, f func(*queue.Event) bool) (err error) {
	if upto <= after {
		return nil
	}
	snapshot := x.db.NewSnapshot() // so that an event that is listed is there
	defer snapshot.Close()
	epoch := x.Epoch()
	it, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: above([]byte{seqKey}, after), UpperBound: above([]byte{seqKey}, upto)})
	if err != nil {
		return fmt.Errorf("scan topics: %w", err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = fmt.Errorf("scan topics: %w", e)
		}
	}()
	var d decoder
	var key []byte
	topic, matches := "", false
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		seq := seqOf(it.Key())
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan topics: %w", err)
		}
		p, err := decodePlace(v)
		if err != nil {
			return fmt.Errorf("scan topics, event %d: %w", seq, err)
		}
		if p.topic != topic {
			topic = p.topic
			matches = match(topic)
		}
		if !matches {
			continue
		}
		key = appendSeq(appendTopic(key[:0], eventKey, topic), seq)
		v, c, err := snapshot.Get(key)
		if err != nil {
			return fmt.Errorf("read topic %q, event %d: %w", topic, seq, err)
		}
		e, err := d.whole(v, topic, queue.Offset{Epoch: epoch, Seq: seq})
		c.Close()
		if err != nil {
			return err
		}
		if n++; !f(e) || n == limit {
			return nil
		}
	}
	return nil
}

// Find returns the sequence after which the topic's events at or after t begin. It goes by the times at which the log
// stored them; where the clock was turned back meanwhile, the answer is one of those possible.
func (x *Index) Find(topic string, t time.Time) (after uint64, err error) {
	after, err = x.find(appendTopic(nil, eventKey, topic), timeOf, t.UnixNano())
	if err != nil {
		return 0, fmt.Errorf("find time in topic %q: %w", topic, err)
	}
	return after, nil
}

// FindAll is Find over all topics.
func (x *Index) FindAll(t time.Time) (after uint64, err error) {
	after, err = x.find([]byte{seqKey}, timeOfPlace, t.UnixNano())
	if err != nil {
		return 0, fmt.Errorf("find time: %w", err)
	}
	return after, nil
}

// find searches the keys that are a prefix and a sequence.
func (x *Index) find(prefix []byte, timeOf func(v []byte) (int64, error), t int64) (after uint64, err error) {
	key := func(seq uint64) []byte { return appendSeq(slices.Clone(prefix), seq) }
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: key(0), UpperBound: above(slices.Clone(prefix), ^uint64(0))})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() {
		return 0, nil
	}
	before := func() (bool, error) { // the event at the iterator
		v, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		ns, err := timeOf(v)
		return ns < t, err
	}
	low := seqOf(it.Key()) - 1 // everything up to low is before t
	it.Last()
	high := seqOf(it.Key()) // everything above high is at or after t, or is not there
	for low < high {
		mid := low + (high-low)/2 + 1
		if !it.SeekGE(key(mid)) { // only a fault ends it here: high exists
			return 0, it.Error()
		}
		early, err := before()
		if err != nil {
			return 0, err
		}
		if early {
			low = max(low, seqOf(it.Key()))
		} else {
			high = mid - 1
		}
	}
	return low, nil
}

// FindID returns the sequence of the event that was published to the topic last with the id, 0 when there was none. When it is
// gone that is 0, or an earlier one.
func (x *Index) FindID(topic, id string) (uint64, error) {
	seq, err := x.getSeq(appendName(appendTopic(nil, idKey, topic), id))
	if err != nil {
		return 0, fmt.Errorf("find id in topic %q: %w", topic, err)
	}
	return seq, nil
}

// Topic returns what the index knows of a topic: Last, kept or trimmed, Events and Bytes; and what it was declared with, nil if
// it was not.
func (x *Index) Topic(topic string) (i queue.TopicInfo, declared []byte, err error) {
	s, err := x.topicState(topic)
	if err != nil {
		return queue.TopicInfo{}, nil, err
	}
	i = queue.TopicInfo{Name: topic, Events: int64(s.events), Bytes: int64(s.bytes)}
	if s.last > 0 {
		i.Last = queue.Offset{Epoch: x.Epoch(), Seq: s.last}
	}
	return i, s.declared, nil
}

func (x *Index) topicState(topic string) (topicState, error) {
	v, c, err := x.db.Get(appendTopic(make([]byte, 0, len(topic)+8), topicKey, topic))
	if errors.Is(err, pebble.ErrNotFound) {
		return topicState{}, nil
	}
	if err != nil {
		return topicState{}, fmt.Errorf("read topic %q: %w", topic, err)
	}
	defer c.Close()
	s, err := decodeTopicState(v)
	if err != nil {
		return topicState{}, fmt.Errorf("read topic %q: %w", topic, err)
	}
	return s, nil
}

// Trimmed returns the sequence of the topic's last trimmed event, 0 when it lost none. It may be higher, where events
// were trimmed that the index never saw.
func (x *Index) Trimmed(topic string) (uint64, error) {
	s, err := x.topicState(topic)
	return max(s.trimmed, x.state.Load().blind), err
}

// TrimmedOf returns the highest of Trimmed over all topics that begin with the prefix and match.
func (x *Index) TrimmedOf(prefix string, match func(topic string) bool) (highest uint64, err error) {
	lower := appendTopic(nil, topicKey, prefix)
	lower = lower[:len(lower)-2] // the end of the name
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{topicKey + 1}})
	if err != nil {
		return 0, fmt.Errorf("read trimmed topics: %w", err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = fmt.Errorf("read trimmed topics: %w", e)
		}
	}()
	highest = x.state.Load().blind
	for ok := it.First(); ok && bytes.HasPrefix(it.Key(), lower); ok = it.Next() {
		s, err := decodeTopicState(it.Value())
		if err != nil {
			return 0, fmt.Errorf("read trimmed topics: %w", err)
		}
		if s.trimmed > highest && match(topicOf(it.Key())) {
			highest = s.trimmed
		}
	}
	return highest, nil
}

// getSeq returns 0 for a key that is not there.
func (x *Index) getSeq(key []byte) (uint64, error) {
	v, c, err := x.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if len(v) != 8 {
		return 0, errValue
	}
	return seqOf(v), nil
}

// place returns false for an event that is not there.
func (x *Index) place(seq uint64) (p place, ok bool, err error) {
	v, c, err := x.db.Get(appendSeq([]byte{seqKey}, seq))
	if errors.Is(err, pebble.ErrNotFound) {
		return place{}, false, nil
	}
	if err == nil {
		defer c.Close()
		p, err = decodePlace(v)
	}
	if err != nil {
		return place{}, false, fmt.Errorf("read event %d: %w", seq, err)
	}
	return p, true, nil
}

// Count returns how many events the topic has after the sequence, without those for another queue than the one given; it stops
// counting at max.
func (x *Index) Count(topic, forQueue string, after uint64, max int) (n int, err error) {
	if max <= 0 {
		return 0, nil
	}
	it, err := x.events(topic, after, ^uint64(0))
	if err != nil {
		return 0, fmt.Errorf("count topic %q: %w", topic, err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = fmt.Errorf("count topic %q: %w", topic, e)
		}
	}()
	var d decoder
	for ok := it.First(); ok && n < max; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, fmt.Errorf("count topic %q: %w", topic, err)
		}
		if len(v) > valueHeader && v[valueHeader-1]&forOne != 0 {
			e, err := d.event(v)
			if err != nil {
				return 0, fmt.Errorf("count topic %q, event %d: %w", topic, seqOf(it.Key()), err)
			}
			if e.Queue != forQueue {
				continue
			}
		}
		n++
	}
	return n, nil
}

// Topics returns the names of up to limit topics that have events or were declared and come after the given name, in ascending
// order.
func (x *Index) Topics(after string, limit int) (names []string, err error) {
	lower := []byte{topicKey}
	if after != "" {
		lower = append(appendTopic(nil, topicKey, after), 0)
	}
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{topicKey + 1}})
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for ok := it.First(); ok && len(names) < limit; ok = it.Next() {
		s, err := decodeTopicState(it.Value())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("list topics: %w", err), it.Close())
		}
		if s.events > 0 || s.declared != nil {
			names = append(names, topicOf(it.Key()))
		}
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	return names, nil
}

// TopicAt returns the topic of the event with this sequence, false when there is none.
func (x *Index) TopicAt(seq uint64) (topic string, ok bool, err error) {
	p, ok, err := x.place(seq)
	return p.topic, ok, err
}
