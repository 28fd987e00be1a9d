package client

import "slices"

// entry is one packet that is to be written: its text, and what belongs to it.
type entry struct {
	text        []byte   // with Engine.IO's type in front; nil for a packet that is all binary
	attachments [][]byte // binary messages
	ack         int64    // that is waited for; -1: none
	bound       bool     // to the session: of no use on the next one
}

func (e *entry) size() int {
	n := len(e.text) + 64 // what it costs besides
	for _, b := range e.attachments {
		n += len(b)
	}
	return n
}

// buffer is what waits in one socket, in order. Guarded by the socket's mu.
type buffer struct {
	entries []entry
	bytes   int
	woken   bool // the session's writer will ask for it
}

// full tells whether an entry of n bytes would be too much. An empty buffer takes any.
func (b *buffer) full(n int, c *Config) bool {
	return len(b.entries) > 0 && (b.bytes+n > c.BufferBytes || len(b.entries) >= c.BufferPackets)
}

func (b *buffer) push(e entry) {
	b.entries = append(b.entries, e)
	b.bytes += e.size()
}

// dropOldest drops the entry that has waited longest of those that may be dropped.
func (b *buffer) dropOldest() (dropped entry, ok bool) {
	return b.remove(func(e *entry) bool { return !e.bound })
}

// remove takes out the first entry for which f is true.
func (b *buffer) remove(f func(*entry) bool) (removed entry, ok bool) {
	for i := range b.entries {
		if removed = b.entries[i]; f(&removed) {
			b.entries = slices.Delete(b.entries, i, i+1)
			b.bytes -= removed.size()
			return removed, true
		}
	}
	return entry{}, false
}

// take takes entries of about max bytes from the front. more tells that others wait still.
func (b *buffer) take(dst []entry, max int) (batch []entry, more bool) {
	n, size := 0, 0
	for n < len(b.entries) && size < max {
		size += b.entries[n].size()
		n++
	}
	dst = append(dst, b.entries[:n]...)
	b.bytes -= size
	if n == len(b.entries) {
		b.entries, b.woken = nil, false
		return dst, false
	}
	b.entries = slices.Delete(b.entries, 0, n)
	return dst, true
}

// takeAll takes everything.
func (b *buffer) takeAll() []entry {
	all := b.entries
	*b = buffer{}
	return all
}

// forget drops what was bound to a session that has ended.
func (b *buffer) forget() {
	b.entries = slices.DeleteFunc(b.entries, func(e entry) bool {
		if e.bound {
			b.bytes -= e.size()
		}
		return e.bound
	})
	b.woken = false
}
