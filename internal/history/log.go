package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// place is an offset in the terms of the whole history: life counts the epochs, and an offset that goes on to mean the same
// event after a loss stays in the life in which the event was stored.
type place struct {
	life int
	seq  uint64
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.life, q.life), cmp.Compare(p.seq, q.seq))
}

// entry is one publication: everything that is known about one id of a topic.
type entry struct {
	topic, id, content string
	name, key          string
	due                int64 // ns since 1970; 0 is at once
	ttl                time.Duration
	until              int64 // ns since 1970: not to be handed out any more; 0 is not known

	published bool
	floor     place // the highest place of its topic that was known to be taken when it was published first
	stored    bool  // a publisher was told so
	later     bool  // a publisher was told that it is stored for later
	rejected  bool
	open      bool // an attempt to publish it has no outcome yet
	maybe     bool // one has none for good: what becomes of a later one says nothing about it

	known bool // it is in the log, at place
	place place
	read  bool
	gone  bool // it is not there at the end, and it was said why
}

// topic is what the history knows about one topic.
type topic struct {
	top     place // the highest place of an event whose publisher was told so far
	entries []*entry
	ended   bool
}

// log is what the history says about topics, whoever reads them.
type log struct {
	*report
	epochs   []uint64
	told     []queue.Loss
	losses   []queue.Loss      // told, with the names of epochs that the store itself had lost
	ends     map[uint64]uint64 // the highest sequence that was seen, by epoch
	trimmed  place
	survived map[place]place // what is still where it was, in the midst of a loss
	delayed  bool            // events for later were lost, and that was accepted

	topics map[string]*topic
	ids    map[[2]string]*entry // by topic and id
	places map[place]*entry
}

func (l *log) place(o queue.Offset) place {
	p := place{slices.Index(l.epochs, o.Epoch), o.Seq}
	for p.life > 0 && l.valid(l.epochs[p.life-1], p.seq) {
		p.life--
	}
	if was, ok := l.survived[p]; ok {
		return was
	}
	return p
}

// valid says whether an offset of an epoch goes on to mean the same event in the next one: what is below a loss does, and what is above
// it when the log went on there.
func (l *log) valid(epoch, seq uint64) bool {
	for _, loss := range l.losses {
		if loss.Epoch == epoch {
			return seq < loss.From || seq > loss.To && loss.To < l.ends[epoch]
		}
	}
	return false
}

// accept takes note of a loss, once: each process tells all of them.
func (l *log) accept(loss queue.Loss) {
	if slices.Contains(l.told, loss) {
		return
	}
	l.told = append(l.told, loss)
	if n := len(l.epochs); loss.Epoch == 0 && n > 0 {
		loss.Epoch = l.epochs[n-1]
	}
	l.losses = append(l.losses, loss)
}

func (l *log) topic(name string) *topic {
	t := l.topics[name]
	if t == nil {
		t = &topic{}
		l.topics[name] = t
	}
	return t
}

func (l *log) entry(e Event) *entry {
	key := [2]string{e.Topic, e.ID}
	x := l.ids[key]
	if x == nil {
		x = &entry{topic: e.Topic, id: e.ID}
		l.ids[key] = x
	}
	return x
}

// observe takes in one event; the queues' part of it comes later, when all places are known.
func (l *log) observe(e Event) {
	if e.Kind == Stored || e.Kind == Deliver {
		l.ends[e.Offset.Epoch] = max(l.ends[e.Offset.Epoch], e.Offset.Seq)
	}
	switch e.Kind {
	case Start:
		if !slices.Contains(l.epochs, e.Offset.Epoch) {
			l.epochs = append(l.epochs, e.Offset.Epoch)
		}
	case Accept:
		l.accept(*e.Loss)
	case Forgot:
		l.delayed = l.delayed || e.Content == Delayed
	case Trim:
		l.trimmed = l.place(e.Offset)
	case Publish:
		x := l.entry(e)
		if !x.published {
			x.published, x.content, x.floor = true, e.Content, l.topic(e.Topic).top
			x.name, x.key, x.due, x.ttl = e.Name, e.Key, e.Wall, e.TTL
		} else if x.content != e.Content {
			l.violate(Phantom, "%s was published with two contents", x)
		}
		x.maybe = x.maybe || x.open
		x.open = true
	case Stored:
		x := l.entry(e)
		x.stored, x.open = true, false
		if x.ttl > 0 && x.until == 0 {
			x.until = e.Wall + int64(x.ttl)
		}
		l.found(x, e)
		t := l.topic(e.Topic)
		if x.place.life == t.top.life && x.place.compare(t.top) > 0 || x.place.life > t.top.life {
			t.top = x.place
		}
	case Later:
		x := l.entry(e)
		x.later, x.open = true, false
	case Rejected:
		x := l.entry(e)
		x.open, x.rejected = false, true
	case Unknown:
		x := l.entry(e)
		x.open, x.maybe = false, true
	case Deliver, Read:
		x := l.entry(e)
		if !x.published {
			l.violate(Phantom, "%s was never published, and was there at %s", x, e.Offset)
			return
		}
		if x.content != e.Content {
			l.violate(Phantom, "%s was published as %.80q, and was there as %.80q", x, x.content, e.Content)
		}
		if e.Kind == Deliver && e.Wall < x.due {
			l.violate(Early, "%s came %v before its time", x, time.Duration(x.due-e.Wall))
		}
		if late := time.Duration(e.Wall - x.until); e.Kind == Deliver && x.until > 0 && late > expiresWithin {
			l.violate(Expired, "%s came %v after its time", x, late)
		}
		l.found(x, e)
		x.read = x.read || e.Kind == Read
	case End:
		l.topic(e.Topic).ended = true
	}
}

// expiresWithin is how late an event may be noted that was handed out in time.
const expiresWithin = time.Second

// found takes note of where an event is.
func (l *log) found(x *entry, e Event) {
	p := l.place(e.Offset)
	if x.known && p.life > x.place.life && p.seq == x.place.seq && l.accepted(x.place) { // a loss is told from the first to the last
		l.survived[p] = x.place
		return
	}
	again := x.known && x.place != p
	if again && !(p.life > x.place.life && l.accepted(x.place)) { // else it was lost, and published again
		l.violate(Reuse, "%s is at %v and at %v", x, x.place, p)
		return
	}
	if x.known && !again {
		return
	}
	if other := l.places[p]; other != nil {
		l.violate(Reuse, "%v is the place of %s and of %s", p, other, x)
	}
	if p.life == x.floor.life && p.compare(x.floor) <= 0 || p.life < x.floor.life {
		l.violate(Backwards, "%s is at %v, though %v was taken before it was published", x, p, x.floor)
	}
	l.places[p] = x
	x.known, x.place = true, p
	if !again {
		t := l.topic(x.topic)
		t.entries = append(t.entries, x)
	}
}

// accepted says whether the operator accepted the loss of what was at a place.
func (l *log) accepted(p place) bool {
	return slices.ContainsFunc(l.losses, func(loss queue.Loss) bool {
		return p.life < len(l.epochs) && l.epochs[p.life] == loss.Epoch && p.seq >= loss.From && p.seq <= loss.To
	})
}

// conclude ranks the events of each topic, and looks for what should be there at the end and is not.
func (l *log) conclude() {
	some := l.delayed || slices.ContainsFunc(l.losses, func(loss queue.Loss) bool { return loss.From <= loss.To }) // it may have been among them
	for _, x := range l.ids {
		if x.later && !x.known && !some {
			l.violate(Lost, "%s was stored for later, and never came", x)
		}
	}
	for name, t := range l.topics {
		slices.SortFunc(t.entries, func(a, b *entry) int { return a.place.compare(b.place) })
		missing, from, to := 0, -1, -1
		for rank, x := range t.entries {
			if x.rejected && !x.stored && !x.later && !x.maybe {
				l.violate(Resurrected, "%s was rejected, and was there at %v", x, x.place)
			}
			x.gone = l.accepted(x.place) || x.place.compare(l.trimmed) <= 0 && l.trimmed.seq > 0
			if t.ended && !x.read && !x.gone && x.ttl == 0 {
				if missing == 0 {
					from = rank
				}
				missing, to = missing+1, rank
			}
		}
		switch n := len(t.entries); {
		case missing == 0:
		case from == 0:
			l.violate(Lost, "topic %q: %d of %d events are missing at the end, from the first on; %s is one", name, missing, n, t.entries[to])
		case to == n-1:
			l.violate(Lost, "topic %q: the last %d of %d events are missing at the end, from %s on", name, missing, n, t.entries[from])
		default:
			l.violate(Lost, "topic %q: %d of %d events are missing in between at the end, from %s to %s", name, missing, n, t.entries[from], t.entries[to])
		}
		if !t.ended {
			l.violate(Unfinished, "topic %q was not read to its end", name)
		}
	}
}

func (x *entry) String() string { return "event " + x.id + " of " + x.topic }

func (p place) String() string { return fmt.Sprintf("%d.%d", p.life, p.seq) }
