package embedded

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	clockTolerance = time.Minute      // how far the clock may move against the time since boot
	clockProbation = 10 * time.Minute // after which a clock that was changed, and not again, is believed
)

// clock watches over the wall clock, by which events expire. One that was set wrong, with an event that lives an hour in the
// store, would have it deleted; so when it has been changed it is not believed for a while.
type clock struct {
	log     *slog.Logger
	wall    func() time.Time
	boot    func() int64 // ns since boot, or another clock that nobody sets
	trusted bool

	why atomic.Pointer[error] // it is not believed

	// owned by the goroutine that looks
	offset int64 // wall less boot, when last looked at
	since  int64 // on boot: when it was changed last
}

func newClock(log *slog.Logger, trusted bool) *clock {
	began := time.Now()
	boot := boottime
	if boottime() == 0 {
		boot = func() int64 { return int64(time.Since(began)) }
	}
	return &clock{log: log, wall: time.Now, boot: boot, trusted: trusted}
}

// start compares the clock with what the mark and the newest event say.
func (c *clock) start(m *mark, rebooted bool, newest time.Time) {
	now := c.wall()
	c.offset = now.UnixNano() - c.boot()
	off := time.Duration(now.UnixNano() - m.wall)
	if !rebooted && m.boottime != 0 {
		off -= time.Duration(c.boot() - m.boottime)
	}
	switch {
	case m.wall != 0 && (off < -clockTolerance || !rebooted && m.boottime != 0 && off > clockTolerance):
		c.suspect(fmt.Errorf("the clock was changed by about %v since the store was last open", off.Round(time.Second)))
	case newest.Sub(now) > clockTolerance:
		c.suspect(fmt.Errorf("the clock is at %v, and the newest event is of %v", now.Format(time.RFC3339), newest.Format(time.RFC3339)))
	}
}

// look is called now and then.
func (c *clock) look() {
	boot := c.boot()
	offset := c.wall().UnixNano() - boot
	if moved := time.Duration(offset - c.offset); moved > clockTolerance || moved < -clockTolerance {
		c.suspect(fmt.Errorf("the clock was changed by %v", moved.Round(time.Second)))
	}
	c.offset = offset
	if c.why.Load() != nil && time.Duration(boot-c.since) > clockProbation {
		c.why.Store(nil)
		c.log.Info("the clock has not been changed again and is believed: events expire by it")
	}
}

func (c *clock) suspect(why error) {
	if c.trusted {
		c.log.Warn("the clock was changed, and is believed as it was asked for", "cause", why)
		return
	}
	c.since = c.boot()
	c.why.Store(&why)
	c.log.Warn("no event expires until the clock can be believed", "cause", why, "for", clockProbation)
}

func (c *clock) err() error {
	if p := c.why.Load(); p != nil {
		return *p
	}
	return nil
}
