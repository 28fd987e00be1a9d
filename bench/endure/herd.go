//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

const (
	bystanders = 1000
	shaking    = 512 // handshakes at a time
	batch      = 1000
)

// herd has clients connect, leave and miss events in their inboxes, and then come back all at once, while others go on.
func herd(ctx context.Context, o *options) error {
	s := newServer(o, "data")
	s.env = []string{fmt.Sprintf("HOLDPOST_LIMITS_HANDSHAKES_PER_SECOND=%d", o.admitted)}
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.kill()
	var l latencies
	others, err := stand(s, o.topics, &l)
	if err != nil {
		return err
	}
	defer others.close()
	herd, err := startCrowd(ctx)
	if err != nil {
		return err
	}
	defer herd.close()
	if _, err := herd.gather(s, o.clients, 0); err != nil {
		return err
	}
	if err := herd.leave(); err != nil {
		return err
	}
	begun := time.Now()
	if err := missed(ctx, s, o.clients, o.missed); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%d events published for %d clients that are away, %.0f a second\n", o.clients*o.missed, o.clients, float64(o.clients*o.missed)/time.Since(begun).Seconds())
	p := startPublisher(ctx, o.topics, o.rate, s)
	defer p.stop()
	l.take()
	p.stored.take()
	if err := wait(ctx, calm); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%-10s events stored: %s · arrived at others: %s\n", "before", p.stored.take(), l.take())

	used, err := newUsage(s, herd)
	if err != nil {
		return err
	}
	waited, err := s.waits()
	if err != nil {
		return err
	}
	took, err := herd.gather(s, o.clients, o.missed)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "%-10s events stored: %s · arrived at others: %s\n", "meanwhile", p.stored.take(), l.take())
	fmt.Fprintf(o.out, "all back after %.1f s, and had everything, once and in order, after %.1f s\n", took.Joined.Seconds(), took.Took.Seconds())
	if err := used.tell(o.out, s, herd, took.Took); err != nil {
		return err
	}
	if err := waited.tell(o.out, s); err != nil {
		return err
	}
	if _, err := p.stop(); err != nil {
		return err
	}
	return others.close()
}

// missed publishes so many events to each inbox, in order within each.
func missed(ctx context.Context, s *server, clients, events int) error {
	for n := range events {
		var group sync.WaitGroup
		errs := make([]error, (clients+batch-1)/batch)
		for b := range errs {
			group.Go(func() {
				var body bytes.Buffer
				for i := b * batch; i < min((b+1)*batch, clients); i++ {
					fmt.Fprintf(&body, "{\"topic\":\"inbox/herd-%d\",\"event\":\"post\",\"args\":[%d,\"%0128d\"]}\n", i, n, i)
				}
				errs[b] = s.publishAll(ctx, &body)
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// publishAll publishes a line each, and looks whether all are stored.
func (s *server) publishAll(ctx context.Context, lines io.Reader) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.api+"/v1/publish", lines)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || bytes.Contains(text, []byte(`"error"`))) {
		err = fmt.Errorf("publish: %s %.300s", response.Status, text)
	}
	return err
}

// gathering is clients that have come, each with what it missed.
type gathering struct {
	loop   *load.Loop
	joined time.Duration // until the last one was let in
}

// gather connects clients, all at once, and waits until each has so many events.
func gather(listen string, clients, events int) (*gathering, error) {
	begun := time.Now()
	loop, err := load.NewLoop(listen)
	if err != nil {
		return nil, err
	}
	g := &gathering{loop: loop}
	loop.Auth = func(i int) string { return fmt.Sprintf(`{"client":"herd-%d"}`, i) }
	complete, got := 0, make([]int, clients)
	loop.OnText = func(c *load.Conn, packet []byte) {
		if want := fmt.Appendf(nil, `2["post",%d,`, got[c.Index]); !bytes.HasPrefix(packet, want) {
			loop.Fail(fmt.Errorf("client %d got %.40s, not %s", c.Index, packet, want))
			return
		}
		if got[c.Index]++; got[c.Index] == events {
			complete++
		}
	}
	err = loop.Dial(clients, shaking, patience)
	g.joined = time.Since(begun)
	if err == nil && events > 0 {
		err = loop.Run(patience, func() bool { return complete == clients })
	}
	if err != nil {
		loop.Close()
		return nil, err
	}
	return g, nil
}

// standing is clients that are there all the time.
type standing struct {
	loop  *load.Loop
	leave atomic.Bool
	ended sync.WaitGroup
	err   error
}

// stand connects others, each subscribed to one of the topics of a publisher, and takes what comes.
func stand(s *server, topics int, l *latencies) (*standing, error) {
	loop, err := load.NewLoop(s.listen)
	if err != nil {
		return nil, err
	}
	o := &standing{loop: loop}
	subscribed := 0
	loop.Auth = func(i int) string { return fmt.Sprintf(`{"client":"other-%d"}`, i) }
	loop.OnText = func(_ *load.Conn, packet []byte) {
		var n int
		var at int64
		if bytes.HasPrefix(packet, []byte(`30[{"topic"`)) {
			subscribed++
		} else if _, err := fmt.Sscanf(string(packet), `2["e",%d,%d`, &n, &at); err != nil {
			loop.Fail(fmt.Errorf("unexpected packet %.200s", packet))
		} else {
			l.took(time.Since(time.Unix(0, at)))
		}
	}
	err = loop.Dial(bystanders, shaking, patience)
	if err == nil {
		for i, c := range loop.Conns() {
			if err = c.Send(fmt.Appendf(nil, `420["subscribe",%q]`, topic(i%topics))); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = loop.Run(patience, func() bool { return subscribed == bystanders })
	}
	if err != nil {
		loop.Close()
		return nil, err
	}
	o.ended.Go(func() {
		o.err = loop.Run(10*patience, o.leave.Load)
	})
	return o, nil
}

// close returns what went wrong with one of them.
func (o *standing) close() error {
	o.leave.Store(true)
	o.ended.Wait()
	o.loop.Close()
	return o.err
}
