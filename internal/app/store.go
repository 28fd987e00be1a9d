package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/external"
	"github.com/holdpost/holdpost/queue/local"
)

const (
	// journalDir is where that is, within the data directory.
	journalDir = "recovery"
	// journalAge and journalBytes bound what is kept for clients whose connection is lost.
	journalAge   = time.Hour
	journalBytes = 1 << 30
)

func (s *server) startStore(ctx context.Context) (err error) {
	c := s.config
	broker := queue.Config{MaxAge: c.Store.MaxAge, MaxBytes: c.Store.MaxBytes, Topics: topics(c)}
	if s.tracing != nil {
		broker.OnPublish, broker.OnConsume = s.tracing.publishing, s.tracing.consuming
	}
	outside, err := outsideLog(&c.NATS, s.acceptLoss)
	if err != nil {
		return err
	}
	dir := c.DataDir
	if outside != nil {
		dir = filepath.Join(dir, "nats") // beside a store that was there before, which stays as it is
	}
	s.store, err = local.Open(ctx, local.Config{
		Outside: outside,
		Engine:  embedded.Config{Dir: dir, Level: c.Store.Level, Logger: s.log, AcceptLoss: s.acceptLoss, Reserve: c.Store.Reserve, ScrubEvery: c.Store.ScrubEvery},
		Broker:  broker,
	})
	if err == nil {
		s.closers = append(s.closers, closer{"store", s.store.Close})
	}
	return err
}

// topics says how topics are kept: the server's own first, whatever else is configured. Dead letters are kept like any event
// unless somebody has thought of them: a pattern for everything must not keep a queue from giving up an event.
func topics(c *config.Config) []queue.TopicConfig {
	all := []queue.TopicConfig{probeTopic, {Pattern: "holdpost/**"}}
	if !slices.ContainsFunc(c.Topics, func(t config.Topic) bool { return strings.HasPrefix(t.Pattern, "dead/") }) {
		all = append(all, queue.TopicConfig{Pattern: "dead/**"})
	}
	for _, t := range c.Topics {
		all = append(all, t.Kept())
	}
	return all
}

// startJournal opens the store of what live clients miss while they are away for a moment. It is not flushed to the disk: after a power
// cut clients connect anew, and are told so.
func (s *server) startJournal(ctx context.Context) (*delivery.Journal, error) {
	log := s.log.With("store", "recovery")
	store, err := local.Open(ctx, local.Config{
		Engine: embedded.Config{Dir: filepath.Join(s.config.DataDir, journalDir), Logger: log, Level: embedded.LevelMemory, AcceptLoss: true},
		Broker: queue.Config{MaxAge: journalAge, MaxBytes: journalBytes},
	})
	if err != nil {
		return nil, err
	}
	journal := delivery.NewJournal(store.Broker, log)
	s.closers = append(s.closers, closer{"recovery", func() error {
		err := store.Close()
		journal.Close()
		return err
	}})
	return journal, nil
}

// outsideLog returns where the log is, nil if it is here.
func outsideLog(n *config.NATS, acceptLoss bool) (*external.Config, error) {
	if !n.Outside() {
		return nil, nil
	}
	x := &external.Config{URLs: n.URLs, Credentials: n.CredentialsFile, User: n.User, Replicas: n.Replicas, AcceptLoss: acceptLoss}
	if n.Secret.Given() {
		secret, err := n.Secret.Read()
		if err != nil {
			return nil, &exitError{exitConfig, fmt.Errorf("nats: %w", err), ""}
		}
		x.Password = string(secret)
	}
	if n.CredentialsFile != "" { // read again for each connection; one that is not there at the start is a mistake
		if _, err := os.ReadFile(n.CredentialsFile); err != nil {
			return nil, &exitError{exitConfig, fmt.Errorf("nats.credentials_file: %w", err), ""}
		}
	}
	if n.CAFile == "" && n.CertFile == "" {
		return x, nil
	}
	x.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if n.CAFile != "" {
		pem, err := os.ReadFile(n.CAFile)
		if err != nil {
			return nil, &exitError{exitConfig, fmt.Errorf("nats.ca_file: %w", err), ""}
		}
		x.TLS.RootCAs = x509.NewCertPool()
		if !x.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &exitError{exitConfig, fmt.Errorf("nats.ca_file: %s has no certificate", n.CAFile), ""}
		}
	}
	if n.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(n.CertFile, n.KeyFile)
		if err != nil {
			return nil, &exitError{exitConfig, fmt.Errorf("nats.cert_file: %w", err), ""}
		}
		x.TLS.Certificates = []tls.Certificate{pair}
	}
	return x, nil
}

// explainStore gives an error of the store its exit code and says what to do about it.
func explainStore(err error, dir string) error {
	if loss, ok := errors.AsType[*embedded.LossError](err); ok {
		return &exitError{code: exitData, err: loss}
	}
	if loss, ok := errors.AsType[*external.LossError](err); ok {
		return &exitError{code: exitData, err: loss}
	}
	switch {
	case errors.Is(err, embedded.ErrMark), errors.Is(err, embedded.ErrBackup), errors.Is(err, external.ErrRecord):
		return &exitError{code: exitData, err: err}
	case errors.Is(err, embedded.ErrInUse):
		return &exitError{exitTaken, fmt.Errorf("data directory %s is in use by another server", dir),
			"stop that one, or give this one a directory of its own: --data-dir DIR"}
	case errors.Is(err, external.ErrInUse):
		return &exitError{exitTaken, err, "stop the server there; if it is gone already, try again in ten seconds"}
	case errors.Is(err, external.ErrUnsuited):
		return &exitError{exitConfig, err, "docs/operations.md says what the servers and the account must be like"}
	}
	return err
}
