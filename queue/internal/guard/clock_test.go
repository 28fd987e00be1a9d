package guard

import (
	"log/slog"
	"testing"
	"time"
)

// fakeClock is a clock that a test moves.
func fakeClock() (c *Clock, wall *time.Time, boot *time.Duration) {
	wall, boot = new(time.Time), new(time.Duration)
	*wall, *boot = time.Unix(1_800_000_000, 0), time.Hour
	c = NewClock(slog.New(slog.DiscardHandler), false)
	c.wall = func() time.Time { return *wall }
	c.boot = func() int64 { return int64(*boot) }
	return c, wall, boot
}

func TestClockAtStart(t *testing.T) {
	for _, test := range []struct {
		name       string
		wall, boot time.Duration // gone by since the store was closed
		rebooted   bool
		newest     time.Duration // how old the newest event is
		suspect    bool
	}{
		{"nothing", 0, 0, false, 0, false},
		{"an hour later", time.Hour, time.Hour, false, time.Hour, false},
		{"adjusted", time.Hour + 50*time.Second, time.Hour, false, time.Hour, false},
		{"an hour ahead", 2 * time.Hour, time.Hour, false, 2 * time.Hour, true},
		{"an hour back", 0, time.Hour, false, 0, true},
		{"days later, by another kernel", 72 * time.Hour, 0, true, 72 * time.Hour, false},
		{"earlier, by another kernel", -time.Hour, 0, true, 0, true},
		{"before the newest event", time.Minute, time.Minute, false, -2 * time.Minute, true},
	} {
		c, wall, boot := fakeClock()
		was, booted := wall.UnixNano(), int64(*boot)
		if test.rebooted {
			booted = 0
		}
		*wall, *boot = wall.Add(test.wall), *boot+test.boot
		c.Begin(was, booted, wall.Add(-test.newest))
		if suspect := c.Err() != nil; suspect != test.suspect {
			t.Errorf("%s: %v", test.name, c.Err())
		}
	}
}

func TestClockWhileRunning(t *testing.T) {
	c, wall, boot := fakeClock()
	c.Begin(0, 0, time.Time{})
	pass := func(d time.Duration) {
		for range d / time.Second {
			*wall, *boot = wall.Add(time.Second), *boot+time.Second
			c.Look()
		}
	}
	pass(time.Minute)
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	*wall = wall.Add(-time.Hour)
	pass(9 * time.Minute)
	if c.Err() == nil {
		t.Error("the clock was changed, and nobody noticed")
	}
	*wall = wall.Add(time.Hour) // right again: the probation begins anew
	pass(9 * time.Minute)
	if c.Err() == nil {
		t.Error("believed too soon")
	}
	pass(2 * time.Minute)
	if c.Err() != nil {
		t.Error(c.Err())
	}
	c.trusted = true
	*wall = wall.Add(time.Hour)
	pass(time.Second)
	if c.Err() != nil {
		t.Errorf("not believed, though asked to: %v", c.Err())
	}
}
