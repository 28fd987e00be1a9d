//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/holdpost/holdpost/bench/program"
)

func main() { program.Main(run) }

type options struct {
	peers     []string
	scenarios []scenario
	passes    int
	quick     bool
	json      bool
	recovery  bool
	profile   string
	dir       string // where holdpost stores what recovery needs
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	var o options
	peers := f.String("peers", "holdpost,npm", "servers to run, from holdpost and npm")
	names := f.String("scenarios", "", "scenarios to run, separated by commas (default all but rest): "+strings.Join(scenarioNames(), ", "))
	f.IntVar(&o.passes, "passes", 0, "times that each scenario is run (default 4; 1 with -quick)")
	f.BoolVar(&o.quick, "quick", false, "one short pass with fewer connections: a first look, not a result")
	f.BoolVar(&o.json, "json", false, "print JSON instead of the table")
	f.BoolVar(&o.recovery, "recovery", false, "run the servers with connection state recovery on; for emit, bcast, idle and handshake")
	f.StringVar(&o.profile, "profile", "", "directory for CPU profiles of holdpost, one a scenario; the figures then mean nothing")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.peers = strings.Split(*peers, ",")
	for i, p := range o.peers {
		if !slices.Contains([]string{"holdpost", "npm"}, p) || slices.Contains(o.peers[:i], p) {
			return o, fmt.Errorf("-peers %s: want holdpost, npm or both", *peers)
		}
	}
	for _, s := range scenarios {
		if !s.onCall {
			o.scenarios = append(o.scenarios, s)
		}
	}
	if *names != "" {
		o.scenarios = nil
		for name := range strings.SplitSeq(*names, ",") {
			i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
			if i < 0 {
				return o, fmt.Errorf("-scenarios: no scenario %q among %s", name, strings.Join(scenarioNames(), ", "))
			}
			o.scenarios = append(o.scenarios, scenarios[i])
		}
	}
	switch {
	case o.passes < 0 || o.passes > 100:
		return o, fmt.Errorf("-passes %d: want 1 to 100", o.passes)
	case o.passes == 0 && o.quick:
		o.passes = 1
	case o.passes == 0:
		o.passes = 4
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	return program.Measure("bench", err, o.json, func() (program.Report, error) { return measure(ctx, o, stderr) }, stdout, stderr)
}

// measure runs every scenario on every peer, pass by pass.
func measure(ctx context.Context, o options, progress io.Writer) (*report, error) {
	tmp, err := os.MkdirTemp("", "holdpost-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	builds := map[string]*build{}
	for _, name := range o.peers {
		if builds[name], err = prepare(ctx, name, tmp); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	r := newReport(o, builds)
	start := time.Now()
	for pass := range o.passes {
		order := slices.Clone(o.peers)
		if pass%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range o.scenarios {
			for _, name := range order {
				fmt.Fprintf(progress, "%6.1fs  pass %d/%d  %-10s %s\n", time.Since(start).Seconds(), pass+1, o.passes, s.name, name)
				m, err := one(ctx, s, builds[name], o)
				if err != nil {
					return nil, fmt.Errorf("%s on %s: %w", s.name, name, err)
				}
				r.add(s, name, m)
				runtime.GC() // the client's garbage is not the next peer's burden
			}
		}
	}
	r.Seconds = time.Since(start).Seconds()
	r.finish()
	return r, nil
}

// one measures one scenario on one fresh process.
func one(ctx context.Context, s scenario, b *build, o options) (figures, error) {
	o.recovery = o.recovery || s.recover
	if o.recovery && b.name == "holdpost" {
		var err error
		if o.dir, err = os.MkdirTemp("", "holdpost-bench-store-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(o.dir)
	}
	p, err := b.start(ctx, s.name, o)
	if err != nil {
		return nil, err
	}
	t := &trial{peer: p, quick: o.quick}
	if o.dir != "" {
		t.restart = func() error {
			if err := t.peer.kill(); err != nil {
				return err
			}
			t.peer, err = b.start(ctx, s.name, o)
			return err
		}
	}
	m, err := s.run(t)
	return m, errors.Join(err, t.peer.stop())
}
