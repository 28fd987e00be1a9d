package app

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost/internal/config"
)

// group returns a command that only has others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usage(suggest(args[0], names(cmd), "see: "+cmd.CommandPath()+" --help"), "unknown command %q", cmd.Name()+" "+args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// checkWhole returns what is wrong with a configuration, the files and secrets that it names included.
func checkWhole(c *config.Config) error {
	if err := refuseOpen(c); err != nil {
		return err
	}
	if _, err := authConfig(c, fetcher(allowed(c))); err != nil {
		return err
	}
	if _, err := readHooks(c); err != nil {
		return err
	}
	if c.TLS.ACME.RootFile != "" {
		if _, err := readRoots(c.TLS.ACME.RootFile); err != nil {
			return &exitError{code: exitConfig, err: err}
		}
	}
	if c.TLS.CertFile != "" {
		if _, err := openCertificate(c.TLS.CertFile, c.TLS.KeyFile); err != nil {
			return &exitError{code: exitConfig, err: err}
		}
	}
	return nil
}

// checkResult is what holdpost config check --json prints.
type checkResult struct {
	OK     bool         `json:"ok"`
	Errors []checkError `json:"errors,omitempty"`
}

type checkError struct {
	Where   string `json:"where,omitempty"` // "holdpost.yaml: listen", "HOLDPOST_LISTEN", "--listen"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// text is the error as lines for people.
func (e checkError) text() string {
	text := e.Message + "\n"
	if e.Where != "" {
		text = e.Where + ": " + text
	}
	if e.Hint != "" {
		text += e.Hint + "\n"
	}
	return text
}

func newCheckResult(err error) checkResult {
	r := checkResult{OK: err == nil}
	if wrong, ok := errors.AsType[*wrongConfig](err); ok {
		for _, one := range wrong.all {
			r.Errors = append(r.Errors, checkError{one.Where, one.Err.Error(), one.Hint})
		}
	} else if e, ok := errors.AsType[*exitError](err); ok {
		r.Errors = []checkError{{Message: e.Error(), Hint: e.hint}}
	} else if err != nil {
		r.Errors = []checkError{{Message: err.Error()}}
	}
	return r
}

func newConfig() *cobra.Command {
	var asJSON bool
	check := &cobra.Command{
		Use:   "check",
		Short: "Tell what is wrong with the configuration, without starting anything",
		Long: `Read the configuration as serve does, with the files and secrets that it names, and tell what is
wrong with it. Nothing is started and nothing is made. With --json standard output has all errors, each with
where it was said.`,
		Example: "  holdpost config check --config /etc/holdpost.yaml",
		Args:    positional(false),
	}
	file := configFlag(check.Flags())
	check.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON, also a bad one")
	check.RunE = command(func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(cmd, *file)
		if err == nil {
			err = checkWhole(c)
		}
		if asJSON {
			line, jerr := json.Marshal(newCheckResult(err))
			if jerr == nil {
				_, jerr = fmt.Fprintln(cmd.OutOrStdout(), printable(string(line)))
			}
			return cmp.Or(err, jerr)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
		return err
	})
	return group("config", "Check the configuration, or print what there is to configure", check, newConfigDiff(),
		&cobra.Command{
			Use:   "default",
			Short: "Print a configuration file with all keys and their defaults",
			Args:  positional(false),
			RunE: command(func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), config.DefaultFile())
				return err
			}),
		},
		&cobra.Command{
			Use:   "docs",
			Short: "Print the reference page of the configuration",
			Args:  positional(false),
			RunE: command(func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), config.Reference())
				return err
			}),
		})
}
