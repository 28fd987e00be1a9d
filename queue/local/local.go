// Package local opens a [queue.Broker] together with all that it stands on in one process: the engine, which is the embedded one or
// one outside, and the index, in one directory.
//
//	store, err := local.Open(ctx, local.Config{Engine: embedded.Config{Dir: "data"}})
//	defer store.Close()
//	published, err := store.Publish(ctx, queue.Message{Topic: "orders", Event: "created"})
package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdpost/holdpost/internal/filelock"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/external"
	"github.com/holdpost/holdpost/queue/index"
)

// ErrOutside reports that there is nothing to back up here: the log is on other servers.
var ErrOutside = errors.New("the log is on NATS servers, whose own tools back it up")

// Config configures a [Store]. Only Engine.Dir is required.
type Config struct {
	Engine embedded.Config

	// Outside has the log on other servers. Of Engine only Dir counts then, which has the index and the name of the node, and Logger.
	// Open sets its Node, Seen and Logger.
	Outside *external.Config

	Broker queue.Config // its Engine and Index are set by Open; a nil Logger is the engine's
}

// Store is a broker with its own engine and index.
type Store struct {
	*queue.Broker
	engine interface {
		queue.Engine
		Close() error
	}
	embedded *embedded.Engine // nil with the log outside
	index    *index.Index
	held     *os.File // the lock of a directory that no embedded engine has
}

// Open opens the store, or makes one. The errors are those of [embedded.Start] or [external.Start], of the index, and of [queue.Open];
// nothing is left running then. No two stores share a directory, which is [embedded.ErrInUse]. ctx bounds Open alone.
func Open(ctx context.Context, c Config) (_ *Store, err error) {
	s := &Store{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if c.Broker.Logger == nil {
		c.Broker.Logger = c.Engine.Logger
	}
	if c.Outside != nil {
		err = s.openOutside(ctx, c)
	} else {
		err = s.openHere(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	c.Broker.Engine, c.Broker.Index = s.engine, s.index
	if s.Broker, err = queue.Open(ctx, c.Broker); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) openHere(ctx context.Context, c Config) (err error) {
	if s.embedded, err = embedded.Start(ctx, c.Engine); err != nil {
		return err
	}
	s.engine = s.embedded
	return s.openIndex(c)
}

// openOutside opens the index first, whose last event the log must still have.
func (s *Store) openOutside(ctx context.Context, c Config) (err error) {
	if err := os.MkdirAll(c.Engine.Dir, 0o700); err != nil {
		return err
	}
	if s.held, err = os.OpenFile(filepath.Join(c.Engine.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := filelock.Lock(s.held); err != nil {
		return fmt.Errorf("directory %s: %w", c.Engine.Dir, err)
	}
	if err := s.openIndex(c); err != nil {
		return err
	}
	x := *c.Outside
	if x.Node, err = nodeName(filepath.Join(c.Engine.Dir, "node")); err != nil {
		return err
	}
	x.Seen, x.Logger = queue.Offset{Epoch: s.index.Epoch(), Seq: s.index.Applied()}, c.Engine.Logger
	engine, err := external.Start(ctx, x)
	if err == nil {
		s.engine = engine
	}
	return err
}

func (s *Store) openIndex(c Config) (err error) {
	s.index, err = index.Open(filepath.Join(c.Engine.Dir, "index"), c.Broker.Logger)
	return err
}

// nodeName returns what the file says, which is made if it is not there: a name that nobody else has.
func nodeName(file string) (string, error) {
	name, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(name) == 0 { // it is empty when the power went as it was made
		host, _ := os.Hostname() // for people
		name = []byte(host + "-" + rand.Text())
		err = os.WriteFile(file, name, 0o600)
	}
	return string(name), err
}

// Ready returns nil while the store can take and hand out events, and else why not.
func (s *Store) Ready() error {
	for _, f := range []func() error{s.Broker.Ready, s.Health, s.engine.Health} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// Backup writes the store, as it is at some moment of the call, to w while it is in use: [embedded.Engine.Backup]. With the log
// outside it writes nothing and returns [ErrOutside].
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	if s.embedded == nil {
		return ErrOutside
	}
	return s.embedded.Backup(ctx, w)
}

// Forgets tells that queues and what was kept may be missing: a loss of them was accepted once, or the store is a backup.
func (s *Store) Forgets() bool {
	_, _, ok := s.engine.Forgotten()
	return ok
}

// Scrub returns what reading through the store's files has found: [embedded.Engine.Scrub]. With the log outside nobody does.
func (s *Store) Scrub() embedded.Scrub {
	if s.embedded == nil {
		return embedded.Scrub{}
	}
	return s.embedded.Scrub()
}

// Close closes the broker, the index and the engine. What was acknowledged is durable. No other use may follow but Close again.
func (s *Store) Close() error {
	var all []error
	if s.Broker != nil {
		all = append(all, s.Broker.Close())
		s.Broker = nil
	}
	if s.index != nil {
		all = append(all, s.index.Close())
		s.index = nil
	}
	if s.engine != nil {
		all = append(all, s.engine.Close())
		s.engine = nil
	}
	if s.held != nil {
		s.held.Close() // and with it the lock
		s.held = nil
	}
	return errors.Join(all...)
}
