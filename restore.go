package holdpost

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/holdpost/holdpost/internal/engineio"
)

// Causes of a "gap": why a client was not recovered though it asked for it.
const (
	gapUnknown  = "unknown"  // the session is not known, or somebody else's
	gapExpired  = "expired"  // it was away too long
	gapDropped  = "dropped"  // some of what it missed is not kept any more
	gapNoOffset = "nooffset" // it has received nothing yet; see Recovery.NeedOffset
)

// claim is what a client brings along to be recovered.
type claim struct {
	PID    string `json:"pid"`
	Offset string `json:"offset"`

	identity string // whose session it is
	gap      string // why it can't be recovered; "" so far
}

// claimed returns what the client brings along, nil when it does not ask to be recovered. The socket takes over the id at once, so
// that gates see it.
func (s *Socket) claimed() *claim {
	var c claim
	if json.Unmarshal(s.auth, &c) != nil || c.PID == "" || len(c.PID) > 64 {
		return nil
	}
	st, err := s.load(c.PID)
	if err != nil {
		s.conn.srv.config.Logger.Warn("session not read", "namespace", s.ns.name, "error", err)
	}
	if st == nil {
		c.gap = gapUnknown
		return &c
	}
	if position, ok := s.conn.srv.config.Recovery.Journal.Position(st.Mark); !ok || position != st.Since {
		c.gap = gapDropped // the journal's end was lost: its positions mean something else now
		return &c
	}
	s.id, c.identity = st.ID, st.Identity
	return &c
}

// load returns a session as it is stored, nil when there is none for this namespace.
func (s *Socket) load(pid string) (*state, error) {
	b, err := s.conn.srv.config.Recovery.Journal.Load(s.Context(), pid)
	if err != nil || b == nil {
		return nil, err
	}
	st := new(state)
	if err := json.Unmarshal(b, st); err != nil {
		return nil, err
	}
	if st.Namespace != s.ns.name {
		return nil, nil
	}
	return st, nil
}

// tellGap returns what a client is told that is let in as a new socket though it asked to be recovered; nil for nothing.
func (n *Namespace) tellGap(c *claim) []*engineio.Message {
	if c.gap == gapNoOffset {
		return nil
	}
	p, err := Prepare("gap", map[string]string{"from": c.Offset, "reason": c.gap})
	if err != nil {
		return nil // two strings can always be sent
	}
	return p.messagesWithID(n, -1)
}

// join lets a socket in that has passed the gates: it gets what it missed, the reply, and then what is live. It returns false when the
// socket was closed meanwhile, and also when its connection has to be.
func (s *Socket) join(c *claim) bool {
	n, v := s.ns, s.session
	v.out.pause()
	var back *comeback
	if c != nil && c.gap == "" {
		var release func()
		back, release = s.resume(c)
		defer release()
	}
	var gap []*engineio.Message
	if back == nil && c != nil {
		s.id = newID() // the one it had belongs to the session that it does not get
		gap = n.tellGap(c)
	}

	if back != nil && !s.replay(back, n.srv.config.Recovery.Journal.Last) { // most of it, before anything has to be held for the socket
		return false
	}
	s.mu.Lock()
	if s.ended != nil {
		s.mu.Unlock()
		return false
	}
	n.journal.mu.Lock() // what is emitted from here on is live, what was before is missed
	now := n.journal.newest
	if back == nil {
		v.pid, v.since = newID(), now
		n.journal.pids[v.pid] = s
	}
	s.changedLocked(true)
	s.enqueue(entry{outgoing: sentAsIs([]*engineio.Message{s.conn.connectReply(s)})}, true)
	if gap != nil {
		s.enqueue(entry{outgoing: sentAsIs(gap)}, true)
	}
	joined := s.enterLocked()
	n.journal.mu.Unlock()
	s.mu.Unlock()
	n.srv.saver.watch(n.srv)
	s.guard("join", func() { s.tellJoined(joined) })

	if back != nil {
		now.wait()
		if !s.replay(back, func() uint64 { return now.position }) {
			return false
		}
	}
	v.out.resume()
	s.drain()
	return true
}

// resume takes over the session that the client claims, or returns nil and says in the claim why not. release has to be called when
// the socket is in.
func (s *Socket) resume(c *claim) (_ *comeback, release func()) {
	n := s.ns
	release = func() {}
	r := n.srv.config.Recovery
	if c.Offset == "" && r.NeedOffset {
		c.gap = gapNoOffset
		return nil, release
	}
	if c.identity != s.identity() {
		c.gap = gapUnknown
		return nil, release
	}
	release, old, err := n.journal.takeOver(s.Context(), c.PID)
	if err != nil {
		c.gap = gapUnknown // the socket is gone
		return nil, release
	}
	var st *state
	if old == nil {
		st, err = s.load(c.PID) // again: the last socket may have ended since
	} else if last := old.replaced(); last != nil {
		st = last()
	}
	if err != nil || st == nil {
		c.gap = gapUnknown
		return nil, release
	}
	lost := st.ClosedAt
	if lost.IsZero() { // the server ended without a word
		lost = n.srv.started
	}
	if time.Since(lost) > r.MaxAway {
		c.gap = gapExpired
		return nil, release
	}
	after := s.received(st, c.Offset)
	n.journal.mu.Lock()
	hole := n.journal.hole
	n.journal.mu.Unlock()
	if after < st.Floor || hole > 0 && after <= hole {
		c.gap = gapDropped
		return nil, release
	}
	back := n.comeback(st, after)
	complete, err := r.Journal.Read(s.Context(), back.keys, after, after, nil)
	if err != nil && s.Context().Err() == nil {
		n.srv.config.Logger.Warn("missed events not read", "namespace", n.name, "error", err)
	}
	if err != nil || !complete {
		c.gap = gapDropped
		return nil, release
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adoptLocked(c.PID, st, after)
	n.journal.mu.Lock()
	n.journal.pids[c.PID] = s
	n.journal.mu.Unlock()
	if s.ended != nil { // meanwhile: from here on the session is its to store
		s.closeLocked()
	}
	return back, release
}

// adoptLocked makes a stored session the socket's own: it has everything up to after. The rooms that its gates have put it in stay.
func (s *Socket) adoptLocked(pid string, st *state, after uint64) {
	v := s.session
	v.pid, v.recovered, v.since, v.values = pid, true, pastMoment(st.Since), maps.Clone(st.Values) // the old socket may be being stored
	v.out.start(after, st.Keeps)
	if st.Floor > 0 {
		v.floor = pastMoment(st.Floor)
	}
	for _, room := range st.Left {
		if room.To > after {
			v.left = append(v.left, leftRoom{room.Name, pastMoment(room.From), pastMoment(room.To)})
		}
	}
	byGates, since := s.rooms, v.joined
	s.rooms, v.joined = nil, nil
	for _, room := range st.Rooms {
		s.rooms = append(s.rooms, room.Name)
		v.joined = append(v.joined, pastMoment(room.From))
	}
	for i, room := range byGates {
		if !slices.Contains(s.rooms, room) {
			s.rooms = append(s.rooms, room)
			v.joined = append(v.joined, since[i])
		}
	}
}

// received returns up to where the client has everything.
func (s *Socket) received(st *state, offset string) uint64 {
	j := s.conn.srv.config.Recovery.Journal
	seen := max(st.Since, st.Seen)
	if offset == "" {
		return seen
	}
	if position, ok := j.Position(offset); ok && position <= j.Last() {
		return max(seen, position)
	}
	hash := hashOffset(quoted(offset)) // of an event that a queue keeps?
	for _, k := range st.Keeps {
		if k.Hash == hash {
			return max(seen, k.Position)
		}
	}
	return seen
}

// takeOver ends what others do to recover the session, and keeps them from it until release: who comes last has it. old is the
// socket that has it still, or had it just now.
func (j *journal) takeOver(ctx context.Context, pid string) (release func(), old *Socket, err error) {
	for {
		j.mu.Lock()
		busy := j.coming[pid]
		if busy == nil {
			break
		}
		other := j.pids[pid]
		j.mu.Unlock()
		if other != nil {
			other.supersede()
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return func() {}, nil, context.Cause(ctx)
		}
	}
	defer j.mu.Unlock()
	mine := make(chan struct{})
	j.coming[pid] = mine
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.coming, pid)
		close(mine)
	}, j.pids[pid], nil
}

// supersede closes a socket whose client has come back on another connection. Its own connection is closed with it, and not only
// left: if somebody is still there, they are not to wait for what goes elsewhere.
func (s *Socket) supersede() {
	if s.conn.leave(s, ReasonReplaced, false) {
		s.conn.session.Abort(engineio.ReasonTransportClose)
	}
}

// replaced supersedes a socket, and returns its session; nil when that has ended with the socket.
func (s *Socket) replaced() func() *state {
	s.supersede()
	<-s.Context().Done() // who was about to end it may not have done it yet
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended.Reason.outlives() {
		return nil
	}
	return s.session.last
}
