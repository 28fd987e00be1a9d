// Package rooms is the index of who is in which room.
//
// A room exists while it has members. The index is split into shards by the room's name, each with its own lock; no lock
// is held while the caller works on what it was given.
package rooms

import (
	"hash/maphash"
	"iter"
	"strings"
	"sync"
)

const (
	shards = 32
	small  = 16 // up to so many members a scan of the list beats a map, in time and in memory
)

// Index holds the memberships. All methods may be called from any goroutine.
type Index[M comparable] struct {
	seed   maphash.Seed
	shards [shards]shard[M]
}

type shard[M comparable] struct {
	mu    sync.RWMutex
	rooms map[string]*room[M] // guarded by mu, as is everything below it
}

// room keeps its members in a list, for snapshots, and their places in it once it is large.
type room[M comparable] struct {
	members []M
	places  map[M]int32 // nil while small
}

// New returns an empty index.
func New[M comparable]() *Index[M] {
	return &Index[M]{seed: maphash.MakeSeed()}
}

func (x *Index[M]) shard(room string) *shard[M] {
	return &x.shards[maphash.String(x.seed, room)%shards]
}

// Join adds m to room; created means that it is the first member. To join twice changes nothing.
func (x *Index[M]) Join(name string, m M) (created bool) {
	s := x.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if r == nil {
		if s.rooms == nil {
			s.rooms = make(map[string]*room[M])
		}
		r = &room[M]{members: make([]M, 0, 1)}
		s.rooms[strings.Clone(name)] = r // the caller's string may be part of something larger
		created = true
	}
	r.add(m)
	return created
}

// Leave removes m from room; deleted means that it was the last member. To leave a room that one is not in changes
// nothing.
func (x *Index[M]) Leave(name string, m M) (deleted bool) {
	s := x.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if r == nil || !r.remove(m) || len(r.members) > 0 {
		return false
	}
	delete(s.rooms, name)
	if len(s.rooms) == 0 {
		s.rooms = nil // a map never shrinks
	}
	return true
}

// AppendMembers appends the members that room has at this moment to dst, in no particular order.
func (x *Index[M]) AppendMembers(dst []M, name string) []M {
	s := x.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.rooms[name]; r != nil {
		dst = append(dst, r.members...)
	}
	return dst
}

// Has tells whether m is in room.
func (x *Index[M]) Has(name string, m M) bool {
	s := x.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.rooms[name]
	return r != nil && r.place(m) >= 0
}

// Len returns the number of members of room; 0 when there is no such room.
func (x *Index[M]) Len(name string) int {
	s := x.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.rooms[name]; r != nil {
		return len(r.members)
	}
	return 0
}

// Rooms iterates over the rooms and their sizes. Each shard is a snapshot of its own moment; the index may be changed
// meanwhile, also by the loop itself.
func (x *Index[M]) Rooms() iter.Seq2[string, int] {
	type entry struct {
		name string
		size int
	}
	return func(yield func(string, int) bool) {
		var entries []entry
		for i := range x.shards {
			s := &x.shards[i]
			entries = entries[:0]
			s.mu.RLock()
			for name, r := range s.rooms {
				entries = append(entries, entry{name, len(r.members)})
			}
			s.mu.RUnlock()
			for _, e := range entries {
				if !yield(e.name, e.size) {
					return
				}
			}
		}
	}
}

// place returns where m is in the list, -1 if it is not.
func (r *room[M]) place(m M) int {
	if r.places != nil {
		if i, ok := r.places[m]; ok {
			return int(i)
		}
		return -1
	}
	for i := range r.members {
		if r.members[i] == m {
			return i
		}
	}
	return -1
}

func (r *room[M]) add(m M) {
	if r.place(m) >= 0 {
		return
	}
	r.members = append(r.members, m)
	if r.places != nil {
		r.places[m] = int32(len(r.members) - 1)
	} else if len(r.members) > small {
		r.index()
	}
}

// remove moves the last member into the place of m.
func (r *room[M]) remove(m M) bool {
	i := r.place(m)
	if i < 0 {
		return false
	}
	last := len(r.members) - 1
	moved := r.members[last]
	var none M
	r.members[i] = moved
	r.members[last] = none // what has left is not to be kept alive
	r.members = r.members[:last]
	if r.places != nil {
		r.places[moved] = int32(i)
		delete(r.places, m)
	}
	if last > 0 && last <= cap(r.members)/4 {
		r.members = append(make([]M, 0, 2*last), r.members...)
		r.index()
	}
	return true
}

// index makes the map anew, in the size that the list needs now.
func (r *room[M]) index() {
	r.places = nil
	if len(r.members) <= small/2 {
		return
	}
	r.places = make(map[M]int32, len(r.members))
	for i, m := range r.members {
		r.places[m] = int32(i)
	}
}
