//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
func connect(ctx context.Context, url string, n int, c client.Config, onConnect func()) (_ clients, closeAll func(), err error) {
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
			all[i].OnConnect(func(context.Context) { onConnect() })
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
	Busiest int           `json:"busiest"` // the most that tried to connect within 100 ms
	First   time.Duration `json:"first"`   // was back, after the loss
	Last    time.Duration `json:"last"`
}

// moments are when things happened, in order, since they were begun to be counted.
type moments struct {
	mu    sync.Mutex
	since time.Time
	all   []time.Duration
	full  chan struct{} // closed once there are want of them
	want  int
}

func (m *moments) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = time.Now()
}

// add counts one more. It reports false before begin.
func (m *moments) add() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() {
		return false
	}
	if m.all = append(m.all, time.Since(m.since)); len(m.all) == m.want {
		close(m.full)
	}
	return true
}

// busiest returns the most that happened within a time.
func (m *moments) busiest(within time.Duration) (most int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := 0
	for last, at := range m.all {
		for at-m.all[first] >= within {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

func measureReturn(ctx context.Context, s *server, n int, jitter float64) (*returned, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	defer func() { s.kill() }()
	attempts, back := &moments{}, &moments{want: n, full: make(chan struct{})}
	config := client.Config{ReconnectJitter: jitter, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		attempts.add()
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	var before sync.WaitGroup // of the connections that are to be lost
	before.Add(n)
	_, closeAll, err := connect(ctx, s.url(), n, config, func() {
		if !back.add() {
			before.Done()
		}
	})
	if err != nil {
		return nil, err
	}
	defer closeAll()
	before.Wait()
	attempts.begin()
	back.begin()
	s.kill()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	select {
	case <-back.full:
	case <-ctx.Done():
		return nil, fmt.Errorf("not all clients are back: %w", context.Cause(ctx))
	}
	return &returned{Clients: n, Jitter: jitter, Busiest: attempts.busiest(100 * time.Millisecond), First: back.all[0], Last: back.all[n-1]}, nil
}
