package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/holdpost/holdpost/queue/internal/guard"
)

// Commit makes everything that the server acknowledged before the call durable, with last, the highest sequence of the
// log among it, as the new high-water mark. last may be 0, or lower than before, for a commit of something else. At
// level "memory" it only records the mark.
//
// The first error ends the engine: what the failed flush was to cover may or may not be on the disk, and no later flush
// can tell.
func (e *Engine) Commit(last uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return errClosed
	}
	e.commits++
	return e.commit(last)
}

// Deleting tells that up to n events of the log are about to be deleted on purpose: until over is called, and the mark has
// settled, the guard does not miss so many. It is on record when Deleting returns.
func (e *Engine) Deleting(n uint64) (over func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil, errClosed
	}
	e.deleting += n
	e.deletions++
	e.mark.holes += n
	if err := e.commit(e.mark.last); err != nil {
		return nil, err
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.deleting -= n
		e.deletions++
		e.unsettled = true
	}, nil
}

// lookPeriod is how often a commit looks at the disk: under load a second is long.
const lookPeriod = 20 * time.Millisecond

// commit needs mu.
func (e *Engine) commit(last uint64) error { return e.commitFlushed(last, !e.memory) }

func (e *Engine) commitFlushed(last uint64, flush bool) error {
	if err := e.failed.Load(); err != nil {
		return *err
	}
	m := &e.mark
	e.stamp()
	if last > m.last {
		m.last = last
	}
	m.count()
	err := e.file.write(m)
	if err == nil && flush {
		err = e.flush(e.dirFile, e.file.f)
	}
	if err != nil {
		err = fmt.Errorf("engine failed: commit %d: %w", last, err)
		e.failed.Store(&err)
		e.log.Error("the store can't make events durable any more and takes no more of them", "error", err)
		return err
	}
	e.unsettled = m.confirmed != m.last
	m.confirmed = m.last
	if m.wall-e.looked > int64(lookPeriod) {
		e.looked = m.wall
		if _, free, err := diskRoom(e.dir); err == nil {
			e.measured(free)
		}
	}
	return nil
}

// stamp dates the next slot. It needs mu.
func (e *Engine) stamp() {
	e.mark.wall, e.mark.boottime = time.Now().UnixNano(), guard.Boottime()
	e.mark.boot, e.mark.memory, e.mark.clean = e.boot, e.memory, false
}

// leave writes the slot of a clean stop, which is flushed at every level. It needs mu.
func (e *Engine) leave() error {
	e.stamp()
	e.mark.confirmed, e.mark.clean = e.mark.last, true
	e.mark.count()
	err := e.file.write(&e.mark)
	if err == nil {
		err = e.flush(e.dirFile, e.file.f)
	}
	if err != nil {
		return fmt.Errorf("close engine: %w", err)
	}
	return nil
}

// settlePeriod is how long after the last commit the mark says that it was over.
const settlePeriod = time.Second

// settle follows the log's lower end, and commits once more when publishers pause. A mark is written before its commit
// is over, so after a power cut the newest one may promise more than was acknowledged; the settled one says what was.
func (e *Engine) settle() {
	tick := time.NewTicker(settlePeriod)
	defer tick.Stop()
	seen := uint64(0)
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		e.mu.Lock()
		commits, unsettled, deletions := e.commits, e.unsettled, e.deletions
		e.mu.Unlock()
		if commits == seen && !unsettled {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), settlePeriod)
		state, err := e.look(ctx, false)
		cancel()
		e.mu.Lock()
		if err == nil {
			e.mark.cursors, e.mark.delayed = max(e.mark.cursors, state.cursors), max(e.mark.delayed, state.delayed)
		}
		if err == nil && state.exists && e.deletions == deletions { // else the state may be older than what was deleted
			e.mark.first, e.mark.holes = state.first, min(e.mark.holes, state.holes()+e.deleting)
		}
		if e.unsettled && e.commits == seen { // a pause
			e.commit(e.mark.last) // its error is kept
		}
		seen = e.commits
		e.mu.Unlock()
	}
}
