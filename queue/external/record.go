package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

const (
	recordBucket = "HOLDPOST"
	recordKey    = "log"

	// lossPatience is how long a replicated stream may lack something before that is lost: a new leader may still be at applying it.
	lossPatience = 10 * time.Second
)

// record is what the cluster keeps about the log, and who may use it.
type record struct {
	Node    string          `json:"node"` // who uses the log, "" after an orderly end
	Run     string          `json:"run"`  // which of its engines
	Epoch   uint64          `json:"epoch"`
	Losses  []queue.Loss    `json:"losses,omitempty"`
	Forgot  *queue.Offset   `json:"forgot,omitempty"` // where the log ended when queues were lost, if any were
	Streams map[string]mark `json:"streams"`
	Wall    int64           `json:"wall"` // when this was written, ns since 1970
}

// mark is what was promised of a stream.
type mark struct {
	Made time.Time `json:"made"` // by which it is told from another one of its name; zero before it was looked at
	Last uint64    `json:"last"` // the highest sequence that was acknowledged
}

// state is what a stream is like; the zero value is that of one that is not there.
type state struct {
	mark
	newest time.Time // when its last message was stored
}

// LossError reports that acknowledged messages are missing from a stream.
type LossError struct {
	Stream string
	Epoch  uint64
	Have   uint64 // the stream's last sequence, 0 if it is gone or another one
	Want   uint64 // the highest sequence that was acknowledged
}

func (e *LossError) Error() string {
	what := fmt.Sprintf("ends at %d", e.Have)
	if e.Have == 0 {
		what = "is gone, or another one than it was"
	}
	means := ""
	switch e.Stream {
	case guard.Cursors:
		means = "; queues, settings of topics and who was revoked are in it: a queue that is lost begins anew, with all that is kept; " +
			"whoever was revoked is let in again: revoke again"
	case guard.Delayed:
		means = "; events that were to be published later are in it: those that are lost will not be"
	}
	return fmt.Sprintf("stream %s %s, and messages up to %d were acknowledged (epoch %016x): restore a backup of it, "+
		"or start with --accept-loss to go on without them%s", e.Stream, what, e.Want, e.Epoch, means)
}

// judge returns what streams lack of what was promised.
func (r *record) judge(streams map[string]state) (losses []*LossError) {
	for _, name := range []string{guard.Events, guard.Cursors, guard.Delayed} {
		was, is := r.Streams[name], streams[name]
		known := !was.Made.IsZero()
		if was.Last == 0 || is.Last >= was.Last && (is.Made.Equal(was.Made) || !known) {
			continue
		}
		loss := &LossError{Stream: name, Epoch: r.Epoch, Want: was.Last}
		if is.Made.Equal(was.Made) && known {
			loss.Have = is.Last
		}
		losses = append(losses, loss)
	}
	return losses
}

// accept takes note of a loss: readers of events are told, and queues begin anew.
func (r *record) accept(l *LossError, inOrder bool, streams map[string]state) {
	switch l.Stream {
	case guard.Events:
		loss := queue.Loss{Epoch: r.Epoch, From: l.Have + 1, To: l.Want}
		if !inOrder { // more may have been acknowledged than is on record
			loss.To = math.MaxUint64
		}
		r.Losses, r.Epoch = guard.AddLoss(r.Losses, loss), guard.NewEpoch()
	case guard.Cursors:
		r.Forgot = &queue.Offset{Epoch: r.Epoch, Seq: streams[guard.Events].Last}
	}
}

// see takes over what streams are like. Of events only what was acknowledged is promised.
func (r *record) see(streams map[string]state, acknowledged uint64) {
	marks := make(map[string]mark, len(streams))
	for name, s := range streams {
		marks[name] = s.mark
	}
	if m, ok := marks[guard.Events]; ok {
		m.Last = min(m.Last, acknowledged)
		marks[guard.Events] = m
	}
	r.Streams = marks
}

// states asks for the states of the streams that are there.
func (e *Engine) states(ctx context.Context) (map[string]state, error) {
	streams := make(map[string]state)
	for _, name := range []string{guard.Events, guard.Cursors, guard.Delayed} {
		s, err := e.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("state of %s: %w", name, err)
		}
		info := s.CachedInfo()
		streams[name] = state{mark{info.Created, info.State.LastSeq}, info.State.LastTime}
	}
	return streams, nil
}

// promise notes up to where events were acknowledged.
func (r *record) promise(acknowledged uint64) {
	m := r.Streams[guard.Events]
	m.Last = max(m.Last, acknowledged)
	r.Streams[guard.Events] = m
}

// take makes the record this engine's, and returns what it was before.
func (e *Engine) take(ctx context.Context) (was record, err error) {
	var seen uint64 // the revision that its holder was seen to write
	var since time.Time
	for {
		var entry jetstream.KeyValueEntry
		err := guard.Patiently(ctx, func(ctx context.Context) (err error) {
			entry, err = e.records.Get(ctx, recordKey)
			return err
		})
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			if err := guard.Patiently(ctx, e.begin); !errors.Is(err, jetstream.ErrKeyExists) {
				return e.record, err
			}
			continue // somebody else was faster
		}
		if err != nil {
			return record{}, fmt.Errorf("record in bucket %s: %w", recordBucket, err)
		}
		r, err := decodeRecord(entry.Value())
		if err != nil {
			return record{}, err
		}
		if r.Node != "" && r.Node != e.config.Node {
			switch {
			case seen != 0 && entry.Revision() != seen:
				return record{}, fmt.Errorf("%w by node %s", ErrInUse, r.Node)
			case seen == 0:
				seen, since = entry.Revision(), time.Now()
				e.log.Info("another node had the log; waiting whether it still has", "node", r.Node, "for", leaseEnds)
			}
			if time.Since(since) < leaseEnds {
				select {
				case <-time.After(renewPeriod):
					continue
				case <-ctx.Done():
					return record{}, fmt.Errorf("%w by node %s: %w", ErrInUse, r.Node, context.Cause(ctx))
				}
			}
			e.log.Warn("the log is taken over from a node that is gone", "node", r.Node)
		}
		e.record, e.revision = r, entry.Revision()
		e.record.Streams = maps.Clone(r.Streams)
		if err := guard.Patiently(ctx, e.put); !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return r, err
		}
	}
}

func decodeRecord(b []byte) (r record, err error) {
	if err := json.Unmarshal(b, &r); err != nil || r.Epoch == 0 {
		return record{}, fmt.Errorf("%w: what bucket %s has for %q can't be read", ErrRecord, recordBucket, recordKey)
	}
	if r.Streams == nil {
		r.Streams = make(map[string]mark)
	}
	return r, nil
}

// begin makes the first record.
func (e *Engine) begin(ctx context.Context) error {
	streams, err := e.states(ctx)
	if err != nil {
		return err
	}
	e.record, e.revision = record{Epoch: guard.NewEpoch(), Streams: make(map[string]mark)}, 0
	if last := streams[guard.Events].Last; last > 0 {
		if !e.config.AcceptLoss {
			return fmt.Errorf("%w: stream %s has events, and nothing in bucket %s tells whether it is whole: restore a backup of the "+
				"bucket, or start with --accept-loss to go on with what is there under a new epoch", ErrRecord, guard.Events, recordBucket)
		}
		e.log.Warn("there is no record of the log: a new epoch begins", "last", last)
		e.record.Losses = []queue.Loss{{From: last + 1, To: math.MaxUint64}}
		e.record.Forgot = &queue.Offset{Epoch: e.record.Epoch, Seq: last} // nobody knows
	}
	return e.put(ctx)
}

// put writes the record as this engine's. If it is another one's by now the error is jetstream.ErrKeyRevisionMismatch, or, where there
// was none before, jetstream.ErrKeyExists.
func (e *Engine) put(ctx context.Context) error {
	e.record.Node, e.record.Run = e.config.Node, e.run
	return e.write(ctx)
}

func (e *Engine) write(ctx context.Context) (err error) {
	at := time.Now()
	e.record.Wall = at.UnixNano()
	b, err := json.Marshal(&e.record)
	if err != nil {
		return err
	}
	revision := e.revision
	if revision == 0 {
		revision, err = e.records.Create(ctx, recordKey, b)
	} else {
		revision, err = e.records.Update(ctx, recordKey, b, revision)
	}
	if err != nil {
		return fmt.Errorf("write the record in bucket %s: %w", recordBucket, err)
	}
	e.revision = revision
	e.lease.Store(&lease{renewed: at})
	return nil
}
