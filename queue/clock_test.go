package queue_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// doubtful is an engine whose clock can't be relied on, until a test says so.
type doubtful struct {
	queue.Engine
	right atomic.Bool
}

func (d *doubtful) Clock() error {
	if d.right.Load() {
		return nil
	}
	return errors.New("somebody has changed it")
}

func TestNothingExpiresByADoubtfulClock(t *testing.T) {
	const short = 300 * time.Millisecond
	var clock *doubtful
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) {
		clock = &doubtful{Engine: c.Engine}
		c.Engine, c.MaxAge, c.DedupeWindow = clock, time.Second, short
		c.Topics = []queue.TopicConfig{{Pattern: "young", MaxAge: short}, {Pattern: "state", MaxAge: -1}}
	}})
	begin := time.Now()
	first := n.publish(t, "old", 0)
	n.publish(t, "young", 0)
	n.publish(t, "state", 0)
	m := message("ttl", 0)
	m.TTL = short
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	m = message("later", 0)
	m.Delay = short
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	until(t, "all of it to be too old", func() bool { return time.Since(begin) > 2500*time.Millisecond })
	for topic, want := range map[string][]string{
		"old": texts("old", 0, 1), "young": texts("young", 0, 1), "ttl": texts("ttl", 0, 1), "state": texts("state", 0, 1), "later": nil,
	} {
		if got := n.all(t, topic); !slices.Equal(got, want) {
			t.Errorf("topic %s has %q", topic, got)
		}
	}
	r := &recorder{}
	attach(t, n.personal(t, "ttl", "ann", queue.StartFirst), queue.ConsumerConfig{Sink: r})
	r.want(t, texts("ttl", 0, 1)...)
	if again := n.publish(t, "old", 0); !again.Duplicate || again.Offset != first.Offset {
		t.Errorf("%+v was forgotten", first)
	}

	clock.right.Store(true)
	until(t, "all of it to expire", func() bool {
		return len(n.all(t, "old"))+len(n.all(t, "young"))+len(n.all(t, "ttl")) == 0 && len(n.all(t, "later")) == 1
	})
	if got := n.all(t, "state"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
