//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// watched are the metrics that must stay flat while clients come and go.
var watched = []string{"process_resident_memory_bytes", "go_memstats_heap_inuse_bytes", "go_goroutines", "process_open_fds", "holdpost_connections"}

// soak has a tenth of the clients leave and others come, every second, and looks at what the server takes.
func soak(ctx context.Context, o *options) error {
	s := newServer(o, "data")
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.kill()
	var l latencies
	readers, err := dialAll(ctx, o.topics, s.listen, "reader", o.clients, &l)
	if err != nil {
		return err
	}
	defer func() { closeAll(readers) }()
	p := startPublisher(ctx, o.topics, o.rate, s)
	defer p.stop()

	fmt.Fprintf(o.out, "%8s %10s %10s %11s %7s %12s\n", "minute", "RSS MB", "heap MB", "goroutines", "files", "connections")
	begun := time.Now()
	end := begun.Add(time.Duration(o.minutes * float64(time.Minute)))
	next := begun
	turn := time.NewTicker(time.Second)
	defer turn.Stop()
	for {
		if now := time.Now(); !now.Before(next) {
			v, err := s.metrics(watched...)
			if err != nil {
				return err
			}
			fmt.Fprintf(o.out, "%8.1f %10.1f %10.1f %11.0f %7.0f %12.0f   arrived: %s\n", now.Sub(begun).Minutes(), v[0].value/1e6, v[1].value/1e6, v[2].value, v[3].value, v[4].value, l.take())
			if !now.Before(end) {
				break
			}
			next = now.Add(o.every)
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := churn(ctx, o, s, readers, &l); err != nil {
			return err
		}
	}
	_, err = p.stop()
	return err
}

// churn replaces a tenth of the readers, under the identities that others had.
func churn(ctx context.Context, o *options, s *server, readers []*reader, l *latencies) error {
	for range max(1, len(readers)/10) {
		i := rand.IntN(len(readers))
		readers[i].client.Close()
		r, err := dial(ctx, s.listen, fmt.Sprintf("reader-%d", i), topic(i%o.topics), l)
		if err != nil {
			return err
		}
		readers[i] = r
	}
	return nil
}
