package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/internal/filelock"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

// The levels of Config.Level: what an event survives once Commit has returned.
const (
	LevelDisk   = "disk"   // a killed process, a crashed kernel, a power cut
	LevelMemory = "memory" // a killed process
)

var (
	// ErrInUse reports that another engine, in this process or another one, has the data directory.
	ErrInUse = filelock.ErrInUse

	errClosed = errors.New("engine closed")
)

// Config says where and how an engine stores. Only Dir is required.
type Config struct {
	Dir        string       // the data directory, made when it is missing; no two engines share one
	Logger     *slog.Logger // nil = slog.Default()
	Reserve    int64        // bytes of the disk that stay free; 0 = 256 MiB or 5 % of the disk, whichever is more; negative = none
	Level      string       // LevelDisk or LevelMemory; "" = LevelDisk
	TrustClock bool         // whatever the clock did, it is right now

	ScrubEvery time.Duration // how often the whole store is read through, at 5 MB/s, to find damage; 0 = 24 h; negative = never
	AcceptLoss bool          // go on under a new epoch when acknowledged events are missing
}

// startTimeout bounds the wait for the server once it has recovered its streams, and for its answers at start and stop.
const startTimeout = 10 * time.Second

// Engine is a running store. It implements queue.Engine.
type Engine struct {
	// Static after Start.
	dir     string
	memory  bool
	reserve int64
	log     *slog.Logger
	lines   *natsLog
	srv     *server.Server
	conn    *nats.Conn // the guard's own
	js      jetstream.JetStream
	epoch   uint64
	losses  []queue.Loss
	forgot  forgotten
	held    *os.File // the lock
	dirFile *os.File
	flush   func(dir, mark *os.File) error // tests replace it before anything is committed
	boot    [16]byte
	clock   *guard.Clock

	failed  atomic.Pointer[error] // the first error of a commit
	full    atomic.Pointer[error] // what Room returns
	scrubs  atomic.Pointer[Scrub]
	sick    atomic.Pointer[error] // what the server says of itself
	closing sync.Once
	closed  error // what Close returns, after closing
	stop    chan struct{}
	loops   sync.WaitGroup

	doubted bool // the server's last word of itself was a complaint; owned by watch

	measuring sync.Mutex
	ready     bool // there is a server to brake
	braked    bool // it refuses to write

	mu        sync.Mutex // one commit at a time; nothing but a commit waits for it
	file      *markFile
	mark      mark
	unsettled bool   // the file does not say yet that the last commit was over
	deleting  uint64 // events that may be deleted right now
	deletions uint64 // how often that changed
	commits   uint64
	looked    int64 // when a commit last looked at the disk, ns since 1970
	stopped   bool
}

var _ queue.Engine = (*Engine)(nil)

// Start opens the store in c.Dir, or makes one, and returns once it can be used; what it holds by then is durable.
//
// It returns an error that wraps [ErrInUse] while another engine has the directory, a [*LossError] when acknowledged
// events are missing, and one that wraps [ErrMark] when it can't tell whether any are. ctx bounds Start only.
func Start(ctx context.Context, c Config) (*Engine, error) {
	e := &Engine{log: c.Logger, reserve: c.Reserve, flush: flush, boot: bootID(), stop: make(chan struct{})}
	if e.log == nil {
		e.log = slog.Default()
	}
	switch c.Level {
	case "", LevelDisk:
	case LevelMemory:
		e.memory = true
	default:
		return nil, fmt.Errorf("start engine: level %q is neither %q nor %q", c.Level, LevelDisk, LevelMemory)
	}
	e.clock = guard.NewClock(e.log, c.TrustClock)
	if err := e.start(ctx, c); err != nil {
		e.release()
		return nil, fmt.Errorf("start engine: %w", err)
	}
	e.loops.Go(e.watch)
	e.loops.Go(e.settle)
	if c.ScrubEvery == 0 {
		c.ScrubEvery = scrubEvery
	}
	if c.ScrubEvery > 0 {
		e.loops.Go(func() { e.scrub(c.ScrubEvery) })
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context, c Config) (err error) {
	if e.dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	if e.held, err = os.OpenFile(filepath.Join(e.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := filelock.Lock(e.held); err != nil {
		return fmt.Errorf("data directory %s: %w", e.dir, err)
	}
	if e.dirFile, err = os.Open(e.dir); err != nil {
		return err
	}
	damaged, err := e.openMark(c.AcceptLoss)
	if err != nil {
		return err
	}
	if err := e.preflight(e.rebooted(), c.AcceptLoss); err != nil {
		return err
	}
	if err := e.startServer(); err != nil {
		return err
	}
	if err := e.guard(ctx, c.AcceptLoss, damaged); err != nil {
		return err
	}
	e.epoch, e.losses, e.forgot = e.mark.epoch, slices.Clone(e.mark.losses), e.mark.forgotten
	e.measuring.Lock()
	e.ready = true
	e.measuring.Unlock()
	return nil
}

// rebooted says that the kernel is another one than when the mark was written, so what was not flushed is gone.
func (e *Engine) rebooted() bool { return e.boot != e.mark.boot || e.boot == [16]byte{} }

func (e *Engine) startServer() error {
	if err := e.plan(); err != nil {
		return err
	}
	e.lines = &natsLog{log: e.log.With("component", "jetstream")}
	srv, err := server.NewServer(&server.Options{
		ServerName: "holdpost", DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(e.dir, storeName), SyncInterval: 10 * time.Second, SyncAlways: !groupCommit && !e.memory,
		MaxPayload: 8 << 20, MaxPending: 256 << 20, JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: maxStore,
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: 5000}, DisableJetStreamBanner: true,
	})
	if err != nil {
		return err
	}
	e.srv = srv
	srv.SetLoggerV2(e.lines, false, false, false)
	srv.Start() // returns when the streams are recovered
	if err := e.lines.gaveUp(); err != nil {
		return err
	}
	if !srv.ReadyForConnections(startTimeout) {
		return fmt.Errorf("server not ready after %v", startTimeout)
	}
	if e.conn, err = e.connect("guard"); err != nil {
		return err
	}
	e.js, err = jetstream.New(e.conn)
	return err
}

// Connect opens a client connection to the server. The caller closes it before the engine is closed.
func (e *Engine) Connect(name string) (*nats.Conn, error) {
	select {
	case <-e.stop:
		return nil, errClosed
	default:
		return e.connect(name)
	}
}

func (e *Engine) connect(name string) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(e.srv), nats.Name(name), nats.Timeout(startTimeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		return nil, fmt.Errorf("connect %q to the embedded server: %w", name, err)
	}
	return nc, nil
}

// Epoch returns the log's epoch.
func (e *Engine) Epoch() uint64 { return e.epoch }

// Losses returns the ends of earlier epochs, oldest first; of very many only the newest.
func (e *Engine) Losses() []queue.Loss { return slices.Clone(e.losses) }

// Forgotten tells that queues may be missing: a loss in the stream of cursors was accepted, or the store is a backup, which has no
// queue that was made after it.
func (e *Engine) Forgotten() (begin, end queue.Offset, ok bool) {
	f := e.forgot
	return queue.Offset{Epoch: f.epoch, Seq: f.begin}, queue.Offset{Epoch: f.epoch, Seq: f.end}, f.any
}

// Replicas returns 1: there is one server.
func (e *Engine) Replicas() int { return 1 }

// Health returns nil while the engine can store: no commit has failed and the server reports no error of its files.
func (e *Engine) Health() error {
	for _, p := range []*atomic.Pointer[error]{&e.failed, &e.sick} {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	return e.lines.gaveUp()
}

// Clock returns nil while the clock can be relied on, and else why not: events should not expire by it.
func (e *Engine) Clock() error { return e.clock.Err() }

// Close stops the engine: connections that are still open are cut. Everything that the server acknowledged is durable
// when Close returns nil. Further calls return the same.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		close(e.stop)
		e.loops.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		state, err := e.look(ctx, false)
		if err == nil {
			e.mu.Lock()
			e.mark.see(state)
			e.mu.Unlock()
		} else if e.Health() == nil {
			e.log.Warn("stop without a last look at the log", "error", err)
		}
		e.closed = e.release()
	})
	return e.closed
}

// release gives everything back, whatever part of it there is, and leaves the mark of a clean stop if nothing failed.
func (e *Engine) release() error {
	if e.conn != nil {
		e.conn.Close()
	}
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	var err error
	if e.epoch != 0 { // the guard was content
		if failed := e.failed.Load(); failed != nil {
			err = *failed
		} else {
			err = e.leave()
		}
	}
	if e.file != nil {
		e.file.f.Close()
	}
	if e.dirFile != nil {
		e.dirFile.Close()
	}
	if e.held != nil {
		e.held.Close() // and with it the lock
	}
	return err
}
