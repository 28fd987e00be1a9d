//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/bench/load"
	"github.com/holdpost/holdpost/client"
)

const (
	dialAhead = 64 // clients that connect at a time
	patience  = 2 * time.Minute
	payload   = 64
)

// clients are connected to one server.
type clients []*client.Socket

// connect connects n clients, each over a connection of its own, and has each used once. onConnect may be nil.
func connect(ctx context.Context, url string, n int, c client.Config, onConnect func(i int)) (_ clients, closeAll func(), err error) {
	c.Transports, c.Logger = []string{"websocket"}, slog.New(slog.DiscardHandler)
	all := make(clients, n)
	owners := make([]*client.Client, n)
	closeAll = func() {
		for _, cl := range owners {
			if cl != nil {
				cl.Close()
			}
		}
	}
	errs := each(n, dialAhead, func(i int) error {
		owners[i] = client.New(url, &c)
		all[i] = owners[i].Of("/")
		if onConnect != nil {
			all[i].OnConnect(func(context.Context) { onConnect(i) })
		}
		if err := all[i].Connect(ctx); err != nil {
			return err
		}
		return echo(ctx, all[i])
	})
	if errs != nil {
		closeAll()
		return nil, nil, errs
	}
	return all, closeAll, nil
}

// each calls f with 0 to n-1, so many at a time, and returns the first error.
func each(n, atOnce int, f func(i int) error) error {
	var group sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[error]
	for range min(n, atOnce) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

var text = strings.Repeat("x", payload)

func echo(ctx context.Context, s *client.Socket) error {
	answer, err := s.EmitWithAck(ctx, "echo", text)
	var back string
	if err := errors.Join(err, answer.Decode(&back)); err != nil || back != text {
		return fmt.Errorf("echo: %q, %w", back, err)
	}
	return nil
}

// idle is what a client weighs that is connected, was used once, and is silent.
type idle struct {
	Clients int   `json:"clients"`
	Bytes   int64 `json:"bytes"` // of resident memory
}

func measureIdle(ctx context.Context, s *server, n int) (*idle, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	defer s.kill()
	_, closeFirst, err := connect(ctx, s.url(), 50, client.Config{}, nil) // which pay for what is set up once
	if err != nil {
		return nil, err
	}
	closeFirst()
	before, err := resident()
	if err != nil {
		return nil, err
	}
	all, closeAll, err := connect(ctx, s.url(), n, client.Config{}, nil)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	time.Sleep(time.Second)
	after, err := resident()
	runtime.KeepAlive(all)
	return &idle{n, (after - before) / int64(n)}, err
}

// resident returns this process's memory after a collection of garbage.
func resident() (int64, error) {
	runtime.GC()
	debug.FreeOSMemory()
	m, err := load.ReadMemory(os.Getpid())
	return m.Rss, err
}

// emit is what an event with an ack costs, in µs of processor time.
type emit struct {
	Clients int     `json:"clients"`
	Client  float64 `json:"client"`
	Server  float64 `json:"server"`
	Rate    float64 `json:"rate"` // 1/s
}

func measureEmit(ctx context.Context, s *server, n int, d time.Duration) (*emit, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	defer s.kill()
	all, closeAll, err := connect(ctx, s.url(), n, client.Config{}, nil)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	ours, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	theirs, err := load.ReadCPU(s.pid())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var messages atomic.Int64
	err = each(n, n, func(i int) error {
		for time.Since(start) < d {
			if err := echo(ctx, all[i]); err != nil {
				return err
			}
			messages.Add(1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	oursThen, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	theirsThen, err := load.ReadCPU(s.pid())
	if err != nil {
		return nil, err
	}
	count := float64(messages.Load())
	us := func(c load.CPU) float64 { return float64(c.Total.Nanoseconds()) / 1e3 / count }
	return &emit{n, us(oursThen.Sub(ours)), us(theirsThen.Sub(theirs)), count / took.Seconds()}, nil
}

// returned is how clients come back that have lost their server at one moment.
type returned struct {
	Clients int           `json:"clients"`
	Jitter  float64       `json:"jitter"`
	First   time.Duration `json:"first"` // after the loss
	Last    time.Duration `json:"last"`
	Busiest int           `json:"busiest"` // the most that came within 100 ms
}

func measureReturn(ctx context.Context, s *server, n int, jitter float64) (*returned, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	defer func() { s.kill() }()
	var mu sync.Mutex
	var killed time.Time // zero: not yet
	var when []time.Duration
	back := make(chan struct{})
	_, closeAll, err := connect(ctx, s.url(), n, client.Config{ReconnectJitter: jitter}, func(int) {
		mu.Lock()
		defer mu.Unlock()
		if killed.IsZero() {
			return
		}
		if when = append(when, time.Since(killed)); len(when) == n {
			close(back)
		}
	})
	if err != nil {
		return nil, err
	}
	defer closeAll()
	mu.Lock()
	killed = time.Now()
	mu.Unlock()
	s.kill()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	select {
	case <-back:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d of %d clients are back: %w", len(when), n, context.Cause(ctx))
	}
	r := &returned{Clients: n, Jitter: jitter, First: when[0], Last: when[n-1]}
	for first, last := 0, 0; last < n; last++ { // when is in order
		for when[last]-when[first] >= 100*time.Millisecond {
			first++
		}
		r.Busiest = max(r.Busiest, last-first+1)
	}
	return r, nil
}
