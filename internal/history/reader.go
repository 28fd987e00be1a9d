package history

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/holdpost/holdpost/queue"
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

func (rs *readers) deliver(q *reader, c *consumer, x *entry, e Event) {
	rank := q.rank(x)
	m := &q.mails[rank]
	if rank < q.begin {
		rs.violate(Phantom, "queue %s: %s was there before the queue was", q.name, x)
	}
	if !m.delivered && rank > q.top+1 && !q.ordered { // else it waits for one with its key, and others pass it
		rs.passed(q, q.top+1, rank, q.gaps, "queue "+q.name)
	}
	q.top = max(q.top, rank)
	if q.limit > 0 && e.Attempt > q.limit {
		rs.violate(Limit, "queue %s: attempt %d of %s, more than %d", q.name, e.Attempt, x, q.limit)
	}
	if m.acked > 0 && (q.shared || m.acked < c.since) {
		rs.violate(Again, "queue %s: %s came again to %s (attempt %d), though it was acknowledged%s", q.name, x, c.name, e.Attempt, durably(m.sure))
	}
	if q.shared {
		rs.deliverShared(q, c, x, e)
	} else {
		rs.deliverPersonal(q, c, x, e)
	}
	if m.acked == 0 {
		m.settled = false
	}
	m.delivered, m.life, m.attempt, m.at = true, rs.life, e.Attempt, e.At
}

func durably(sure bool) string {
	if sure {
		return " durably"
	}
	return ""
}

func (rs *readers) deliverShared(q *reader, c *consumer, x *entry, e Event) {
	rank := q.rank(x)
	m := &q.mails[rank]
	if q.ordered && x.key != "" {
		rs.deliverInOrder(q, rank)
	}
	if m.delivered && m.life == rs.life {
		if e.Attempt <= m.attempt {
			rs.violate(Repeat, "queue %s: attempt %d of %s came after attempt %d", q.name, e.Attempt, x, m.attempt)
		}
		if m.holder != nil && (q.timeout <= 0 || e.At-m.at < q.timeout/2) { // half of it for a consumer that was slow to note what it got
			rs.violate(Shared, "queue %s: %s went to %s while %s had it", q.name, x, c.name, m.holder.name)
		}
	}
	if e.Attempt == 1 {
		if rank < q.first && !q.ordered {
			rs.violate(Disorder, "queue %s: %s came for the first time after %s", q.name, x, q.entries[q.first])
		}
		q.first = max(q.first, rank)
	}
	if m.holder = nil; !c.detached {
		m.holder = c
		c.holds = append(c.holds, rank)
	}
}

// deliverInOrder looks at the event with the same key before one that is delivered: it has to be settled.
func (rs *readers) deliverInOrder(q *reader, rank int) {
	before := q.mails[rank].before
	if before < q.begin {
		return
	}
	m := &q.mails[before]
	told := slices.ContainsFunc(q.gaps, func(g span) bool { return g.from <= before && before < g.end })
	if m.acked == 0 && !m.ever && !m.rejected && !told && q.entries[before].ttl == 0 && !(q.limit > 0 && m.attempt >= q.limit) {
		rs.violate(Disorder, "queue %s: %s came before the one with its key that is before it, %s, was settled", q.name, q.entries[rank], q.entries[before])
	}
}

func (rs *readers) deliverPersonal(q *reader, c *consumer, x *entry, e Event) {
	rank := q.rank(x)
	switch before, was := c.attempts[rank]; {
	case was && e.Attempt <= before:
		rs.violate(Repeat, "queue %s: attempt %d of %s came to %s after attempt %d", q.name, e.Attempt, x, c.name, before)
	case !was && (e.Attempt == 1 || c.through):
		if rank < c.first {
			rs.violate(Disorder, "queue %s: %s came to %s after %s", q.name, x, c.name, q.entries[c.first])
		}
		from := c.first + 1
		if c.first < 0 { // it begins where the queue stands
			for from = q.floor; from < rank && q.mails[from].ever; {
				from++
			}
		}
		if c.through && rank > from {
			rs.passed(q, from, rank, c.gaps, "consumer "+c.name)
		}
		c.first = max(c.first, rank)
	}
	c.attempts[rank] = e.Attempt
}

// passed looks at the events that were passed over: each has to be in a gap that was told.
func (rs *readers) passed(q *reader, from, to int, gaps []span, who string) {
	for _, g := range gaps {
		if g.from <= from {
			from = max(from, g.end)
		}
	}
	for from < to && q.entries[from].ttl > 0 { // it has expired
		from++
	}
	if from < to {
		rs.violate(Hole, "%s: %d events from %s on were passed over, then came %s", who, to-from, q.entries[from], q.entries[to])
	}
}

// told takes in a gap: what is in it need not come.
func (rs *readers) told(q *reader, c *consumer, g queue.Gap) {
	from, to := rs.place(g.From), rs.place(g.To)
	because := false
	switch g.Cause {
	case "loss":
		for _, loss := range rs.losses {
			because = because || g.To.Epoch == loss.Epoch && g.To.Seq <= loss.To || rs.accepted(to) ||
				loss.To == math.MaxUint64 && g.From.Epoch == loss.Epoch && g.To.Seq == 0 // up to where the next epoch begins
		}
	case "retention":
		because = to.compare(rs.trimmed) <= 0
	}
	if !because {
		rs.violate(Gapped, "queue %s: a gap %v to %v because of %s was told, and nothing is gone there", q.name, from, to, g.Cause)
	}
	if g := (span{search(q.entries, from), search(q.entries, to)}); g.from < g.end {
		c.gaps = append(c.gaps, g)
		if !slices.Contains(q.gaps, g) {
			q.gaps = append(q.gaps, g)
		}
	}
}

// search returns the first rank after a place.
func search(entries []*entry, p place) int {
	low, high := 0, len(entries)
	for low < high {
		if mid := (low + high) / 2; entries[mid].place.compare(p) <= 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func (rs *readers) settle(i int, q *reader, c *consumer, rank int, e Event) {
	m := &q.mails[rank]
	switch e.Kind {
	case Acking:
		for r := q.from(rank, e.Through); r <= rank; r++ {
			q.mails[r].settled, q.mails[r].ever = true, true
		}
	case Refused:
		m.settled = m.acked > 0
	case Acked:
		if q.shared && m.attempt != e.Attempt && m.life == rs.life {
			rs.violate(Shared, "queue %s: %s could acknowledge attempt %d of event %s, though attempt %d was handed out", q.name, c.name,
				e.Attempt, q.entries[rank].id, m.attempt)
		}
		for r := q.from(rank, e.Through); r <= rank; r++ {
			m := &q.mails[r]
			m.settled = true // another consumer of a personal queue may have got it meanwhile
			if m.acked == 0 {
				m.acked, m.ackedAt, m.ackedIn = i, e.At, rs.life
				c.acks = append(c.acks, r)
			}
		}
		for q.floor < len(q.mails) && q.mails[q.floor].acked > 0 {
			q.floor++
		}
		m.holder = nil
	case GiveUp:
		m.rejected = m.rejected || e.Reject
		if m.holder == c {
			m.holder = nil
		}
	}
}

// from returns where an acknowledgement begins.
func (q *reader) from(rank int, through bool) int {
	if through {
		return min(q.floor, rank)
	}
	return rank
}

func (rs *readers) dead(q *reader, e Event) {
	x := rs.places[rs.place(e.Offset)]
	if x == nil || !q.wants(x) {
		rs.violate(Phantom, "queue %s: a dead letter of %s, where no event was", q.name, e.Offset)
		return
	}
	m := &q.mails[q.rank(x)]
	switch {
	case m.dead:
		rs.violate(Limit, "queue %s: %s is a dead letter twice", q.name, x)
	case !m.rejected && (q.limit <= 0 || e.Attempt < q.limit):
		rs.violate(Limit, "queue %s: %s was given up after %d deliveries of %d", q.name, x, e.Attempt, q.limit)
	}
	m.dead = true
}

// conclude looks at what the queues hold, which is nothing, and asks where it went.
func (rs *readers) conclude() {
	for _, q := range rs.queues {
		if !q.drained {
			rs.violate(Unfinished, "queue %s was not drained", q.name)
			continue
		}
		for rank, x := range q.entries {
			m := &q.mails[rank]
			told := slices.ContainsFunc(q.gaps, func(g span) bool { return g.from <= rank && rank < g.end })
			switch {
			case rank < q.begin || told || m.dead || x.ttl > 0:
			case (m.rejected || q.limit > 0 && m.attempt >= q.limit) && len(rs.losses) > 0: // its dead letter may be what was lost
			case !m.delivered:
				rs.violate(Lost, "queue %s: %s was never delivered, and nobody was told", q.name, x)
			case !m.settled:
				rs.violate(Lost, "queue %s: %s was delivered (attempt %d), never acknowledged, and the queue holds it no more", q.name, x, m.attempt)
			}
		}
	}
}
