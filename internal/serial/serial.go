// Package serial is an ordered queue whose goroutine exists only while it has work.
//
// Any number of goroutines push; one at a time runs. The push that finds the queue idle is told so, and its caller
// starts the goroutine, next to whatever waits for it. An idle queue holds no goroutine, no buffer and no timer.
//
// The queue has no bound of its own: what a full one means differs from use to use, so the caller counts.
package serial

import "sync"

// keep is the largest buffer, in elements, that a running queue holds on to between two batches.
const keep = 256

// Queue is an ordered queue of T. The zero value is empty and ready. A Queue must not be copied after its first use.
type Queue[T any] struct {
	mu    sync.Mutex
	items []T // guarded by mu; nil = idle, empty but not nil = running or about to run
}

// Push appends v. wake means that the queue was idle: the caller must, now or after more pushes, have [Queue.Run] called
// exactly once, usually on a new goroutine. Push never blocks and never refuses.
func (q *Queue[T]) Push(v T) (wake bool) {
	q.mu.Lock()
	wake = q.items == nil
	q.items = append(q.items, v)
	q.mu.Unlock()
	return wake
}

// Run hands everything queued to f, in order, batch by batch, until nothing is left; then the queue is idle again and
// Run returns. A batch belongs to f until it returns; f may push. f has to recover its own panics: one that passes
// through Run leaves the queue waiting for a goroutine that is gone.
//
// Run is to be called once for each Push that returned wake, and never otherwise; so two never run at a time.
func (q *Queue[T]) Run(f func(batch []T)) {
	spare := []T{}
	for {
		q.mu.Lock()
		batch := q.items
		if len(batch) == 0 {
			q.items = nil
			q.mu.Unlock()
			return
		}
		q.items = spare
		q.mu.Unlock()
		f(batch)
		clear(batch)
		if spare = batch[:0]; cap(batch) > keep {
			spare = []T{}
		}
	}
}

// Len returns the number of elements that have not been handed out.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
