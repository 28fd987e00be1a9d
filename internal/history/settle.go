package history

// What becomes of events that were handed out.

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
			switch {
			case rank < q.begin || q.told(rank) || m.dead || x.ttl > 0:
			case (m.rejected || q.limit > 0 && m.attempt >= q.limit) && len(rs.losses) > 0: // its dead letter may be what was lost
			case !m.delivered:
				rs.violate(Lost, "queue %s: %s was never delivered, and nobody was told", q.name, x)
			case !m.settled:
				rs.violate(Lost, "queue %s: %s was delivered (attempt %d), never acknowledged, and the queue holds it no more", q.name, x, m.attempt)
			}
		}
	}
}
