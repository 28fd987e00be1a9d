package external

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

const (
	renewPeriod  = time.Second
	renewTimeout = 2 * time.Second
	closeTimeout = 5 * time.Second

	leaseHolds = 5 * time.Second  // after its last renewal an engine refuses to publish,
	leaseEnds  = 10 * time.Second // and it is taken over; by then what it has sent has arrived

	deniedHolds = 10 * time.Second // what this user may not do is not tried again for so long: permissions change without a word
)

// lease says up to when the log is this engine's.
type lease struct {
	renewed time.Time
	err     error // why it was not renewed since
}

// guard compares the streams with what was promised, waiting while that may still come right.
func (e *Engine) guard(ctx context.Context, was record) error {
	r := &e.record
	if e.config.Seen.Epoch == r.Epoch {
		r.promise(e.config.Seen.Seq)
	}
	var streams map[string]state
	var losses []*LossError
	for {
		err := guard.Patiently(ctx, func(ctx context.Context) (err error) {
			streams, err = e.states(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if losses = r.judge(streams); losses == nil || !e.waits() {
			break
		}
		select {
		case <-time.After(renewPeriod):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := guard.Patiently(ctx, e.hold); err != nil {
			return err
		}
	}
	e.clock.Begin(was.Wall, 0, streams[guard.Events].newest)
	if losses != nil && !e.config.AcceptLoss {
		return losses[0]
	}
	for _, l := range slices.Backward(losses) { // queues first: they were of the old epoch
		e.log.Warn("acknowledged messages are lost", "stream", l.Stream, "have", l.Have, "acknowledged", l.Want)
		r.accept(l, was.Node == "", streams)
	}
	r.see(streams, math.MaxUint64) // the rest is as good as acknowledged: readers may have seen it
	return guard.Patiently(ctx, e.hold)
}

// waits says whether what streams lack may come back.
func (e *Engine) waits() bool {
	if e.replicas == 1 {
		return false
	}
	if e.short.IsZero() {
		e.short = time.Now()
	}
	return time.Since(e.short) < lossPatience
}

// keep renews the record until the engine is closed or has failed for good.
func (e *Engine) keep() {
	tick := time.NewTicker(renewPeriod)
	defer tick.Stop()
	var was error
	for e.failed.Load() == nil {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		if err := e.renew(); err != nil {
			e.lease.Store(&lease{e.lease.Load().renewed, err})
		}
		e.clock.Look()
		health := e.Health()
		switch {
		case was == nil && health != nil:
			e.log.Error("nothing can be stored", "cause", health)
		case was != nil && health == nil:
			e.log.Info("publishing is tried again")
		}
		was = health
	}
}

// lookAtLinks looks at the connections until the engine is closed.
func (e *Engine) lookAtLinks() {
	tick := time.NewTicker(renewPeriod)
	defer tick.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		e.mu.Lock()
		e.links = slices.DeleteFunc(e.links, func(l *link) bool { return l.IsClosed() })
		links := slices.Clone(e.links)
		e.mu.Unlock()
		var looks sync.WaitGroup
		for _, l := range links {
			looks.Go(func() { e.look(l) })
		}
		looks.Wait()
	}
}

// renew looks at the streams and renews the record. An error passes unless the engine has failed.
func (e *Engine) renew() error {
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	acknowledged := e.last.Load() // before the streams are looked at, which have to have it
	streams, err := e.states(ctx)
	if err != nil {
		return err
	}
	e.record.promise(acknowledged)
	if losses := e.record.judge(streams); losses != nil {
		if e.waits() {
			return losses[0]
		}
		e.fail(losses[0])
		return e.put(ctx) // the next start is to find the same
	}
	e.short = time.Time{}
	e.record.see(streams, acknowledged)
	if err := e.hold(ctx); err != nil {
		return err
	}
	return e.measure(ctx)
}

// hold writes the record that is this engine's. If it was written meanwhile, that was this engine, which had no answer, or another one.
func (e *Engine) hold(ctx context.Context) error {
	err := e.put(ctx)
	if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return err
	}
	entry, err := e.records.Get(ctx, recordKey)
	if err != nil {
		return err
	}
	r, err := decodeRecord(entry.Value())
	if err != nil {
		return err
	}
	if r.Run != e.run {
		err := fmt.Errorf("%w by node %s", ErrInUse, r.Node)
		e.fail(err)
		return err
	}
	e.revision = entry.Revision()
	return e.put(ctx)
}

func (e *Engine) fail(why error) {
	err := fmt.Errorf("engine failed: %w", why)
	e.failed.Store(&err)
	e.log.Error("the log can't be used any more", "cause", why)
}

// measure looks at what the account may still store: a twentieth is kept for what settles events.
func (e *Engine) measure(ctx context.Context) error {
	info, err := e.js.AccountInfo(ctx)
	if err != nil {
		return err
	}
	tier := info.Tier
	if t, ok := info.Tiers[fmt.Sprintf("R%d", e.replicas)]; ok {
		tier = t
	}
	most := tier.Limits.MaxStore
	if most <= 0 || tier.Store < uint64(most-most/20) {
		e.full.Store(nil)
		return nil
	}
	full := fmt.Errorf("%w: the account stores %d MiB and may store %d", queue.ErrFull, tier.Store>>20, most>>20)
	e.full.Store(&full)
	return nil
}

// leave writes the record of an orderly end.
func (e *Engine) leave() error {
	if p := e.failed.Load(); p != nil {
		return *p
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	streams, err := e.states(ctx)
	if err == nil {
		e.record.promise(e.last.Load())
		if e.record.judge(streams) == nil {
			e.record.see(streams, e.last.Load())
		}
		e.record.Node, e.record.Run = "", ""
		err = e.write(ctx)
	}
	if err != nil {
		return fmt.Errorf("close engine: %w", err)
	}
	return nil
}
