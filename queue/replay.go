package queue

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	sliceEvents = 200     // events that a consumer gets before the next one has its turn
	sliceBytes  = 1 << 20 // and about so many bytes

	readAgain = time.Second           // after the index could not be read
	lookAgain = 20 * time.Millisecond // after it was behind
)

// errBehind says that the index has not come to an event yet: that it is not there says nothing.
var errBehind = errors.New("the index is behind the log")

// workers serve, in turn, the readers that have not caught up with the tail: they hand out what the index has, and make a
// reader live when nothing is left. A consumer costs no goroutine.
type workers struct {
	broker *Broker
	group  sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	more   sync.Cond
	line   []*reader
	head   int
	closed bool
}

func startWorkers(b *Broker) *workers {
	w := &workers{broker: b}
	w.more.L = &w.mu
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		w.group.Go(w.run)
	}
	return w
}

// push returns false when the workers have stopped.
func (w *workers) push(r *reader) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.line = append(w.line, r)
	w.more.Signal()
	return true
}

func (w *workers) pop() *reader {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.head == len(w.line) && !w.closed {
		w.line, w.head = w.line[:0], 0
		w.more.Wait()
	}
	if w.closed {
		return nil
	}
	r := w.line[w.head]
	w.line[w.head] = nil
	w.head++
	if w.head > 1024 && w.head > len(w.line)/2 { // never empty for long: close up
		w.line = slices.Delete(w.line, 0, w.head)
		w.head = 0
	}
	return r
}

// close returns when no worker is inside a sink any more.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.line, w.head = nil, 0
	w.more.Broadcast()
	w.mu.Unlock()
	w.group.Wait()
}

func (w *workers) run() {
	page := make([]*Event, 0, sliceEvents)
	for {
		r := w.pop()
		if r == nil {
			return
		}
		page = w.serve(r, page)
		clear(page)
	}
}

// serve gives a reader one slice, and then leaves it live, parked, or at the end of the line.
func (w *workers) serve(r *reader, page []*Event) []*Event {
	if !r.begin() {
		return page
	}
	for budget := sliceEvents; ; {
		r.tellGaps()
		n, room, err := w.again(r, budget)
		budget -= n
		if err == nil && room && budget > 0 {
			var lost bool
			if credit := r.queue.credit(r, budget); credit == 0 {
				page, room = page[:0], false
			} else if page, lost, err = w.read(r, w.broker.hub.mark.load(), credit, page[:0]); lost {
				continue // told before what comes after it
			}
			for _, e := range page {
				if room = !r.closed.Load() && r.hand(e); !room {
					break
				}
				budget--
			}
		}
		r.flush()
		r.queue.announce(r)
		switch {
		case errors.Is(err, errBehind):
			if r.park() {
				time.AfterFunc(lookAgain, func() { r.kick(false) })
			} else {
				w.push(r)
			}
			return page
		case err != nil:
			w.broker.log.Error("read index", "topic", r.queue.topic, "queue", r.queue.name, "cause", err)
			if r.park() {
				time.AfterFunc(readAgain, func() { r.kick(false) })
			} else {
				w.push(r)
			}
			return page
		case !room:
			if !r.park() {
				w.push(r)
			}
			return page
		case budget <= 0:
			r.requeue()
			w.push(r)
			return page
		}
		switch w.broker.hub.enter(r) {
		case wentLive:
			return page
		case busy:
			if !r.closed.Load() {
				r.requeue()
				w.push(r)
			}
			return page
		}
	}
}

// again hands out what came back.
func (w *workers) again(r *reader, budget int) (n int, room bool, err error) {
	q := r.queue
	for n < budget && !r.closed.Load() {
		seq, ok, room := q.nextAgain(r)
		if !ok {
			return n, room, nil
		}
		if seq > w.broker.hub.mark.load() {
			q.putBack(r, seq)
			return n, true, errBehind
		}
		e, err := q.lookup(seq)
		if err != nil {
			q.putBack(r, seq)
			return n, true, err
		}
		n++
		if e == nil { // gone for good
			lost, err := r.missing(seq - 1)
			if err != nil {
				q.putBack(r, seq)
				return n, true, err
			}
			q.lose(r, seq, lost >= seq)
			r.tellGaps()
			continue
		}
		if !r.hand(e) {
			return n, false, nil
		}
	}
	return n, true, nil
}

// read returns the events after the reader's position, up to applied. When none are left the position is applied. When
// retention was faster it leaves a gap to be told, and the position behind it.
func (w *workers) read(r *reader, applied uint64, limit int, page []*Event) (_ []*Event, lost bool, err error) {
	q := r.queue
	missing, err := r.missing(r.pos)
	if err != nil {
		return page, false, err
	}
	if missing > r.pos {
		r.skip(missing)
		return page, true, nil
	}
	if r.pos >= applied {
		return page, false, nil
	}
	page, all, err := q.page(r.pos, applied, limit, sliceBytes, page)
	if err != nil {
		return page[:0], false, err
	}
	// If the index was trimmed between the two looks the page may have a hole: what it has is gone from now on.
	if missing, err = r.missing(r.pos); err != nil {
		return page[:0], false, err
	}
	if missing > r.pos {
		r.skip(missing)
		return page[:0], true, nil
	}
	if all && len(page) == 0 {
		r.pos = applied
	}
	return page, false, nil
}

// skip moves the position over what retention took.
func (r *reader) skip(through uint64) {
	q := r.queue
	g := q.gap(r.pos, through)
	q.change(func() {
		q.forgetLocked(through)
		q.tellLocked(r, g)
	})
	r.pos = through
}

// tellLocked has the consumers of a reader told of a gap.
func (q *Queue) tellLocked(r *reader, g Gap) {
	if len(q.served(r)) == 0 {
		q.owed = append(q.owed, g)
	}
	for _, c := range q.served(r) {
		c.gaps = append(c.gaps, g)
	}
}

// lose drops one event, about to be handed out again, that is gone. It is missed if retention took it; else its time was over,
// or a later one with its key took its place.
func (q *Queue) lose(r *reader, seq uint64, missed bool) {
	q.change(func() {
		q.noteLocked(expired, seq, nil, 0, "")
		q.ackLocked(seq)
		if missed {
			q.tellLocked(r, q.gap(seq-1, seq))
		}
	})
}
