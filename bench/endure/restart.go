//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// others are clients of a second server, which is not restarted. It has so many events a second.
	others     = 200
	othersRate = 100
	// dialsPerSecond is how fast clients connect before.
	dialsPerSecond = 400
	// calm is how long is measured before the restart and after it.
	calm = 5 * time.Second
)

// restart has a server restarted while clients are subscribed and events published, and looks what each client got in the end.
func restart(ctx context.Context, o *options) error {
	s, second := newServer(o, "first"), newServer(o, "second")
	for _, one := range []*server{s, second} {
		if err := one.start(ctx); err != nil {
			return err
		}
		defer one.kill()
	}
	readers, err := startCrowd(ctx)
	if err != nil {
		return err
	}
	defer readers.close()
	begun := time.Now()
	if err := readers.dial(o, s); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%d clients connected in %.1f s\n", o.clients, time.Since(begun).Seconds())
	var theirs latencies
	neighbours, err := dialAll(ctx, o.topics, second.listen, "neighbour", others, &theirs)
	if err != nil {
		return err
	}
	defer closeAll(neighbours)
	published, beside := startPublisher(ctx, o.topics, o.rate, s), startPublisher(ctx, o.topics, othersRate, second)
	defer published.stop()
	defer beside.stop()
	tell := func(when string) error {
		ours, err := readers.take()
		fmt.Fprintf(o.out, "%-16s clients: %s · of the other server: %s\n", when, ours, theirs.take())
		return err
	}
	if err := wait(ctx, calm); err != nil {
		return err
	}
	if err := tell("before"); err != nil {
		return err
	}

	used, err := newUsage(s, readers)
	if err != nil {
		return err
	}
	down := time.Now()
	drained, err := s.stop()
	if err != nil {
		return fmt.Errorf("the server did not end in good order: %w", err)
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "drained in %.1f s, ready again %.1f s after the signal\n", drained.Seconds(), time.Since(down).Seconds())
	for deadline := time.Now().Add(patience); ; {
		back, err := readers.back()
		if err != nil {
			return err
		}
		if back == o.clients {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d clients came back", back, o.clients)
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.out, "all clients back %.1f s after the signal\n", time.Since(down).Seconds())
	if err := tell("meanwhile"); err != nil {
		return err
	}
	if err := used.tell(o.out, s, readers, time.Since(down)); err != nil {
		return err
	}
	if err := waits(nil).tell(o.out, s); err != nil {
		return err
	}
	if err := wait(ctx, calm); err != nil {
		return err
	}
	if err := tell("after"); err != nil {
		return err
	}

	counts, err := published.stop()
	if err != nil {
		return err
	}
	var missing int
	for deadline := time.Now().Add(patience); ; {
		if missing, err = readers.missing(counts); err != nil {
			return err
		}
		if missing == 0 || time.Now().After(deadline) {
			break
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	total := 0
	for i := range o.clients {
		total += counts[i%o.topics]
	}
	fmt.Fprintf(o.out, "%d events were to arrive, %d are missing\n", total, missing)
	if missing > 0 {
		return fmt.Errorf("%d kept events were lost", missing)
	}
	return nil
}

// wait returns early, with an error, when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
