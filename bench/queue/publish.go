//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdpost/holdpost/bench/load"
	"github.com/holdpost/holdpost/queue"
)

// disk is what the disk can do at best: one writer that waits for each block to be stored.
type disk struct {
	Rate float64       `json:"rate"`
	P50  time.Duration `json:"p50ns"`
	P99  time.Duration `json:"p99ns"`
}

func probeDisk(dir string, d time.Duration) (*disk, error) {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	var ns []int64
	start := time.Now()
	for time.Since(start) < d {
		t := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		ns = append(ns, time.Since(t).Nanoseconds())
	}
	return &disk{
		Rate: float64(len(ns)) / time.Since(start).Seconds(),
		P50:  percentile(ns, 0.5),
		P99:  percentile(ns, 0.99),
	}, nil
}

func percentile(ns []int64, p float64) time.Duration {
	return time.Duration(load.Percentile(ns, p)).Round(time.Microsecond)
}

// published is one measurement of power-safe publishes.
type published struct {
	Publishers int           `json:"publishers"`
	Rate       float64       `json:"rate"` // acks/s
	P50        time.Duration `json:"p50ns"`
	P99        time.Duration `json:"p99ns"`
	Max        time.Duration `json:"maxns"`
	CPU        float64       `json:"cpuMicros"` // of the whole process, per publish

	Raw  *published `json:"raw,omitempty"`  // JetStream itself, which flushes every two minutes
	Sync *published `json:"sync,omitempty"` // JetStream itself, which flushes each message
}

// brokerPublisher publishes to a topic of each publisher's own.
func brokerPublisher(ctx context.Context, b *queue.Broker, bytes int) func(publisher int) error {
	args := payload(bytes)
	return func(publisher int) error {
		_, err := b.Publish(ctx, queue.Message{Topic: fmt.Sprintf("bench/publisher/%d", publisher), Event: "tick", Args: args})
		return err
	}
}

func payload(bytes int) []byte { return []byte(`["` + strings.Repeat("x", bytes) + `"]`) }

// measurePublish has n publishers wait for one ack after the other.
func measurePublish(n int, d time.Duration, publish func(publisher int) error) (*published, error) {
	publishFor := func(d time.Duration) ([]int64, error) {
		var (
			wg      sync.WaitGroup
			latency = make([][]int64, n)
			errs    = make([]error, n)
			end     = time.Now().Add(d)
		)
		for i := range n {
			wg.Go(func() {
				for start := time.Now(); start.Before(end) && errs[i] == nil; {
					errs[i] = publish(i)
					now := time.Now()
					latency[i] = append(latency[i], now.Sub(start).Nanoseconds())
					start = now
				}
			})
		}
		wg.Wait()
		var all []int64
		for _, l := range latency {
			all = append(all, l...)
		}
		return all, errors.Join(errs...)
	}
	if _, err := publishFor(d / 5); err != nil { // warm up
		return nil, err
	}
	cpu, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	ns, err := publishFor(d)
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &published{
		Publishers: n,
		Rate:       float64(len(ns)) / took.Seconds(),
		P50:        percentile(ns, 0.5),
		P99:        percentile(ns, 0.99),
		Max:        percentile(ns, 1),
		CPU:        float64(after.Sub(cpu).Total.Nanoseconds()) / 1e3 / float64(len(ns)),
	}, nil
}
