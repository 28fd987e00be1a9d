package app

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/hooks"
)

// reloadActor reads the configuration again on SIGHUP.
func (s *server) reloadActor() (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return func() error {
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
				s.reload(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	}, func(error) { cancel() }
}

// reload puts into effect what can be without a restart, all or nothing, and logs what changed and what can't. What files
// hold that the configuration names is read again too.
func (s *server) reload(ctx context.Context) {
	c, err := s.load()
	if err == nil {
		err = s.take(c)
	}
	if err != nil {
		attrs := []any{"err", printable(err.Error())}
		if e, ok := errors.AsType[*exitError](err); ok && e.hint != "" {
			attrs = append(attrs, "hint", printable(e.hint))
		}
		s.log.Error("configuration not taken: everything stays as it was", attrs...)
		return
	}
	before, now := s.now.Load(), *c
	if err := s.store.ConfigureTopics(topics(c)); err != nil {
		s.log.Warn("topics not taken", "err", printable(err.Error()))
		now.Topics = before.Topics
	}
	s.now.Store(&now)
	s.countOpen(&now)
	done := newConfigChanges(s.config, before, &now, c)
	s.log.Info("configuration read again", "changed", done.Changed, "need a restart", done.NeedRestart)
	s.gate.Enforce(ctx, s.sockets.Of("/"))
}

// readRules reads what take puts into effect of the files and secrets that a configuration names.
func (s *server) readRules(c *config.Config) (rules auth.Config, endpoints []hooks.Hook, err error) {
	if err := refuseOpen(c); err != nil {
		return rules, nil, err
	}
	if rules, err = authConfig(c, s.fetch); err != nil {
		return rules, nil, err
	}
	endpoints, err = readHooks(c)
	return rules, endpoints, err
}

// take puts into effect all but the topics, unless something is wrong.
func (s *server) take(c *config.Config) error {
	rules, endpoints, err := s.readRules(c)
	if err != nil {
		return err
	}
	if s.files != nil {
		if err := s.files.reload(); err != nil {
			return err
		}
	}
	if err := s.authority.Reload(rules); err != nil { // it was tried before
		return err
	}
	networks, _ := config.Networks(c.Outbound.Allow) // which were checked
	s.outbound.Replace(networks)
	s.closeIdle()
	s.hooks.Reload(endpoints)
	s.level.UnmarshalText([]byte(c.Log.Level)) // which was checked
	s.gate.SetLimits(gateLimits(c))
	s.admission.Set(handshakesPerSecond(c), c.Limits.HandshakesBurst, c.Limits.HandshakesWait)
	s.handshakes.limit(c.Limits.TLSHandshakes)
	s.sockets.SetShutdownRate(c.Drain.Rate)
	return nil
}

// changes lists the keys that differ, of those that take effect without a restart or of the others.
func changes(before, after *config.Config, reload bool) []string {
	keys := []string{}
	for _, change := range config.Changes(before, after) {
		if change.Reload == reload {
			keys = append(keys, change.Key)
		}
	}
	return keys
}
