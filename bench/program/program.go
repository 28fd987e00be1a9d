// Package program is what the programs of bench have in common: how they end, and how they say what they found.
package program

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a program with its arguments and exits with the code that it returns. SIGINT and SIGTERM end its context.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// A Report is what a measurement found. It is printed for people, or as JSON.
type Report interface{ Print(w io.Writer) error }

// Measure calls measure and prints its report to stdout, or says on stderr why there is none. It returns the program's code: 0; 1 for an
// error of the measurement; 2 for usage, an error of the flags, unless that is [flag.ErrHelp].
func Measure(name string, usage error, asJSON bool, measure func() (Report, error), stdout, stderr io.Writer) int {
	if usage != nil {
		if errors.Is(usage, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(stderr, "%s: %v\n", name, usage)
		return 2
	}
	r, err := measure()
	if err == nil && asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else if err == nil {
		err = r.Print(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
