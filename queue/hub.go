package queue

import "sync"

// hub is where the tail meets the readers that have caught up with it. Every event at or below applied can be read from
// the index; a live reader has got, or is about to get from the tail itself, every event of its topics up to there.
//
// A reader enters under the lock, when its own position is applied: the tail can't move on meanwhile, so it misses
// nothing and gets nothing twice. Sinks are called outside the lock.
type hub struct {
	mark watermark // applied, for those who wait for it; it moves a moment later

	mu       sync.Mutex // guards the fields below
	applied  uint64
	topics   map[string]*audience
	patterns map[string]*audience
}

// audience is the live readers of a topic, or of a pattern. They swap places when one leaves: a reader knows its own.
type audience struct {
	pattern *pattern  // nil: one topic
	members []*reader // guarded by hub.mu

	// owned by the tail
	batch  uint64
	events []*Event
	now    []*reader // members as they were when applied moved past events
}

func newHub(applied uint64) *hub {
	h := &hub{applied: applied, topics: make(map[string]*audience), patterns: make(map[string]*audience)}
	h.mark.advance(applied)
	return h
}

// entrance is what came of a reader's wish to go live.
type entrance int

const (
	wentLive entrance = iota
	behind            // there are events to catch up with first
	busy              // it was closed, or has other work to do first
)

// audiences returns where the audience of a queue is, or would be.
func (h *hub) audiences(q *Queue) map[string]*audience {
	if q.pattern != nil {
		return h.patterns
	}
	return h.topics
}

// enter makes a reader live that has caught up.
func (h *hub) enter(r *reader) entrance {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.pos < h.applied {
		return behind
	}
	if !r.turnLive() {
		return busy
	}
	in := h.audiences(r.queue)
	a := in[r.queue.topic]
	if a == nil {
		a = &audience{pattern: r.queue.pattern}
		in[r.queue.topic] = a
	}
	r.place = len(a.members)
	a.members = append(a.members, r)
	return wentLive
}

// leave is idempotent.
func (h *hub) leave(r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.place < 0 {
		return
	}
	in := h.audiences(r.queue)
	a := in[r.queue.topic]
	last := len(a.members) - 1
	a.members[r.place] = a.members[last]
	a.members[r.place].place = r.place
	a.members[last] = nil
	a.members = a.members[:last]
	r.place = -1
	if last == 0 {
		delete(in, r.queue.topic)
	}
}

// fan hands a batch, which the index holds already, to the live readers. Only the tail calls it.
func (h *hub) fan(batch []*Event, applied, number uint64, touched []*audience) []*audience {
	add := func(a *audience, e *Event) {
		if a.batch != number {
			a.batch = number
			a.now = append(a.now, a.members...)
			touched = append(touched, a)
		}
		a.events = append(a.events, e)
	}
	h.mu.Lock()
	h.applied = max(h.applied, applied)
	for _, e := range batch {
		if a := h.topics[e.Topic]; a != nil {
			add(a, e)
		}
		for _, a := range h.patterns {
			if a.pattern.match(e.Topic) {
				add(a, e)
			}
		}
	}
	h.mu.Unlock()
	h.mark.advance(applied)
	for i, a := range touched {
		for _, r := range a.now {
			r.deliver(a.events)
		}
		clear(a.now)
		clear(a.events)
		a.now, a.events, touched[i] = a.now[:0], a.events[:0], nil
	}
	return touched[:0]
}

// kickAll sends every live reader to the workers.
func (h *hub) kickAll() {
	h.mu.Lock()
	var all []*reader
	for _, in := range []map[string]*audience{h.topics, h.patterns} {
		for _, a := range in {
			all = append(all, a.members...)
		}
	}
	h.mu.Unlock()
	kick(all)
}
