package app

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/holdpost/holdpost/internal/config"
)

const (
	memoryLook = 250 * time.Millisecond
	// Of the limit: what the garbage collector is told, from where on nobody is let in, and from where on queues are dropped.
	collectShare = 0.85
	holdShare    = 0.75
	shedShare    = 0.90
)

// memoryLimit returns how much memory the process may use, in bytes, and tells the garbage collector; 0 is no limit.
func memoryLimit(c *config.Config) int64 {
	limit := c.Limits.Memory
	if limit < 0 {
		return 0
	}
	told := debug.SetMemoryLimit(-1)
	if limit == 0 && told < math.MaxInt64 { // GOMEMLIMIT is set, to what is left for others
		return int64(float64(told) / collectShare)
	}
	if limit == 0 {
		most, err := memlimit.FromCgroup()
		if err != nil || most > math.MaxInt64 { // there is none
			return 0
		}
		limit = int64(most)
	}
	debug.SetMemoryLimit(int64(float64(limit) * collectShare))
	return limit
}

// memoryGuard lets the server refuse what it has no memory for, before the kernel ends it.
type memoryGuard struct {
	limit int64
	used  func() int64
	hold  func(bool)
	shed  func(bytes int)
}

// run looks until ctx ends.
func (g *memoryGuard) run(ctx context.Context) {
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			g.look()
		case <-ctx.Done():
			return
		}
	}
}

func (g *memoryGuard) look() {
	share := float64(g.used()) / float64(g.limit)
	g.hold(share >= holdShare)
	if share >= shedShare {
		g.shed(int((share - holdShare) * float64(g.limit)))
	}
}

// memoryInUse returns the bytes that the process can't do without: not the garbage, which is collected when it must be, and not
// what was given back.
func memoryInUse() int64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	at := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	garbage := max(0, at(4)-at(5))
	return at(0) - at(1) - at(2) - at(3) - garbage
}
