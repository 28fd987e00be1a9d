package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost/internal/config"
)

// finding is what one check has found.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warn, fail, or skip
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what to do
}

func fine(format string, args ...any) finding {
	return finding{Result: "ok", Detail: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) finding {
	return finding{Result: "skip", Detail: fmt.Sprintf(format, args...)}
}

func doubtful(hint, format string, args ...any) finding {
	return finding{Result: "warn", Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func broken(hint, format string, args ...any) finding {
	return finding{Result: "fail", Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func newDoctor() *cobra.Command {
	d := new(doctor)
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the path from a client to the server, and the machine that the server runs on",
		Long: `Check what usually goes wrong between a client and a server, above all with a proxy between them: whether it
lets WebSockets through, large events, quiet connections, and pages of other origins; the certificate and the
clock; and what of the server can be reached that should not. On the server's own machine also its configuration, the disk of its
data directory, and the files that it may open.

The client's token is that of HOLDPOST_TOKEN; a server in dev mode needs none. The check of quiet connections
takes as long as --hold says. The exit code is 1 if something is broken.`,
		Example: `  HOLDPOST_TOKEN=$(holdpost token new doctor) holdpost doctor --url https://events.example.com --origin https://example.com
  holdpost doctor --config /etc/holdpost.yaml`,
		Args: positional(false),
	}
	f := cmd.Flags()
	file := configFlag(f)
	f.StringVar(&d.url, "url", "http://127.0.0.1:7300", "`URL` of the server, as clients reach it")
	f.StringVar(&d.origin, "origin", "", "origin of a page that connects, as in https://example.com")
	f.DurationVar(&d.hold, "hold", 30*time.Second, "how long a quiet connection must last: longer than the time between two heartbeats; 0 does not try")
	f.BoolVar(&asJSON, "json", false, "print an object a line")
	cmd.RunE = command(func(cmd *cobra.Command, _ []string) error {
		u, err := url.Parse(d.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return usage("write http://HOST or https://HOST, without a path", "invalid --url %q", d.url)
		}
		if d.hold < 0 {
			return usage("", "--hold %v is below zero", d.hold)
		}
		d.url = "http" + strings.TrimPrefix(strings.TrimSuffix(u.String(), "/"), "http")
		d.config = func() (*config.Config, error) { return loadConfig(cmd, *file) }
		d.configured = *file != ""
		failed := 0
		d.run(cmd.Context(), func(f finding) {
			if f.Result == "fail" {
				failed++
			}
			printFinding(cmd.OutOrStdout(), f, asJSON)
		})
		if failed > 0 {
			return fmt.Errorf("%d of the checks failed", failed)
		}
		return nil
	})
	return cmd
}

func printFinding(w io.Writer, f finding, asJSON bool) {
	if asJSON {
		if line, err := json.Marshal(f); err == nil { // texts can always be encoded
			fmt.Fprintln(w, printable(string(line)))
		}
		return
	}
	fmt.Fprintf(w, "%-4s  %-10s %s\n", f.Result, f.Check, printable(f.Detail))
	for line := range strings.Lines(f.Hint) {
		fmt.Fprintf(w, "                 %s\n", printable(strings.TrimSuffix(line, "\n")))
	}
}

// doctor makes the checks.
type doctor struct {
	url, origin string
	hold        time.Duration
	config      func() (*config.Config, error)
	configured  bool // a file was named

	http    *http.Client
	payload int      // bytes that the server takes at once, once it has told
	works   []string // transports by which the server lets us in
}

// run makes one check after the other, and tells what each has found. Without a server those of the path are left out.
func (d *doctor) run(ctx context.Context, tell func(finding)) {
	d.http = &http.Client{
		Timeout: dialPatience, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer d.http.CloseIdleConnections()
	checks := []struct {
		name   string
		check  func(context.Context) finding
		always bool
	}{
		{"config", d.checkConfig, true},
		{"files", d.checkFiles, true},
		{"disk", d.checkDisk, true},
		{"server", d.checkServer, true},
		{"tls", d.checkCertificate, false},
		{"clock", d.checkClock, false},
		{"internal", d.checkInternal, false},
		{"origin", d.checkOrigin, false},
		{"websocket", func(ctx context.Context) finding { return d.checkTransport(ctx, "websocket") }, false},
		{"polling", func(ctx context.Context) finding { return d.checkTransport(ctx, "polling") }, false},
		{"upgrade", d.checkUpgrade, false},
		{"size", d.checkSize, false},
		{"quiet", d.checkQuiet, false},
	}
	reached := false
	for _, c := range checks {
		if ctx.Err() != nil || !c.always && !reached {
			return
		}
		f := c.check(ctx)
		f.Check = c.name
		if c.name == "server" {
			reached = f.Result != "fail"
		}
		tell(f)
	}
}

// checkConfig is holdpost config check, on the machine of the server.
func (d *doctor) checkConfig(context.Context) finding {
	if !d.configured {
		return skipped("no configuration: on the server's machine give --config FILE")
	}
	c, err := d.config()
	if err == nil {
		err = checkWhole(c)
	}
	if err != nil {
		hint := ""
		if e, ok := errors.AsType[*exitError](err); ok {
			hint = e.hint
		}
		return broken(hint, "%v", err)
	}
	return fine("it is good")
}
