package engineio

import "sync"

const (
	pieceSize  = 16 << 10 // how much is copied together for one write
	readSize   = 32 << 10
	keepQueued = 256 // a longer queue's memory is not pooled
)

var (
	batches = sync.Pool{New: func() any { return new(batch) }}
	pieces  = sync.Pool{New: func() any { return new([pieceSize]byte) }}
	reads   = sync.Pool{New: func() any { return new([readSize]byte) }}
)

// A batch is a run of messages on its way to a peer: a session's queue first, and what a writer works on then.
type batch struct {
	messages []*Message
	next     int // the first message that rest does not hold

	rest    []byte           // what is left to be written of the piece in hand
	piece   *[pieceSize]byte // memory of rest, when it holds copies
	size    int              // bytes of the piece in hand
	packets int              // messages of the piece in hand
}

func newBatch() *batch { return batches.Get().(*batch) }

func (b *batch) free() {
	b.release()
	clear(b.messages)
	messages := b.messages[:0]
	if cap(messages) > keepQueued {
		messages = nil
	}
	*b = batch{messages: messages}
	batches.Put(b)
}

func (b *batch) release() {
	if b.piece != nil {
		pieces.Put(b.piece)
		b.piece = nil
	}
	b.rest = nil
}

// len returns how many messages are not in a piece yet.
func (b *batch) len() int { return len(b.messages) - b.next }

// fill makes the next piece for a WebSocket: one message as it is, or copies of as many as fit. It reports whether there
// was one.
func (b *batch) fill(ws *socket) bool {
	if b.next == len(b.messages) {
		b.release()
		return false
	}
	first := b.messages[b.next]
	end, size := b.next+1, first.Len()
	for end < len(b.messages) && size+b.messages[end].Len() <= pieceSize {
		size += b.messages[end].Len()
		end++
	}
	if end == b.next+1 {
		b.release()
		b.rest = ws.encode(first)
	} else {
		if b.piece == nil {
			b.piece = pieces.Get().(*[pieceSize]byte)
		}
		b.rest = b.piece[:0]
		for _, m := range b.messages[b.next:end] {
			b.rest = append(b.rest, ws.encode(m)...)
		}
	}
	b.size, b.packets = size, end-b.next
	clear(b.messages[b.next:end]) // rest is all that is needed of them
	b.next = end
	return true
}

// take removes up to limit messages, as many as come to about size bytes, and appends them to dst.
func (b *batch) take(dst []*Message, limit, size int) []*Message {
	for total := 0; limit > 0 && b.next < len(b.messages) && total < size; limit-- {
		m := b.messages[b.next]
		b.messages[b.next] = nil
		b.next++
		dst = append(dst, m)
		total += m.Len()
	}
	return dst
}
