package queue

import "sync"

// hub is where the tail meets the consumers that have caught up with it. Every event at or below applied can be read from
// the index; a live consumer has got, or is about to get from the tail itself, every event of its topic up to there.
//
// A consumer enters under the lock, when its own position is applied: the tail can't move on meanwhile, so it misses
// nothing and gets nothing twice. Sinks are called outside the lock.
type hub struct {
	mark watermark // applied, for those who wait for it; it moves a moment later

	mu      sync.Mutex // guards the fields below
	applied uint64
	topics  map[string]*audience
}

// audience is the live consumers of a topic. They swap places when one leaves: a consumer knows its own.
type audience struct {
	members []*Consumer // guarded by hub.mu

	// owned by the tail
	batch  uint64
	events []*Event
	now    []*Consumer // members as they were when applied moved past events
}

func newHub(applied uint64) *hub {
	h := &hub{applied: applied, topics: make(map[string]*audience)}
	h.mark.advance(applied)
	return h
}

// verdict is what came of a consumer's wish to go live.
type verdict int

const (
	wentLive verdict = iota
	behind           // there are events to catch up with first
	busy             // it was closed, or has other work to do first
)

// enter makes a consumer live that has caught up, and tells up to where the others are.
func (h *hub) enter(c *Consumer) (applied uint64, v verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.pos < h.applied {
		return h.applied, behind
	}
	if !c.turnLive() {
		return h.applied, busy
	}
	a := h.topics[c.queue.topic]
	if a == nil {
		a = &audience{}
		h.topics[c.queue.topic] = a
	}
	c.place = len(a.members)
	a.members = append(a.members, c)
	return h.applied, wentLive
}

// leave is idempotent.
func (h *hub) leave(c *Consumer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.place < 0 {
		return
	}
	a := h.topics[c.queue.topic]
	last := len(a.members) - 1
	a.members[c.place] = a.members[last]
	a.members[c.place].place = c.place
	a.members[last] = nil
	a.members = a.members[:last]
	c.place = -1
	if last == 0 {
		delete(h.topics, c.queue.topic)
	}
}

// fan hands a batch, which the index holds already, to the live consumers. Only the tail calls it.
func (h *hub) fan(batch []*Event, applied, number uint64, touched []*audience) []*audience {
	h.mu.Lock()
	h.applied = max(h.applied, applied)
	for _, e := range batch {
		a := h.topics[e.Topic]
		if a == nil {
			continue
		}
		if a.batch != number {
			a.batch = number
			a.now = append(a.now, a.members...)
			touched = append(touched, a)
		}
		a.events = append(a.events, e)
	}
	h.mu.Unlock()
	h.mark.advance(applied)
	for i, a := range touched {
		for _, c := range a.now {
			c.deliver(a.events)
		}
		clear(a.now)
		clear(a.events)
		a.now, a.events, touched[i] = a.now[:0], a.events[:0], nil
	}
	return touched[:0]
}

// kickAll sends every live consumer to the workers.
func (h *hub) kickAll() {
	h.mu.Lock()
	var all []*Consumer
	for _, a := range h.topics {
		all = append(all, a.members...)
	}
	h.mu.Unlock()
	kick(all)
}
