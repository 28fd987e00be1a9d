//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdpost/holdpost/bench/program"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/external"
	"github.com/holdpost/holdpost/queue/index"
)

func main() { program.Main(run) }

type options struct {
	dir        string
	nats       string
	publishers []int
	duration   time.Duration
	bytes      int
	queues     int
	missed     int
	jobs       int
	replay     int
	idle       int
	raw        bool
	json       bool
}

// report is what -json prints.
type report struct {
	Dir     string      `json:"dir"`
	Disk    *disk       `json:"disk"`
	Publish []published `json:"publish"`
	Herd    *herd       `json:"herd,omitempty"`
	Work    []work      `json:"work,omitempty"`
	Replay  *replay     `json:"replay,omitempty"`
	Idle    *idle       `json:"idle,omitempty"`
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	f := flag.NewFlagSet("queue", flag.ContinueOnError)
	f.SetOutput(stderr)
	var o options
	f.StringVar(&o.dir, "dir", "", "directory on the disk to measure; a new one is made in it and removed (default the temporary directory)")
	f.StringVar(&o.nats, "nats", "", "`URLs` of NATS servers that have the log, separated by commas, instead of the embedded engine; without -idle and -raw")
	publishers := f.String("publishers", "1,64,256", "numbers of concurrent publishers, one measurement each")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "length of each publish measurement")
	f.IntVar(&o.bytes, "bytes", 200, "payload of a publish, in bytes")
	f.IntVar(&o.queues, "queues", 10_000, "personal queues; 0 leaves them out")
	f.IntVar(&o.missed, "missed", 50, "events that each of them missed")
	f.IntVar(&o.jobs, "jobs", 100_000, "events that a work queue works off; 0 leaves it out")
	f.IntVar(&o.replay, "replay", 500_000, "events of one topic that are read from the first on; 0 leaves it out")
	f.IntVar(&o.idle, "idle", 100_000, "personal queues that nobody is connected to, at a start; 0 leaves it out")
	f.BoolVar(&o.raw, "raw", true, "publish to JetStream itself too, with and without a flush for each message")
	quick := f.Bool("quick", false, "one second a measurement and 500 queues: a first look, not a result")
	f.BoolVar(&o.json, "json", false, "print JSON instead of text")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if *quick {
		o.duration, o.queues, o.jobs = time.Second, min(o.queues, 500), min(o.jobs, 10_000)
		o.replay, o.idle = min(o.replay, 50_000), min(o.idle, 2000)
	}
	if o.nats != "" {
		o.raw, o.idle = false, 0 // they are about the embedded engine
	}
	for s := range strings.SplitSeq(*publishers, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 4096 {
			return o, fmt.Errorf("-publishers %s: want numbers from 1 to 4096", *publishers)
		}
		o.publishers = append(o.publishers, n)
	}
	if o.duration <= 0 || o.duration > time.Minute || o.bytes < 1 || o.bytes > 100_000 ||
		o.queues < 0 || o.queues > 100_000 || o.missed < 1 || o.missed > 10_000 || o.jobs < 0 || o.jobs > 1_000_000 ||
		o.replay < 0 || o.replay > 10_000_000 || o.idle < 0 || o.idle > 1_000_000 {
		return o, errors.New("want -duration up to 1m, -bytes up to 100000, -queues up to 100000, -missed up to 10000, -jobs and -idle up to 1000000 and -replay up to 10000000")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	return program.Measure("queue", err, o.json, func() (program.Report, error) { return measure(ctx, o, stderr) }, stdout, stderr)
}

func measure(ctx context.Context, o options, progress io.Writer) (r *report, err error) {
	dir, err := os.MkdirTemp(o.dir, "holdpost-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &report{Dir: dir}
	fmt.Fprintln(progress, "disk")
	if r.Disk, err = probeDisk(dir, min(o.duration, 2*time.Second)); err != nil {
		return nil, fmt.Errorf("probe the disk: %w", err)
	}
	s, err := openStore(ctx, dir, o.nats, stderrLogger(progress))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, n := range o.publishers {
		fmt.Fprintf(progress, "%d publishers\n", n)
		p, err := measurePublish(n, o.duration, brokerPublisher(ctx, s.broker, o.bytes))
		if err != nil {
			return nil, fmt.Errorf("%d publishers: %w", n, err)
		}
		if o.raw {
			if p.Raw, err = measureRaw(ctx, dir, n, o.bytes, o.duration, false); err == nil {
				p.Sync, err = measureRaw(ctx, dir, n, o.bytes, o.duration, true)
			}
			if err != nil {
				return nil, fmt.Errorf("%d publishers to JetStream itself: %w", n, err)
			}
		}
		r.Publish = append(r.Publish, *p)
	}
	if o.queues > 0 {
		fmt.Fprintf(progress, "%d queues\n", o.queues)
		if r.Herd, err = measureHerd(ctx, s.broker, o.queues, o.missed); err != nil {
			return nil, fmt.Errorf("%d queues: %w", o.queues, err)
		}
	}
	if o.jobs > 0 {
		for _, prefetch := range []int{64, 1} {
			fmt.Fprintf(progress, "work queue, prefetch %d\n", prefetch)
			w, err := measureWork(ctx, s.broker, fmt.Sprint("jobs/", prefetch), 8, prefetch, o.jobs)
			if err != nil {
				return nil, fmt.Errorf("work queue: %w", err)
			}
			r.Work = append(r.Work, *w)
		}
	}
	if o.replay > 0 {
		fmt.Fprintf(progress, "%d events read again\n", o.replay)
		if r.Replay, err = measureReplay(ctx, s.broker, o.replay, o.bytes); err != nil {
			return nil, fmt.Errorf("read again: %w", err)
		}
	}
	if o.idle > 0 {
		fmt.Fprintf(progress, "%d idle queues\n", o.idle)
		if r.Idle, err = measureIdle(ctx, filepath.Join(dir, "idle"), o.idle, stderrLogger(progress)); err != nil {
			return nil, fmt.Errorf("idle queues: %w", err)
		}
	}
	return r, nil
}

// store is the engine, the index and the broker over both.
type store struct {
	engine interface {
		queue.Engine
		Close() error
	}
	index  *index.Index
	broker *queue.Broker
}

func openStore(ctx context.Context, dir, nats string, logger *slog.Logger) (*store, error) {
	s := &store{}
	var err error
	if nats != "" {
		s.engine, err = external.Start(ctx, external.Config{URLs: strings.Split(nats, ","), Node: "bench", Logger: logger})
	} else {
		s.engine, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "log"), Logger: logger})
	}
	if err != nil {
		return nil, err
	}
	if s.index, err = index.Open(filepath.Join(dir, "index"), logger); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.broker, err = queue.Open(ctx, queue.Config{Engine: s.engine, Index: s.index, Logger: logger}); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *store) close() error {
	var errs []error
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	if s.index != nil {
		errs = append(errs, s.index.Close())
	}
	return errors.Join(append(errs, s.engine.Close())...)
}

func stderrLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (r *report) Print(w io.Writer) error {
	fmt.Fprintf(w, "disk (fdatasync after 4 KiB): %.0f/s, p50 %v, p99 %v\n", r.Disk.Rate, r.Disk.P50, r.Disk.P99)
	for _, p := range r.Publish {
		fmt.Fprintf(w, "%d publishers: %.0f acks/s%s, p50 %v, p99 %v, max %v, %.1f µs of CPU each\n",
			p.Publishers, p.Rate, verdict(p.Rate, wanted[p.Publishers]), p.P50, p.P99, p.Max, p.CPU)
		if p.Raw != nil {
			fmt.Fprintf(w, "    JetStream itself, which flushes each message: %.0f acks/s, p50 %v, p99 %v; every two minutes: %.0f acks/s, p50 %v, p99 %v\n",
				p.Sync.Rate, p.Sync.P50, p.Sync.P99, p.Raw.Rate, p.Raw.P50, p.Raw.P99)
		}
	}
	if h := r.Herd; h != nil {
		fmt.Fprintf(w, "%d queues with %d missed events each: all delivered once and in order in %v, %.2f µs of CPU per event (published before at %.0f/s)\n",
			h.Queues, h.Missed, h.Time, h.CPU, h.PublishRate)
		fmt.Fprintf(w, "    meanwhile %d others, 1,000 events/s: p50 %v, p99 %v from publish to delivery; before p50 %v, p99 %v\n",
			others, h.Busy.P50, h.Busy.P99, h.Calm.P50, h.Calm.P99)
	}
	for _, x := range r.Work {
		fmt.Fprintf(w, "work queue, %d consumers with a prefetch of %d: %.0f acknowledged events/s%s, %.1f µs of CPU each\n",
			x.Consumers, x.Prefetch, x.Rate, verdict(x.Rate, 10_000), x.CPU)
	}
	if x := r.Replay; x != nil {
		fmt.Fprintf(w, "%d events of one topic read again: %.0f/s%s, %.2f µs of CPU each\n", x.Events, x.Rate, verdict(x.Rate, 200_000), x.CPU)
	}
	if x := r.Idle; x != nil {
		fmt.Fprintf(w, "%d personal queues that nobody is connected to: started in %v, %.0f B of memory each, %d MiB on the disk\n", x.Queues, x.Start, x.Memory, x.Disk>>20)
	}
	return nil
}

// wanted are the acks/s that are asked for, by the number of publishers.
var wanted = map[int]float64{1: 2000, 64: 20_000, 256: 50_000}

func verdict(got, want float64) string {
	switch {
	case want == 0:
		return ""
	case got >= want:
		return fmt.Sprintf(" (≥ %.0f: met)", want)
	}
	return fmt.Sprintf(" (≥ %.0f: NOT met)", want)
}
