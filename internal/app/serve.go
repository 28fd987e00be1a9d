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
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/console"
)

func newServe() *cobra.Command {
	var acceptLoss, asJSON bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server: Socket.IO on the public listener; the API, health and metrics on the internal
one.

With --dev it lets everyone in under the identity that they name: do not let anyone reach it
whom you do not trust. Without, it needs to know the keys that tokens are signed with and the
web origins that may connect.

SIGHUP has it read its configuration again. See: holdpost config default`,
		Example: `  holdpost serve --dev
  holdpost serve --config /etc/holdpost.yaml
  HOLDPOST_JWT_SECRET=... HOLDPOST_ORIGINS=https://example.com holdpost serve`,
		Args: positional(false),
	}
	f := cmd.Flags()
	file := configFlag(f)
	d := config.Default() // what the flags would be; config.Load reads those that are given
	f.Bool("dev", d.Dev, "let everyone in under the identity that they name, and serve the playground")
	f.Bool("dev-public", d.DevPublic, "let dev mode listen beyond this machine: everybody who reaches it may do everything")
	f.String("listen", d.Listen, "public `address`")
	f.String("internal-listen", d.Internal.Listen, "`address` of the API")
	f.String("data-dir", d.DataDir, "`directory` of the store, made when it is missing")
	f.String("log-level", d.Log.Level, "`level` from which on to log: debug, info, warn, error")
	f.BoolVar(&acceptLoss, "accept-loss", false, "start though acknowledged events are missing, under a new epoch")
	f.BoolVar(&asJSON, "json", false, "print one line of JSON with the addresses when ready")
	cmd.RunE = command(func(cmd *cobra.Command, _ []string) error {
		load := func() (*config.Config, error) { return loadConfig(cmd, *file) }
		c, err := load()
		if err != nil {
			return err
		}
		if err := refuseOpen(c); err != nil {
			return err
		}
		level := new(slog.LevelVar)
		s, err := startServer(cmd.Context(), c, settings{
			acceptLoss: acceptLoss, load: load, level: level, log: slog.New(logHandler(cmd.ErrOrStderr(), c, level)),
		})
		if err != nil {
			return err
		}
		return s.run(cmd.Context(), func() {
			if asJSON {
				announceJSON(cmd.OutOrStdout(), s)
			} else {
				announce(cmd.ErrOrStderr(), c, s)
			}
		})
	})
	return cmd
}

func logHandler(w io.Writer, c *config.Config, level *slog.LevelVar) slog.Handler {
	level.UnmarshalText([]byte(c.Log.Level)) // which was checked
	options := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// refuseOpen returns an error for a server that would be open to everybody, with what to write.
func refuseOpen(c *config.Config) error {
	if c.Dev {
		return refuseDev(c)
	}
	var missing []string
	if !authConfigured(c) {
		missing = append(missing, "who its clients are. Either\n"+
			"  HOLDPOST_JWT_SECRET=...        in the environment: the secret of HS256 tokens, 32 bytes or more; or in the file\n"+
			"  auth: {keys: [{algorithm: RS256, public_key_file: key.pem}]}\n"+
			"  auth: {issuers: [{name: https://id.example.com, url: https://id.example.com/jwks.json, algorithms: [RS256]}]}\n"+
			"  auth: {anonymous: true}        for everybody, with auth.anonymous_permissions")
	}
	if len(c.Origins) == 0 {
		missing = append(missing, "which web pages may connect\n"+
			"  origins: [https://example.com]  or HOLDPOST_ORIGINS=https://example.com")
	}
	if !isLoopback(c.Internal.Listen) && !apiKeysConfigured(c) {
		missing = append(missing, "who may call the API, which others than this machine can reach\n"+
			"  HOLDPOST_API_KEY=...           in the environment, as holdpost token new --api makes it; or\n"+
			"  internal: {listen: 127.0.0.1:7301}")
	}
	if len(missing) == 0 {
		return nil
	}
	return &exitError{exitConfig, errors.New("a server needs to know who may reach it"),
		"Say " + strings.Join(missing, "\nand ") + "\nAll keys: holdpost config default. To try it on this machine: holdpost serve --dev"}
}

// refuseDev returns an error for a server that lets everybody in, and can be reached from other machines though nobody has said that it may.
func refuseDev(c *config.Config) error {
	if c.DevPublic || !isOpen(c) {
		return nil
	}
	listen := c.Listen
	if isLoopback(listen) {
		listen = c.Internal.Listen
	}
	return &exitError{exitConfig, fmt.Errorf("dev mode lets everybody in who reaches %s, from other machines too", listen),
		"leave dev mode: holdpost config default has what to say instead; or listen on 127.0.0.1; or,\nif nobody reaches it whom you do not trust: --dev-public"}
}

func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func announceJSON(w io.Writer, s *server) {
	addresses := map[string]string{
		"listen":   s.public.Addr().String(),
		"internal": s.internal.Addr().String(),
	}
	if s.plain != nil {
		addresses["http"] = s.plain.Addr().String()
	}
	json.NewEncoder(w).Encode(addresses)
}

// announce says what listens where and what to do next.
func announce(w io.Writer, c *config.Config, s *server) {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		dir = c.DataDir
	}
	scheme := "http://"
	if c.TLS.CertFile != "" || len(c.TLS.ACME.Domains) > 0 {
		scheme = "https://"
	}
	address := scheme + reachable(s.public.Addr())
	redirect := ""
	if s.plain != nil {
		redirect = "\n  Redirect     http://" + reachable(s.plain.Addr())
	}
	if !c.Dev {
		fmt.Fprintf(w, `
  %s

  Socket.IO    %s%s
  API          http://%s
  Data         %s

  Ctrl-C ends the server in good order.

`, buildVersion(), address, redirect, reachable(s.internal.Addr()), printable(dir))
		return
	}
	page := address + "/"
	if !console.Built() {
		page = "not in this binary: build it in with make"
	}
	fmt.Fprintf(w, `
  %s, dev mode

  Socket.IO    %s%s
  Playground   %s
  API          http://%s
  Data         %s

  Everyone who can reach the first address is let in, under the name that they give.
  Ctrl-C ends the server in good order.

`, buildVersion(), address, redirect, page, reachable(s.internal.Addr()), printable(dir))
}

// reachable returns an address that a program on this machine can connect to.
func reachable(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil || !p.Addr().IsUnspecified() {
		return a.String()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Port()).String()
}
