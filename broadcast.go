package holdpost

import (
	"context"
	"slices"
	"sync"
)

// Broadcast says which sockets of a namespace an event goes to. It is an immutable value: every method returns a copy, so
// one may be kept and refined by several goroutines. The zero value goes to nobody.
type Broadcast struct {
	ns       *Namespace
	limited  bool // to rooms, which may be none
	rooms    []string
	except   []string
	sender   *Socket // left out
	volatile bool
	plain    bool // not compressed
	local    bool
}

// To returns b limited to the sockets in any of these rooms, besides those of earlier calls. A socket's id is a room with
// only that socket. A socket in several of the rooms gets the event once. To no rooms at all is to nobody.
func (b Broadcast) To(rooms ...string) Broadcast {
	b.limited = true
	b.rooms = slices.Concat(b.rooms, rooms)
	return b
}

// Except returns b without the sockets in any of these rooms.
func (b Broadcast) Except(rooms ...string) Broadcast {
	b.except = slices.Concat(b.except, rooms)
	return b
}

// Local returns b limited to this node.
func (b Broadcast) Local() Broadcast {
	b.local = true
	return b
}

// Volatile returns b for events that a socket may miss: one that cannot take the event right now is left out.
func (b Broadcast) Volatile() Broadcast {
	b.volatile = true
	return b
}

// Uncompressed returns b for events that are not to be compressed; see [Prepared.Uncompressed].
func (b Broadcast) Uncompressed() Broadcast {
	b.plain = true
	return b
}

// Emit emits an event to the sockets of b. It encodes the event once, never waits for a peer, and succeeds with a context
// that is done. The error is that of [Prepare].
func (b Broadcast) Emit(ctx context.Context, event string, args ...any) error {
	p, err := Prepare(event, args...)
	if err != nil {
		return err
	}
	b.emit(socketOf(ctx), p)
	return nil
}

// EmitPrepared is Emit for an event that is encoded already.
func (b Broadcast) EmitPrepared(p *Prepared) { b.emit(b.sender, p) }

// emit emits p because of what the client of cause did, if cause is not nil.
func (b Broadcast) emit(cause *Socket, p *Prepared) {
	if b.plain && !p.plain {
		p = p.Uncompressed()
	}
	switch {
	case b.nobody():
		return
	case b.ns.family != nil:
		for _, child := range b.namespaces() {
			b.ns = child
			b.emit(cause, p)
		}
		return
	case b.ns.srv.config.Recovery == nil:
		b.send(p, cause == nil || !cause.more.Load())
		return
	}
	var sockets []*Socket
	targets := func() []*Socket {
		sockets = b.appendTargets(nil)
		return sockets
	}
	if b.volatile {
		b.ns.pass(p, targets)
	} else {
		b.ns.record(cause, b.emission(p, -1), targets)
	}
	b.ns.tellEmitted(p, sockets...)
}

// send emits p without storing it. With flush false it may wait a little, for more that is about to be emitted.
func (b Broadcast) send(p *Prepared, flush bool) {
	buf := targetBuffers.Get().(*[]*Socket)
	targets := b.appendTargets((*buf)[:0])
	if len(targets) > 0 {
		messages := p.messages(b.ns)
		for _, s := range targets {
			if b.volatile {
				s.sendVolatile(messages...)
			} else {
				s.send(flush, messages...)
			}
		}
		b.ns.tellEmitted(p, targets...)
	}
	clear(targets)
	*buf = targets[:0]
	targetBuffers.Put(buf)
}

// nobody reports whether b means no socket whatever there is, now or later.
func (b Broadcast) nobody() bool { return b.ns == nil || b.limited && len(b.rooms) == 0 }

// namespaces returns those that an event is about to be emitted to. Of a parent's, more may have sessions that wait to be
// recovered: there the event will be missing.
func (b Broadcast) namespaces() []*Namespace {
	if r := b.ns.srv.config.Recovery; r != nil && b.ns.family != nil && !b.volatile {
		b.ns.journal.notStored(r.Journal.Last())
	}
	return b.ns.concrete()
}

func (b Broadcast) emission(p *Prepared, id int64) emission {
	return emission{prepared: p, id: id, rooms: b.rooms, except: b.except, sender: b.sender}
}

var targetBuffers = sync.Pool{New: func() any { return new([]*Socket) }}

// appendTargets appends the connected sockets that b means, each once.
func (b Broadcast) appendTargets(dst []*Socket) []*Socket {
	if b.ns == nil {
		return dst
	}
	start := len(dst)
	switch {
	case !b.limited:
		dst = b.ns.appendSockets(dst)
	case len(b.rooms) == 1:
		dst = b.ns.appendRoom(dst, b.rooms[0])
	default:
		for _, room := range b.rooms {
			dst = b.ns.appendRoom(dst, room)
		}
		dst = unique(dst, start)
	}
	if b.sender == nil && len(b.except) == 0 {
		return dst
	}
	var except map[*Socket]struct{}
	if len(b.except) > 0 {
		except = make(map[*Socket]struct{})
		for _, room := range b.except {
			for _, s := range b.ns.appendRoom(nil, room) {
				except[s] = struct{}{}
			}
		}
	}
	kept := dst[:start]
	for _, s := range dst[start:] {
		if _, out := except[s]; !out && s != b.sender {
			kept = append(kept, s)
		}
	}
	clear(dst[len(kept):])
	return kept
}

func unique(sockets []*Socket, start int) []*Socket {
	seen := make(map[*Socket]struct{}, len(sockets)-start)
	kept := sockets[:start]
	for _, s := range sockets[start:] {
		if _, dup := seen[s]; !dup {
			seen[s] = struct{}{}
			kept = append(kept, s)
		}
	}
	return kept
}
