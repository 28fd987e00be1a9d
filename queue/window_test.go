package queue

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// The window against a model that remembers everything.
func TestWindowAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var log []uint64 // the topic's events: the log has others in between
		for seq := uint64(0); len(log) < 60; {
			seq += 1 + r.Uint64N(4)
			log = append(log, seq)
		}
		var w window
		acked := map[uint64]bool{}
		handed := 0
		for range 400 {
			switch op := r.IntN(10); {
			case op < 5 && handed < len(log):
				if seq := log[handed]; seq > w.top {
					w.open(seq)
				}
				handed++
			case op < 8 && handed > 0:
				seq := log[r.IntN(handed)]
				if e := w.settle(seq); (e == nil) != acked[seq] || e != nil && e.seq != seq {
					t.Fatalf("seed %d: ack of %d: %+v", seed, seq, e)
				}
				acked[seq] = true
			case op == 8 && r.IntN(20) == 0:
				upto := r.Uint64N(log[len(log)-1])
				w.settleThrough(upto)
				for i, seq := range log {
					if seq <= upto {
						acked[seq] = true
						handed = max(handed, i+1)
					}
				}
			}
			unsettled := 0
			for i, seq := range log {
				if seq <= w.floor() && !acked[seq] {
					t.Fatalf("seed %d: floor %d is above %d, which is not acknowledged", seed, w.floor(), seq)
				}
				if open := w.find(seq) != nil; open != (i < handed && !acked[seq]) {
					t.Fatalf("seed %d: %d has an entry: %v, acknowledged: %v", seed, seq, open, acked[seq])
				} else if open {
					unsettled++
				}
			}
			if unsettled != len(w.entries) {
				t.Fatalf("seed %d: %d entries, %d unsettled", seed, len(w.entries), unsettled)
			}
		}
	}
}

// noEngine is as much of an engine as a cursor needs.
type noEngine struct {
	Engine
	losses []Loss
}

func (e noEngine) Losses() []Loss { return e.losses }

func TestTranslate(t *testing.T) {
	b := &Broker{epoch: 9, engine: noEngine{losses: []Loss{{Epoch: 5, From: 50, To: 100}, {Epoch: 6, From: 60, To: 59}, {Epoch: 7, From: 20, To: 30}}}}
	unknown := &Broker{epoch: 9, engine: noEngine{losses: []Loss{{Epoch: 7, From: 20, To: math.MaxUint64}}}}
	for _, c := range []struct {
		seq, pos, from uint64
	}{{5, 5, 19}, {19, 19, 19}, {20, 19, 20}, {77, 19, 77}} {
		want := []Gap{{Topic: "t", From: Offset{7, c.from}, To: Offset{7, math.MaxUint64}, Cause: "loss"}}
		if pos, gaps, ok := unknown.translate("t", Offset{7, c.seq}); pos != c.pos || !slices.Equal(gaps, want) || !ok {
			t.Errorf("%d, of a loss that nobody knows the end of: %d, %+v, %v", c.seq, pos, gaps, ok)
		}
	}
	for _, c := range []struct {
		from Offset
		pos  uint64
		gaps []Gap
		ok   bool
	}{
		{Offset{9, 70}, 70, nil, true},
		{Offset{7, 31}, 31, nil, true}, // above a hole
		{Offset{7, 30}, 19, nil, true},
		{Offset{7, 25}, 19, []Gap{{From: Offset{7, 25}, To: Offset{7, 30}}}, true},
		{Offset{7, 3}, 3, []Gap{{From: Offset{7, 19}, To: Offset{7, 30}}}, true},
		{Offset{6, 70}, 59, nil, true}, // void, though nothing is missing
		{Offset{6, 3}, 3, []Gap{{From: Offset{7, 19}, To: Offset{7, 30}}}, true},
		{Offset{5, 100}, 49, nil, true},
		{Offset{5, 60}, 49, []Gap{{From: Offset{5, 60}, To: Offset{5, 100}}}, true},
		{Offset{5, 3}, 3, []Gap{{From: Offset{5, 49}, To: Offset{5, 100}}, {From: Offset{7, 19}, To: Offset{7, 30}}}, true},
		{Offset{4, 3}, 3, nil, false},
		{Offset{}, 0, nil, false},
	} {
		for i := range c.gaps {
			c.gaps[i].Topic, c.gaps[i].Cause = "t", "loss"
		}
		pos, gaps, ok := b.translate("t", c.from)
		if pos != c.pos && ok || !slices.Equal(gaps, c.gaps) || ok != c.ok {
			t.Errorf("%v: %d, %+v, %v, want %d, %+v, %v", c.from, pos, gaps, ok, c.pos, c.gaps, c.ok)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, m := range []Message{
		{Topic: "t", Event: "e"},
		{Topic: "t", ID: "id", Event: "e", Key: "k", queue: "q", Args: []byte(`[1]`), Attachments: [][]byte{{}, {1, 2}}},
	} {
		f.Add(m.appendEnvelope(nil))
	}
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEnvelope(b)
		if err != nil {
			return
		}
		m := Message{Topic: e.Topic, ID: e.ID, Event: e.Name, Key: e.Key, Args: e.Args, Attachments: e.Attachments, queue: e.Queue}
		again := m.appendEnvelope(nil)
		if len(again) > m.envelopeSize() {
			t.Errorf("%d bytes, at most %d said", len(again), m.envelopeSize())
		}
		if second, err := decodeEnvelope(again); err != nil || !bytes.Equal(second.Args, e.Args) || second.Topic != e.Topic {
			t.Errorf("%q: %v", again, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	b := &Broker{epoch: 9, engine: noEngine{losses: []Loss{{Epoch: 7, From: 5, To: 8}}}}
	q := b.newQueue("t", "n")
	q.settings = settings{Shared: true, Backoff: []time.Duration{time.Second}}
	q.paused = true
	q.gaps = []Gap{{Topic: "t", From: Offset{4, 7}, To: Offset{4, math.MaxUint64}, Cause: "loss"}}
	q.window = window{top: 1000, entries: []*entry{{seq: 5, tries: 2}, {seq: 9, due: time.UnixMilli(77)}, {seq: 1000, tries: 1}}}
	f.Add(q.appendCursorLocked(nil))
	f.Add(b.newQueue("t", "n").appendCursorLocked(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		q := b.newQueue("t", "n")
		if q.restore(data) != nil {
			return
		}
		again := b.newQueue("t", "n")
		if err := again.restore(q.appendCursorLocked(nil)); err != nil || !reflect.DeepEqual(again.window, q.window) ||
			!reflect.DeepEqual(again.settings, q.settings) || again.paused != q.paused || !slices.Equal(again.gaps, q.gaps) {
			t.Errorf("%+v, then %+v, %v", q.window, again.window, err)
		}
	})
}

// An event that is given up again in a later epoch, because the acknowledgement was lost with the epoch before, is one dead letter;
// another event with the same number is another one.
func TestDeadLetterOfLaterEpoch(t *testing.T) {
	stored := time.Unix(1_800_000_000, 7)
	id := func(epoch uint64, at time.Time) string {
		m := deadLetter(&Event{Topic: "jobs", Offset: Offset{epoch, 5}, Time: at}, "workers", "why", 1)
		return m.ID
	}
	if a, b := id(1, stored), id(2, stored); a != b {
		t.Errorf("ids %q and %q", a, b)
	}
	if a, b := id(1, stored), id(2, stored.Add(1)); a == b {
		t.Errorf("both %q", a)
	}
}

// An event whose dead letter could not be stored was delivered all the same.
func TestRevive(t *testing.T) {
	b := &Broker{epoch: 9, engine: noEngine{}, dirty: map[*Queue]struct{}{}}
	q := b.newQueue("jobs", "workers")
	q.configure(settings{Shared: true})
	w := q.window.open(5)
	w.dying, w.announced = true, true
	q.reviveLocked(5, 2, "too small")
	if w.dying || w.announced || w.tries != 2 || w.why != "it was rejected: too small" || w.due.IsZero() {
		t.Errorf("%+v", w)
	}
	q.shared.timer.Stop()
}
