//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"os/exec"
	"runtime"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/holdpost/holdpost/bench/load"
)

// usage is the processor time that a server that may be restarted, and its clients, had used before.
type usage struct {
	server, clients load.CPU
	process         *exec.Cmd
}

func newUsage(s *server, clients *crowd) (*usage, error) {
	u := &usage{process: s.cmd}
	var err error
	if u.server, err = load.ReadCPU(s.cmd.Process.Pid); err == nil {
		u.clients, err = load.ReadCPU(clients.cmd.Process.Pid)
	}
	return u, err
}

// tell says what each has used since: who waits for a processor is late, whoever has it.
func (u *usage) tell(w io.Writer, s *server, crowd *crowd, took time.Duration) error {
	server, err := load.ReadCPU(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	clients, err := load.ReadCPU(crowd.cmd.Process.Pid)
	if err != nil {
		return err
	}
	used := server.Total - u.server.Total
	if ended := u.process.ProcessState; ended != nil {
		used += ended.SystemTime() + ended.UserTime()
	}
	_, err = fmt.Fprintf(w, "processor time meanwhile: the server %.1f s, its clients %.1f s, of %.1f s that there were\n",
		used.Seconds(), clients.Sub(u.clients).Total.Seconds(), took.Seconds()*float64(runtime.NumCPU()))
	return err
}

// waits is how often something that was to be done has waited in a server, since its start, up to so long for a processor. The zero value is
// at the start.
type waits []bucket

func (s *server) waits() (waits, error) {
	m, err := s.metrics("go_sched_latencies_seconds")
	if err != nil {
		return nil, err
	}
	return m[0].buckets, nil
}

// tell says it of the time since.
func (w waits) tell(out io.Writer, s *server) error {
	now, err := s.waits()
	if err != nil {
		return err
	}
	for i, b := range w {
		now[i].count -= b.count
	}
	// within returns the upper bound of the bucket in which a quantile lies, in ms.
	within := func(q float64) float64 {
		for _, b := range now {
			if b.count >= q*now[len(now)-1].count {
				return 1000 * b.upto
			}
		}
		return math.Inf(1)
	}
	_, err = fmt.Fprintf(out, "within the server, what was to be done waited for a processor: p50 <= %.3g ms, p99 <= %.3g ms, p99.9 <= %.3g ms\n", within(.5), within(.99), within(.999))
	return err
}

// metric is one of the server's: its value, or the buckets of a histogram.
type metric struct {
	value   float64
	buckets []bucket
}

// bucket counts what was no more than upto.
type bucket struct{ upto, count float64 }

// metrics reads some of the server's.
func (s *server) metrics(names ...string) ([]metric, error) {
	response, err := http.Get("http://" + s.api + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, err
	}
	all := make([]metric, len(names))
	for i, name := range names {
		f := families[name]
		if f == nil || len(f.Metric) == 0 {
			return nil, fmt.Errorf("the server has no %s", name)
		}
		m := f.Metric[0]
		all[i].value = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		for _, b := range m.GetHistogram().GetBucket() {
			all[i].buckets = append(all[i].buckets, bucket{b.GetUpperBound(), float64(b.GetCumulativeCount())})
		}
	}
	return all, nil
}
