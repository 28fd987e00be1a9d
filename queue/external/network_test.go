package external

import (
	"errors"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

// silent checks that nothing is acknowledged while something happens.
func (l *load) silent(t *testing.T, f func()) {
	t.Helper()
	was := l.acked.Load()
	f()
	if n := l.acked.Load() - was; n > 0 {
		t.Errorf("%d events were acknowledged meanwhile", n)
	}
}

// A node that is cut off from the servers acknowledges nothing, and goes on by itself.
func TestCutOff(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	p := natstest.NewProxy(t, s)
	n := open(t, startOn(t, Config{URLs: []string{p.URL}}), t.TempDir())
	l := startLoad(t, n)
	for _, long := range []bool{false, true} {
		l.more(t, 100)
		p.Cut()
		until(t, "answers that were on their way", func() bool { return time.Since(time.Unix(0, l.last.Load())) > time.Second })
		l.silent(t, func() {
			if long {
				until(t, "the broker to notice", func() bool { return n.Health() != nil })
			} else {
				until(t, "a moment", func() bool { return time.Since(time.Unix(0, l.last.Load())) > 2*time.Second })
			}
		})
		p.Mend()
		t.Logf("no event for %v", l.more(t, 100))
	}
	until(t, "health", func() bool { return n.Health() == nil })
	l.end(t, n)
}

// A node that another one replaces while it is cut off acknowledges nothing any more, though what it had sent arrives in the end.
func TestReplacedWhileCutOff(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	p := natstest.NewProxy(t, s)
	first := open(t, startOn(t, Config{URLs: []string{p.URL}, Node: "a"}), t.TempDir())
	l := startLoad(t, first)
	l.more(t, 100)
	p.Cut()
	second := startOn(t, Config{Node: "b"}, s)
	l.silent(t, func() {
		n := open(t, second, t.TempDir())
		for i := range 10 {
			n.publish(t, i)
		}
		p.Mend()
		until(t, "the first one to notice", func() bool { return errors.Is(first.engine.Health(), ErrInUse) })
		for i := range 10 {
			n.publish(t, 10+i)
			if _, err := first.Publish(t.Context(), message(100)); !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, queue.ErrUnknown) {
				t.Errorf("the first one published: %v", err)
			}
		}
		if got := n.texts(t); len(got) != 20 {
			t.Errorf("%d events: %q", len(got), got)
		}
		l.end(t, n)
		if err := n.Health(); err != nil {
			t.Error(err)
		}
	})
}

// The server that leads the log is cut off from the two others, while clients go on to reach it.
func TestLeaderIsCutOff(t *testing.T) {
	t.Parallel()
	servers := natstest.RunCluster(t, natstest.Config{Cuttable: true}, 3)
	n := open(t, startOn(t, Config{}, servers...), t.TempDir())
	l := startLoad(t, n)
	l.more(t, 500)
	alone := leader(t, n.engine.js, guard.Events, servers)
	alone.Cut()
	t.Logf("leader cut off: no event for %v", l.more(t, 500))
	alone.Mend()
	t.Logf("it is back: no event for %v", l.more(t, 500))
	until(t, "health", func() bool { return n.Health() == nil && n.engine.Health() == nil })
	l.end(t, n)
}

// A server that is told to end hands over what it leads, and events go on.
func TestLameDuck(t *testing.T) {
	t.Parallel()
	servers := natstest.RunCluster(t, natstest.Config{Extra: "lame_duck_duration: 30s, lame_duck_grace_period: 1s\n"}, 3)
	n := open(t, startOn(t, Config{}, servers...), t.TempDir())
	l := startLoad(t, n)
	l.more(t, 500)
	s := leader(t, n.engine.js, guard.Events, servers)
	if err := s.LameDuck(); err != nil {
		t.Fatal(err)
	}
	longest := l.more(t, 500)
	until(t, "the server to end", func() bool { longest = max(longest, l.more(t, 10)); return !s.Running() })
	t.Logf("lame duck: no event for %v", longest)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("it is back: no event for %v", l.more(t, 500))
	l.end(t, n)
}
