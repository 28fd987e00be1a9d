package guard

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

// Clock watches over the wall clock, by which events expire. One that was set wrong, with an event that lives an hour in the
// store, would have it deleted; so when it has been changed it is not believed for a while. One goroutine calls Begin and
// then Look, any number Err.
type Clock struct {
	log     *slog.Logger
	wall    func() time.Time
	boot    func() int64 // ns since boot, or another clock that nobody sets
	trusted bool

	why atomic.Pointer[error] // it is not believed

	// owned by the goroutine that looks
	offset int64 // wall less boot, when last looked at
	since  int64 // on boot: when it was changed last
}

// NewClock returns a clock that is believed. A trusted one always is.
func NewClock(log *slog.Logger, trusted bool) *Clock {
	began := time.Now()
	boot := Boottime
	if Boottime() == 0 {
		boot = func() int64 { return int64(time.Since(began)) }
	}
	return &Clock{log: log, wall: time.Now, boot: boot, trusted: trusted}
}

// Begin compares the clock with what was on record when the store was last in use: the time in ns since 1970, 0 if nobody knows; the
// ns since boot, 0 if that was another boot, or nobody knows; and when the newest event was stored.
func (c *Clock) Begin(wall, boot int64, newest time.Time) {
	now := c.wall()
	c.offset = now.UnixNano() - c.boot()
	off := time.Duration(now.UnixNano() - wall)
	if boot != 0 {
		off -= time.Duration(c.boot() - boot)
	}
	switch {
	case wall != 0 && (off < -clockTolerance || boot != 0 && off > clockTolerance):
		c.suspect(fmt.Errorf("the clock was changed by about %v since the store was last open", off.Round(time.Second)))
	case newest.Sub(now) > clockTolerance:
		c.suspect(fmt.Errorf("the clock is at %v, and the newest event is of %v", now.Format(time.RFC3339), newest.Format(time.RFC3339)))
	}
}

// Look is called now and then.
func (c *Clock) Look() {
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

func (c *Clock) suspect(why error) {
	if c.trusted {
		c.log.Warn("the clock was changed, and is believed as it was asked for", "cause", why)
		return
	}
	c.since = c.boot()
	c.why.Store(&why)
	c.log.Warn("no event expires until the clock can be believed", "cause", why, "for", clockProbation)
}

// Err returns nil while the clock is believed, and else why not.
func (c *Clock) Err() error {
	if p := c.why.Load(); p != nil {
		return *p
	}
	return nil
}
