package faults

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/internal/natstest"
)

// TestNATSServerKilled kills the server that has the log, which comes back after a while, and now and then the process that uses it.
func TestNATSServerKilled(t *testing.T) {
	s := natstest.Run(t, natstest.Config{SyncAlways: true})
	r := newRun(t, t.TempDir())
	r.NATS = []string{s.URL}
	for range rounds(1, 5) {
		r.killServers(rounds(2, 5), func() *natstest.Server { return s })
	}
	r.drain()
	r.check()
}

// TestNATSLeaderKilled kills, of three servers, the one that leads the log. It comes back while the others go on.
func TestNATSLeaderKilled(t *testing.T) {
	servers := natstest.RunCluster(t, natstest.Config{}, 3)
	r := newRun(t, t.TempDir())
	r.NATS = natstest.URLs(servers)
	for range rounds(1, 3) {
		r.killServers(rounds(1, 3), func() *natstest.Server { return r.leader(servers) })
	}
	r.drain()
	r.check()
}

// saved is how long after the first event that is stored again everything is that was acknowledged to the broker meanwhile: each of
// several streams may have to elect a leader.
const saved = 6 * time.Second

// killServers runs a child meanwhile, which is killed in the end.
func (r *run) killServers(times int, which func() *natstest.Server) {
	r.Helper()
	next := 200 + r.random.IntN(1000)
	var up, stored time.Time // when the server was, and an event after it
	err := r.process(func(n int, e history.Event, v victim) {
		if stored.IsZero() && e.Kind == history.Stored && e.Wall > up.UnixNano() {
			stored = time.Now()
		}
		switch {
		case n < next, stored.IsZero():
			return
		case times == 0 && time.Since(stored) < saved:
			return
		case times == 0:
			v.kill()
		}
		next = n + 200 + r.random.IntN(1000)
		if times--; times < 0 {
			return
		}
		s := which()
		s.Kill()
		<-time.After(time.Duration(r.random.IntN(3000)) * time.Millisecond)
		if err := s.Start(); err != nil {
			r.Fatal(err)
		}
		up, stored = time.Now(), time.Time{}
	})
	if err == nil || times >= 0 {
		r.Fatalf("the child ended by itself: %v", err)
	}
	r.crashed("kill")
}

// leader returns, of servers, the one that leads the log.
func (r *run) leader(servers []*natstest.Server) *natstest.Server {
	nc, err := nats.Connect(strings.Join(natstest.URLs(servers), ","))
	if err != nil {
		r.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		r.Fatal(err)
	}
	for range 30 {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		stream, err := js.Stream(ctx, "EVT_0")
		cancel()
		if err != nil {
			continue
		}
		for _, s := range servers {
			if s.Name == stream.CachedInfo().Cluster.Leader {
				return s
			}
		}
		<-time.After(100 * time.Millisecond)
	}
	r.Fatal("nobody leads the log")
	panic("unreachable")
}
