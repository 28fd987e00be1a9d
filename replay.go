package holdpost

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/holdpost/holdpost/internal/engineio"
)

const (
	replayRecords = 200     // records read at a time
	replayBytes   = 1 << 20 // and about so many bytes
	replayWindow  = 256 << 10
)

// comeback is the recovery of one socket.
type comeback struct {
	after uint64              // it has everything up to here
	rooms map[string][]period // that it was in
	keys  []string            // of the rooms, in the journal
}

// period is when a socket was in a room: from is before the first event, to is the last one.
type period struct{ from, to uint64 }

const open = ^uint64(0)

// comeback returns the recovery of a session whose client has everything up to after.
func (n *Namespace) comeback(st *state, after uint64) *comeback {
	b := &comeback{after: after, rooms: make(map[string][]period)}
	b.add("", st.Since, open)
	b.add(st.ID, st.Since, open)
	for _, room := range st.Rooms {
		b.add(room.Name, room.From, open)
	}
	for _, room := range st.Left {
		b.add(room.Name, room.From, room.To)
	}
	for room := range b.rooms {
		b.keys = append(b.keys, journalKey(n.name, room))
	}
	slices.Sort(b.keys)
	return b
}

func (b *comeback) add(room string, from, to uint64) {
	b.rooms[room] = append(b.rooms[room], period{from, to})
}

// in tells whether the socket was in a room at a position.
func (b *comeback) in(room string, at uint64) bool {
	return slices.ContainsFunc(b.rooms[room], func(p period) bool { return p.from < at && at <= p.to })
}

// wants tells whether a record is for the socket, and not to come again under another key.
func (b *comeback) wants(id, room string, at uint64, r *record) bool {
	if !b.in(room, at) || r.sender == id {
		return false
	}
	if i := slices.Index(r.rooms, room); i >= 0 && slices.ContainsFunc(r.rooms[i+1:], func(other string) bool { return b.in(other, at) }) {
		return false
	}
	return !slices.ContainsFunc(r.except, func(room string) bool { return b.in(room, at) })
}

var errEnough = errors.New("enough for now")

// replay sends what the socket missed up to a position, which grows while it does. It returns false when the socket is gone, or
// something of it is.
func (s *Socket) replay(b *comeback, upto func() uint64) bool {
	n := s.ns
	prefix := len(journalKey(n.name, ""))
	type missed struct {
		position uint64
		record   *record
	}
	var page []missed
	for {
		page = page[:0]
		to, bytes := upto(), 0
		if b.after >= to {
			return true
		}
		err := n.srv.replays.enter(s.Context())
		if err != nil {
			return false
		}
		through := to
		complete, err := n.srv.config.Recovery.Journal.Read(s.Context(), b.keys, b.after, to, func(position uint64, key string, data []byte) error {
			if len(page) >= replayRecords || bytes > replayBytes {
				through = page[len(page)-1].position
				return errEnough
			}
			r, err := decodeRecord(data)
			if err != nil {
				return err
			}
			if b.wants(s.id, key[prefix:], position, r) {
				page = append(page, missed{position, r})
				bytes += len(data)
			}
			return nil
		})
		n.srv.replays.leave()
		if err != nil && !errors.Is(err, errEnough) || !complete {
			n.srv.config.Logger.Warn("recovery broken off", "namespace", n.name, "socket", s.id, "complete", complete, "error", err)
			s.conn.session.Close(engineio.ReasonTransportError)
			return false
		}
		for _, m := range page {
			s.conn.session.Send(false, n.again(m.record, m.position)...)
		}
		s.session.out.advance(through)
		b.after = through
		if len(page) == 0 {
			// Nothing came for it meanwhile. The journal may have moved on: when many come back at once it does so with each of
			// them, and whoever wanted to be up to date would wait for all others.
			return true
		}
		s.conn.session.Flush()
		if !s.drained() {
			return false
		}
	}
}

// replaying reports whether the socket, which is not in yet, is sent what it missed: that comes before the reply to its CONNECT, and may
// be answered before it.
func (s *Socket) replaying() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Recovered()
}

// again returns a missed event's messages.
func (n *Namespace) again(r *record, position uint64) []*engineio.Message {
	p := &Prepared{name: r.name, args: r.args}
	for _, b := range r.attachments {
		p.attachments = append(p.attachments, engineio.NewBinary(b))
	}
	id := int64(-1)
	if r.ack {
		id = n.srv.nextAck() // nobody waits for it any more
	}
	return p.recorded(n, id, n.srv.config.Recovery.Journal.Offset(position))
}

// drained waits until the client has taken most of what it was sent.
func (s *Socket) drained() bool {
	for s.conn.session.Queued() > replayWindow {
		room := make(chan struct{})
		s.conn.session.NotifyDrained(func() { close(room) })
		select {
		case <-room:
		case <-s.Context().Done():
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended == nil
}

// slots bound how many do something at a time.
type slots chan struct{}

func newSlots() slots { return make(slots, max(1, runtime.GOMAXPROCS(0)/2)) }

func (s slots) enter(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) leave() { <-s }
