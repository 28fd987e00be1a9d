package queue

import (
	"slices"
	"time"
)

// maxWindow bounds the events of a queue that come after its oldest unacknowledged one and were handed out.
const maxWindow = 4096

// window is what a queue knows about acknowledgements: everything up to floor is acknowledged; entries has every event of
// the topic after it that was handed out for manual acknowledgement, ascending. An event above the last entry was not.
type window struct {
	floor   uint64
	entries []entry
}

type entry struct {
	seq   uint64
	due   time.Time // not to be handed out before; zero is at once
	tries uint32    // handed out before, and came back
	acked bool
}

func (w *window) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(w.entries, seq, func(e entry, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
}

// ack reports whether that changed anything.
func (w *window) ack(seq uint64) bool {
	i, ok := w.find(seq)
	if !ok || w.entries[i].acked {
		return false
	}
	w.entries[i].acked = true
	w.settle()
	return true
}

// ackThrough reports whether that changed anything.
func (w *window) ackThrough(seq uint64) bool {
	if seq <= w.floor {
		return false
	}
	w.floor = seq
	w.forget(seq)
	return true
}

// forget drops what is known about the events up to seq: they are acknowledged, or gone.
func (w *window) forget(seq uint64) {
	i, ok := w.find(seq)
	if ok {
		i++
	}
	w.entries = slices.Delete(w.entries, 0, i)
	w.settle()
}

// settle moves the floor over acknowledged events.
func (w *window) settle() {
	n := 0
	for n < len(w.entries) && w.entries[n].acked {
		w.floor = max(w.floor, w.entries[n].seq)
		n++
	}
	w.entries = slices.Delete(w.entries, 0, n)
	if len(w.entries) == 0 && cap(w.entries) > 64 {
		w.entries = nil
	}
}

// acked returns the events above the floor that are acknowledged.
func (w *window) acked() []uint64 {
	var seqs []uint64
	for _, e := range w.entries {
		if e.acked {
			seqs = append(seqs, e.seq)
		}
	}
	return seqs
}

// admission says whether an event may be handed out.
type admission int

const (
	admitted admission = iota
	delayed            // its time has not come: it will be handed out again by itself
	full               // too much is unacknowledged
)

// admit counts an event as handed out to a manual consumer.
func (w *window) admit(seq uint64, now time.Time) (attempt int, a admission) {
	if seq <= w.floor { // another consumer has acknowledged it; this one gets it all the same
		return 1, admitted
	}
	i, ok := w.find(seq)
	if !ok {
		if len(w.entries) >= maxWindow {
			return 0, full
		}
		w.entries = slices.Insert(w.entries, i, entry{seq: seq})
	}
	e := &w.entries[i]
	if e.due.After(now) {
		return 0, delayed
	}
	return int(e.tries) + 1, admitted
}

// failed counts a delivery that came to nothing. It reports false for what is acknowledged.
func (w *window) failed(seq uint64, due time.Time) bool {
	i, ok := w.find(seq)
	if !ok || w.entries[i].acked {
		return false
	}
	w.entries[i].tries++
	w.entries[i].due = due
	return true
}
