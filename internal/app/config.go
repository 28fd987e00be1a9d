package app

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const envPrefix = "HOLDPOST_"

// serveConfig is what serve can be told.
type serveConfig struct {
	dev            bool
	listen         string
	internalListen string
	dataDir        string
	acceptLoss     bool
	logLevel       string
	json           bool

	level slog.Level // logLevel, parsed
}

func (c *serveConfig) check() error {
	if err := c.level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return usage("use one of: debug, info, warn, error", "invalid log level %q", c.logLevel)
	}
	for _, listen := range []struct{ flag, value string }{{"--listen", c.listen}, {"--internal-listen", c.internalListen}} {
		if err := checkListen(listen.value); err != nil {
			return usage("write HOST:PORT, for example 127.0.0.1:7300; port 0 takes any free one", "invalid %s %q: %w", listen.flag, listen.value, err)
		}
	}
	if c.dataDir == "" {
		return usage("", "--data-dir is empty")
	}
	return nil
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		if e, ok := err.(*net.AddrError); ok {
			return fmt.Errorf("%s", e.Err)
		}
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// env lists the flags that an environment variable can set. What belongs to one call only, such as an id or the acceptance
// of a loss, is not among them: it would stay for the next call.
var env = []string{"dev", "listen", "internal-listen", "data-dir", "log-level", "server"}

func variable(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that were not given from the environment.
func fromEnvironment(flags *pflag.FlagSet, environ []string) error {
	known := make([]string, len(env))
	for i, flag := range env {
		known[i] = variable(flag)
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		i := slices.Index(known, name)
		if i < 0 {
			// Others may use our prefix, as orchestrators do for a service of our name; a misspelt one is meant for us.
			if near := nearest(name, known); near != "" {
				return usage("did you mean "+near+"?", "unknown environment variable %s", name)
			}
			continue
		}
		f := flags.Lookup(env[i])
		if f == nil || f.Changed || value == "" {
			continue
		}
		if err := f.Value.Set(value); err != nil {
			return usage("", "invalid environment variable %s=%q: %w", name, value, err)
		}
	}
	return nil
}

// flagError adds to cobra's error about a flag what may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("see: %s --help", cmd.CommandPath())
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if near := nearest(name, known); near != "" {
			hint = "did you mean --" + near + "?\n" + hint
		}
	} else if strings.HasPrefix(err.Error(), "unknown shorthand flag: ") {
		hint = "an argument that begins with \"-\" goes behind \"--\"\n" + hint
	}
	return &exitError{exitUsage, err, hint}
}

func suggest(word string, known []string, hint string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?\n%s", near, hint)
	}
	return hint
}

// nearest returns the word that differs from the given one in at most two letters, or a third of them; "" if there is none.
func nearest(word string, known []string) string {
	best, found := min(2, max(1, len(word)/3))+1, ""
	for _, k := range known {
		if d := distance(word, k); d < best {
			best, found = d, k
		}
	}
	return found
}

// distance counts the letters to insert, delete or replace to come from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
