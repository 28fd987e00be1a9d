//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// others are clients of a second server, which is not restarted.
	others = 200
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
	var ours, theirs latencies
	begun := time.Now()
	readers, err := dialAll(ctx, o, s, "reader", o.clients, 400, &ours)
	if err != nil {
		return err
	}
	defer func() { closeAll(readers) }()
	fmt.Fprintf(o.out, "%d clients connected in %.1f s\n", o.clients, time.Since(begun).Seconds())
	neighbours, err := dialAll(ctx, o, second, "neighbour", others, 400, &theirs)
	if err != nil {
		return err
	}
	defer closeAll(neighbours)
	published, beside := startPublisher(ctx, o, s), startPublisher(ctx, o, second)
	defer published.stop()
	defer beside.stop()
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	tell := func(when string) {
		fmt.Fprintf(o.out, "%-16s clients: %s · of the other server: %s\n", when, ours.take(), theirs.take())
	}
	if err := wait(calm); err != nil {
		return err
	}
	tell("before")

	used, err := newUsage(s)
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
		back := 0
		for _, r := range readers {
			if r.connects.Load() >= 2 {
				back++
			}
		}
		if back == len(readers) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d clients came back", back, len(readers))
		}
		if err := wait(100 * time.Millisecond); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.out, "all clients back %.1f s after the signal\n", time.Since(down).Seconds())
	tell("meanwhile")
	if err := used.tell(o.out, s, time.Since(down)); err != nil {
		return err
	}
	if err := wait(calm); err != nil {
		return err
	}
	tell("after")

	counts, err := published.stop()
	if err != nil {
		return err
	}
	var missing int
	for deadline := time.Now().Add(patience); ; {
		missing = 0
		for i, r := range readers {
			missing += r.missing(counts[i%o.topics])
		}
		if missing == 0 || time.Now().After(deadline) {
			break
		}
		if err := wait(100 * time.Millisecond); err != nil {
			return err
		}
	}
	total := 0
	for i := range readers {
		total += counts[i%o.topics]
	}
	fmt.Fprintf(o.out, "%d events were to arrive, %d are missing\n", total, missing)
	if missing > 0 {
		return fmt.Errorf("%d kept events were lost", missing)
	}
	return nil
}
