package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue/internal/guard"
)

// Config configures a [Broker]. For numbers 0 is the default, which each field names.
type Config struct {
	Engine Engine // required; stays the caller's to close, after the broker
	Index  Index  // required, written by nobody else; stays the caller's to close, after the broker

	Logger *slog.Logger // nil is slog.Default()

	MaxEventBytes int // name, arguments and attachments of one event; 1,000,000
	MaxTopicBytes int // 255, which is also the most
	MaxIDBytes    int // 128, which is also the most
	MaxDelayed    int // events that wait to be published later; 1,000,000
	MaxWaiting    int // bytes of events that wait to be stored before Publish waits itself; 32 MiB

	DedupeWindow time.Duration // how long an id is remembered; 2 minutes

	MaxAge   time.Duration // events are kept this long; 72 hours, negative is for ever
	MaxBytes int64         // and while the log is no larger, oldest out first; 8 GiB, negative is no limit

	ReceiptAge   time.Duration // receipts are kept this long, in queues that keep them; 72 hours
	ReceiptBytes int64         // and while they are no larger, oldest out first; 1 GiB

	// OnPublish is called before each publish, with its context. It may set the message's TraceParent, and returns what to call with
	// the outcome, or nil. nil: nobody is.
	OnPublish func(ctx context.Context, m *Message) (end func(error))
	// OnConsume is called with the name of a queue before an event of it that has a TraceParent is handled, by the handler of
	// [Queue.Consume] or by who calls [Delivery.Begin]. It returns the context for the handler, and what to call with the outcome.
	// nil: nobody is.
	OnConsume func(ctx context.Context, queue string, d Delivery) (_ context.Context, end func(error))

	// Topics says how topics are kept, each by the first pattern that matches; a topic that none matches has the zero
	// TopicConfig. 256 at most. A topic that keeps its events longer than others keeps the log longer: what the others have
	// dropped meanwhile is deleted from it one by one, which costs about as much as publishing it did.
	Topics []TopicConfig
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	capped := func(n *int, most int) {
		if *n <= 0 || *n > most {
			*n = most
		}
	}
	capped(&c.MaxTopicBytes, maxName)
	capped(&c.MaxIDBytes, 128)
	or := func(n *int, other int) {
		if *n <= 0 {
			*n = other
		}
	}
	or(&c.MaxEventBytes, 1_000_000)
	or(&c.MaxDelayed, 1_000_000)
	or(&c.MaxWaiting, 32<<20)
	if c.DedupeWindow <= 0 {
		c.DedupeWindow = 2 * time.Minute
	}
	if c.MaxAge == 0 {
		c.MaxAge = 72 * time.Hour
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 8 << 30
	}
	if c.ReceiptAge <= 0 {
		c.ReceiptAge = 72 * time.Hour
	}
	if c.ReceiptBytes <= 0 {
		c.ReceiptBytes = 1 << 30
	}
	return c
}

// Broker stores events and hands them out. Its methods may be called from any goroutine.
type Broker struct {
	// static after construction
	config    Config
	engine    Engine
	index     Index
	log       *slog.Logger
	epoch     uint64
	conns     []*nats.Conn
	events    jetstream.Stream // on the connection for reads that somebody waits for
	cursors   jetstream.Stream
	tailOf    jetstream.Stream // events, on the tail's connection
	later     jetstream.Stream // delayed events
	kept      jetstream.Stream // receipts
	committer *committer
	durable   *watermark
	hub       *hub
	policies  *policies
	workers   *workers
	room      *room
	caught    uint64 // the tail has caught up when it has applied this
	opened    uint64 // the log's last sequence at Open; caught is its last event
	life      context.Context
	end       context.CancelCauseFunc // of life
	quit      <-chan struct{}         // closed with life

	background sync.WaitGroup // tail, keepers and short-lived readers of duplicates
	erasing    sync.WaitGroup // what deletes from the log

	delayed atomic.Int64 // events that wait to be published later

	trims  atomic.Uint64 // how often retention has taken events from the index
	health atomic.Pointer[error]
	stuck  atomic.Pointer[error] // why the tail does not get on
	trim   chan uint64           // to the tail, which alone writes the index
	tasks  chan func()           // likewise

	shortest atomic.Int64  // the time that some queue lives unused, ns
	shorter  chan struct{} // it has become less

	fullness fullness

	closing sync.Once

	queuesMu sync.Mutex // guards the field below
	queues   map[queueKey]weak.Pointer[Queue]

	dirtyMu sync.Mutex // guards the field below; a leaf
	dirty   map[*Queue]struct{}
}

// Open starts a broker on a running engine, and makes the engine's streams if they don't exist. The broker works at once;
// history and queues come to life as the index catches up with the log, which [Broker.Ready] tells. ctx bounds Open alone.
func Open(ctx context.Context, c Config) (*Broker, error) {
	if c.Engine == nil || c.Index == nil {
		return nil, errors.New("open broker: engine and index are required")
	}
	c = c.withDefaults()
	b := &Broker{
		config: c, engine: c.Engine, index: c.Index, log: c.Logger, epoch: c.Engine.Epoch(),
		durable: &watermark{}, room: newRoom(c.MaxWaiting), trim: make(chan uint64, 1), tasks: make(chan func()),
		shorter:  make(chan struct{}, 1),
		fullness: fullness{topics: make(map[string]*onItsWay)},
		queues:   make(map[queueKey]weak.Pointer[Queue]), dirty: make(map[*Queue]struct{}),
	}
	var err error
	if b.policies, err = newPolicies(b); err != nil {
		return nil, fmt.Errorf("open broker: %w", err)
	}
	b.life, b.end = context.WithCancelCause(context.Background())
	b.quit = b.life.Done()
	b.shortest.Store(int64(defaultExpiry))
	if err := b.open(ctx); err != nil {
		b.end(ErrClosed)
		for _, nc := range b.conns {
			nc.Close()
		}
		return nil, fmt.Errorf("open broker: %w", err)
	}
	return b, nil
}

func (b *Broker) open(ctx context.Context) error {
	pub, err := b.connect("publish")
	if err != nil {
		return err
	}
	tail, err := b.connect("tail")
	if err != nil {
		return err
	}
	api, err := b.connect("read") // on its own: the engine answers reads inside a connection's read loop
	if err != nil {
		return err
	}
	err = guard.Patiently(ctx, func(ctx context.Context) error {
		err := b.openStreams(ctx, api, tail)
		if why := b.engine.Health(); err != nil && errors.Is(why, nats.ErrPermissionViolation) { // which nothing answers
			return why
		}
		return err
	})
	if err != nil {
		return err
	}
	state := b.events.CachedInfo().State
	// Events that an earlier process stored and could not confirm are from now on as good as the others.
	if err := b.engine.Commit(state.LastSeq); err != nil {
		return err
	}
	b.durable.advance(state.LastSeq)
	if err := b.openIndex(ctx, state); err != nil {
		return err
	}
	if err := b.readNotes(ctx); err != nil {
		return err
	}
	b.hub = newHub(b.index.Applied())
	if b.committer, err = newCommitter(b.engine, b.log, pub, b.durable); err != nil {
		return err
	}
	source, err := b.openTail(ctx)
	if err != nil {
		return err
	}
	wakes, consume, err := b.openDelayed(ctx)
	if err != nil {
		return err
	}
	go b.committer.run() // committer.close waits for it
	b.workers = startWorkers(b)
	b.background.Go(func() { b.follow(source) })
	b.background.Go(b.keep)
	b.background.Go(b.expire)
	b.erasing.Go(b.erase)
	b.background.Go(func() { b.publishDelayed(wakes, consume) })
	return nil
}

func (b *Broker) connect(name string) (*nats.Conn, error) {
	nc, err := b.engine.Connect("holdpost " + name)
	if err == nil {
		b.conns = append(b.conns, nc)
	}
	return nc, err
}

// Close stores what was queued, saves the cursors, and stops. It returns when no sink is being called any more: never call it
// from inside one. Consumers stay attached and get nothing more. Closing twice is harmless.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		b.end(ErrClosed) // publishers that wait for room, tail, keeper
		b.workers.close()
		b.settled()
		b.saveAll()
		b.erasing.Wait()    // it notes what it has done
		b.committer.close() // every publisher has its answer
		b.background.Wait()
		for _, nc := range b.conns {
			nc.Close()
		}
	})
	return nil
}

// settled waits until the outcome of everything that is queued is known, which may settle events: their dead letters are stored.
func (b *Broker) settled() {
	done := make(chan struct{})
	if b.committer.push(&request{event: true, known: 1, done: func(*request) { close(done) }}) == nil {
		<-done
	}
}

func (b *Broker) isClosed() bool {
	select {
	case <-b.quit:
		return true
	default:
		return false
	}
}

// Ready returns nil once everything that the log held at [Open] can be read, and else what it waits for, as an
// [ErrUnavailable].
func (b *Broker) Ready() error {
	if b.isClosed() {
		return ErrClosed
	}
	if p := b.stuck.Load(); p != nil {
		return *p
	}
	if applied := b.hub.mark.load(); applied < b.caught {
		return fmt.Errorf("%w: reading the log, at %d of %d", ErrUnavailable, applied, b.caught)
	}
	return nil
}

// Health returns nil while events can be stored and read. While it does not, publishing fails at once with the same error,
// an [ErrUnavailable]; what is stored already can be read and is handed out. It looks at the engine once a second.
func (b *Broker) Health() error {
	if err := b.unwell(); err != nil {
		return err
	}
	if p := b.stuck.Load(); p != nil {
		return *p
	}
	return nil
}

// unwell returns why nothing can be published.
func (b *Broker) unwell() error {
	if b.isClosed() {
		return ErrClosed
	}
	if err := b.committer.refusal(); err != nil {
		return err
	}
	if p := b.health.Load(); p != nil {
		return *p
	}
	return nil
}

// keep does what has to be done now and then.
func (b *Broker) keep() {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	var first uint64
	for {
		select {
		case <-b.quit:
			return
		case <-save.C:
		}
		b.saveAll()
		if err := b.engine.Health(); err != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			b.health.Store(&err)
		} else {
			b.health.Store(nil)
			first = b.lookAtRetention(first)
		}
	}
}

// lookAtRetention lets the tail trim the index when the log has dropped events since the last time.
func (b *Broker) lookAtRetention(last uint64) uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), saveEvery) // cursors wait for it
	defer cancel()
	info, err := b.events.Info(ctx)
	if err != nil {
		b.log.Warn("look at the log's retention", "cause", err)
		return last
	}
	first := info.State.FirstSeq
	if first == last {
		return last
	}
	select {
	case b.trim <- first:
		return first
	default: // the tail has not come to the one before
		return last
	}
}

// caughtUp waits until the index has every event whose publish returned before the call.
func (b *Broker) caughtUp(ctx context.Context) error {
	mark := b.durable.load()
	if b.hub.mark.load() >= mark {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, ackPatience)
	defer cancel()
	if b.hub.mark.wait(mark, short.Done(), b.quit) {
		return nil
	}
	switch {
	case b.isClosed():
		return ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%w: the index is behind the log", ErrUnavailable)
	}
}
