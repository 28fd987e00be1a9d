package queue

import (
	"slices"
	"time"
)

// window is what a queue knows about acknowledgements: everything up to top was handed out, or passed over for a reason, and
// what of that is not acknowledged has an entry. So what a queue remembers grows with what is unsettled, not with the
// distance to the oldest of it.
type window struct {
	top     uint64
	entries []*entry // ascending
}

// entry is an event that was handed out, or is held back, and is not acknowledged.
type entry struct {
	seq       uint64
	due       time.Time // not to be handed out before; zero is at once
	tries     uint32    // deliveries that came to nothing
	why       string    // the last one did
	key       string    // ordered queues: no other event with this key before it is settled
	holder    *Consumer // shared queues: who has it now
	flying    uint32    // leases on it: a personal queue's consumers have one each
	announced bool      // the delivery to come is in the store already
	suspect   bool      // it was announced, and then the process ended
	dying     bool      // its dead letter is on the way
}

// floor returns the position up to which everything is acknowledged.
func (w *window) floor() uint64 {
	if len(w.entries) > 0 {
		return w.entries[0].seq - 1
	}
	return w.top
}

func (w *window) search(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(w.entries, seq, func(e *entry, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
}

// find returns nil for what is acknowledged, or beyond top.
func (w *window) find(seq uint64) *entry {
	if i, ok := w.search(seq); ok {
		return w.entries[i]
	}
	return nil
}

// open makes an entry for an event above top.
func (w *window) open(seq uint64) *entry {
	e := &entry{seq: seq}
	w.entries = append(w.entries, e)
	w.top = seq
	return e
}

// settle acknowledges an event. It returns its entry, nil if it had none.
func (w *window) settle(seq uint64) *entry {
	i, ok := w.search(seq)
	if !ok {
		return nil
	}
	e := w.entries[i]
	w.entries = slices.Delete(w.entries, i, i+1)
	w.shrink()
	return e
}

// settleThrough acknowledges everything up to seq. It reports whether that changed anything.
func (w *window) settleThrough(seq uint64) bool {
	n := w.forget(seq)
	changed := n > 0 || seq > w.top
	w.top = max(w.top, seq)
	return changed
}

// forget drops what is known about the events up to seq, and returns how many there were.
func (w *window) forget(seq uint64) int {
	n, ok := w.search(seq)
	if ok {
		n++
	}
	w.entries = slices.Delete(w.entries, 0, n)
	w.shrink()
	return n
}

// shrink gives memory back once nothing is unsettled.
func (w *window) shrink() {
	if len(w.entries) == 0 && cap(w.entries) > 64 {
		w.entries = nil
	}
}
