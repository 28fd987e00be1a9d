package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const (
	exitFailed      = 1
	exitUsage       = 64 // these are those of sysexits.h
	exitData        = 65
	exitUnavailable = 69
	exitTaken       = 75
	exitRefused     = 77
	exitConfig      = 78
)

// exitError is an error that knows its exit code and what to do about it.
type exitError struct {
	code int
	err  error
	hint string // lines, may be empty
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(hint, format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...), hint}
}

func (e *exitError) print(w io.Writer) {
	fmt.Fprintf(w, "holdpost: %s\n", printable(e.Error()))
	for line := range strings.Lines(e.hint) {
		fmt.Fprintf(w, "  %s\n", printable(strings.TrimSuffix(line, "\n")))
	}
}

// printJSON prints the error as a program reads it: one object on one line.
func (e *exitError) printJSON(w io.Writer) {
	said := struct {
		Message string `json:"message"`
		Code    string `json:"code,omitempty"` // of the server's answer
		Hint    string `json:"hint,omitempty"`
		Exit    int    `json:"exit"`
	}{Message: e.Error(), Hint: e.hint, Exit: e.code}
	if p, ok := errors.AsType[*problem](e.err); ok {
		said.Code = p.Code
	}
	if line, err := json.Marshal(map[string]any{"error": said}); err == nil { // texts and numbers can always be encoded
		fmt.Fprintln(w, printable(string(line)))
	}
}

// wantsJSON reports whether a command was called with --json. When its flags are what is wrong they are not all read.
func wantsJSON(cmd *cobra.Command, args []string) bool {
	f := cmd.Flags().Lookup("json")
	return f != nil && (f.Value.String() == "true" || slices.Contains(args, "--json"))
}
