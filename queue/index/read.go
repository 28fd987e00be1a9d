package index

import (
	"bytes"
	"errors"
	"fmt"
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
func (x *Index) Range(topic string, after, upto uint64, limit int, f func(*queue.Event) bool) (err error) {
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
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read topic %q: %w", topic, err)
		}
		e, err := d.event(v)
		if err != nil {
			return fmt.Errorf("read topic %q, event %d: %w", topic, seqOf(it.Key()), err)
		}
		e.Topic, e.Offset = topic, queue.Offset{Epoch: epoch, Seq: seqOf(it.Key())}
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
		name, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan topics: %w", err)
		}
		if string(name) != topic {
			topic = string(name)
			matches = match(topic)
		}
		if !matches {
			continue
		}
		seq := seqOf(it.Key())
		key = appendSeq(appendTopic(key[:0], eventKey, topic), seq)
		v, c, err := snapshot.Get(key)
		if err != nil {
			return fmt.Errorf("read topic %q, event %d: %w", topic, seq, err)
		}
		e, err := d.event(v)
		c.Close()
		if err != nil {
			return fmt.Errorf("read topic %q, event %d: %w", topic, seq, err)
		}
		e.Topic, e.Offset = topic, queue.Offset{Epoch: epoch, Seq: seq}
		if n++; !f(e) || n == limit {
			return nil
		}
	}
	return nil
}

// Find returns the sequence after which the topic's events at or after t begin. It goes by the times at which the log
// stored them; where the clock was turned back meanwhile, the answer is one of those possible.
func (x *Index) Find(topic string, t time.Time) (after uint64, err error) {
	after, err = x.find(topic, t.UnixNano())
	if err != nil {
		return 0, fmt.Errorf("find time in topic %q: %w", topic, err)
	}
	return after, nil
}

func (x *Index) find(topic string, t int64) (after uint64, err error) {
	it, err := x.events(topic, 0, ^uint64(0))
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
	prefix := appendTopic(nil, eventKey, topic)
	for low < high {
		mid := low + (high-low)/2 + 1
		if !it.SeekGE(appendSeq(prefix, mid)) { // only a fault ends it here: high exists
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

// Last returns the sequence of the topic's last event, kept or trimmed, 0 when there was none.
func (x *Index) Last(topic string) (uint64, error) { return x.getSeq(topicKey, topic) }

// Trimmed returns the sequence of the topic's last trimmed event, 0 when it lost none. It may be higher, where events
// were trimmed that the index never saw.
func (x *Index) Trimmed(topic string) (uint64, error) {
	seq, err := x.getSeq(trimmedKey, topic)
	return max(seq, x.state.Load().blind), err
}

// TrimmedOf returns the highest of Trimmed over all topics that begin with the prefix and match.
func (x *Index) TrimmedOf(prefix string, match func(topic string) bool) (highest uint64, err error) {
	lower := appendTopic(nil, trimmedKey, prefix)
	lower = lower[:len(lower)-2] // the end of the name
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{trimmedKey + 1}})
	if err != nil {
		return 0, fmt.Errorf("read trimmed topics: %w", err)
	}
	highest = x.state.Load().blind
	for ok := it.First(); ok && bytes.HasPrefix(it.Key(), lower); ok = it.Next() {
		if seq := it.Value(); len(seq) == 8 && seqOf(seq) > highest && match(topicOf(it.Key())) {
			highest = seqOf(seq)
		}
	}
	if err := it.Close(); err != nil {
		return 0, fmt.Errorf("read trimmed topics: %w", err)
	}
	return highest, nil
}

func (x *Index) getSeq(kind byte, topic string) (uint64, error) {
	v, c, err := x.db.Get(appendTopic(make([]byte, 0, len(topic)+8), kind, topic))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read topic %q: %w", topic, err)
	}
	defer c.Close()
	if len(v) != 8 {
		return 0, fmt.Errorf("read topic %q: %w", topic, errValue)
	}
	return seqOf(v), nil
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
		if len(v) > valueHeader && v[valueHeader-1] == forOne {
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

// Topics returns the names of up to limit topics that have events and come after the given name, in ascending order.
func (x *Index) Topics(after string, limit int) (names []string, err error) {
	lower := []byte{topicKey}
	if after != "" {
		lower = append(appendTopic(nil, topicKey, after), 0)
	}
	floor := x.state.Load().floor
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{topicKey + 1}})
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for ok := it.First(); ok && len(names) < limit; ok = it.Next() {
		if last := it.Value(); len(last) == 8 && seqOf(last) >= floor {
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
	v, c, err := x.db.Get(appendSeq([]byte{seqKey}, seq))
	if errors.Is(err, pebble.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read event %d: %w", seq, err)
	}
	defer c.Close()
	return string(v), true, nil
}
