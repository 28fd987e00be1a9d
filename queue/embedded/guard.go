package embedded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

const (
	storeName = "js"         // the server's directory within ours
	logStream = guard.Events // the guarded stream; package queue makes it
)

// ErrMark reports that a store is there but its high-water file says nothing any more.
var ErrMark = errors.New("high-water mark unreadable")

// LossError reports that acknowledged events are missing from the store.
type LossError struct {
	Dir     string
	Stream  string
	Epoch   uint64
	Have    uint64 // the last sequence in the store, 0 when the stream itself is gone
	Want    uint64 // the last sequence that was made durable
	From    uint64 // the missing events lie in From..To, both included
	To      uint64
	Missing uint64 // how many

	Damage []Damage // what is there and can't be read, if that is why
}

func (e *LossError) Error() string {
	if len(e.Damage) > 0 {
		parts := make([]string, min(3, len(e.Damage)))
		for i := range parts {
			parts[i] = e.Damage[i].String()
		}
		if more := len(e.Damage) - len(parts); more > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", more))
		}
		return fmt.Sprintf("store %s is damaged: %s: restore a backup, or start with --accept-loss to go on without what is lost; "+
			"the damaged files are kept then%s", e.Dir, strings.Join(parts, "; "), e.means())
	}
	end := "to go on without them under a new epoch"
	if e.Stream != logStream {
		end = "to go on without them"
	}
	what := fmt.Sprintf("the stream %s is gone, which held", e.Stream)
	if e.Have > 0 {
		what = fmt.Sprintf("the stream %s ends at %d and lacks", e.Stream, e.Have)
	}
	return fmt.Sprintf("store %s: %s %d acknowledged messages between %d and %d (epoch %016x, durable up to %d): "+
		"restore a backup, or start with --accept-loss %s%s",
		e.Dir, what, e.Missing, e.From, e.To, e.Epoch, e.Want, end, e.means())
}

// means says what is lost by what is damaged, if that is not events of the log.
func (e *LossError) means() string {
	var all []string
	for stream, what := range map[string]string{
		cursorStream: "queues, settings of topics and who was revoked are in " + cursorStream + ": a queue that is lost begins anew, with all that is kept; " +
			"whoever was revoked is let in again: revoke again",
		delayedStream: "events that were to be published later are in " + delayedStream + ": those that are lost will not be",
	} {
		if e.Stream == stream || slices.ContainsFunc(e.Damage, func(d Damage) bool { return d.Stream == stream }) {
			all = append(all, "; "+what)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// logState is what the server has of the log.
type logState struct {
	exists      bool
	first, last uint64 // first = last+1 when it is empty
	messages    uint64
	lowestHole  uint64 // among the missing within first..last, when there are any and look was to find out
	highestHole uint64
	bytes       uint64
	maxBytes    int64
	lastTime    time.Time // when the last message was stored

	cursors, delayed uint64 // the last sequences of those streams, 0 when there is none
}

// holes counts the sequences within first..last that are missing.
func (s logState) holes() uint64 {
	if !s.exists {
		return 0
	}
	if whole := s.last + 1 - s.first; whole > s.messages {
		return whole - s.messages
	}
	return 0
}

// look asks the server for the state of the log, and, which may take long, where its holes are. A log that does not exist is no
// error.
func (e *Engine) look(ctx context.Context, where bool) (logState, error) {
	var s logState
	for name, last := range map[string]*uint64{cursorStream: &s.cursors, delayedStream: &s.delayed} {
		other, err := e.stream(ctx, name)
		if err != nil {
			return logState{}, err
		}
		if other != nil {
			*last = other.CachedInfo().State.LastSeq
		}
	}
	stream, err := e.stream(ctx, logStream)
	if err != nil || stream == nil {
		return s, err
	}
	info := stream.CachedInfo()
	if where && info.State.NumDeleted > 0 {
		if info, err = stream.Info(ctx, jetstream.WithDeletedDetails(true)); err != nil {
			return logState{}, fmt.Errorf("holes of %s: %w", logStream, err)
		}
	}
	s.exists, s.first, s.last, s.messages = true, info.State.FirstSeq, info.State.LastSeq, info.State.Msgs
	s.bytes, s.maxBytes, s.lastTime = info.State.Bytes, info.Config.MaxBytes, info.State.LastTime
	if s.first == 0 { // never written to
		s.first = s.last + 1
	}
	if n := len(info.State.Deleted); n > 0 {
		s.lowestHole, s.highestHole = info.State.Deleted[0], info.State.Deleted[n-1]
	}
	return s, nil
}

// stream returns a stream with its state, nil if there is none.
func (e *Engine) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := e.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state of %s: %w", name, err)
	}
	return s, nil
}

// see takes over the state of the log after all that it acknowledged.
func (m *mark) see(s logState) {
	m.cursors, m.delayed = s.cursors, s.delayed
	if s.exists {
		m.first, m.holes, m.last = s.first, s.holes(), max(m.last, s.last)
	}
}

// count sets what the log must hold now.
func (m *mark) count() {
	if m.first == 0 && m.last > 0 {
		m.first = 1
	}
	m.messages = 0
	if n := m.last + 1 - m.first; m.first > 0 && m.first <= m.last && n > m.holes {
		m.messages = n - m.holes
	}
}

// verdict is the guard's finding.
type verdict struct {
	loss     *LossError // what is missing for sure
	newEpoch bool       // sequences above from-1 may have been seen and be used again, though no loss is sure
	from     uint64
}

// judge compares what was promised with what is there. rebooted says that the kernel is another one than when m was
// written, so what was not flushed is gone.
func (m *mark) judge(s logState, rebooted bool) verdict {
	must := m.must(logStream, rebooted)
	loss := LossError{Stream: logStream, Epoch: m.epoch, Have: s.last, Want: must}
	add := func(from, to, missing uint64) {
		if loss.Missing == 0 || from < loss.From {
			loss.From = from
		}
		loss.To = max(loss.To, to)
		loss.Missing += missing
	}
	first := max(m.first, 1)
	switch {
	case !s.exists && must > 0:
		if first > must { // it was empty, but its numbers had been used
			return verdict{newEpoch: true, from: 1}
		}
		add(first, must, must-first+1-min(m.holes, must-first))
	case s.exists: // whoever deletes says so before; but a full log does not ask
		allowed := m.holes
		if s.first > first && !s.full() {
			to := min(s.first-1, max(must, s.last))
			if n := to + 1 - min(first, to+1); n > allowed {
				add(first, to, n-allowed)
				allowed = 0
			} else {
				allowed -= n
			}
		}
		if n := s.holes(); n > allowed {
			add(s.lowestHole, s.highestHole, n-allowed)
		}
		if s.last < must {
			from := max(s.last+1, first)
			add(from, must, must-from+1)
		}
	}
	v := verdict{from: s.last + 1}
	if loss.Missing > 0 {
		v.loss, v.newEpoch, v.from = &loss, true, min(loss.From, v.from)
		return v
	}
	v.newEpoch = s.last < m.last || m.unflushed(rebooted)
	return v
}

// unflushed says that the store was at level memory when the power went: what it had is on the disk or not, and it promised nothing.
func (m *mark) unflushed(rebooted bool) bool { return m.memory && rebooted && !m.clean }

// judgeOthers says whether the ends of the other streams are missing. What they lack within, nobody counts: they lose messages all
// the time.
func (m *mark) judgeOthers(s logState) *LossError {
	for _, x := range []struct {
		stream     string
		have, want uint64
	}{{cursorStream, s.cursors, m.cursors}, {delayedStream, s.delayed, m.delayed}} {
		if x.have < x.want {
			return &LossError{Stream: x.stream, Epoch: m.epoch, Have: x.have, Want: x.want, From: x.have + 1, To: x.want, Missing: x.want - x.have}
		}
	}
	return nil
}

// full tells whether the log may have dropped its oldest events for want of room.
func (s logState) full() bool { return s.maxBytes > 0 && s.bytes >= uint64(s.maxBytes)/4*3 }

// openMark reads the high-water file, or makes the first one of a new store. damaged says that a store is there whose
// promises are not known.
func (e *Engine) openMark(accept bool) (damaged bool, err error) {
	store := filepath.Join(e.dir, storeName)
	_, statErr := os.Stat(store)
	if statErr != nil && !errors.Is(statErr, os.ErrNotExist) {
		return false, statErr
	}
	file, m, readable, err := openMark(e.dir)
	switch {
	case err == nil && readable > 0:
		if readable == 1 {
			e.log.Warn("one of the two high-water slots is unreadable; the other one is used", "dir", e.dir)
		}
		e.file, e.mark = file, m
		return false, nil
	case err == nil: // a file that says nothing
		file.f.Close()
	case !errors.Is(err, errNoMark):
		return false, err
	}
	damaged = statErr == nil
	if damaged && !accept {
		return true, fmt.Errorf("%w: %s holds a store, and nothing tells whether it is complete: "+
			"restore a backup, or start with --accept-loss to go on with what is there under a new epoch",
			ErrMark, e.dir)
	}
	e.mark = mark{}
	if damaged {
		return true, nil // guard makes the file, once it knows what is there
	}
	return false, e.createMark()
}

func (e *Engine) createMark() (err error) {
	e.mark.epoch = guard.NewEpoch()
	e.stamp()
	e.file, err = createMark(e.dir, &e.mark)
	return err
}

// guard compares the server's log with the mark, and then makes what is there durable and the new mark.
func (e *Engine) guard(ctx context.Context, accept, damaged bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	state, err := e.look(ctx, true)
	if err != nil {
		return err
	}
	if damaged {
		e.mark.addLoss(queue.Loss{From: state.last + 1, To: math.MaxUint64})
		e.forgetQueues(state.last)
		e.mark.see(state)
		if err := e.createMark(); err != nil {
			return err
		}
		e.log.Warn("the high-water mark was unreadable: a new epoch begins", "dir", e.dir, "epoch", e.mark.epoch, "last", state.last)
		return e.commit(e.mark.last)
	}
	m := &e.mark
	rebooted := e.rebooted()
	boot := m.boottime
	if rebooted {
		boot = 0
	}
	e.clock.Begin(m.wall, boot, state.lastTime)
	v := m.judge(state, rebooted)
	unflushed := m.unflushed(rebooted)
	if v.loss == nil && !accept && !unflushed {
		if loss := m.judgeOthers(state); loss != nil {
			loss.Dir = e.dir
			return loss
		}
	}
	if v.loss != nil {
		v.loss.Dir = e.dir
		if !accept && !unflushed {
			return v.loss
		}
		e.log.Warn("acknowledged events are lost: a new epoch begins", "missing", v.loss.Missing, "from", v.loss.From, "to", v.loss.To,
			"epoch", fmt.Sprintf("%016x", m.epoch))
		if !state.exists {
			if err := e.setAside(); err != nil {
				return err
			}
		}
	}
	if unflushed || state.cursors < m.cursors {
		e.forgetQueues(state.last)
	}
	if v.newEpoch {
		l := queue.Loss{Epoch: m.epoch, From: v.from, To: v.from - 1}
		if v.loss != nil {
			l.To = v.loss.To
		}
		if unflushed { // the mark may be older than what was lost
			l.To = math.MaxUint64
			e.log.Warn("the power went while nothing was flushed: a new epoch begins", "from", l.From)
		}
		m.addLoss(l)
		m.epoch = guard.NewEpoch()
		m.last, m.first = state.last, 0 // what was promised above is void
	}
	m.see(state)
	m.confirmed = min(m.confirmed, m.last) // the rest is in the page cache at best
	return e.commitStart()
}

// forgetQueues notes that queues may be missing, of which nobody knows what they had acknowledged. The log ends at a sequence.
func (e *Engine) forgetQueues(last uint64) {
	e.mark.forgotten = forgotten{any: true, epoch: e.mark.epoch, end: last}
	e.log.Warn("queues may be missing, and what was kept by name: queues that are not on record begin anew with all that is kept", "dir", e.dir)
}

// commitStart makes the first mark of this run, and all that the store holds, durable. A stop was clean only as long as
// nothing has been written since, so this goes to the disk at every level.
func (e *Engine) commitStart() error {
	for range 2 { // both slots forget the old epoch
		if err := e.commitFlushed(e.mark.last, true); err != nil {
			return err
		}
	}
	return nil
}

// setAside moves what the server has of a log that it does not know any more out of the way of the new one.
func (e *Engine) setAside() error {
	old := filepath.Join(e.dir, storeName, "jetstream", "$G", "streams", logStream)
	if _, err := os.Stat(old); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	aside := filepath.Join(e.dir, fmt.Sprintf("%s.damaged-%d", logStream, time.Now().Unix()))
	if err := os.Rename(old, aside); err != nil {
		return err
	}
	e.log.Warn("the damaged log was set aside", "path", aside)
	return nil
}
