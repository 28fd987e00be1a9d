package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// model is the index as a list.
type model struct {
	events  []*queue.Event          // kept
	ids     map[string]*queue.Event // by topic and id: the one published last
	trimmed map[string]uint64
	dropped []uint64
}

func (m *model) drop(missed bool, which func(*queue.Event) bool) (n int) {
	m.events = slices.DeleteFunc(m.events, func(e *queue.Event) bool {
		if !which(e) {
			return false
		}
		n++
		if missed {
			m.trimmed[e.Topic] = max(m.trimmed[e.Topic], e.Offset.Seq)
		}
		m.dropped = append(m.dropped, e.Offset.Seq)
		return true
	})
	return n
}

func (m *model) of(topic string) (events []*queue.Event) {
	for _, e := range m.events {
		if e.Topic == topic {
			events = append(events, e)
		}
	}
	return events
}

const (
	compacted = "compact"
	young     = "young" // keeps a minute
)

func rule(topic string) (time.Duration, bool) {
	switch topic {
	case young:
		return time.Minute, false
	default:
		return 0, topic == compacted
	}
}

// The index against a model, through everything that drops events, reopened now and then.
func TestDropsAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		dir := t.TempDir()
		x := open(t, dir)
		check(t, x.Reset(7))
		m := &model{ids: map[string]*queue.Event{}, trimmed: map[string]uint64{}}
		topics := []string{compacted, young, "a", "a/b", "b"}
		seq, now := uint64(0), birth
		for range 150 {
			topic := topics[r.IntN(len(topics))]
			switch op := r.IntN(10); {
			case op < 5:
				var batch []*queue.Event
				for range 1 + r.IntN(8) {
					seq += 1 + r.Uint64N(3)
					now = now.Add(time.Duration(r.IntN(3)) * time.Second)
					e := event(topics[r.IntN(len(topics))], seq)
					e.Time = now
					e.ID = fmt.Sprintf("id-%d", r.IntN(40)) // used again now and then
					if r.IntN(2) == 0 {
						e.Key = fmt.Sprintf("key-%d", r.IntN(4))
					}
					if r.IntN(4) == 0 {
						e.Expires = now.Add(time.Duration(1+r.IntN(60)) * time.Second)
					}
					batch = append(batch, e)
					if e.Topic == compacted && e.Key != "" {
						m.drop(false, func(old *queue.Event) bool { return old.Topic == e.Topic && old.Key == e.Key })
					}
					m.events = append(m.events, e)
					m.ids[e.Topic+" "+e.ID] = e
				}
				check(t, x.Apply(batch, rule))
			case op == 5:
				n, _, err := x.Expire(now, 1000)
				check(t, err)
				over := func(e *queue.Event) bool { return !e.Expires.IsZero() && now.After(e.Expires) }
				ended := m.drop(true, func(e *queue.Event) bool { return e.Topic == young && now.After(e.Time.Add(time.Minute)) && !over(e) })
				ended += m.drop(false, over)
				if n < ended { // it may have had two reasons, or have been dropped before
					t.Fatalf("seed %d: %d expired, want %d", seed, n, ended)
				}
			case op == 6:
				most := int64(1 + r.IntN(10))
				all := m.of(topic)
				want := m.drop(true, func(e *queue.Event) bool {
					i := slices.Index(all, e)
					return i >= 0 && i < len(all)-int(most)
				})
				if n, err := x.Shorten(topic, most, 0); err != nil || n != want {
					t.Fatalf("seed %d: dropped %d, %v, want %d", seed, n, err, want)
				}
			case op == 7 && r.IntN(3) == 0:
				upto := seq - min(seq, r.Uint64N(20))
				m.drop(true, func(e *queue.Event) bool { return e.Topic == topic && e.Offset.Seq <= upto })
				m.trimmed[topic] = max(m.trimmed[topic], upto)
				check(t, x.Clear(topic, upto, false))
			case op == 8 && r.IntN(3) == 0:
				first := seq - min(seq, r.Uint64N(40))
				m.drop(true, func(e *queue.Event) bool { return e.Offset.Seq < first })
				m.dropped = slices.DeleteFunc(m.dropped, func(s uint64) bool { return s < first })
				check(t, x.Trim(first))
			case op == 9:
				closeIndex(t, x)
				x = open(t, dir)
			}
			compare(t, seed, x, m, topics)
		}
		closeIndex(t, x)
	}
}

func compare(t *testing.T, seed uint64, x *Index, m *model, topics []string) {
	t.Helper()
	for _, topic := range topics {
		want := m.of(topic)
		var forward, backward, all []*queue.Event
		collect := func(to *[]*queue.Event) func(*queue.Event) bool {
			return func(e *queue.Event) bool { *to = append(*to, e); return true }
		}
		check(t, x.Range(topic, 0, ^uint64(0), 0, collect(&forward)))
		check(t, x.Back(topic, 0, ^uint64(0), 0, collect(&backward)))
		check(t, x.Scan(func(s string) bool { return s == topic }, 0, ^uint64(0), 0, collect(&all)))
		slices.Reverse(backward)
		bytes := int64(0)
		for i, e := range want {
			for _, got := range [][]*queue.Event{forward, backward, all} {
				if len(got) != len(want) || got[i].Offset != e.Offset || got[i].Key != e.Key {
					t.Fatalf("seed %d, topic %s: %d events, want %d", seed, topic, len(got), len(want))
				}
			}
			bytes += int64(size(e))
		}
		i, _, err := x.Topic(topic)
		check(t, err)
		if i.Events != int64(len(want)) || i.Bytes != bytes {
			t.Fatalf("seed %d, topic %s: %d events of %d bytes, want %d of %d", seed, topic, i.Events, i.Bytes, len(want), bytes)
		}
		for i := range 40 {
			id, seq := fmt.Sprintf("id-%d", i), uint64(0)
			if e := m.ids[topic+" "+id]; slices.Contains(want, e) {
				seq = e.Offset.Seq
			}
			got := must[uint64](t)(x.FindID(topic, id))
			earlier := seq == 0 && slices.ContainsFunc(want, func(e *queue.Event) bool { return e.Offset.Seq == got && e.ID == id })
			if got != seq && !earlier {
				t.Fatalf("seed %d, topic %s: id %s at %d, want %d", seed, topic, id, got, seq)
			}
		}
		if got := must[uint64](t)(x.Trimmed(topic)); got < m.trimmed[topic] {
			t.Fatalf("seed %d, topic %s: trimmed %d, want %d", seed, topic, got, m.trimmed[topic])
		}
	}
	highest := uint64(0)
	for topic, seq := range m.trimmed {
		if strings.HasPrefix(topic, "a") {
			highest = max(highest, seq)
		}
	}
	if got := must[uint64](t)(x.TrimmedOf("a", func(string) bool { return true })); got < highest {
		t.Fatalf("seed %d: trimmed %d, want %d", seed, got, highest)
	}
	dropped, _, err := x.Dropped(1 << 30)
	check(t, err)
	slices.Sort(m.dropped)
	if !slices.Equal(dropped, m.dropped) {
		t.Fatalf("seed %d: dropped\n%v, want\n%v", seed, dropped, m.dropped)
	}
	if len(dropped) > 60 {
		check(t, x.Erased(dropped[:30]))
		m.dropped = m.dropped[30:]
	}
}

func TestFindAll(t *testing.T) {
	x := opened(t)
	var batch []*queue.Event
	for seq := uint64(1); seq < 200; seq += 3 {
		batch = append(batch, event(fmt.Sprint("t", seq%7), seq))
	}
	check(t, x.Apply(batch, nil))
	for _, e := range batch {
		if after := must[uint64](t)(x.FindAll(e.Time)); after >= e.Offset.Seq || after+3 < e.Offset.Seq {
			t.Errorf("find %v: after %d, want below %d", e.Time, after, e.Offset.Seq)
		}
	}
	if after := must[uint64](t)(x.FindAll(birth.Add(time.Hour))); after != batch[len(batch)-1].Offset.Seq {
		t.Errorf("after the last: %d", after)
	}
}

func TestDeclare(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir)
	check(t, x.Reset(7))
	check(t, x.Apply([]*queue.Event{event("b", 1)}, nil))
	check(t, x.Declare("a", []byte("{}"), 5))
	check(t, x.Declare("b", []byte("{x}"), 6))
	check(t, x.Note(9))
	check(t, x.Apply([]*queue.Event{event("b", 2)}, nil))
	for range 2 {
		if i, with, err := x.Topic("b"); err != nil || string(with) != "{x}" || i.Events != 2 || x.Noted() != 9 {
			t.Errorf("%+v %q %d, %v", i, with, x.Noted(), err)
		}
		if names := must[[]string](t)(x.Topics("", 9)); !slices.Equal(names, []string{"a", "b"}) {
			t.Errorf("%q", names)
		}
		closeIndex(t, x)
		x = open(t, dir)
	}
	check(t, x.Declare("a", nil, 10))
	if names := must[[]string](t)(x.Topics("", 9)); !slices.Equal(names, []string{"b"}) {
		t.Errorf("%q", names)
	}
	closeIndex(t, x)
}

// An index that begins anew in the middle of the log knows what was lost of which topic, as far as it is told.
func TestBegin(t *testing.T) {
	x := opened(t)
	check(t, x.Reset(7))
	check(t, x.Begin(100, 50))
	check(t, x.Clear("a", 120, false))
	check(t, x.Trim(100))
	check(t, x.Apply([]*queue.Event{event("a", 110), event("b", 111), event("a", 130)}, nil))
	for topic, want := range map[string]uint64{"a": 120, "b": 50, "c": 50} {
		if got := must[uint64](t)(x.Trimmed(topic)); got != want {
			t.Errorf("topic %s: trimmed %d, want %d", topic, got, want)
		}
	}
	if got := seqs(t, x, "a", 0, 200, 0); !slices.Equal(got, []uint64{130}) {
		t.Errorf("%v", got)
	}
	if dropped, topics, err := x.Dropped(9); err != nil || !slices.Equal(dropped, []uint64{110}) || !slices.Equal(topics, []string{"a"}) {
		t.Errorf("%v %q, %v", dropped, topics, err)
	}
	if x.Applied() != 130 || x.Cut() != 50 {
		t.Errorf("applied %d, cut %d", x.Applied(), x.Cut())
	}
}
