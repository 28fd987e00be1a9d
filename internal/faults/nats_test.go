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
		r.disturb(rounds(2, 5), func() { r.kill(s) })
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
		r.disturb(rounds(1, 3), func() { r.kill(r.leader(servers)) })
	}
	r.drain()
	r.check()
}

// TestNATSCutOff cuts the network between the process and the server that has the log, for so short that nobody notices, or longer.
func TestNATSCutOff(t *testing.T) {
	if !long() {
		t.Skip("it takes long; queue/external: TestCutOff")
	}
	p := natstest.NewProxy(t, natstest.Run(t, natstest.Config{SyncAlways: true}))
	r := newRun(t, t.TempDir())
	r.NATS = []string{p.URL}
	for range 4 {
		r.disturb(3, func() {
			p.Cut()
			<-time.After(time.Duration(r.random.IntN(12_000)) * time.Millisecond)
			p.Mend()
		})
	}
	r.drain()
	r.check()
}

// TestNATSLeaderCutOff cuts, of three servers, the one that leads the log off from the two others, while the process can reach all.
func TestNATSLeaderCutOff(t *testing.T) {
	if !long() {
		t.Skip("it takes long; queue/external: TestLeaderIsCutOff")
	}
	servers := natstest.RunCluster(t, natstest.Config{Cuttable: true}, 3)
	r := newRun(t, t.TempDir())
	r.NATS = natstest.URLs(servers)
	for range 3 {
		r.disturb(2, func() {
			alone := r.leader(servers)
			alone.Cut()
			<-time.After(time.Duration(5+r.random.IntN(25)) * time.Second)
			alone.Mend()
		})
	}
	r.drain()
	r.check()
}

// TestNATSLameDuck has, of three servers, the one that leads the log end in order, which comes back.
func TestNATSLameDuck(t *testing.T) {
	if !long() {
		t.Skip("it takes long; queue/external: TestLameDuck")
	}
	servers := natstest.RunCluster(t, natstest.Config{Extra: "lame_duck_duration: 30s, lame_duck_grace_period: 1s\n"}, 3)
	r := newRun(t, t.TempDir())
	r.NATS = natstest.URLs(servers)
	for range 3 {
		r.disturb(2, func() {
			s := r.leader(servers)
			if err := s.LameDuck(); err != nil {
				r.Fatal(err)
			}
			for s.Running() {
				<-time.After(100 * time.Millisecond)
			}
			if err := s.Start(); err != nil {
				r.Fatal(err)
			}
		})
	}
	r.drain()
	r.check()
}

// kill kills a server, which comes back after a while.
func (r *run) kill(s *natstest.Server) {
	s.Kill()
	<-time.After(time.Duration(r.random.IntN(3000)) * time.Millisecond)
	if err := s.Start(); err != nil {
		r.Fatal(err)
	}
}

// saved is how long after the first event that is stored again everything is that was acknowledged to the broker meanwhile: each of
// several streams may have to elect a leader.
const saved = 6 * time.Second

// disturb runs a child, which a fault strikes now and then, and which is killed in the end.
func (r *run) disturb(times int, fault func()) {
	r.Helper()
	next := 200 + r.random.IntN(1000)
	var up, stored time.Time // when the fault was over, and an event was stored after it
	var worst time.Duration
	err := r.process(func(n int, e history.Event, v victim) {
		if stored.IsZero() && e.Kind == history.Stored && e.Wall > up.UnixNano() {
			stored = time.Now()
			if !up.IsZero() {
				worst = max(worst, stored.Sub(up))
			}
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
		fault()
		up, stored = time.Now(), time.Time{}
	})
	if err == nil || times >= 0 {
		r.Fatalf("the child ended by itself: %v", err)
	}
	r.Logf("after a fault nothing was stored for %v at most", worst)
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
