package queue

import (
	"slices"
	"sync"
	"sync/atomic"
)

// watermark is a number that only grows, and that goroutines can wait for.
type watermark struct {
	value atomic.Uint64

	mu      sync.Mutex // guards the field below
	waiting []waiter
}

type waiter struct {
	at      uint64
	reached chan struct{}
}

func (w *watermark) load() uint64 { return w.value.Load() }

func (w *watermark) advance(to uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if to <= w.value.Load() {
		return
	}
	w.value.Store(to)
	w.waiting = slices.DeleteFunc(w.waiting, func(x waiter) bool {
		if x.at > to {
			return false
		}
		close(x.reached)
		return true
	})
}

// wait returns true once the mark is at or above at, false when one of the channels was closed first.
func (w *watermark) wait(at uint64, stop, stop2 <-chan struct{}) bool {
	if w.value.Load() >= at {
		return true
	}
	w.mu.Lock()
	if w.value.Load() >= at {
		w.mu.Unlock()
		return true
	}
	x := waiter{at, make(chan struct{})}
	w.waiting = append(w.waiting, x)
	w.mu.Unlock()
	select {
	case <-x.reached:
		return true
	case <-stop:
	case <-stop2:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(y waiter) bool { return y.reached == x.reached })
	return w.value.Load() >= at
}

// room is a budget of bytes, given out in the order of asking.
type room struct {
	mu      sync.Mutex // guards the fields below
	size    int
	free    int
	waiting []*seat
}

type seat struct {
	n     int
	ready chan struct{}
}

func newRoom(size int) *room { return &room{size: size, free: size} }

// take returns how much it took, false when one of the channels was closed first. What is larger than the whole room
// takes the whole room.
func (r *room) take(n int, stop, stop2 <-chan struct{}) (taken int, ok bool) {
	n = min(n, r.size)
	r.mu.Lock()
	if len(r.waiting) == 0 && n <= r.free {
		r.free -= n
		r.mu.Unlock()
		return n, true
	}
	s := &seat{n, make(chan struct{})}
	r.waiting = append(r.waiting, s)
	r.mu.Unlock()
	select {
	case <-s.ready:
		return n, true
	case <-stop:
	case <-stop2:
	}
	r.mu.Lock()
	i := slices.Index(r.waiting, s)
	if i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	r.mu.Unlock()
	if i < 0 { // it became ready meanwhile
		r.give(n)
	} else {
		r.give(0) // the next in line may fit
	}
	return 0, false
}

func (r *room) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += n
	for len(r.waiting) > 0 && r.waiting[0].n <= r.free {
		r.free -= r.waiting[0].n
		close(r.waiting[0].ready)
		r.waiting = slices.Delete(r.waiting, 0, 1)
	}
}
