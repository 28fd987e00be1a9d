package holdpost

import (
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdpost/holdpost/internal/engineio"
)

// moment is a point in a namespace's journal: everything emitted up to it has positions at or below its own. It is shared by
// all that want to know where the journal stood then.
type moment struct {
	stored    chan struct{} // closed once position is known
	position  uint64        // written before stored is closed
	followers []func()      // called then; guarded by journal.mu
}

func newMoment() *moment { return &moment{stored: make(chan struct{})} }

// pastMoment returns a moment whose position is known.
func pastMoment(position uint64) *moment {
	m := &moment{stored: make(chan struct{}), position: position}
	close(m.stored)
	return m
}

func (m *moment) known() bool {
	select {
	case <-m.stored:
		return true
	default:
		return false
	}
}

// outgoing is a number of messages that a client gets as one, once what they depend on is stored.
type outgoing struct {
	open     atomic.Bool // set last
	at       uint64      // position of the record, or of the last one before; 0: none
	messages []*engineio.Message
}

// entry is an outgoing's place in the order of one socket.
type entry struct {
	*outgoing
	size     int
	hidden   bool   // not for this socket: only the order counts
	event    bool   // hidden: it is an event, and all events of the namespace before it are stored when it is
	volatile bool   // dropped when it can't go out at its turn
	kept     uint64 // hash of the offset of an event that a queue keeps; 0 for all others
	then     func() // called at its turn; must not block
}

// outbox keeps the order of what one socket's client gets, while some of it waits to be stored. Without recovery a socket
// has none, and an idle one's is empty.
type outbox struct {
	busy atomic.Bool // something is in it, or going out: whatever else is sent has to queue up

	mu       sync.Mutex // guards the fields below; a leaf
	entries  []entry
	bytes    int
	paused   bool // nothing goes out yet: the client is being given what it missed
	closed   bool // the connection is gone: nothing is queued any more
	draining bool
	sent     uint64 // position of the last record that went out
	seen     uint64 // up to here the client is known to have received everything
	keeps    []keep
	forgot   int // how many keeps were dropped from the front
}

// keep says where a client was in the journal when it was sent an event that a queue keeps: such an event's offset is what the
// client brings back, if it was the last one.
type keep struct {
	hash     uint64
	position uint64
}

const maxKeeps = 256

func hashOffset(raw []byte) uint64 {
	h := fnv.New64a()
	h.Write(raw)
	return max(h.Sum64(), 1)
}

// push queues e, unless nothing is in its way: then it returns false. full means that the peer can't keep up.
func (o *outbox) push(e entry, always bool, maxBytes, maxPackets int) (queued, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !always && !o.busy.Load() {
		if e.kept != 0 {
			o.keepLocked(e.kept)
		}
		return false, false
	}
	if last := len(o.entries) - 1; last >= 0 && e.event && o.entries[last].event {
		o.entries[last] = e
		return true, false
	}
	if len(o.entries) > 0 && (o.bytes+e.size > maxBytes || len(o.entries) >= maxPackets) {
		return true, true
	}
	o.entries = append(o.entries, e)
	o.bytes += e.size
	o.busy.Store(true)
	return true, false
}

func (o *outbox) keepLocked(hash uint64) {
	if len(o.keeps) == maxKeeps {
		o.keeps = slices.Delete(o.keeps, 0, maxKeeps/4)
		o.forgot += maxKeeps / 4
	}
	o.keeps = append(o.keeps, keep{hash, o.sent})
}

// saw notes that the client has received everything up to a position, and the first keeps by number.
func (o *outbox) saw(position uint64, keeps int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = max(o.seen, position)
	if n := keeps - o.forgot; n > 0 {
		n = min(n, len(o.keeps))
		o.keeps = slices.Delete(o.keeps, 0, n)
		o.forgot += n
	}
}

// pause holds back everything that is queued from now on, resume lets it go; [Socket.drain] has to follow.
func (o *outbox) pause() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = true
	o.busy.Store(true)
}

func (o *outbox) resume() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = false
}

// start says where a recovered client stands, advance up to where it was sent what it missed.
func (o *outbox) start(at uint64, keeps []stateKeep) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent, o.seen = at, at
	for _, k := range keeps {
		o.keeps = append(o.keeps, keep{k.Hash, k.Position})
	}
}

func (o *outbox) advance(sent uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = max(o.sent, sent)
}

// take removes the entries that may go out now. false means that there are none, and ends the draining.
func (o *outbox) take(dst []entry) ([]entry, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for !o.paused && n < len(o.entries) {
		e := &o.entries[n]
		if e.outgoing != nil && !e.open.Load() {
			break
		}
		if e.outgoing != nil && !e.hidden {
			o.sent = max(o.sent, e.at)
		}
		if e.kept != 0 {
			o.keepLocked(e.kept)
		}
		o.bytes -= e.size
		n++
	}
	dst = append(dst, o.entries[:n]...)
	o.entries = slices.Delete(o.entries, 0, n)
	if n == 0 {
		o.draining = false
		if len(o.entries) == 0 && !o.paused {
			o.entries = nil
			o.busy.Store(false)
		}
		return dst, false
	}
	return dst, true
}

// begin makes the caller the one that drains, if nobody is.
func (o *outbox) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.draining || !o.busy.Load() {
		return false
	}
	o.draining = true
	return true
}

// close drops what is queued, and returns what was to be called in its turn.
func (o *outbox) close() (calls []func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.entries {
		if e.then != nil {
			calls = append(calls, e.then)
		}
	}
	o.closed, o.entries, o.bytes = true, nil, 0
	o.busy.Store(false)
	return calls
}

func (o *outbox) queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// send sends messages in their turn. It reports false once the socket has ended or the connection closes.
func (s *Socket) send(flush bool, messages ...*engineio.Message) bool {
	return s.sendEntry(flush, 0, messages...)
}

func (s *Socket) sendEntry(flush bool, kept uint64, messages ...*engineio.Message) bool {
	if s.phase.Load() == phaseEnded {
		return false // its connection may go on for other namespaces
	}
	if o := s.outbox(); o != nil && (kept != 0 || o.busy.Load()) {
		size := 0
		for _, m := range messages {
			size += m.Len()
		}
		if s.enqueue(entry{outgoing: sentAsIs(messages), size: size, kept: kept}, false) {
			return true
		}
	}
	return s.conn.session.Send(flush, messages...)
}

// sendVolatile sends messages in their turn if they can go out then.
func (s *Socket) sendVolatile(messages ...*engineio.Message) {
	if s.phase.Load() == phaseEnded {
		return
	}
	if o := s.outbox(); o != nil && o.busy.Load() && s.enqueue(entry{outgoing: sentAsIs(messages), volatile: true}, false) {
		return
	}
	s.conn.session.SendVolatile(messages...)
}

// inTurn calls f behind what was sent before. f must not block.
func (s *Socket) inTurn(f func()) {
	if o := s.outbox(); o != nil && o.busy.Load() && s.enqueue(entry{then: f}, false) {
		return
	}
	f()
}

func sentAsIs(messages []*engineio.Message) *outgoing {
	g := &outgoing{messages: messages}
	g.open.Store(true)
	return g
}

func (s *Socket) outbox() *outbox {
	if s.session == nil {
		return nil
	}
	return &s.session.out
}

// enqueue puts e into the outbox: always, or only if something is in its way. It reports whether it did.
func (s *Socket) enqueue(e entry, always bool) bool {
	c := &s.conn.srv.config
	queued, full := s.session.out.push(e, always, c.QueueBytes, c.QueuePackets)
	if full {
		s.conn.session.Abort(engineio.ReasonSlowPeer)
	}
	return queued
}

// drain sends what may go out.
func (s *Socket) drain() {
	o := s.outbox()
	if !o.begin() {
		return
	}
	for batch, more := o.take(nil); more; batch, more = o.take(batch[:0]) {
		for i := range batch {
			switch e := &batch[i]; {
			case e.then != nil:
				e.then()
			case e.hidden:
			case e.volatile:
				s.conn.session.SendVolatile(e.messages...)
			default:
				s.conn.session.Send(false, e.messages...)
			}
		}
		clear(batch)
	}
	s.conn.session.Flush()
}
