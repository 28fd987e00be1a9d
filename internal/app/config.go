package app

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdpost/holdpost/internal/config"
)

const envPrefix = "HOLDPOST_"

// The variables with secrets: they have no flags.
const (
	jwtSecretVariable = envPrefix + "JWT_SECRET"
	apiKeyVariable    = envPrefix + "API_KEY"
)

// configFlag adds the flag that names the configuration file.
func configFlag(f *pflag.FlagSet) *string {
	return f.String("config", "", "configuration `file`, YAML")
}

// loadConfig reads the configuration as serve does.
func loadConfig(cmd *cobra.Command, file string) (*config.Config, error) {
	c, err := config.Load(file, os.Environ(), cmd.Flags())
	if err != nil {
		return nil, explainConfig(err)
	}
	return c, nil
}

// wrongConfig is all that is wrong with a configuration. Its text is the first.
type wrongConfig struct {
	error
	all []*config.Error
}

func (e *wrongConfig) Unwrap() error { return e.error }

// explainConfig gives the first of what is wrong with the configuration its exit code: that of the command line when it was
// said there. The others are told below it.
func explainConfig(err error) error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	wrong := &wrongConfig{error: all[0]}
	e := &exitError{code: exitConfig, err: wrong}
	for i, one := range all {
		said, ok := errors.AsType[*config.Error](one)
		if !ok {
			continue
		}
		wrong.all = append(wrong.all, said)
		if i > 0 {
			e.hint += said.Error() + "\n"
		}
		if said.Hint != "" {
			e.hint += said.Hint + "\n"
		}
		if i == 0 && (strings.HasPrefix(said.Where, "--") || strings.HasPrefix(said.Where, envPrefix)) {
			e.code = exitUsage
			wrong.error = fmt.Errorf("invalid %w", said)
		}
	}
	e.hint = strings.TrimSuffix(e.hint, "\n")
	return e
}

// env lists the flags that an environment variable can set, besides those of the configuration. What belongs to one call only, such as an id or the acceptance
// of a loss, is not among them: it would stay for the next call.
var env = []string{"server", "config"}

func variable(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that were not given from the environment.
func fromEnvironment(flags *pflag.FlagSet, environ []string) error {
	var known []string
	for _, flag := range env {
		known = append(known, variable(flag))
	}
	known = append(append(known, config.Variables()...), jwtSecretVariable, apiKeyVariable, tokenVariable)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		i := slices.Index(known, name)
		if i >= len(env) { // serve reads it
			continue
		}
		if i < 0 {
			// Others may use our prefix, as orchestrators do for a service of our name; a misspelt one is meant for us.
			if near := config.Nearest(name, known); near != "" {
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
		if near := config.Nearest(name, known); near != "" {
			hint = "did you mean --" + near + "?\n" + hint
		}
	} else if strings.HasPrefix(err.Error(), "unknown shorthand flag: ") {
		hint = "an argument that begins with \"-\" goes behind \"--\"\n" + hint
	}
	return &exitError{exitUsage, err, hint}
}

func suggest(word string, known []string, hint string) string {
	if near := config.Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?\n%s", near, hint)
	}
	return hint
}
