package queue

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	sliceEvents = 200     // events that a consumer gets before the next one has its turn
	sliceBytes  = 1 << 20 // and about so many bytes

	readAgain = time.Second // after the index could not be read
)

// workers serve, in turn, the consumers that have not caught up with the tail: they hand out what the index has, and make a
// consumer live when nothing is left. A consumer costs no goroutine.
type workers struct {
	broker *Broker
	group  sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	more   sync.Cond
	line   []*Consumer
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
func (w *workers) push(c *Consumer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.line = append(w.line, c)
	w.more.Signal()
	return true
}

func (w *workers) pop() *Consumer {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.head == len(w.line) && !w.closed {
		w.line, w.head = w.line[:0], 0
		w.more.Wait()
	}
	if w.closed {
		return nil
	}
	c := w.line[w.head]
	w.line[w.head] = nil
	w.head++
	if w.head > 1024 && w.head > len(w.line)/2 { // never empty for long: close up
		w.line = slices.Delete(w.line, 0, w.head)
		w.head = 0
	}
	return c
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
		c := w.pop()
		if c == nil {
			return
		}
		page = w.serve(c, page)
		clear(page)
	}
}

// serve gives a consumer one slice, and then leaves it live, parked, or at the end of the line.
func (w *workers) serve(c *Consumer, page []*Event) []*Event {
	if !c.begin() {
		return page
	}
	called := false
	flush := func() {
		if called {
			c.sink.Flush()
			called = false
		}
	}
	for budget := sliceEvents; ; {
		if w.tellGaps(c) {
			called = true
		}
		n, room, err := w.repeat(c, budget)
		called = called || n > 0
		budget -= n
		if err == nil && room && budget > 0 {
			applied := w.broker.hub.mark.load()
			page, err = w.read(c, applied, budget, page[:0])
			if len(c.gaps) > 0 {
				continue // told before what comes after it
			}
			for _, e := range page {
				if c.closed.Load() {
					flush()
					return page
				}
				var d bool
				if d, room = c.offer(e); !room {
					break
				}
				called = called || d
				budget--
			}
		}
		flush()
		switch {
		case err != nil:
			w.broker.log.Error("read index", "topic", c.queue.topic, "queue", c.queue.name, "cause", err)
			if c.park() {
				time.AfterFunc(readAgain, c.Resume)
			} else {
				w.push(c)
			}
			return page
		case !room:
			if !c.park() {
				w.push(c)
			}
			return page
		case budget <= 0:
			c.requeue()
			w.push(c)
			return page
		}
		switch _, v := w.broker.hub.enter(c); v {
		case wentLive:
			return page
		case busy:
			if !c.closed.Load() {
				c.requeue()
				w.push(c)
			}
			return page
		}
	}
}

func (w *workers) tellGaps(c *Consumer) bool {
	told := false
	for len(c.gaps) > 0 && !c.closed.Load() {
		g := c.gaps[0]
		c.gaps = c.gaps[1:]
		c.sink.Gap(g)
		told = true
	}
	return told
}

// repeat hands out again what came back.
func (w *workers) repeat(c *Consumer, budget int) (n int, room bool, err error) {
	if !c.manual {
		return 0, true, nil
	}
	for n < budget && !c.closed.Load() {
		seq, attempt, ok := c.queue.nextRedo(c)
		if !ok {
			break
		}
		e, err := w.broker.lookup(c.queue.topic, seq)
		if err != nil {
			c.queue.undoRedo(c, seq)
			return n, true, err
		}
		if e == nil { // gone for good
			c.queue.lose(c, seq)
			c.sink.Gap(w.broker.gap(c.queue.topic, seq-1, seq))
			n++
			continue
		}
		if !c.sink.Deliver(Delivery{Event: e, Attempt: attempt}) {
			c.queue.undoRedo(c, seq)
			return n, false, nil
		}
		n++
	}
	return n, true, nil
}

// read returns the events after the consumer's position, up to applied. When none are left the position is applied. When
// retention was faster it leaves a gap to be told, and the position behind it.
func (w *workers) read(c *Consumer, applied uint64, limit int, page []*Event) ([]*Event, error) {
	b := w.broker
	topic := c.queue.topic
	lost, err := b.missing(topic, c.pos)
	if err != nil {
		return page, err
	}
	if lost > c.pos {
		c.lose(lost)
		return page, nil
	}
	if c.pos >= applied {
		return page, nil
	}
	page, all, err := b.page(topic, c.pos, applied, limit, sliceBytes, page)
	if err != nil {
		return page, err
	}
	// If the index was trimmed between the two looks the page may have a hole: what it has is gone from now on.
	lost, err = b.missing(topic, c.pos)
	if err != nil {
		return page[:0], err
	}
	if lost > c.pos {
		c.lose(lost)
		return page[:0], nil
	}
	if all && len(page) == 0 {
		c.pos = applied
	}
	return page, nil
}

// lose moves the position over what retention took.
func (c *Consumer) lose(through uint64) {
	b := c.queue.broker
	c.gaps = append(c.gaps, b.gap(c.queue.topic, c.pos, through))
	c.queue.forget(through)
	c.pos = through
}

// page reads up to limit events, and about so many bytes, from the index. all is true if there are no more up to upto.
func (b *Broker) page(topic string, after, upto uint64, limit, bytes int, page []*Event) (_ []*Event, all bool, err error) {
	all = true
	err = b.index.Range(topic, after, upto, limit+1, func(e *Event) bool {
		if len(page) == limit || bytes <= 0 {
			all = false
			return false
		}
		page = append(page, e)
		bytes -= e.size()
		return true
	})
	return page, all, err
}

// lookup returns nil when the index has no such event.
func (b *Broker) lookup(topic string, seq uint64) (*Event, error) {
	var found *Event
	err := b.index.Range(topic, seq-1, seq, 1, func(e *Event) bool {
		found = e
		return true
	})
	return found, err
}

func (e *Event) size() int {
	n := 128 + len(e.Name) + len(e.Args)
	for _, a := range e.Attachments {
		n += len(a)
	}
	return n
}
