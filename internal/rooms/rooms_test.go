package rooms

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestIndex(t *testing.T) {
	x := New[int]()
	if !x.Join("a", 1) || x.Join("a", 1) || x.Join("a", 2) || !x.Join("b", 1) {
		t.Error("created is wrong")
	}
	if !x.Has("a", 1) || x.Has("a", 3) || x.Has("c", 1) || x.Len("a") != 2 || x.Len("c") != 0 {
		t.Error("membership is wrong")
	}
	if got := slices.Sorted(slices.Values(x.AppendMembers([]int{0}, "a"))); !slices.Equal(got, []int{0, 1, 2}) {
		t.Error(got)
	}
	if x.Leave("a", 3) || x.Leave("c", 1) || x.Leave("a", 1) || x.Leave("a", 1) || !x.Leave("a", 2) || x.Leave("a", 2) {
		t.Error("deleted is wrong")
	}
	if got := maps.Collect(x.Rooms()); !maps.Equal(got, map[string]int{"b": 1}) {
		t.Error(got)
	}
}

// Random joins and leaves against the plainest index there is, over the sizes at which a room changes its form.
func TestModel(t *testing.T) {
	const rooms, members, steps = 12, 120, 60_000
	x, model := New[int](), map[string]map[int]bool{}
	random := rand.New(rand.NewPCG(1, 2))
	for step := range steps {
		name, m := fmt.Sprint("room ", random.IntN(rooms)), random.IntN(members)
		leaving := random.IntN(100) < 30+step/(steps/10)*5 // towards the end most leave
		set := model[name]
		if leaving {
			want := len(set) == 1 && set[m]
			if delete(set, m); len(set) == 0 {
				delete(model, name)
			}
			if x.Leave(name, m) != want {
				t.Fatalf("step %d: deleted = %v", step, !want)
			}
		} else {
			if set == nil {
				model[name] = map[int]bool{}
			}
			model[name][m] = true
			if x.Join(name, m) != (set == nil) {
				t.Fatalf("step %d: created = %v", step, set != nil)
			}
		}
		if x.Has(name, m) == leaving || x.Len(name) != len(model[name]) {
			t.Fatalf("step %d: membership is wrong", step)
		}
		if step%50 != 0 {
			continue
		}
		for name, set := range model {
			got := slices.Sorted(slices.Values(x.AppendMembers(nil, name)))
			if !slices.Equal(got, slices.Sorted(maps.Keys(set))) {
				t.Fatalf("step %d: %s: %v", step, name, got)
			}
			for m := range members {
				if x.Has(name, m) != set[m] {
					t.Fatalf("step %d: %s has %d: %v", step, name, m, !set[m])
				}
			}
		}
		sizes := map[string]int{}
		for name, set := range model {
			sizes[name] = len(set)
		}
		if got := maps.Collect(x.Rooms()); !maps.Equal(got, sizes) {
			t.Fatalf("step %d: %v, want %v", step, got, sizes)
		}
	}
}

// A snapshot taken while others come and go holds those who stay, once each, and nobody who was never there.
func TestConcurrent(t *testing.T) {
	const stay, come = 40, 20
	x := New[int]()
	for m := range stay {
		x.Join("room", m)
	}
	var wg sync.WaitGroup
	for m := stay; m < stay+come; m++ {
		wg.Go(func() {
			for range 300 {
				x.Join("room", m)
				x.Join("other", m)
				x.Leave("other", m)
				x.Leave("room", m)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			var members []int
			for range 500 {
				members = x.AppendMembers(members[:0], "room")
				slices.Sort(members)
				if len(members) < stay || members[stay-1] != stay-1 || members[len(members)-1] >= stay+come {
					t.Errorf("%v", members)
					return
				}
				if len(slices.Compact(members)) != len(members) {
					t.Error("a member twice")
				}
				for name, size := range x.Rooms() {
					if size == 0 {
						t.Errorf("room %s is empty and exists", name)
					}
					x.Join(name, stay) // the loop holds no lock
				}
			}
		})
	}
	wg.Wait()
	x.Leave("room", stay)
	x.Leave("other", stay)
	if got := maps.Collect(x.Rooms()); !maps.Equal(got, map[string]int{"room": stay}) {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	x := New[int]()
	names := []string{"", "__proto__", "constructor", "/", "*", "\x00", "\xff", "é", "e\u0301", "🦊", strings.Repeat("x", 1<<16)}
	for i, name := range names {
		if !x.Join(name, i) {
			t.Errorf("%.20q existed before", name)
		}
	}
	for i, name := range names {
		if !x.Has(name, i) || !x.Leave(name, i) {
			t.Errorf("%.20q is not alone", name)
		}
	}
}

// An index is as small after its rooms are gone as it was before.
func TestForgets(t *testing.T) {
	x := New[int]()
	for range 3 {
		for i := range 5000 {
			x.Join(fmt.Sprint(i%50), i)
		}
		for i := range 5000 {
			x.Leave(fmt.Sprint(i%50), i)
		}
	}
	for i := range x.shards {
		if x.shards[i].rooms != nil {
			t.Fatal("a map without rooms was kept")
		}
	}
	x.Join("room", -1)
	for i := range 5000 {
		x.Join("room", i)
	}
	for i := range 5000 {
		x.Leave("room", i)
	}
	r := x.shard("room").rooms["room"]
	if cap(r.members) > small || r.places != nil {
		t.Errorf("a room of one keeps space for %d, map %v", cap(r.members), r.places != nil)
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	for _, size := range []int{0, 10, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x := New[int]()
			for m := range size {
				x.Join("room", m)
			}
			b.ReportAllocs()
			for b.Loop() {
				x.Join("room", -1)
				x.Leave("room", -1)
			}
		})
	}
}

func BenchmarkAppendMembers(b *testing.B) {
	for _, size := range []int{1, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x := New[*int]()
			for range size {
				x.Join("room", new(int))
			}
			var members []*int
			b.ReportAllocs()
			for b.Loop() {
				members = x.AppendMembers(members[:0], "room")
			}
		})
	}
}

// BenchmarkMemory reports the bytes of one membership, of a room of its own and of a large one.
func BenchmarkMemory(b *testing.B) {
	const memberships = 100_000
	for _, size := range []int{1, 10, 1000, memberships} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			names := make([]string, memberships/size)
			for i := range names {
				names[i] = fmt.Sprintf("room-%08d", i)
			}
			members := make([]int, memberships)
			for range b.N {
				before := heap()
				x := New[*int]()
				for i := range memberships {
					x.Join(names[i/size], &members[i])
				}
				b.ReportMetric(float64(heap()-before)/memberships, "B/membership")
				runtime.KeepAlive(x)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
