// Package local opens a [queue.Broker] together with all that it stands on in one process: the embedded engine and the index,
// in one directory.
//
//	store, err := local.Open(ctx, local.Config{Engine: embedded.Config{Dir: "data"}})
//	defer store.Close()
//	published, err := store.Publish(ctx, queue.Message{Topic: "orders", Event: "created"})
package local

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/index"
)

// Config configures a [Store]. Only Engine.Dir is required.
type Config struct {
	Engine embedded.Config
	Broker queue.Config // its Engine and Index are set by Open; a nil Logger is the engine's
}

// Store is a broker with its own engine and index.
type Store struct {
	*queue.Broker
	engine *embedded.Engine
	index  *index.Index
}

// Open opens the store, or makes one. The errors are those of [embedded.Start], of the index, and of [queue.Open]; nothing is left
// running then. ctx bounds Open alone.
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
	if s.engine, err = embedded.Start(ctx, c.Engine); err != nil {
		return nil, err
	}
	if s.index, err = index.Open(filepath.Join(c.Engine.Dir, "index"), c.Broker.Logger); err != nil {
		return nil, err
	}
	c.Broker.Engine, c.Broker.Index = s.engine, s.index
	if s.Broker, err = queue.Open(ctx, c.Broker); err != nil {
		return nil, err
	}
	return s, nil
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

// Backup writes the store, as it is at some moment of the call, to w while it is in use: [embedded.Engine.Backup].
func (s *Store) Backup(ctx context.Context, w io.Writer) error { return s.engine.Backup(ctx, w) }

// Scrub returns what reading through the store's files has found: [embedded.Engine.Scrub].
func (s *Store) Scrub() embedded.Scrub { return s.engine.Scrub() }

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
	return errors.Join(all...)
}
