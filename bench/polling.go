//go:build linux

package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

// polling: 50 sessions over HTTP, each with a GET that waits while a POST brings the next event. Two requests a message.
func polling(t *trial) (figures, error) {
	const sessions = 50
	var (
		pollers [sessions]*load.Poller
		err     error
	)
	for i := range pollers {
		if pollers[i], err = load.DialPolling(t.peer.addr, answerTime); err != nil {
			return nil, err
		}
		defer pollers[i].Close()
	}
	rounds := func(d time.Duration) (latency []int64, err error) {
		end := time.Now().Add(d)
		var (
			wg       sync.WaitGroup
			measured [sessions][]int64
			errs     [sessions]error
		)
		for i, p := range pollers {
			wg.Go(func() { measured[i], errs[i] = pollUntil(p, end) })
		}
		wg.Wait()
		for _, m := range measured {
			latency = append(latency, m...)
		}
		return latency, errors.Join(errs[:]...)
	}
	if _, err := rounds(pick(t, time.Second, 500*time.Millisecond)); err != nil {
		return nil, err
	}
	s, err := begin(t.peer.pid)
	if err != nil {
		return nil, err
	}
	latency, err := rounds(pick(t, 2500*time.Millisecond, time.Second))
	if err != nil {
		return nil, err
	}
	f, err := s.end(len(latency))
	if err != nil {
		return nil, err
	}
	f.latencies(latency)
	return f, nil
}

func pollUntil(p *load.Poller, end time.Time) (latency []int64, err error) {
	event, want := `427["echo","`+payload(64)+`"]`, `37["`+payload(64)+`"]`
	for {
		start := time.Now()
		if start.After(end) {
			return latency, nil
		}
		if err := p.Poll(); err != nil {
			return nil, err
		}
		if err := p.Send(event); err != nil {
			return nil, err
		}
		got, err := p.Next()
		if err == nil && got != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		if err != nil {
			return nil, err
		}
		latency = append(latency, time.Since(start).Nanoseconds())
	}
}
