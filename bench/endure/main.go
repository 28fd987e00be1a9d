//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/holdpost/holdpost/bench/program"
)

func main() { program.Main(run) }

// options are those of both commands.
type options struct {
	clients  int
	topics   int
	rate     int // events a second that are published
	missed   int // events for each client of a herd
	admitted int // as limits.handshakes_per_second, for a herd
	minutes  float64
	every    time.Duration // between two looks of a soak
	binary   string
	dir      string
	out      io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{out: stdout}
	commands := map[string]func(context.Context, *options) error{"restart": restart, "soak": soak, "herd": herd}
	f := flag.NewFlagSet("endure", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.clients, "clients", 1000, "clients that are connected at a time")
	f.IntVar(&o.topics, "topics", 100, "topics that they are subscribed to, one each")
	f.IntVar(&o.rate, "rate", 20, "events a second that are published")
	f.IntVar(&o.missed, "missed", 50, "events that each client of a herd has missed")
	f.IntVar(&o.admitted, "admitted", 0, "clients of a herd that the server lets in a second, its limits.handshakes_per_second: 0 is its default, below zero all at once")
	f.Float64Var(&o.minutes, "minutes", 1, "length of a soak")
	f.DurationVar(&o.every, "every", 5*time.Second, "time between two lines of a soak")
	dir := f.String("dir", "", "directory for the data; a new one is made in it and removed (default the temporary directory)")
	if len(args) == 1 && args[0] == "crowd" { // for itself
		if err := serveCrowd(ctx); err != nil {
			fmt.Fprintln(stderr, "endure:", err)
			return 1
		}
		return 0
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(stderr, "usage: endure restart|soak|herd [flags]")
		return 64
	}
	if err := f.Parse(args[1:]); err != nil || f.NArg() > 0 || o.clients < 1 || o.topics < 1 || o.rate < 1 || o.missed < 1 || o.minutes <= 0 || o.every <= 0 {
		fmt.Fprintln(stderr, "numbers above zero are expected, and no other arguments")
		return 64
	}
	var err error
	if o.dir, err = os.MkdirTemp(*dir, "holdpost-endure-*"); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	defer os.RemoveAll(o.dir)
	o.binary = filepath.Join(o.dir, "holdpost")
	err = build(ctx, o.binary)
	if err == nil {
		err = commands[args[0]](ctx, &o)
	}
	if err != nil {
		fmt.Fprintln(stderr, "endure:", err)
		return 1
	}
	return 0
}
