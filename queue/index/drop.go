package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const trimBatch = 50_000 // events looked at in one write batch

// forget removes what leads to an event by its id and key, and no longer counts it.
func (x *Index) forget(b *pebble.Batch, seq uint64, p place) error {
	for _, name := range []struct {
		kind byte
		name string
	}{{idKey, p.id}, {keyKey, p.key}} {
		if name.name == "" {
			continue
		}
		x.key = appendName(appendTopic(x.key[:0], name.kind, p.topic), name.name)
		if now, err := x.getSeq(x.key); err != nil {
			return err
		} else if now != seq { // a later event has it
			continue
		}
		if err := b.Delete(x.key, nil); err != nil {
			return err
		}
	}
	t, err := x.topic(p.topic)
	if err != nil {
		return err
	}
	t.events = less(t.events, 1)
	t.bytes = less(t.bytes, p.size)
	return nil
}

func less(n, by uint64) uint64 { return n - min(n, by) }

// drop removes one event, and notes that the log has it still. An event that is missed is so by whoever has not read it.
func (x *Index) drop(b *pebble.Batch, seq uint64, p place, missed bool) error {
	if err := x.forget(b, seq, p); err != nil {
		return err
	}
	x.key = appendSeq(appendTopic(x.key[:0], eventKey, p.topic), seq)
	if err := b.Delete(x.key, nil); err != nil {
		return err
	}
	x.key = appendSeq(append(x.key[:0], seqKey), seq)
	if err := b.Delete(x.key, nil); err != nil {
		return err
	}
	var topic []byte
	if missed {
		topic = []byte(p.topic)
	}
	x.key = appendSeq(append(x.key[:0], droppedKey), seq)
	return b.Set(x.key, topic, nil)
}

// dropSeq drops one event if it is there.
func (x *Index) dropSeq(b *pebble.Batch, seq uint64, missed bool) error {
	p, ok, err := x.place(seq)
	if err != nil || !ok {
		return err
	}
	return x.drop(b, seq, p, missed)
}

// missed notes that retention took an event.
func (x *Index) missed(topic string, seq uint64) error {
	t, err := x.topic(topic)
	if err == nil {
		t.trimmed = max(t.trimmed, seq)
	}
	return err
}

// Expire drops up to limit events whose time is over at now, by their own or because their topic keeps them no longer; these
// count as trimmed. It returns how many there were, and whether any was trimmed.
func (x *Index) Expire(now time.Time, limit int) (n int, trimmed bool, err error) {
	n, lost, err := x.expire(now, limit)
	if err != nil {
		return 0, false, fmt.Errorf("expire events: %w", err)
	}
	return n, len(lost) > 0, nil
}

func (x *Index) expire(now time.Time, limit int) (n int, lost map[string]uint64, err error) {
	defer x.revert(&err)
	upper := binary.BigEndian.AppendUint64([]byte{endingKey}, uint64(max(0, now.UnixNano())))
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{endingKey}, UpperBound: upper})
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := x.db.NewBatch()
	defer b.Close()
	lost = map[string]uint64{}
	dropped := map[uint64]bool{} // an event may end for both reasons
	for ok := it.First(); ok && n < limit; ok = it.Next() {
		why, err := it.ValueAndErr()
		if err != nil {
			return 0, nil, err
		}
		if err := b.Delete(it.Key(), nil); err != nil {
			return 0, nil, err
		}
		n++
		seq := seqOf(it.Key())
		p, ok, err := x.place(seq)
		if err != nil {
			return 0, nil, err
		}
		if !ok { // dropped before
			continue
		}
		if dropped[seq] {
			continue
		}
		dropped[seq] = true
		byAge := len(why) == 1 && why[0] == endsByAge
		if err := x.drop(b, seq, p, byAge); err != nil {
			return 0, nil, err
		}
		if byAge {
			lost[p.topic] = max(lost[p.topic], seq)
		}
	}
	if err := it.Error(); err != nil || n == 0 {
		return 0, nil, err
	}
	for topic, seq := range lost {
		if err := x.missed(topic, seq); err != nil {
			return 0, nil, err
		}
	}
	return n, lost, x.commit(b, *x.state.Load())
}

// Shorten drops the oldest events of a topic, which count as trimmed, until no more than so many, and so many bytes of them, are
// left; 0 is no limit. It returns how many it dropped.
func (x *Index) Shorten(topic string, events, bytes int64) (n int, err error) {
	for {
		dropped, more, err := x.shorten(topic, events, bytes)
		n += dropped
		if err != nil {
			return n, fmt.Errorf("shorten topic %q: %w", topic, err)
		}
		if !more {
			return n, nil
		}
	}
}

func (x *Index) shorten(topic string, events, bytes int64) (n int, more bool, err error) {
	defer x.revert(&err)
	t, err := x.topic(topic)
	if err != nil {
		return 0, false, err
	}
	over := func() bool {
		return t.events > 0 && (events > 0 && t.events > uint64(events) || bytes > 0 && t.bytes > uint64(bytes))
	}
	if !over() {
		clear(x.changed)
		return 0, false, nil
	}
	it, err := x.events(topic, 0, ^uint64(0))
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := x.db.NewBatch()
	defer b.Close()
	last := uint64(0)
	for ok := it.First(); ok && over() && n < trimBatch; ok = it.Next() {
		last = seqOf(it.Key())
		if err := x.dropSeq(b, last, true); err != nil {
			return 0, false, err
		}
		n++
	}
	if err := it.Error(); err != nil || n == 0 {
		return 0, false, err
	}
	if err := x.missed(topic, last); err != nil {
		return 0, false, err
	}
	more = over()
	return n, more, x.commit(b, *x.state.Load())
}

// Clear drops all events of a topic up to a sequence. They count as trimmed. The log has them no more if erased says so.
func (x *Index) Clear(topic string, upto uint64, erased bool) error {
	for more := true; more; {
		var err error
		if more, err = x.clear(topic, upto, erased); err != nil {
			return fmt.Errorf("clear topic %q: %w", topic, err)
		}
	}
	return nil
}

func (x *Index) clear(topic string, upto uint64, erased bool) (more bool, err error) {
	defer x.revert(&err)
	it, err := x.events(topic, 0, upto)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := x.db.NewBatch()
	defer b.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n > trimBatch {
			more = true
			break
		}
		seq := seqOf(it.Key())
		if err := x.dropSeq(b, seq, true); err != nil {
			return false, err
		}
		if erased {
			if err := b.Delete(appendSeq([]byte{droppedKey}, seq), nil); err != nil {
				return false, err
			}
		}
	}
	if err := it.Error(); err != nil {
		return false, err
	}
	if err := x.missed(topic, upto); err != nil {
		return false, err
	}
	return more, x.commit(b, *x.state.Load())
}

// Declare notes what a topic was declared with; nil is that it is not any more. noted is the position of that note.
func (x *Index) Declare(topic string, with []byte, noted uint64) (err error) {
	defer x.revert(&err)
	t, err := x.topic(topic)
	if err != nil {
		return fmt.Errorf("declare topic %q: %w", topic, err)
	}
	more := 0
	if t.declared != nil {
		more--
	}
	if t.declared = with; with != nil {
		more++
	}
	if err := x.note(max(noted, x.Noted()), more); err != nil {
		return fmt.Errorf("declare topic %q: %w", topic, err)
	}
	return nil
}

// Note moves Noted to a position, back too.
func (x *Index) Note(noted uint64) error {
	if err := x.note(noted, 0); err != nil {
		return fmt.Errorf("note position %d: %w", noted, err)
	}
	return nil
}

func (x *Index) note(noted uint64, declared int) error {
	s := *x.state.Load()
	s.noted = noted
	s.declared += uint64(declared)
	b := x.db.NewBatch()
	defer b.Close()
	return x.commit(b, s)
}

// Dropped returns up to limit sequences, ascending, of events that were dropped and that the log has still, and the topics that
// were trimmed by that.
func (x *Index) Dropped(limit int) (seqs []uint64, trimmed []string, err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{droppedKey}, UpperBound: []byte{droppedKey + 1}})
	if err != nil {
		return nil, nil, fmt.Errorf("list dropped events: %w", err)
	}
	topics := map[string]struct{}{}
	for ok := it.First(); ok && len(seqs) < limit; ok = it.Next() {
		seqs = append(seqs, seqOf(it.Key()))
		if topic := it.Value(); len(topic) > 0 {
			topics[string(topic)] = struct{}{}
		}
	}
	if err := it.Close(); err != nil {
		return nil, nil, fmt.Errorf("list dropped events: %w", err)
	}
	return seqs, slices.Collect(maps.Keys(topics)), nil
}

// Erased tells that the log does not have these events any more.
func (x *Index) Erased(seqs []uint64) error {
	b := x.db.NewBatch()
	defer b.Close()
	for _, seq := range seqs {
		x.key = appendSeq(append(x.key[:0], droppedKey), seq)
		if err := b.Delete(x.key, nil); err != nil {
			return fmt.Errorf("note erased events: %w", err)
		}
	}
	if err := x.commit(b, *x.state.Load()); err != nil {
		return fmt.Errorf("note erased events: %w", err)
	}
	return nil
}
