package history

import (
	"math"
	"slices"

	"github.com/holdpost/holdpost/queue"
)

// What a queue may hand out, and in which order.

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
	if m.acked == 0 && !m.ever && !m.rejected && !q.told(before) && q.entries[before].ttl == 0 && !(q.limit > 0 && m.attempt >= q.limit) {
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
			for from = q.floor; from < rank && (q.mails[from].ever || q.told(from)); {
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
	for from < to {
		if i := slices.IndexFunc(gaps, func(g span) bool { return g.from <= from && from < g.end }); i >= 0 {
			from = gaps[i].end
		} else if q.entries[from].ttl > 0 { // it has expired
			from++
		} else {
			break
		}
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
