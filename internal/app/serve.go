package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost/internal/console"
)

func newServe() *cobra.Command {
	var c serveConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server: Socket.IO on the public listener, the API for this machine on the internal one.

This version serves in dev mode only: it lets everyone in under the identity that they
name. Do not let anyone reach it whom you do not trust.`,
		Example: `  holdpost serve --dev
  holdpost serve --dev --listen 127.0.0.1:0 --data-dir /tmp/try`,
		Args: positional(false),
	}
	f := cmd.Flags()
	f.BoolVar(&c.dev, "dev", false, "let everyone in under the identity that they name, and serve the playground")
	f.StringVar(&c.listen, "listen", "127.0.0.1:7300", "public `address`")
	f.StringVar(&c.internalListen, "internal-listen", "127.0.0.1:7301", "`address` of the API")
	f.StringVar(&c.dataDir, "data-dir", "holdpost-data", "`directory` of the store, made when it is missing")
	f.BoolVar(&c.acceptLoss, "accept-loss", false, "start though acknowledged events are missing, under a new epoch")
	f.StringVar(&c.logLevel, "log-level", "info", "`level` from which on to log: debug, info, warn, error")
	f.BoolVar(&c.json, "json", false, "print one line of JSON with the addresses when ready")
	cmd.RunE = command(func(cmd *cobra.Command, _ []string) error {
		if err := c.check(); err != nil {
			return err
		}
		if !c.dev {
			return &exitError{exitConfig, errors.New("this version serves only with --dev"),
				"Without it a server needs to know who its clients are and which web pages may connect.\n" +
					"Authentication and allowed origins can't be configured yet. To try it on this machine:\n" +
					"  holdpost serve --dev"}
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: c.level}))
		s, err := startServer(cmd.Context(), c, log)
		if err != nil {
			return err
		}
		return s.run(cmd.Context(), func() {
			if c.json {
				announceJSON(cmd.OutOrStdout(), s)
			} else {
				announce(cmd.ErrOrStderr(), c, s)
			}
		})
	})
	return cmd
}

func announceJSON(w io.Writer, s *server) {
	json.NewEncoder(w).Encode(map[string]string{
		"listen":   s.public.Addr().String(),
		"internal": s.internal.Addr().String(),
	})
}

// announce says what listens where and what to do next.
func announce(w io.Writer, c serveConfig, s *server) {
	dir, err := filepath.Abs(c.dataDir)
	if err != nil {
		dir = c.dataDir
	}
	address := "http://" + reachable(s.public.Addr())
	page := address + "/"
	if !console.Built() {
		page = "not in this binary: build it in with make"
	}
	fmt.Fprintf(w, `
  %s, dev mode

  Socket.IO    %s
  Playground   %s
  API          http://%s
  Data         %s

  Everyone who can reach the first address is let in, under the name that they give.
  Ctrl-C ends the server in good order.

`, buildVersion(), address, page, reachable(s.internal.Addr()), printable(dir))
}

// reachable returns an address that a program on this machine can connect to.
func reachable(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil || !p.Addr().IsUnspecified() {
		return a.String()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Port()).String()
}
