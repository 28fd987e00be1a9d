package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdpost/holdpost/internal/config"
)

// A server in dev mode that others can reach says so every minute, and no other one does.
func TestOpenServerWarns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for listen, want := range map[string]int{"127.0.0.1:7300": 0, "localhost:7300": 0, "[::1]:7300": 0, "0.0.0.0:7300": 4, ":7300": 4, "10.0.0.1:7300": 4} {
		synctest.Test(t, func(t *testing.T) {
			c := config.Default()
			c.Dev, c.DevPublic, c.Listen = true, true, listen
			var log bytes.Buffer
			s := &server{config: c, public: l, internal: l, settings: settings{log: slog.New(slog.NewTextHandler(&log, nil))}}
			execute, interrupt := s.warnActor()
			ended := make(chan error)
			go func() { ended <- execute() }()
			time.Sleep(3*time.Minute + time.Second)
			interrupt(errors.New("over"))
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if got := strings.Count(log.String(), "everybody who reaches this server is let in"); got != want {
				t.Errorf("%s: %d warnings, want %d", listen, got, want)
			}
		})
	}
}

func TestMetricsTellWhatIsOpen(t *testing.T) {
	p := newPlace(t, func(c *config.Config) { c.Auth.Anonymous = true })
	for _, line := range []string{`holdpost_open{option="dev"} 0`, `holdpost_open{option="anonymous"} 1`, `holdpost_open{option="any_origin"} 0`} {
		if !p.metric(line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	closed := *p.server.config
	closed.Auth.Anonymous = false
	p.server.load = func() (*config.Config, error) { return &closed, nil }
	p.server.reload(context.Background())
	if !p.metric(`holdpost_open{option="anonymous"} 0`) {
		t.Error("what was closed by a reload is open in the metrics")
	}
}

// No command takes a secret as an argument, which everybody on the machine could read.
func TestNoSecretOnACommandLine(t *testing.T) {
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			for _, word := range []string{"token", "secret", "password", "api-key", "credential"} {
				if strings.Contains(f.Name, word) {
					t.Errorf("%s has --%s", c.CommandPath(), f.Name)
				}
			}
		})
		for _, word := range []string{"TOKEN", "SECRET", "PASSWORD"} {
			if strings.Contains(c.Use, word) {
				t.Errorf("the use of %s is %s", c.CommandPath(), c.Use)
			}
		}
		for _, inner := range c.Commands() {
			look(inner)
		}
	}
	look(newRoot())
}
