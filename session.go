package holdpost

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// session is what recovery knows of a socket. A server without recovery has none.
type session struct {
	out outbox

	// Static once the socket is connected.
	pid       string  // "" until then; written with Socket.mu held
	since     *moment // when it connected first; like pid
	recovered bool

	// Guarded by Socket.mu.
	joined   []*moment // when the rooms of Socket.rooms were joined, in the same order
	left     []leftRoom
	floor    *moment // what was emitted up to here to rooms that were left may be unknown; nil: nothing is
	values   map[string]json.RawMessage
	unsaved  *outgoing // opens once what has changed is stored; nil while nothing has, or it is being stored
	saving   bool      // queued to be saved
	savedAt  time.Time
	closedAt time.Time
	last     func() *state // once it is disconnected
}

// leftRoom is a room that the client may not have heard to the end of.
type leftRoom struct {
	name     string
	from, to *moment
}

// saveSeen is how often it is stored how much of what queues keep a client has received.
const saveSeen = 10 * time.Second

// saveAgain is how often a session is stored that does not change. Journals count on it.
const saveAgain = 10 * time.Minute

// state is a session as it is stored.
type state struct {
	ID        string                     `json:"id"`
	Namespace string                     `json:"namespace"`
	Identity  string                     `json:"identity,omitempty"`
	Since     uint64                     `json:"since"`
	Seen      uint64                     `json:"seen"`
	Floor     uint64                     `json:"floor,omitempty"`
	Rooms     []stateRoom                `json:"rooms,omitempty"`
	Left      []stateRoom                `json:"left,omitempty"`
	Keeps     []stateKeep                `json:"keeps,omitempty"`
	Values    map[string]json.RawMessage `json:"values,omitempty"`
	ClosedAt  time.Time                  `json:"closedAt,omitzero"`
	Mark      string                     `json:"mark"` // Since as an offset: it tells a journal whose end was lost
}

type stateRoom struct {
	Name string `json:"name"`
	From uint64 `json:"from"`
	To   uint64 `json:"to,omitempty"`
}

type stateKeep struct {
	Hash     uint64 `json:"hash"`
	Position uint64 `json:"position"`
}

// outlives tells whether a session is kept after its socket was disconnected for this reason.
func (r Reason) outlives() bool {
	switch r {
	case ReasonClientDisconnect, ReasonServerDisconnect, ReasonPanic:
		return false
	}
	return true
}

// joinLocked notes that a room is about to be joined, and is the next of Socket.rooms. s.mu is held.
func (s *Socket) joinLocked() {
	if s.session != nil {
		s.session.joined = append(s.session.joined, s.ns.journal.now())
	}
}

// leaveLocked notes that room i of Socket.rooms was left, and is about to be removed there. s.mu is held.
func (s *Socket) leaveLocked(i int) {
	v := s.session
	if v == nil {
		return
	}
	joined := v.joined[i]
	v.joined = slices.Delete(v.joined, i, i+1)
	if v.pid == "" { // at a gate: nothing was emitted to the socket yet
		return
	}
	if len(v.left) >= s.conn.srv.config.MaxRooms {
		v.floor = v.left[0].to
		v.left = slices.Delete(v.left, 0, 1)
	}
	v.left = append(v.left, leftRoom{s.rooms[i], joined, s.ns.journal.now()})
}

// changedLocked has the session stored soon. With hold, nothing that is sent to the client from now on goes out before. s.mu is
// held.
func (s *Socket) changedLocked(hold bool) {
	v := s.session
	if v == nil || s.ended != nil || v.pid == "" { // before it is connected there is nothing to store
		return
	}
	if v.unsaved == nil && hold {
		v.unsaved = &outgoing{}
		s.enqueue(entry{outgoing: v.unsaved, hidden: true}, true)
	}
	if v.saving {
		return
	}
	v.saving = true
	s.conn.srv.saver.push(s)
}

// saver stores sessions, each with all that has changed since.
type saver struct {
	queue ordered[*Socket]

	mu    sync.Mutex // guards the fields below; held while sessions are looked through
	timer *time.Timer
	ended bool
}

func (v *saver) push(s *Socket) { v.queue.push(&s.conn.srv.handlers, s, saveAll) }

// watch has the sessions that do not change stored now and then, as long as there are any: a journal keeps nothing for ever.
func (v *saver) watch(srv *Server) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer == nil && !v.ended {
		v.timer = time.AfterFunc(saveAgain, func() { v.refresh(srv) })
	}
}

func (v *saver) refresh(srv *Server) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	any := false
	for ns := range srv.Namespaces() {
		for s := range ns.Sockets() {
			any = true
			s.mu.Lock()
			if time.Since(s.session.savedAt) >= saveAgain {
				s.changedLocked(false)
			}
			s.mu.Unlock()
		}
	}
	v.timer = nil
	if any {
		v.timer = time.AfterFunc(saveAgain, func() { v.refresh(srv) })
	}
}

// stop ends watching, and returns when nothing is looked through any more.
func (v *saver) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	if v.timer != nil {
		v.timer.Stop()
	}
}

// saveAll stores sessions in the order in which they changed. The states are taken before the first one is waited for: then the
// others mostly need no waiting.
func saveAll(batch []*Socket) {
	saves := make([]save, len(batch))
	for i, s := range batch {
		saves[i] = s.beginSave()
	}
	for i, s := range batch {
		s.save(saves[i])
	}
}

type save struct {
	state func() *state // nil: forget the session
	gate  *outgoing     // what waits for it, or nil
	final bool          // the socket is disconnected
}

func (s *Socket) beginSave() save {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.session
	todo := save{gate: v.unsaved}
	v.unsaved, v.saving, v.savedAt = nil, false, time.Now()
	switch {
	case s.ended == nil:
		todo.state = s.snapshotLocked()
	case s.ended.Reason.outlives():
		todo.state, todo.final = v.last, true
	default:
		todo.final = true
	}
	return todo
}

func (s *Socket) save(todo save) {
	var b []byte
	if todo.state != nil {
		var err error
		if b, err = json.Marshal(todo.state()); err != nil { // a value that says it is JSON and is not
			s.conn.srv.config.Logger.Error("session can't be stored", "namespace", s.ns.name, "socket", s.id, "error", err)
		}
	}
	s.conn.srv.config.Recovery.Journal.Save(s.session.pid, b, func(bool) {
		if todo.gate != nil {
			todo.gate.open.Store(true)
			s.ns.journal.release(s)
		}
		if todo.final {
			s.ns.journal.forget(s)
		}
	})
}

// closeLocked keeps the last state of a socket that is being disconnected. s.mu is held.
func (s *Socket) closeLocked() {
	v := s.session
	if v == nil || v.pid == "" {
		return
	}
	v.closedAt = time.Now()
	v.last = s.snapshotLocked()
	if !v.saving {
		v.saving = true
		s.conn.srv.saver.push(s)
	}
}

// snapshotLocked returns a function that makes the state that the session has now; it waits for moments that are not known yet.
// s.mu is held.
func (s *Socket) snapshotLocked() func() *state {
	v := s.session
	rooms, joined := slices.Clone(s.rooms), slices.Clone(v.joined)
	left := slices.Clone(v.left)
	values := maps.Clone(v.values)
	floor, closedAt := v.floor, v.closedAt
	v.out.mu.Lock()
	seen, keeps := v.out.seen, slices.Clone(v.out.keeps)
	v.out.mu.Unlock()
	return func() *state {
		st := &state{
			ID: s.id, Namespace: s.ns.name, Identity: s.identity(), Since: v.since.wait(), Seen: seen, Values: values, ClosedAt: closedAt,
		}
		st.Mark = s.conn.srv.config.Recovery.Journal.Offset(st.Since)
		if floor != nil {
			st.Floor = floor.wait()
		}
		for i, name := range rooms {
			st.Rooms = append(st.Rooms, stateRoom{Name: name, From: joined[i].wait()})
		}
		for _, l := range left {
			st.Left = append(st.Left, stateRoom{l.name, l.from.wait(), l.to.wait()})
		}
		for _, k := range keeps {
			st.Keeps = append(st.Keeps, stateKeep{k.hash, k.position})
		}
		return st
	}
}

// wait returns the moment's position once it is known, which takes no longer than the journal.
func (m *moment) wait() uint64 {
	<-m.stored
	return m.position
}

func (s *Socket) identity() string {
	if f := s.conn.srv.config.Recovery.Identity; f != nil {
		return f(s)
	}
	return ""
}

// progress returns up to where the client has received everything once it answers a heartbeat that goes out now.
func (s *Socket) progress() (*moment, int) {
	n, o := s.ns, s.outbox()
	n.journal.mu.Lock()
	defer n.journal.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	keeps := o.forgot + len(o.keeps)
	if o.busy.Load() {
		return pastMoment(o.sent), keeps
	}
	return n.journal.newest, keeps // of what is not stored yet nothing is for this socket
}

// saw notes what the client is known to have received, and forgets the rooms that it left before.
func (s *Socket) saw(upto *moment, keeps int) {
	if !upto.known() {
		return
	}
	v := s.session
	v.out.saw(upto.position, keeps)
	s.mu.Lock()
	defer s.mu.Unlock()
	v.left = slices.DeleteFunc(v.left, func(l leftRoom) bool { return l.to.known() && l.to.position <= upto.position })
	if time.Since(v.savedAt) > saveSeen {
		s.changedLocked(false)
	}
}
