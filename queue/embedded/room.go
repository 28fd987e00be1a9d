package embedded

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/holdpost/holdpost/queue"
)

const (
	minReserve = 256 << 20

	// maxStore is the server's own limit: out of reach, because the server takes streams whose allowed size exceeds it for
	// impossible, and then a store could not be opened on a disk that is nearly full. The brake does its work.
	maxStore = 1 << 50

	roomPeriod = time.Second
)

// Room returns nil, or an error that wraps queue.ErrFull while less than the reserve is free.
func (e *Engine) Room() error {
	if err := e.full.Load(); err != nil {
		return *err
	}
	return nil
}

// plan sets the reserve.
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
	e.measured(free)
	return nil
}

// measured takes note of what is free. Below the reserve Room says so, and whoever asks it stops. Below half of it the
// server is made to refuse every write, because one that meets a full disk does not recover by itself.
func (e *Engine) measured(free int64) {
	e.measuring.Lock()
	defer e.measuring.Unlock()
	switch was := e.full.Load(); {
	case free < e.reserve:
		err := fmt.Errorf("%w: %s has %d MiB left, and %d MiB are kept in reserve", queue.ErrFull, e.dir, free>>20, e.reserve>>20)
		e.full.Store(&err)
		if was == nil {
			e.log.Warn("the disk is full: no more events are accepted", "dir", e.dir, "free", free, "reserve", e.reserve)
		}
	case was != nil:
		e.full.Store(nil)
		e.log.Info("there is room again: events are accepted", "dir", e.dir, "free", free, "reserve", e.reserve)
	}
	if e.ready && (free < e.reserve/2 && !e.braked || free >= e.reserve && e.braked) {
		e.brake(!e.braked)
	}
}

// brake makes the server refuse all writes with a clean error, or accept them again. It needs measuring.
func (e *Engine) brake(on bool) {
	limits := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1}
	if on {
		limits.MaxStore = 0
	}
	if err := e.srv.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits}); err != nil {
		e.log.Error("can't change the server's limits", "error", err)
		return
	}
	e.braked = on
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
		} else {
			e.measured(free)
		}
		e.diagnose(e.srv.Healthz(&server.HealthzOptions{}).Error)
		e.clock.Look()
	}
}

// diagnose takes in what the server says of its health. Only the second complaint in a row counts: the server asks itself
// whether it is up within 1 ms, which on a busy machine may pass before it has looked.
func (e *Engine) diagnose(complaint string) {
	was := e.sick.Load()
	doubted := e.doubted
	e.doubted = complaint != ""
	switch {
	case complaint == "" && was != nil:
		e.sick.Store(nil)
		e.log.Info("the server is healthy again")
	case complaint != "" && doubted:
		err := fmt.Errorf("embedded server: %s", complaint)
		e.sick.Store(&err)
		if was == nil {
			e.log.Error("the server is not healthy", "error", err)
		}
	}
}
