package app

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/holdpost/holdpost/internal/config"
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
	if err != nil {
		s.logReload(err)
		return
	}
	rules, err := authConfig(c)
	if err == nil {
		err = s.authority.Reload(rules)
	}
	if err == nil && s.files != nil {
		err = s.files.reload()
	}
	if err != nil {
		s.logReload(err)
		return
	}
	s.level.UnmarshalText([]byte(c.Log.Level)) // which was checked
	s.gate.SetLimits(gateLimits(c))
	s.admission.Set(c.Limits.HandshakesPerSecond, c.Limits.HandshakesBurst)
	var changed, restart []string
	for _, change := range config.Changes(s.config, c) {
		if change.Reload {
			changed = append(changed, change.Key)
		} else {
			restart = append(restart, change.Key)
		}
	}
	s.log.Log(ctx, slog.LevelInfo, "configuration read again", "changed since the start", strings.Join(changed, " "), "need a restart", strings.Join(restart, " "))
	s.gate.Enforce(ctx, s.sockets.Of("/"))
}

func (s *server) logReload(err error) {
	s.log.Error("configuration not taken: everything stays as it was", "err", printable(err.Error()))
}
