package engineio

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

var errQueueFull = errors.New("queue is full")

// Send queues the messages as one unit, with nothing in between, and reports whether it could: false once the session
// closes. It never waits. What is not flushed goes out with the next Flush, or by itself: within 5 ms, or when there is
// enough of it.
//
// A session that would exceed its bounds is closed with [ReasonSlowPeer]. On an empty queue any unit is accepted.
func (s *Session) Send(flush bool, messages ...*Message) bool {
	size := totalLen(messages)
	s.mu.Lock()
	if s.state() != stateOpen {
		s.mu.Unlock()
		return false
	}
	if c := &s.server.config; s.bytes > 0 && (s.bytes+size > c.QueueBytes || s.packets+len(messages) > c.QueuePackets) {
		s.mu.Unlock()
		s.end(ReasonSlowPeer, errQueueFull, nil)
		return false
	}
	s.enqueueLocked(size, messages...)
	if flush || s.bytes >= pieceSize || 2*s.packets >= s.server.config.QueuePackets { // else waiting fills the queue by itself
		s.flushLocked()
		return true
	}
	s.corkLocked()
	return true
}

// corkLocked leaves what is queued to Flush, or to the server's corks. It releases mu.
func (s *Session) corkLocked() {
	s.corked = true
	guard := !s.guarded
	s.guarded = true
	s.mu.Unlock()
	if guard {
		s.server.corks.add(s)
	}
}

// SendVolatile sends the messages if the transport can take them now, and else drops them and reports false: as long as
// something that was sent before is still queued or being written, and while no poll is waiting.
func (s *Session) SendVolatile(messages ...*Message) bool {
	s.mu.Lock()
	if s.state() != stateOpen || s.ws == nil && s.poll == nil || s.bytes > 0 {
		s.mu.Unlock()
		return false
	}
	s.enqueueLocked(totalLen(messages), messages...)
	s.flushLocked()
	return true
}

// Flush sends what earlier calls have left.
func (s *Session) Flush() {
	s.mu.Lock()
	s.flushLocked()
}

// stuckFor is how long a peer takes nothing before that means something.
const stuckFor = 100 * time.Millisecond

// stuckLocked reports whether the peer has taken no more for a while. A connection that can only be written to by waiting
// for it has a waiting writer now and then; that alone means nothing.
func (s *Session) stuckLocked() bool {
	return s.stuckAt != 0 && s.server.wheel.after(-stuckFor) > s.stuckAt
}

func totalLen(messages []*Message) (n int) {
	for _, m := range messages {
		n += m.Len()
	}
	return n
}

func (s *Session) enqueueLocked(size int, messages ...*Message) {
	if s.queue == nil {
		s.queue = newBatch()
	}
	s.queue.messages = append(s.queue.messages, messages...)
	s.bytes += size
	s.packets += len(messages)
}

// writtenLocked counts off what has gone out, or was dropped.
func (s *Session) writtenLocked(size, packets int) {
	s.bytes = max(0, s.bytes-size) // an end resets both to 0 under a writer
	s.packets = max(0, s.packets-packets)
}

func (s *Session) dropQueueLocked() {
	if s.queue != nil {
		s.queue.free()
		s.queue = nil
	}
	s.pong = nil
	s.bytes, s.packets = 0, 0
}

// flushLocked writes the queue out and releases mu. Whoever finds nobody writing writes for everybody; it does not wait
// for the peer, so a caller pays for the system call and never for a slow network.
func (s *Session) flushLocked() {
	s.corked = false
	if s.writing || s.queue == nil && s.pong == nil {
		s.mu.Unlock()
		return
	}
	if s.ws == nil {
		s.wakeLocked()
		s.mu.Unlock()
		return
	}
	s.writing = true
	s.writeLocked()
}

// writeLocked writes until the queue is empty. The caller has raised writing; mu is released.
func (s *Session) writeLocked() {
	for turn := 0; s.queue != nil || s.pong != nil; turn++ {
		ws, b := s.ws, s.nextLocked()
		s.mu.Unlock()
		if turn == maxTurns && s.server.tasks.begin() { // others send as fast as this one writes
			go s.writeOn(ws, b)
			return
		}
		size, packets, err := b.try(ws)
		s.mu.Lock()
		s.writtenLocked(size, packets)
		if err == errNoRoom {
			s.stuckAt = s.server.wheel.tick()
			s.mu.Unlock()
			if s.server.tasks.begin() {
				go s.writeOn(ws, b)
			} else {
				b.free()
				ws.link.close()
			}
			return
		}
		b.free()
		if err != nil {
			s.writeFailed(ws, err)
			return
		}
	}
	s.wroteAll()
}

// nextLocked takes everything that is to be written, with the pong before the rest.
func (s *Session) nextLocked() *batch {
	b := s.queue
	s.queue = nil
	if s.pong == nil {
		return b
	}
	if b == nil {
		b = newBatch()
	}
	b.messages = slices.Insert(b.messages, b.next, s.pong)
	s.bytes += s.pong.Len()
	s.packets++
	s.pong = nil
	return b
}

var errNoRoom = errors.New("peer takes no more now")

// try writes pieces as long as the link takes them. It says how much of the queue is done with.
func (b *batch) try(ws *socket) (size, packets int, err error) {
	for b.fill(ws) {
		n, err := ws.link.try(b.rest)
		if err != nil {
			return size, packets, err
		}
		if n < len(b.rest) {
			b.rest = b.rest[n:]
			return size, packets, errNoRoom
		}
		size += b.size
		packets += b.packets
	}
	return size, packets, nil
}

// writeOn goes on where the peer took no more. It exists for as long as there is something to wait for.
func (s *Session) writeOn(ws *socket, b *batch) {
	defer s.server.tasks.done()
	patience := s.server.config.WriteTimeout
	for {
		for more := len(b.rest) > 0 || b.fill(ws); more; more = b.fill(ws) {
			err := ws.link.write(b.rest, patience)
			s.mu.Lock()
			if s.stuckAt != 0 {
				s.stuckAt = s.server.wheel.tick()
			}
			s.writtenLocked(b.size, b.packets)
			if err != nil {
				b.free()
				s.writeFailed(ws, err)
				return
			}
			s.mu.Unlock()
		}
		b.free()
		s.mu.Lock()
		if s.queue == nil && s.pong == nil {
			ws.link.calm()
			s.stuckAt = 0
			s.wroteAll()
			return
		}
		b = s.nextLocked()
		s.mu.Unlock()
	}
}

// wroteAll is the end of every way to write the queue out: the caller has nothing left to write. It lowers writing and
// releases mu.
func (s *Session) wroteAll() {
	s.writing = false
	drained := s.takeDrainedLocked()
	ws, reason, state := s.ws, s.reason, s.state()
	s.mu.Unlock()
	switch {
	case ws == nil || state == stateOpen:
	case state == stateClosing:
		s.end(reason, nil, closeFrame)
	case state == stateEnded:
		ws.link.closeWrite()
	}
	for _, f := range drained {
		f()
	}
}

// writeFailed lowers writing and releases mu.
func (s *Session) writeFailed(ws *socket, err error) {
	s.writing, s.stuckAt = false, 0
	s.mu.Unlock()
	reason := ReasonTransportClose
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = ReasonSlowPeer
	}
	s.end(reason, err, nil)
	ws.link.close() // after the end, whose reason would be the reader's else
}

// corks flushes what was sent and not flushed. Its goroutine exists only while there is such.
type corks struct {
	tasks *tasks
	quit  chan struct{}

	mu       sync.Mutex
	sessions []*Session
	running  bool
}

func (c *corks) add(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = append(c.sessions, s)
	if !c.running && c.tasks.begin() {
		c.running = true
		go c.run()
	}
}

func (c *corks) run() {
	defer c.tasks.done()
	timer := time.NewTimer(corkTimeout)
	defer timer.Stop()
	var corked []*Session
	for {
		select {
		case <-c.quit:
			return
		case <-timer.C:
		}
		c.mu.Lock()
		corked, c.sessions = c.sessions, corked[:0]
		if len(corked) == 0 {
			c.running = false
			c.sessions = nil
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for i, s := range corked {
			corked[i] = nil
			s.mu.Lock()
			s.guarded = false
			if s.corked {
				s.flushLocked()
			} else {
				s.mu.Unlock()
			}
		}
		timer.Reset(corkTimeout)
	}
}
