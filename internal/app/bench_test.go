package app

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// On a terminal there is a line that changes once a second.
func TestBenchShowsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := newBenchRun(benchPlan{scenario: "publish"}, nil, io.Discard)
		b.progress = &out
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		go func() {
			for range 10 {
				time.Sleep(150 * time.Millisecond)
				b.took(b.latency, b.now()-int64(2*time.Millisecond))
			}
			b.failed("gone")
		}()
		b.show(ctx, time.Now())
		want := "\r  1 s   6 a second   p99 2 ms   0 kinds of errors   \r  2 s   4 a second   p99 2 ms   1 kinds of errors   \n"
		if out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	})
}

// An operation that is due while another one is not answered is late, and counted from when it was due.
func TestLatencyCountsFromWhenItWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchRun(benchPlan{scenario: "publish"}, nil, io.Discard)
		due := b.now()
		time.Sleep(time.Second)
		b.took(b.latency, due)
		time.Sleep(time.Hour)
		b.took(b.latency, due) // more than can be told
		p := newPercentiles(b.latency)
		if p.P50 < 999 || p.P50 > 1001 || p.Max < 590_000 || p.Max > 601_000 {
			t.Errorf("%+v", p)
		}
		if s := p.String(); !strings.HasPrefix(s, "p50 1000 ms   p90 ") {
			t.Error(s)
		}
	})
}
