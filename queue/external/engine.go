package external

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

var (
	// ErrInUse reports that another node uses the log.
	ErrInUse = errors.New("log in use")

	// ErrUnsuited reports that a server, or the account there, is not one that can keep a log.
	ErrUnsuited = errors.New("server unsuited")

	// ErrRecord reports that a log is there, and no record that tells whether it is whole.
	ErrRecord = errors.New("no record of the log")

	errClosed = errors.New("engine closed")
	errSlow   = errors.New("it is slow")
)

// Config says where the log is. Only URLs is required.
type Config struct {
	URLs        []string    // of any servers of the cluster, nats:// or tls://
	Credentials string      // file with a user's JWT and its key; "" = none
	User        string      // with Password
	Password    string      // without User it is a token; "" = none
	TLS         *tls.Config // nil = the system's roots, for servers that want TLS

	Replicas int    // copies of each stream; 0 = 3 in a cluster and else 1
	Node     string // names this node, of which one runs at a time: it takes over from itself at once. "" = a new name

	// Seen is an offset that was acknowledged for sure, like the last one in the node's index. The zero offset is none.
	Seen queue.Offset

	AcceptLoss bool         // go on, under a new epoch, when acknowledged messages are missing
	TrustClock bool         // whatever the clock did, it is right now
	Logger     *slog.Logger // nil = slog.Default()
}

// Engine is a log on servers outside. It implements queue.Engine.
type Engine struct {
	// static after Start
	config   Config
	run      string // names this engine among all that Node had
	replicas int
	log      *slog.Logger
	conn     *nats.Conn // the engine's own
	js       jetstream.JetStream
	records  jetstream.KeyValue
	epoch    uint64
	losses   []queue.Loss
	forgot   *queue.Offset
	clock    *guard.Clock
	denied   func(error) // ends Start
	stop     chan struct{}
	loop     sync.WaitGroup

	last   atomic.Uint64         // the highest sequence that was committed
	lease  atomic.Pointer[lease] // nil before the record is ours
	failed atomic.Pointer[error] // for good
	full   atomic.Pointer[error] // what Room returns

	complaint atomic.Pointer[complaint] // the last one since a connection was made; nil = none

	mu    sync.Mutex // guards the field below
	links []*link    // all connections

	closing sync.Once
	closed  error // what Close returns, after closing

	// owned by Start, then by the loop, then by Close
	record   record
	revision uint64    // of record, in its bucket
	short    time.Time // since when streams lack something; zero: they do not
}

var _ queue.Engine = (*Engine)(nil)

// Start takes the log for this node, and returns once it may be used.
//
// It returns an error that wraps [ErrInUse] while another node uses the log, after ten seconds at most if it does not say what it is up to;
// [ErrUnsuited] when the server can't keep a log; a [*LossError] when acknowledged messages are missing, and one that wraps [ErrRecord]
// when it can't tell whether any are; anything else when the servers can't be reached. ctx bounds Start only.
func Start(ctx context.Context, c Config) (*Engine, error) {
	e := &Engine{config: c, run: rand.Text(), log: c.Logger, stop: make(chan struct{})}
	if e.log == nil {
		e.log = slog.Default()
	}
	if e.config.Node == "" {
		e.config.Node = e.run
	}
	e.clock = guard.NewClock(e.log, c.TrustClock)
	ctx, e.denied = context.WithCancelCause(ctx)
	defer e.denied(nil)
	if err := e.start(ctx); err != nil {
		e.release() // a record that stays ours is taken over
		if why := context.Cause(ctx); errors.Is(why, ErrUnsuited) {
			err = why
		}
		return nil, fmt.Errorf("start engine: %w", err)
	}
	e.loop.Go(e.keep)
	e.loop.Go(e.lookAtLinks)
	return e, nil
}

func (e *Engine) start(ctx context.Context) (err error) {
	if e.conn, err = e.connect("holdpost guard", e.report()...); err != nil {
		return err
	}
	if e.js, err = jetstream.New(e.conn); err != nil {
		return err
	}
	if err := e.suits(ctx); err != nil {
		return err
	}
	err = guard.Patiently(ctx, func(ctx context.Context) (err error) {
		e.records, err = e.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: recordBucket, Description: "Holdpost: who uses the log, and how far it reaches", Replicas: e.replicas,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("bucket %s, %d replicas: %w", recordBucket, e.replicas, err)
	}
	was, err := e.take(ctx)
	if err != nil {
		return err
	}
	if err := e.guard(ctx, was); err != nil {
		e.record = was // and so the next one finds it
		return errors.Join(err, e.write(ctx))
	}
	e.epoch, e.losses, e.forgot = e.record.Epoch, slices.Clone(e.record.Losses), e.record.Forgot
	e.last.Store(e.record.Streams[guard.Events].Last)
	return nil
}

// Epoch returns the log's epoch.
func (e *Engine) Epoch() uint64 { return e.epoch }

// Losses returns the ends of earlier epochs, oldest first; of very many only the newest.
func (e *Engine) Losses() []queue.Loss { return slices.Clone(e.losses) }

// Forgotten tells that queues may be missing: a loss of them was accepted.
func (e *Engine) Forgotten() (begin, end queue.Offset, ok bool) {
	if e.forgot == nil {
		return begin, end, false
	}
	return queue.Offset{Epoch: e.forgot.Epoch}, *e.forgot, true
}

// Replicas returns how many copies of a stream to ask for.
func (e *Engine) Replicas() int { return e.replicas }

// Commit takes note of last, which is on record within a second. What was acknowledged is as durable as it gets here. An error
// says that the engine has failed for good.
func (e *Engine) Commit(last uint64) error {
	if p := e.failed.Load(); p != nil {
		return *p
	}
	for {
		was := e.last.Load()
		if last <= was || e.last.CompareAndSwap(was, last) {
			return nil
		}
	}
}

// Deleting does nothing: what is missing in the middle of a log is not looked for here.
func (e *Engine) Deleting(uint64) (over func(), err error) {
	if p := e.failed.Load(); p != nil {
		return nil, *p
	}
	return func() {}, nil
}

// Room returns nil, or an error that wraps queue.ErrFull while the account has used up nearly all that it may.
func (e *Engine) Room() error {
	if p := e.full.Load(); p != nil {
		return *p
	}
	return nil
}

// Health returns nil while the log may be used and its servers answer.
func (e *Engine) Health() error {
	if p := e.failed.Load(); p != nil {
		return *p
	}
	l := e.lease.Load()
	var why error
	if c := e.complaint.Load(); c != nil {
		if errors.Is(c.err, nats.ErrPermissionViolation) && time.Since(c.at) < deniedHolds {
			return c.err
		}
		if c.at.After(l.renewed) {
			why = c.err
		}
	}
	if time.Since(l.renewed) > leaseHolds {
		return fmt.Errorf("NATS has not answered for %v: %w", leaseHolds, cmp.Or(why, l.err, errSlow))
	}
	return nil
}

// Clock returns nil while the clock can be relied on, and else why not: events should not expire by it.
func (e *Engine) Clock() error { return e.clock.Err() }

// Close gives the log free for another node. Connections that are still open stay their owners'. Further calls return the same.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		close(e.stop)
		e.loop.Wait()
		e.closed = e.leave()
		e.release()
	})
	return e.closed
}

func (e *Engine) release() {
	if e.conn != nil {
		e.conn.Close()
	}
}
