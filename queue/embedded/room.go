package embedded

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/holdpost/holdpost/queue"
)

const (
	minReserve = 256 << 20
	minLimit   = 1 << 20 // the server takes 0 for "choose yourself"
	raiseStep  = 8 << 20 // a limit that is off by less stays

	roomPeriod = time.Second
)

// Room returns nil, or an error that wraps queue.ErrFull while less than the reserve is free.
func (e *Engine) Room() error {
	if err := e.full.Load(); err != nil {
		return *err
	}
	return nil
}

// plan sets the reserve, and the server's limit such that it ends half-way into the reserve: Room tells first.
func (e *Engine) plan() error {
	size, free, err := diskRoom(e.dir)
	if err != nil {
		return err
	}
	switch {
	case e.reserve == 0:
		e.reserve = max(minReserve, size/20)
	case e.reserve < 0:
		e.reserve = 0
	}
	used := int64(0)
	filepath.WalkDir(filepath.Join(e.dir, storeName), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				used += info.Size()
			}
		}
		return nil // what can't be read is not counted; the server will complain
	})
	e.limit = max(minLimit, used+free-e.reserve/2)
	e.measured(free)
	return nil
}

// measured says whether there is room, and returns it.
func (e *Engine) measured(free int64) bool {
	was := e.full.Load()
	if free >= e.reserve {
		if was != nil {
			e.full.Store(nil)
			e.log.Info("there is room again: events are accepted", "free", free, "reserve", e.reserve)
		}
		return true
	}
	err := fmt.Errorf("%w: %s has %d MiB left, and %d MiB are kept in reserve", queue.ErrFull, e.dir, free>>20, e.reserve>>20)
	e.full.Store(&err)
	if was == nil {
		e.log.Warn("the disk is full: no more events are accepted", "dir", e.dir, "free", free, "reserve", e.reserve)
	}
	return false
}

// watch looks at the disk and at the server's health, so that Room and Health cost nothing.
func (e *Engine) watch() {
	tick := time.NewTicker(roomPeriod)
	defer tick.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		if _, free, err := diskRoom(e.dir); err != nil {
			e.log.Warn("can't measure the disk", "dir", e.dir, "error", err)
		} else if e.measured(free) {
			e.raise(free)
		}
		e.diagnose()
	}
}

// raise lifts the server's limit when the disk has got room that it did not have before. The server can't lower it, but
// for room that others take there is Room.
func (e *Engine) raise(free int64) {
	info, err := e.srv.Jsz(&server.JSzOptions{})
	if err != nil {
		return // the server is about to stop
	}
	limit := int64(info.Store) + free - e.reserve/2
	if limit < e.limit+raiseStep {
		return
	}
	opts := e.opts.Clone()
	opts.JetStreamMaxStore = limit
	if err := e.srv.ReloadOptions(opts); err != nil {
		e.log.Warn("can't raise the server's store limit", "limit", limit, "error", err)
		return
	}
	e.limit = limit
}

func (e *Engine) diagnose() {
	status := e.srv.Healthz(&server.HealthzOptions{})
	was := e.sick.Load()
	if status.Error == "" {
		if was != nil {
			e.sick.Store(nil)
			e.log.Info("the server is healthy again")
		}
		return
	}
	err := fmt.Errorf("embedded server: %s", status.Error)
	e.sick.Store(&err)
	if was == nil {
		e.log.Error("the server is not healthy", "error", err)
	}
}
