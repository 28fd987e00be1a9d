package history

// visit is one delivery of an event.
type visit struct {
	place    place
	consumer string
	attempt  int
}

// deed is what its consumer saw and did of it.
type deed struct {
	wall           int64
	acking, gaveUp bool
}

// end is when a consumer had settled an event, or all up to it.
type end struct {
	place place
	life  int // of the process
	wall  int64
}

// ledger is a queue that keeps receipts.
type ledger struct {
	*reader
	visits   map[visit]*deed
	through  map[visit]bool // acknowledgements through; their attempt is 0
	rejected map[place]bool
	ends     map[place]end
	farthest end // of those through

	ended     map[place]ending // where an event was settled, as receipts say
	delivered map[visit]bool   // likewise
	settled   map[visit]bool   // and these should have been delivered
	unseen    map[visit]bool   // delivered, and nobody saw it
	acked     place            // up to here
	stored    map[int]int64    // when the last one of a life of the process was kept
}

// ending is when a receipt says that an event was settled, and in which life of the process.
type ending struct {
	life int
	wall int64
}

// receipts holds what queues say of their events against what consumers saw and did.
type receipts struct {
	*readers
	life      int
	lives     map[string]int // of consumers
	automatic map[string]bool
	detached  map[string]bool
	crashed   map[int]bool
	forgotten bool
	ledgers   map[string]*ledger
}

func newReceipts(rs *readers) *receipts {
	return &receipts{readers: rs, lives: map[string]int{}, automatic: map[string]bool{}, detached: map[string]bool{}, crashed: map[int]bool{},
		ledgers: map[string]*ledger{}}
}

func (rs *receipts) observe(e Event) {
	switch e.Kind {
	case Start:
		rs.life++
	case Crash:
		rs.crashed[rs.life] = true
		rs.forgotten = rs.forgotten || e.Unflushed
	case Forgot:
		rs.forgotten = rs.forgotten || e.Content == Receipts
	case Attach:
		rs.lives[e.Consumer], rs.automatic[e.Consumer] = rs.life, e.Through
	case Detach:
		rs.detached[e.Consumer] = true
	case Queue:
		if e.Receipts && rs.ledgers[e.Queue] == nil {
			rs.ledgers[e.Queue] = &ledger{reader: rs.queues[e.Queue], visits: map[visit]*deed{}, through: map[visit]bool{}, rejected: map[place]bool{},
				ends: map[place]end{}, ended: map[place]ending{}, delivered: map[visit]bool{}, settled: map[visit]bool{}, unseen: map[visit]bool{}, stored: map[int]int64{}}
		}
	}
	l := rs.ledgers[e.Queue]
	if l == nil {
		return
	}
	v := visit{rs.place(e.Offset), e.Consumer, e.Attempt}
	d := l.visits[v]
	if d == nil {
		d = &deed{}
	}
	switch e.Kind {
	case Deliver:
		d.wall = e.Wall
		l.visits[v] = d
	case Acking:
		d.acking = true
		if e.Through {
			v.attempt = 0
			l.through[v] = true
		}
	case Acked:
		l.ends[v.place] = end{v.place, rs.life, e.Wall}
		if e.Through && v.place.compare(l.farthest.place) >= 0 {
			l.farthest = l.ends[v.place]
		}
	case GiveUp:
		d.gaveUp = true
		l.rejected[v.place] = l.rejected[v.place] || e.Reject
	case Receipt:
		rs.receipt(l, v, e)
	}
}

// receipt looks at one, in the order in which the queue stored them.
func (rs *receipts) receipt(l *ledger, v visit, e Event) {
	life := rs.lives[e.Consumer]
	l.stored[life] = max(l.stored[life], e.Wall)
	x := rs.places[v.place]
	if x != nil && x.place != v.place { // it was lost there, and published again
		return
	}
	if x == nil || !l.wants(x) {
		rs.violate(Untrue, "queue %s: a receipt %q at %v, where no event of it was", l.name, e.Content, v.place)
		return
	}
	d := l.visits[v]
	untrue := func(but string) {
		rs.violate(Untrue, "queue %s: %s was %s %s (attempt %d), says a receipt, but %s", l.name, x, e.Content, e.Consumer, e.Attempt, but)
	}
	switch e.Content {
	case "delivered":
		l.delivered[v] = true
		switch {
		case l.shared && life > 0 && l.ended[v.place].life == life && e.Wall > l.ended[v.place].wall: // it may be stored later: at first it was not
			untrue("it was settled before")
		case d == nil:
			l.unseen[v] = true
		case e.Wall > d.wall:
			untrue("its consumer had it earlier")
		}
		return
	case "nacked":
		l.settled[v] = true
		switch {
		case d == nil || rs.automatic[e.Consumer]: // it had no room
			delete(l.unseen, v)
		case !d.gaveUp && !rs.detached[e.Consumer] && l.timeout <= 0:
			untrue("its consumer did not give it back")
		}
		return
	case "acked":
		switch {
		case v.attempt > 0:
			l.settled[v] = true
			if d == nil || !d.acking {
				untrue("its consumer did not get it, or did not acknowledge it")
			}
		case !l.through[v]:
			untrue("nobody acknowledged up to it")
		case v.place.compare(l.acked) > 0:
			l.acked = v.place
		}
	case "dead-lettered":
		if !l.rejected[v.place] && (l.limit <= 0 || e.Attempt < l.limit) {
			untrue("nobody rejected it, and it was not tried often enough")
		}
	case "expired":
		if x.ttl == 0 && !x.gone {
			untrue("it has no time to live")
		}
	}
	l.ended[v.place] = ending{max(1, life), e.Wall}
}

// conclude looks for receipts that are missing: what a queue does not hold any more has to have one that says why.
func (rs *receipts) conclude() {
	for _, l := range rs.ledgers {
		last := map[string]bool{} // consumers that were killed as they were handed an event
		for v := range l.unseen {
			if !rs.crashed[rs.lives[v.consumer]] || last[v.consumer] {
				rs.violate(Untrue, "queue %s: %s was delivered to %s (attempt %d), says a receipt, but it did not see it", l.name, rs.places[v.place], v.consumer, v.attempt)
			}
			last[v.consumer] = true
		}
		if rs.forgotten || !l.drained {
			continue
		}
		for v := range l.settled {
			if !l.delivered[v] {
				rs.violate(Untrue, "queue %s: %s was settled by %s (attempt %d), say receipts, but not delivered", l.name, rs.places[v.place], v.consumer, v.attempt)
			}
		}
		for i, x := range l.entries[l.begin:] {
			if l.ended[x.place].life == 0 && x.place.compare(l.acked) > 0 && !l.told(l.begin+i) && !x.gone && x.ttl == 0 && !rs.excused(l, x) {
				rs.violate(Untold, "queue %s: %s is not held any more, and no receipt says why", l.name, x)
			}
		}
	}
}

// excused says whether a crash may have taken the receipt of how an event ended: a queue and its receipts are stored in one go, but not
// both or nothing. What came before another receipt of that process has to be there.
func (rs *receipts) excused(l *ledger, x *entry) bool {
	e, ok := l.ends[x.place]
	if f := l.farthest; !ok && x.place.compare(f.place) <= 0 {
		e, ok = f, true
	}
	if !ok { // it became a dead letter
		return len(rs.crashed) > 0
	}
	return rs.crashed[e.life] && e.wall > l.stored[e.life]
}
