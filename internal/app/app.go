package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Run runs the program with its arguments, without the name of the program, and returns the exit code. It returns when
// ctx ends or the process gets a signal, as soon as what runs has ended in good order.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from then on a signal does what it does to any process

	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	e, ok := errors.AsType[*exitError](err)
	if !ok { // commands wrap theirs: this one is cobra's, about the arguments
		e = &exitError{exitUsage, err, fmt.Sprintf("see: %s --help", command.CommandPath())}
	}
	if wantsJSON(command, args) {
		e.printJSON(stderr)
	} else {
		e.print(stderr)
	}
	return e.code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdpost",
		Short: "A real-time event server with message queues built in",
		Long: `Holdpost is a real-time event server with message queues built in. Socket.IO clients
connect to it unmodified; an event that one of them misses is held until it is back.`,
		Example: `  holdpost serve --dev                                 # then open http://127.0.0.1:7300
  holdpost publish orders created '{"text": "2 espresso"}'
  holdpost tail -f orders`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usage(suggest(args[0], names(cmd), "see: holdpost --help"), "unknown command %q", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newServe(), newPublish(), newTail(), newEmit(), newListen(), newTopic(), newQueue(), newSocket(), newRoom(), newIdentity(), newBench(), newDoctor(), newStore(), newToken(), newConfig(), newVersion(), newMan())
	return root
}

func names(cmd *cobra.Command) []string {
	var all []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c.Name())
		}
	}
	return all
}

// command is the RunE of a command: an error of its own is not about the command line unless it says so.
func command(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := fromEnvironment(cmd.Flags(), os.Environ()); err != nil {
			return err
		}
		err := f(cmd, args)
		if _, ok := errors.AsType[*exitError](err); err == nil || ok {
			return err
		}
		return &exitError{code: exitFailed, err: err}
	}
}

// positional is the Args of a command that needs the named arguments, none of them empty, and with more takes others too.
func positional(more bool, needed ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := fmt.Sprintf("use: %s\nsee: %s --help", cmd.UseLine(), cmd.CommandPath())
		for i, name := range needed {
			if i >= len(args) {
				return usage(hint, "%s is missing", name)
			}
			if args[i] == "" {
				return usage(hint, "%s is empty", name)
			}
		}
		if len(args) > len(needed) && !more {
			return usage(hint, "unexpected argument %q", args[len(needed)])
		}
		return nil
	}
}
