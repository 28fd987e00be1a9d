package delivery

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/serial"
)

const (
	defaultPresenceList = 100
	maxPresenceList     = 1000
)

// Presence is who is in a place.
type Presence struct {
	Identities []string `json:"identities"` // ascending
	Count      int      `json:"count"`      // of all, listed or not
	Complete   bool     `json:"complete"`   // nobody is missing in the list
}

// place is where identities are: in a room of a namespace, or at a topic, which no namespace has to itself.
type place struct {
	namespace, room string
	topic           string
}

// presences knows which identities are where, and tells those who watch. Nobody leaves before the grace period is over: who comes
// back within it was never away.
type presences struct {
	grace time.Duration

	news    serial.Queue[announcement]
	telling sync.WaitGroup // the goroutine that tells, while there are news

	mu     sync.Mutex // guards the fields below and what they refer to
	places map[place]*attendance
	closed bool
}

// announcement is that an identity has come to a place, or gone.
type announcement struct {
	where    place
	what     string
	identity string
	count    int
	to       []*holdpost.Socket
}

// attendance is who is in one place. It exists while somebody is, or watches.
type attendance struct {
	members  map[string]*member
	watchers map[*holdpost.Socket]struct{}
}

type member struct {
	sockets int
	leaving *time.Timer // not nil while the grace period runs
	periods int         // grace periods that have begun
}

func newPresences(grace time.Duration) *presences {
	return &presences{grace: grace, places: make(map[place]*attendance)}
}

// at returns the attendance of a place, and makes it if need be. mu is held.
func (p *presences) at(where place) *attendance {
	a := p.places[where]
	if a == nil {
		a = &attendance{members: make(map[string]*member), watchers: make(map[*holdpost.Socket]struct{})}
		p.places[where] = a
	}
	return a
}

// tidy forgets a place where nothing is. mu is held.
func (p *presences) tidy(where place) {
	if a := p.places[where]; a != nil && len(a.members)+len(a.watchers) == 0 {
		delete(p.places, where)
	}
}

// enter counts one more socket of an identity in a place.
func (p *presences) enter(where place, identity string) {
	if identity == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.at(where)
	m := a.members[identity]
	if m == nil {
		m = &member{}
		a.members[identity] = m
		p.announce(where, "join", identity)
	}
	if m.leaving != nil {
		m.leaving.Stop()
		m.leaving = nil
	}
	m.sockets++
}

// leave counts one socket less. The identity has left when the grace period is over and none has come.
func (p *presences) leave(where place, identity string) {
	if identity == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.places[where]
	if a == nil {
		return
	}
	m := a.members[identity]
	if m == nil || m.sockets == 0 {
		return
	}
	if m.sockets--; m.sockets > 0 || p.closed {
		return
	}
	m.periods++
	period := m.periods
	m.leaving = time.AfterFunc(p.grace, func() { p.left(where, identity, m, period) })
}

// left is called at the end of a grace period.
func (p *presences) left(where place, identity string, m *member, period int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.places[where]
	if a == nil || a.members[identity] != m || m.leaving == nil || m.periods != period || p.closed {
		return
	}
	delete(a.members, identity)
	p.announce(where, "leave", identity)
	p.tidy(where)
}

// announce has those who watch told, in the order of the calls. mu is held.
func (p *presences) announce(where place, what, identity string) {
	a := p.places[where]
	if len(a.watchers) == 0 {
		return
	}
	n := announcement{where, what, identity, len(a.members), slices.Collect(maps.Keys(a.watchers))}
	if p.news.Push(n) {
		p.telling.Go(func() {
			p.news.Run(func(batch []announcement) {
				for _, n := range batch {
					n.tell()
				}
			})
		})
	}
}

func (n *announcement) tell() {
	news := map[string]any{"type": n.what, "identity": n.identity, "count": n.count}
	if n.where.topic != "" {
		news["topic"] = n.where.topic
	} else {
		news["room"] = n.where.room
	}
	p, err := holdpost.Prepare("presence", news)
	if err != nil {
		return // strings and a number can always be sent
	}
	for _, s := range n.to {
		s.Deliver(p, true)
	}
}

// who lists up to limit identities of a place that come after the given one.
func (p *presences) who(where place, after string, limit int) Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := Presence{Identities: []string{}, Complete: true}
	a := p.places[where]
	if a == nil {
		return all
	}
	all.Count = len(a.members)
	for identity := range a.members {
		if identity > after {
			all.Identities = append(all.Identities, identity)
		}
	}
	slices.SortFunc(all.Identities, cmp.Compare[string])
	if len(all.Identities) > limit {
		all.Identities, all.Complete = all.Identities[:limit], false
	}
	return all
}

// watch has a socket told who comes and goes.
func (p *presences) watch(where place, s *holdpost.Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at(where).watchers[s] = struct{}{}
}

func (p *presences) unwatch(where place, s *holdpost.Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.places[where]; a != nil {
		delete(a.watchers, s)
		p.tidy(where)
	}
}

// close ends the grace periods that are running, and returns when nobody is being told any more.
func (p *presences) close() {
	p.mu.Lock()
	p.closed = true
	for _, a := range p.places {
		for _, m := range a.members {
			if m.leaving != nil {
				m.leaving.Stop()
			}
		}
	}
	p.mu.Unlock()
	p.telling.Wait()
}

// watches are the places that a socket watches, for when it is recovered.
type watches struct {
	Rooms  []string `json:"rooms,omitempty"`
	Topics []string `json:"topics,omitempty"`
}

// presence: room, or {room} or {topic}, with {after, limit, watch} → {identities, count, complete}.
func (d *Delivery) presence(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	o := struct {
		Room  string `json:"room"`
		Topic string `json:"topic"`
		After string `json:"after"`
		Limit int    `json:"limit"`
		Watch *bool  `json:"watch"`
	}{Limit: defaultPresenceList}
	if room, ok := textArg(args, 0); ok {
		o.Room = room
	} else if raw := args.Raw(0); len(raw) == 0 || raw[0] != '{' || strict(raw, &o) != nil || (o.Room == "") == (o.Topic == "") {
		return nil, invalidArgument("argument 0: the name of a room is expected, or an object with room or topic and known options")
	}
	if o.Limit < 0 {
		return nil, invalidArgument("limit: a number from 0 to %d is expected", maxPresenceList)
	}
	where := place{topic: o.Topic}
	if o.Topic == "" {
		where = place{namespace: s.Namespace().Name(), room: o.Room}
	}
	if err := d.maySee(ctx, s, where); err != nil {
		return nil, err
	}
	if o.Watch != nil {
		if err := d.watch(s, where, *o.Watch); err != nil {
			return nil, err
		}
	}
	return []any{d.presences.who(where, o.After, min(o.Limit, maxPresenceList))}, nil
}

// Presence returns who is in a room of a namespace: the identities whose sockets are in it, and those that left within the grace
// period. It lists up to limit of those that come after the given one; 0 lists none, the most is 1,000.
func (d *Delivery) Presence(ns *holdpost.Namespace, room, after string, limit int) Presence {
	return d.presences.who(place{namespace: ns.Name(), room: room}, after, max(0, min(limit, maxPresenceList)))
}

// watch begins or ends watching a place.
func (d *Delivery) watch(s *holdpost.Socket, where place, on bool) error {
	mine := d.subscriptionsOf(s)
	mine.mu.Lock()
	defer mine.mu.Unlock()
	at := slices.Index(mine.watched, where)
	switch {
	case mine.closed || on == (at >= 0):
		return nil
	case !on:
		mine.watched = slices.Delete(mine.watched, at, at+1)
		d.presences.unwatch(where, s)
	case len(mine.watched) >= d.config.MaxSubscriptions:
		return &holdpost.Error{Code: CodeTooMany, Message: "too many places are watched"}
	default:
		mine.watched = append(mine.watched, where)
		d.presences.watch(where, s)
	}
	var w watches
	for _, where := range mine.watched {
		if where.topic != "" {
			w.Topics = append(w.Topics, where.topic)
		} else {
			w.Rooms = append(w.Rooms, where.room)
		}
	}
	d.watching.Set(s, w)
	return nil
}

// rewatch has a recovered socket watch what it watched.
func (d *Delivery) rewatch(s *holdpost.Socket) {
	w, _ := d.watching.Get(s)
	for _, room := range w.Rooms {
		d.watch(s, place{namespace: s.Namespace().Name(), room: room}, true)
	}
	for _, topic := range w.Topics {
		d.watch(s, place{topic: topic}, true)
	}
}
