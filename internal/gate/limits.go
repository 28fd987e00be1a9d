package gate

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdpost/holdpost"
)

// quiet is how long nothing was refused before a client is warned again.
const quiet = 10 * time.Second

// Limits bound what clients may have and do. Negative numbers are no limit.
type Limits struct {
	PerAddress  int // sockets at a time of one address; of IPv6 of one /64
	PerIdentity int // and of one identity

	EventsPerSecond float64 // that one socket may send
	EventsBurst     int     // and at once
}

// tally counts by name.
type tally struct {
	mu     sync.Mutex // guards the field below
	counts map[string]int
}

// take counts one more, unless the limit is reached.
func (t *tally) take(name string, limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if limit >= 0 && t.counts[name] >= limit {
		return false
	}
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	t.counts[name]++
	return true
}

func (t *tally) count(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[name]
}

func (t *tally) release(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts[name]--; t.counts[name] <= 0 {
		delete(t.counts, name)
	}
}

// countedAs returns what the connections of an address are counted under: it without its port, of IPv6 its /64.
func countedAs(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host // of no network, as in tests
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

// bound refuses events that come too fast. The client is warned by an event "rate_limited"; one that goes on is disconnected.
func (g *Gate) bound(ctx context.Context, s *holdpost.Socket, _ string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
	limits := g.limits.Load()
	v, ok := g.visitors.Get(s)
	if !ok || limits.EventsPerSecond < 0 {
		return next(ctx, s, args)
	}
	if v.events == nil {
		v.events = rate.NewLimiter(rate.Limit(limits.EventsPerSecond), limits.EventsBurst)
	} else if v.events.Limit() != rate.Limit(limits.EventsPerSecond) || v.events.Burst() != limits.EventsBurst {
		v.events.SetLimit(rate.Limit(limits.EventsPerSecond))
		v.events.SetBurst(limits.EventsBurst)
	}
	if v.events.Allow() {
		return next(ctx, s, args)
	}
	now := time.Now()
	if now.Sub(v.last) > quiet {
		v.refused = 0
		warn := map[string]any{"eventsPerSecond": limits.EventsPerSecond, "burst": limits.EventsBurst}
		if err := s.Emit(ctx, "rate_limited", warn); err != nil {
			return nil, err
		}
	}
	v.last = now
	if v.refused++; v.refused > max(limits.EventsBurst, 10) {
		s.Disconnect(true)
	}
	return nil, &holdpost.Error{Code: "too_many", Message: "events come too fast"}
}

// Admission lets connections begin at a pace: when all come at once, those that are there already are served meanwhile.
type Admission struct {
	limiter *rate.Limiter
	wait    atomic.Int64 // a [time.Duration]
	held    atomic.Bool
	leaving context.Context
	refused func(by string)
}

// NewAdmission returns one with the limits of [Admission.Set]. Once leaving ends nobody waits any more. refused is called for each
// that is not let in, with "admission" or "memory"; nil: nobody is.
func NewAdmission(leaving context.Context, perSecond float64, burst int, wait time.Duration, refused func(by string)) *Admission {
	a := &Admission{limiter: rate.NewLimiter(0, burst), leaving: leaving, refused: refused}
	a.Set(perSecond, burst, wait)
	return a
}

// Hold lets nobody in, or ends that, for want of memory.
func (a *Admission) Hold(held bool) { a.held.Store(held) }

// Set lets burst connections begin at once and then so many a second; below zero there is no limit. Who comes too early waits for
// its turn, if that is no further away than wait: so perSecond times wait bounds how many do.
func (a *Admission) Set(perSecond float64, burst int, wait time.Duration) {
	a.wait.Store(int64(wait))
	limit := rate.Limit(perSecond)
	if perSecond < 0 {
		limit = rate.Inf
	}
	a.limiter.SetLimit(limit)
	a.limiter.SetBurst(burst)
}

// Around returns next behind the admission. A request without a session opens one: if there are too many it waits for its turn, or is
// answered 503, with a time after which to try again that is not the same for all. Who waits need not come again and again, which takes a
// server time for nothing.
func (a *Admission) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if !query.Has("EIO") || query.Has("sid") || r.Method == http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		by := a.turn(r.Context())
		if by == "" {
			next.ServeHTTP(w, r)
			return
		}
		if a.refused != nil {
			a.refused(by)
		}
		w.Header().Set("Retry-After", strconv.Itoa(1+rand.IntN(5)))
		http.Error(w, "too many connections at once: try again a moment later", http.StatusServiceUnavailable)
	})
}

// turn waits for a client's turn, and returns "", or what keeps it from having one. It returns early when the client has gone.
func (a *Admission) turn(ctx context.Context) (refusedBy string) {
	if a.held.Load() {
		return "memory"
	}
	if a.limiter.Allow() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.wait.Load()))
	defer cancel()
	stop := context.AfterFunc(a.leaving, cancel)
	defer stop()
	err := a.limiter.Wait(ctx) // takes no turn that is too far away
	switch {
	case a.leaving.Err() != nil: // what is behind refuses it
		return ""
	case err != nil:
		return "admission"
	case a.held.Load(): // meanwhile
		return "memory"
	}
	return ""
}
