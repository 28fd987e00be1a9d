package holdpost

import (
	"context"
	"slices"
	"sync"

	"github.com/holdpost/holdpost/internal/engineio"
	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/internal/serial"
)

// ordered is a queue whose goroutine exists while there is work, and is waited for by a group.
type ordered[T any] struct{ queue serial.Queue[T] }

func (o *ordered[T]) push(group *running, v T, f func(batch []T)) {
	if o.queue.Push(v) {
		group.begin()
		go func() {
			defer group.end()
			o.queue.Run(f)
		}()
	}
}

// journal orders what a namespace emits: the order of its positions is the order in every outbox, so that the position of the
// last event that a client got says which ones it got.
type journal struct {
	releases ordered[[]*Socket]

	mu     sync.Mutex // guards the fields below; held while an event is put into outboxes, so only outbox.mu comes after it
	newest *moment    // nil without recovery
	hole   uint64     // something emitted after this position was not stored
	pids   map[string]*Socket
	coming map[string]chan struct{} // private ids whose sessions are being given to a new socket
}

// now returns the moment of the newest event.
func (j *journal) now() *moment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.newest
}

// forget drops a socket whose last state is stored.
func (j *journal) forget(s *Socket) {
	j.mu.Lock()
	if j.pids[s.session.pid] == s {
		delete(j.pids, s.session.pid)
	}
	j.mu.Unlock()
	s.ns.cleanUp()
}

// idle reports whether a namespace made anew could take its place: all that was emitted and all sessions are stored.
func (j *journal) idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.newest == nil || j.newest.known() && len(j.pids) == 0 && len(j.coming) == 0
}

// unstored returns a position after which something was emitted that is not stored, 0 if there is none.
func (j *journal) unstored() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.hole
}

// notStored notes that something emitted after a position is not stored.
func (j *journal) notStored(after uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hole = max(j.hole, after)
}

// release has what is ready sent to sockets.
func (j *journal) release(sockets ...*Socket) {
	if len(sockets) > 0 {
		j.releases.push(&sockets[0].ns.srv.handlers, sockets, func(batch [][]*Socket) {
			for _, sockets := range batch {
				for _, s := range sockets {
					s.drain()
				}
			}
		})
	}
}

// emission is an event on its way to sockets.
type emission struct {
	prepared *Prepared
	id       int64    // of the ack that is asked for, -1 for none
	rooms    []string // none: everyone
	except   []string
	sender   *Socket   // left out
	targets  []*Socket // who is there now
}

// socketOf returns the socket whose handler was given ctx, nil if none was.
func socketOf(ctx context.Context) *Socket {
	s, _ := ctx.Value(socketKey{}).(*Socket)
	return s
}

type socketKey struct{}

// record stores an event and then has it sent. What cause emits or answers after it goes out after it is stored. targets is
// called where the order is fixed. It returns the event's moment.
func (n *Namespace) record(cause *Socket, e emission, targets func() []*Socket) *moment {
	r := record{
		ack: e.id >= 0, rooms: e.rooms, except: e.except, name: e.prepared.name, args: e.prepared.args, attachments: e.prepared.binary(),
	}
	if e.sender != nil {
		r.sender = e.sender.id
	}
	keys := make([]string, 0, max(1, len(e.rooms)))
	for _, room := range e.rooms {
		keys = append(keys, journalKey(n.name, room))
	}
	if len(keys) == 0 {
		keys = append(keys, journalKey(n.name, everyone))
	}
	b := r.encode()
	size := packetSize(n.name, e.prepared.args)

	j := &n.journal
	out, m := &outgoing{}, newMoment()
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.newest
	j.newest = m
	e.targets = targets()
	for _, s := range e.targets {
		s.enqueue(entry{outgoing: out, size: size}, true)
	}
	wait := e.targets
	if cause != nil && cause.ns == n && cause.session != nil && !slices.Contains(wait, cause) {
		cause.enqueue(entry{outgoing: out, hidden: true, event: true}, true)
		wait = append(slices.Clip(wait), cause)
	}
	n.srv.config.Recovery.Journal.Append(keys, b, func(position uint64) {
		if position == 0 {
			n.srv.config.Logger.Warn("event not stored: who misses it will not be recovered", "namespace", n.name, "event", r.name)
		}
		defer j.know(m, before, position) // behind the event: followers go out after it
		offset := ""
		if position > 0 {
			offset = n.srv.config.Recovery.Journal.Offset(position)
		}
		out.at = position
		out.messages = e.prepared.recorded(n, e.id, offset)
		out.open.Store(true)
		j.release(wait...)
	})
	return m
}

// know makes a moment known, the one before it being known already.
func (j *journal) know(m, before *moment, position uint64) {
	j.mu.Lock()
	m.position = position
	if position == 0 {
		m.position = before.position
		j.hole = max(j.hole, m.position)
	}
	close(m.stored)
	followers := m.followers
	m.followers = nil
	j.mu.Unlock()
	for _, f := range followers {
		f()
	}
}

// pass has an event that is not stored sent in its turn, with the position of the last one that is.
func (n *Namespace) pass(p *Prepared, targets func() []*Socket) {
	j := &n.journal
	out := &outgoing{}
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.newest
	open := func() {
		out.at = m.position
		out.messages = p.recorded(n, -1, n.srv.config.Recovery.Journal.Offset(m.position))
		out.open.Store(true)
	}
	sockets := targets()
	if m.known() {
		open()
		for _, s := range sockets {
			s.sendVolatile(out.messages...)
		}
		return
	}
	size := packetSize(n.name, p.args)
	for _, s := range sockets {
		s.enqueue(entry{outgoing: out, size: size, volatile: true}, true)
	}
	m.followers = append(m.followers, func() {
		open()
		j.release(sockets...)
	})
}

// binary returns the event's attachments as they were given.
func (p *Prepared) binary() [][]byte {
	var all [][]byte
	for _, m := range p.attachments {
		all = append(all, m.Payload())
	}
	return all
}

// recorded returns the event's messages for a namespace with an ack id or an offset as the last argument.
func (p *Prepared) recorded(ns *Namespace, id int64, offset string) []*engineio.Message {
	if id >= 0 || offset == "" {
		return p.messagesWithID(ns, id)
	}
	q := Prepared{name: p.name, attachments: p.attachments, plain: p.plain}
	q.args = append(slices.Clip(p.args), quoted(offset))
	return q.messagesWithID(ns, -1)
}

func quoted(text string) []byte { return packet.AppendString(nil, text) }
