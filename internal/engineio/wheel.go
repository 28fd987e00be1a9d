package engineio

import (
	"sync"
	"time"
)

// wheelSlots ticks are one turn, mostly about 51 s; who is due later goes round more than once.
const wheelSlots = 512

// tickLength returns how exact times are: a tenth of a second, and half a percent of a heartbeat that is shorter than most. The
// heartbeats of tests, below a second, are exact to what a client can tell.
func tickLength(c *Config) time.Duration {
	length := 100 * time.Millisecond
	for _, d := range []time.Duration{c.PingInterval, c.PingTimeout} {
		switch {
		case d <= 0:
		case d < time.Second:
			length = min(length, 200*time.Microsecond)
		default:
			length = min(length, d/200)
		}
	}
	return length
}

// A wheel visits sessions when they are due, to the tick. It takes the place of a timer per session: re-arming one is
// mostly a store, since a session that is visited early just says when it is due next. Its goroutine exists only while
// there is somebody to visit.
type wheel struct {
	base   time.Time
	length time.Duration  // of a tick
	group  sync.WaitGroup // counts the goroutine
	quit   chan struct{}

	mu      sync.Mutex
	slots   [wheelSlots]*Session
	count   int
	now     uint64 // the last tick that was visited
	running bool
	stopped bool
}

// wheelLinks is a session's place in the wheel, guarded by wheel.mu.
type wheelLinks struct {
	next, prev *Session
	due        uint64 // 0 while not in the wheel
}

// tick returns the tick that time has reached.
func (w *wheel) tick() uint64 { return uint64(time.Since(w.base)/w.length) + 1 }

// after returns the first tick that is not before d from now.
func (w *wheel) after(d time.Duration) uint64 {
	return uint64((time.Since(w.base)+d+w.length-1)/w.length) + 1
}

// schedule makes the session's next visit happen at tick due, or leaves it where it is if that is earlier. It reports
// false once the wheel has stopped.
func (w *wheel) schedule(s *Session, due uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false
	}
	if s.wheel.due != 0 {
		if s.wheel.due <= due {
			return true
		}
		w.unlink(s)
	}
	if !w.running {
		w.running = true
		w.now = w.tick()
		w.group.Add(1)
		go w.run()
	}
	due = max(due, w.now+1)
	head := &w.slots[due%wheelSlots]
	s.wheel = wheelLinks{next: *head, due: due}
	if *head != nil {
		(*head).wheel.prev = s
	}
	*head = s
	w.count++
	return true
}

// remove takes the session out.
func (w *wheel) remove(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.wheel.due != 0 {
		w.unlink(s)
	}
}

func (w *wheel) unlink(s *Session) {
	l := s.wheel
	if l.prev == nil {
		w.slots[l.due%wheelSlots] = l.next
	} else {
		l.prev.wheel.next = l.next
	}
	if l.next != nil {
		l.next.wheel.prev = l.prev
	}
	s.wheel = wheelLinks{}
	w.count--
}

func (w *wheel) run() {
	defer w.group.Done()
	timer := time.NewTimer(w.untilNext())
	defer timer.Stop()
	var due []*Session
	for {
		select {
		case <-w.quit:
			return
		case <-timer.C:
		}
		w.mu.Lock()
		if w.count == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		for now := w.tick(); w.now < now; {
			w.now++
			for s := w.slots[w.now%wheelSlots]; s != nil; {
				next := s.wheel.next
				if s.wheel.due <= w.now {
					w.unlink(s)
					due = append(due, s)
				}
				s = next
			}
		}
		w.mu.Unlock()
		for i, s := range due {
			s.visit()
			due[i] = nil
		}
		due = due[:0]
		timer.Reset(w.untilNext())
	}
}

// untilNext returns how long it is to the next tick.
func (w *wheel) untilNext() time.Duration { return w.length - time.Since(w.base)%w.length }

// stop ends the goroutine and refuses further sessions. The caller waits for the group before it calls drain.
func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.stopped = true
		close(w.quit)
	}
}

// drain empties the wheel and returns who was in it.
func (w *wheel) drain() []*Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*Session, 0, w.count)
	for i := range w.slots {
		for s := w.slots[i]; s != nil; s = w.slots[i] {
			w.unlink(s)
			all = append(all, s)
		}
	}
	return all
}
