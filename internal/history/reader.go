package history

import (
	"slices"
	"strings"
	"time"
)

// ackWithin is how old an acknowledgement is that a crash can't take back. The contract says a second; a busy machine may be
// late.
const ackWithin = 5 * time.Second

// mail is an event in a queue.
type mail struct {
	delivered bool
	life      int // of the process that delivered it last
	attempt   int
	at        time.Duration
	holder    *consumer // shared queues: who may be at work on it

	acked    int // the position in the history of the acknowledgement in force, 0 for none
	ackedAt  time.Duration
	ackedIn  int  // the life of the process
	sure     bool // a crash does not take it back
	settled  bool // since it was delivered last it was acknowledged, perhaps
	ever     bool // it was acknowledged some time, perhaps: a crash may take that back or not
	rejected bool
	dead     bool
	before   int // the rank before it with its key, -1 for none
}

// consumer is one attachment.
type consumer struct {
	name     string
	through  bool
	since    int         // position in the history
	attempts map[int]int // personal queues: the last attempt, by rank
	first    int         // the highest rank that it had at attempt 1; -1 is none
	gaps     []span
	holds    []int
	acks     []int // ranks, not yet sure
	detached bool
}

// reader is a queue.
type reader struct {
	name, topic string   // topic may be a pattern
	names       []string // of the events that it wants; none is all
	shared      bool
	ordered     bool
	timeout     time.Duration
	limit       int

	entries   []*entry // that it wants, by rank
	begin     int      // the first rank that is the queue's
	mails     []mail
	consumers map[string]*consumer
	top       int    // the highest rank that was ever delivered
	floor     int    // everything below is acknowledged for now
	first     int    // the highest rank that this process delivered at attempt 1; -1 is none
	gaps      []span // told to some consumer
	drained   bool
}

// span is the ranks that a gap has in it.
type span struct{ from, end int }

// readers is what the history says about queues.
type readers struct {
	*log
	queues map[string]*reader
	life   int // of the process
	now    time.Duration
}

func (rs *readers) observe(i int, e Event) {
	switch e.Kind {
	case Start:
		rs.life++
		rs.now = 0
	case Stop, Crash:
		for _, q := range rs.queues {
			q.end(e.Kind == Stop, rs.now)
			if e.Unflushed {
				q.forget(rs.life)
			}
		}
	case Forgot:
		for _, q := range rs.queues {
			if e.Content == Cursors {
				q.forgetAll()
			}
		}
	case Queue:
		rs.queue(e)
	}
	if e.Kind != Crash && e.Kind != Accept {
		rs.now = max(rs.now, e.At)
	}
	q := rs.queues[e.Queue]
	if q == nil || e.Kind == Queue {
		return
	}
	c := q.consumers[e.Consumer]
	switch e.Kind {
	case Attach:
		q.consumers[e.Consumer] = &consumer{name: e.Consumer, through: e.Through, since: i, attempts: map[int]int{}, first: -1}
		return
	case Drained:
		q.drained = true
		return
	case Dead:
		rs.dead(q, e)
		return
	case Receipt: // receipts looks at them
		return
	}
	if c == nil {
		rs.violate(Phantom, "queue %s: %s to %q, who was not attached", q.name, e.Kind, e.Consumer)
		return
	}
	switch e.Kind {
	case Detach:
		c.detached = true
		q.release(c)
	case Told:
		rs.told(q, c, *e.Gap)
	case Saved:
		q.makeSure(c)
	case Deliver:
		x := rs.ids[[2]string{e.Topic, e.ID}]
		switch {
		case !x.known || rs.place(e.Offset) != x.place: // it was lost there, and published again
		case !q.wants(x):
			rs.violate(Phantom, "queue %s: %s is not for it", q.name, x)
		default:
			rs.deliver(q, c, x, e)
		}
	case Acking, Acked, Refused, GiveUp:
		p := rs.place(e.Offset)
		switch x := rs.places[p]; {
		case x == nil || !q.wants(x):
		case x.place == p:
			rs.settle(i, q, c, q.rank(x), e)
		case e.Through: // it was lost there, and what is before it was acknowledged all the same
			if rank := search(q.entries, p) - 1; rank >= 0 {
				rs.settle(i, q, c, rank, e)
			}
		}
	}
}

func (rs *readers) queue(e Event) {
	q := rs.queues[e.Queue]
	if q == nil {
		q = &reader{name: e.Queue, topic: e.Topic, names: strings.Fields(e.Names), shared: e.Shared, ordered: e.Ordered, consumers: map[string]*consumer{}}
		rs.collect(q)
		for q.begin < len(q.entries) && q.entries[q.begin].place.compare(rs.place(e.Offset)) <= 0 {
			q.begin++
		}
		q.top, q.floor, q.first = q.begin-1, q.begin, -1
		rs.queues[e.Queue] = q
	}
	q.timeout, q.limit = e.Timeout, e.Limit
}

// collect finds the events that a queue wants.
func (rs *readers) collect(q *reader) {
	for _, t := range rs.topics {
		for _, x := range t.entries {
			if q.wants(x) {
				q.entries = append(q.entries, x)
			}
		}
	}
	slices.SortFunc(q.entries, func(a, b *entry) int { return a.place.compare(b.place) })
	q.mails = make([]mail, len(q.entries))
	last := map[string]int{} // with a key
	for rank, x := range q.entries {
		q.mails[rank].before = -1
		if before, ok := last[x.key]; ok && x.key != "" {
			q.mails[rank].before = before
		}
		last[x.key] = rank
	}
}

func (q *reader) wants(x *entry) bool {
	topic := x.topic == q.topic
	if prefix, ok := strings.CutSuffix(q.topic, "*"); ok {
		rest, ok := strings.CutPrefix(x.topic, prefix)
		topic = ok && !strings.Contains(rest, "/")
	}
	return topic && (len(q.names) == 0 || slices.Contains(q.names, x.name))
}

// told says whether some consumer was told that an event may be missing.
func (q *reader) told(rank int) bool {
	return slices.ContainsFunc(q.gaps, func(g span) bool { return g.from <= rank && rank < g.end })
}

// rank returns where an event that the queue wants is among those.
func (q *reader) rank(x *entry) int { return search(q.entries, x.place) - 1 }

// end ends the process: what was not acknowledged durably is not acknowledged.
func (q *reader) end(clean bool, now time.Duration) {
	for _, c := range q.consumers {
		for _, rank := range c.acks {
			m := &q.mails[rank]
			m.sure = m.sure || clean || now-m.ackedAt > ackWithin
			if !m.sure {
				m.acked = 0
				q.floor = min(q.floor, rank)
			}
		}
		q.release(c)
	}
	clear(q.consumers)
	q.first = -1
}

// forget takes back what was acknowledged in one life of the process.
func (q *reader) forget(life int) {
	for rank := range q.mails {
		if m := &q.mails[rank]; m.acked > 0 && m.ackedIn == life {
			m.acked, m.sure = 0, false
			q.floor = min(q.floor, rank)
		}
	}
}

// forgetAll takes back what was acknowledged: it may come again. What was not has to.
func (q *reader) forgetAll() {
	for rank := range q.mails {
		q.mails[rank].acked, q.mails[rank].sure = 0, false
	}
	q.floor = q.begin
}

func (q *reader) makeSure(c *consumer) {
	for _, rank := range c.acks {
		q.mails[rank].sure = true
	}
	c.acks = c.acks[:0]
}

func (q *reader) release(c *consumer) {
	for _, rank := range c.holds {
		if m := &q.mails[rank]; m.holder == c {
			m.holder = nil
		}
	}
	c.holds = c.holds[:0]
}
