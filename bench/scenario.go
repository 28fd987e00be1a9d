//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

// figures are what one run of a scenario measured, by the keys of its metrics.
type figures map[string]float64

// metric is one row of the table.
type metric struct {
	key, title, unit string
	target           target
}

// target is what issue 2 asks of holdpost: at most this value, or at most this share of the npm server's. Zero = nothing.
type target struct {
	value, ratio float64
}

type scenario struct {
	name    string
	metrics []metric
	run     func(t *trial) (figures, error)
	onCall  bool // run only when named
	recover bool // with recovery on
}

// trial is one run on one fresh process.
type trial struct {
	peer  *peer
	quick bool
	// restart kills the server and starts another one on what it stored. nil if it stores nothing.
	restart func() error
}

// pick returns the size of the full run or that of the quick one.
func pick[T any](t *trial, full, quick T) T {
	if t.quick {
		return quick
	}
	return full
}

const (
	dialTime  = 60 * time.Second
	dialAhead = 64 // connections being opened at a time
)

var scenarios = []scenario{
	{name: "idle", run: idle, metrics: []metric{
		{"fresh", "idle connection, joined, resident memory", "B", target{}},
		{"rss", "idle connection, after one message", "B", target{value: 6000}},
		{"base", "the server before the first connection", "B", target{}},
	}},
	{name: "rest", run: rest, onCall: true, metrics: []metric{
		{"rss", "idle connection, after one message and a heartbeat", "B", target{value: 6000}},
	}},
	{name: "handshake", run: handshake, metrics: []metric{
		{"cpu", "handshake: accept, upgrade, open, CONNECT", "µs", target{value: 80}},
		{"rate", "handshakes", "1/s", target{}},
	}},
	{name: "emit1", run: emit(1), metrics: emitMetrics(1, 0.6)},
	{name: "emit8", run: emit(8), metrics: emitMetrics(8, 0.3)},
	{name: "bcast1", run: broadcast(1), metrics: broadcastMetrics("one at a time", 0.6)},
	{name: "bcast8", run: broadcast(8), metrics: broadcastMetrics("bursts of 8", 0)},
	{name: "recover", run: recoverAll, onCall: true, recover: true, metrics: []metric{
		{"time", "10,000 clients with 50 missed events each, all recovered after", "ms", target{}},
		{"cpu", "CPU per client recovered", "µs", target{}},
		{"peak", "peak resident memory while they are", "B", target{}},
	}},
	{name: "polling", run: polling, metrics: []metric{
		{"cpu", "emit + ack over long-polling, per message", "µs", target{}},
		{"rate", "messages", "1/s", target{}},
		{"p50", "latency, median", "µs", target{}},
		{"p99", "latency, 99 %", "µs", target{}},
	}},
}

func emitMetrics(depth int, ratio float64) []metric {
	return []metric{
		{"cpu", fmt.Sprintf("emit + ack, %d outstanding, per message", depth), "µs", target{ratio: ratio}},
		{"user", "of it in user mode", "µs", target{}},
		{"rate", "messages", "1/s", target{}},
		{"p50", "latency, median", "µs", target{}},
		{"p99", "latency, 99 %", "µs", target{}},
	}
}

func broadcastMetrics(how string, ratio float64) []metric {
	return []metric{
		{"cpu", "broadcast, " + how + ", per delivery", "µs", target{ratio: ratio}},
		{"user", "of it in user mode", "µs", target{}},
		{"rate", "deliveries", "1/s", target{}},
		{"p50", "until the last one has it, median", "µs", target{}},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// spent measures a stretch of load.
type spent struct {
	pid     int
	cpu     load.CPU
	started time.Time
}

func begin(pid int) (spent, error) {
	cpu, err := load.ReadCPU(pid)
	return spent{pid, cpu, time.Now()}, err
}

// end returns cost and rate of n units of work.
func (s spent) end(n int) (figures, error) {
	now, err := load.ReadCPU(s.pid)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("nothing was done in %v", time.Since(s.started))
	}
	d := now.Sub(s.cpu)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	f := figures{"cpu": us(d.Total), "rate": float64(n) / time.Since(s.started).Seconds()}
	if split := d.User + d.Sys; split > 0 {
		// The kernel shares the exact total out by its ticks; so does this.
		f["user"] = f["cpu"] * float64(d.User) / float64(split)
	}
	return f, nil
}

// latencies adds the percentiles of samples in nanoseconds.
func (f figures) latencies(ns []int64) {
	f["p50"] = float64(load.Percentile(ns, 0.50)) / 1e3
	f["p99"] = float64(load.Percentile(ns, 0.99)) / 1e3
}
