//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/holdpost/holdpost/bench/program"
)

func main() { program.Main(run) }

type options struct {
	idle      int
	emitters  int
	duration  time.Duration
	returning int
	json      bool
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	f := flag.NewFlagSet("client", flag.ContinueOnError)
	f.SetOutput(stderr)
	var o options
	f.IntVar(&o.idle, "idle", 10_000, "idle clients; 0 leaves them out")
	f.IntVar(&o.emitters, "emitters", 200, "clients that wait for the answer to one event each; 0 leaves them out")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "how long they do")
	f.IntVar(&o.returning, "returning", 5_000, "clients whose server is killed; 0 leaves them out")
	quick := f.Bool("quick", false, "a tenth of the clients, for a second: a first look, not a result")
	f.BoolVar(&o.json, "json", false, "print JSON instead of text")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if *quick {
		o.idle, o.emitters, o.returning, o.duration = o.idle/10, o.emitters/10, o.returning/10, time.Second
	}
	for _, n := range []int{o.idle, o.emitters, o.returning} {
		if n < 0 || n > 20_000 {
			return o, errors.New("want up to 20000 clients")
		}
	}
	if o.duration <= 0 || o.duration > time.Minute {
		return o, errors.New("want -duration up to 1m")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	return program.Measure("client", err, o.json, func() (program.Report, error) { return measure(ctx, o, stderr) }, stdout, stderr)
}

// report is what -json prints.
type report struct {
	Idle   *idle      `json:"idle,omitempty"`
	Emit   *emit      `json:"emit,omitempty"`
	Return []returned `json:"return,omitempty"`
}

func measure(ctx context.Context, o options, progress io.Writer) (r *report, err error) {
	tmp, err := os.MkdirTemp("", "holdpost-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	s, err := build(ctx, tmp)
	if err != nil {
		return nil, err
	}
	r = &report{}
	if o.idle > 0 {
		fmt.Fprintln(progress, o.idle, "idle clients")
		if r.Idle, err = measureIdle(ctx, s, o.idle); err != nil {
			return nil, err
		}
	}
	if o.emitters > 0 {
		fmt.Fprintln(progress, o.emitters, "emitters")
		if r.Emit, err = measureEmit(ctx, s, o.emitters, o.duration); err != nil {
			return nil, err
		}
	}
	for _, jitter := range []float64{0.5, -1} {
		if o.returning == 0 {
			break
		}
		fmt.Fprintln(progress, o.returning, "clients whose server is killed")
		back, err := measureReturn(ctx, s, o.returning, jitter)
		if err != nil {
			return nil, err
		}
		r.Return = append(r.Return, *back)
	}
	return r, nil
}

func (r *report) Print(w io.Writer) error {
	var b strings.Builder
	verdict := func(ok bool) string {
		if ok {
			return "met"
		}
		return "NOT met"
	}
	if i := r.Idle; i != nil {
		fmt.Fprintf(&b, "%d idle clients: %d B each in their process (≤ 12000: %s)\n", i.Clients, i.Bytes, verdict(i.Bytes <= 12_000))
	}
	if e := r.Emit; e != nil {
		fmt.Fprintf(&b, "emit + ack, %d clients with one outstanding each: %.2f µs of CPU in the client, %.2f in the server, %.2f × (≤ 2: %s), %.0f/s\n",
			e.Clients, e.Client, e.Server, e.Client/e.Server, verdict(e.Client <= 2*e.Server), e.Rate)
	}
	for _, back := range r.Return {
		fmt.Fprintf(&b, "%d clients whose server was killed and started again, jitter %v: at most %d try within 100 ms, the first is back after %v, the last after %v\n",
			back.Clients, max(back.Jitter, 0), back.Busiest, back.First.Round(time.Millisecond), back.Last.Round(time.Millisecond))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
