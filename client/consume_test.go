package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/peertest"
)

func (p *post) publish(s *client.Socket, topic string, n int) client.Published {
	p.t.Helper()
	published, err := s.Publish(soon(p.t), client.Message{Topic: topic, Event: "e", Args: []any{n}})
	if err != nil {
		p.t.Fatal(err)
	}
	return published
}

func subscribe(t *testing.T, s *client.Socket, sub client.Subscription) *client.Consumer {
	t.Helper()
	u, err := s.Subscribe(soon(t), sub)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func number(t *testing.T, d *client.Delivery) (n int) {
	t.Helper()
	if err := d.Args.Decode(&n); err != nil {
		t.Errorf("%s at %s: %v", d.Event, d.Offset, err)
	}
	return n
}

// A worker gets what was published, each event once, with where it comes from; and what it has not handled when it is back.
func TestDeliveries(t *testing.T) {
	p := newPost(t)
	boss := p.socket("")
	s := p.socket("worker")
	worker := subscribe(t, s, client.Subscription{Topic: "jobs"})
	first, err := boss.Publish(soon(t), client.Message{Topic: "jobs", ID: "one", Event: "resize", Args: []any{0, []byte("png")}})
	if err != nil || first.Topic != "jobs" || first.ID != "one" || first.Duplicate || first.Offset == "" {
		t.Fatalf("published %+v: %v", first, err)
	}
	again, err := boss.Publish(soon(t), client.Message{Topic: "jobs", ID: "one", Event: "resize", Args: []any{0, []byte("png")}})
	if err != nil || !again.Duplicate || again.Offset != first.Offset {
		t.Errorf("published again: %+v, %v", again, err)
	}
	for i := 1; i < 10; i++ {
		p.publish(boss, "jobs", i)
	}
	n := 0
	for d, err := range worker.Deliveries(soon(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if number(t, d) != n || d.Topic != "jobs" || d.Queue != "worker" || d.Attempt != 1 {
			t.Fatalf("event %d: %+v", n, d)
		}
		if n == 0 {
			var png []byte
			if err := d.Args.Decode(nil, &png); err != nil || string(png) != "png" || d.Event != "resize" || d.ID != "one" || d.Offset != first.Offset || time.Since(d.PublishedAt) > time.Minute {
				t.Errorf("the first: %+v, %q, %v", d, png, err)
			}
		}
		if n++; n == 5 {
			break // the fifth was not handled
		}
	}
	s.Disconnect()
	p.connect(s)
	worker = subscribe(t, s, client.Subscription{Topic: "jobs"})
	n = 4
	for d, err := range worker.Deliveries(soon(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if number(t, d) != n {
			t.Fatalf("event %d is %d", n, number(t, d))
		}
		if n++; n == 10 {
			break
		}
	}
}

// Retry delivers again, Reject gives up; both leave the others alone.
func TestRetryAndReject(t *testing.T) {
	p := newPost(t)
	s := p.socket("worker")
	worker := subscribe(t, s, client.Subscription{Topic: "jobs", Manual: true, Prefetch: 10})
	for i := range 3 {
		p.publish(s, "jobs", i)
	}
	var got []string
	for d, err := range worker.Deliveries(soon(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(number(t, d), ".", d.Attempt))
		switch {
		case number(t, d) == 0 && d.Attempt == 1:
			d.Retry(10 * time.Millisecond)
			d.Ack() // too late
		case number(t, d) == 1:
			d.Reject("broken")
		default:
			d.Ack()
		}
		if len(got) == 4 {
			break
		}
	}
	slices.Sort(got)
	if want := []string{"0.1", "0.2", "1.1", "2.1"}; !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	page, err := p.store.History(soon(t), "dead/worker", "first", 10)
	if err == nil && len(page.Events) == 0 {
		t.Error("no dead letter")
	}
}

// Workers of one queue share its events; a loop that several goroutines run shares them too.
func TestWorkQueue(t *testing.T) {
	p := newPost(t)
	boss := p.socket("")
	ctx, done := context.WithCancelCause(soon(t))
	defer done(nil)
	var mu sync.Mutex
	seen := make(map[int]int)
	var loops sync.WaitGroup
	for range 2 {
		worker := subscribe(t, p.socket(""), client.Subscription{Topic: "jobs", Queue: "workers", Prefetch: 2})
		for range 2 {
			loops.Go(func() {
				for d, err := range worker.Deliveries(ctx) {
					if err != nil {
						if !errors.Is(err, errDown) {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					seen[number(t, d)]++
					if len(seen) == 50 {
						done(errDown)
					}
					mu.Unlock()
				}
			})
		}
	}
	for i := range 50 {
		p.publish(boss, "jobs", i)
	}
	loops.Wait()
	for n, times := range seen {
		if times != 1 {
			t.Errorf("event %d came %d times", n, times)
		}
	}
}

// Ends of a subscription, and how loops learn of them.
func TestSubscriptionEnds(t *testing.T) {
	p := newPost(t)
	s := p.socket("me")
	if _, err := s.Subscribe(soon(t), client.Subscription{Topic: ""}); err == nil || !strings.Contains(err.Error(), "invalid_topic") {
		t.Errorf("no topic: %v", err)
	}
	next := func(u *client.Consumer, ctx context.Context) error {
		for d, err := range u.Deliveries(ctx) {
			if err == nil {
				t.Errorf("got %+v", d)
			}
			return err
		}
		return nil
	}
	a := subscribe(t, s, client.Subscription{Topic: "a*"})
	p.publish(s, "ab", 1)
	for d, err := range a.Deliveries(soon(t)) {
		if err != nil || d.Topic != "ab" {
			t.Errorf("by a pattern: %+v, %v", d, err)
		}
		d.Ack()
		break
	}
	ctx, cancel := context.WithCancelCause(background)
	cancel(errDown)
	if err := next(a, ctx); !errors.Is(err, errDown) {
		t.Errorf("with a context that is done: %v", err)
	}
	b := subscribe(t, s, client.Subscription{Topic: "a*"})
	if err := next(a, soon(t)); err == nil {
		t.Error("replaced and goes on")
	}
	if err := b.Unsubscribe(soon(t)); err != nil {
		t.Error(err)
	}
	if err := next(b, soon(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("unsubscribed: %v", err)
	}
	c := subscribe(t, s, client.Subscription{Topic: "c", Queue: "q"})
	other := subscribe(t, p.socket("other"), client.Subscription{Topic: "c", Queue: "q", Exclusive: true})
	if e, ok := errors.AsType[*holdpost.Error](next(c, soon(t))); !ok || e.Code == "" {
		t.Errorf("taken over: %v", e)
	}
	s.Disconnect()
	if err := next(other, deadContext()); !errors.Is(err, context.Canceled) {
		t.Errorf("who has taken over: %v", err)
	}
	if _, err := s.Subscribe(soon(t), client.Subscription{Topic: "d"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("subscribe of a closed socket: %v", err)
	}
}

// However often connections break: what was published is delivered once, and in order to an exclusive consumer; what was emitted
// live comes once and in order.
func TestHistoryOverCuts(t *testing.T) {
	const wanted = 1000
	p := newPost(t)
	p.main.On("enter", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		return nil, s.Join("hall")
	})
	quiet := p.socket("") // before connections break
	var mu sync.Mutex
	var live []int
	cuts := wanted
	if testing.Short() {
		cuts = 100
	}
	ctx, done := context.WithCancelCause(background)
	defer done(nil)
	var work sync.WaitGroup
	for way, transports := range ways {
		p.cutAfter = 10_000 // a request of polling has some hundred bytes of headers
		if way == peertest.WebSocket {
			p.cutAfter = 3000
		}
		s := p.client(client.Config{Transports: transports, Auth: map[string]string{"client": way}}).Of("/")
		p.connect(s)
		worker := subscribe(t, s, client.Subscription{Topic: way, Exclusive: true})
		work.Go(func() {
			next := 0
			for d, err := range worker.Deliveries(ctx) {
				if err != nil {
					if !errors.Is(err, errDown) {
						t.Errorf("%s: %v", way, err)
					}
					break
				}
				if n := number(t, d); n != next {
					t.Errorf("%s: delivered %d, want %d, attempt %d", way, n, next, d.Attempt)
					break
				}
				next++
			}
			t.Logf("%s: %d events delivered", way, next)
		})
		author := p.client(client.Config{Transports: transports}).Of("/")
		p.connect(author)
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := author.Publish(ctx, client.Message{Topic: way, Event: "e", Args: []any{n}})
				if err != nil && !errors.Is(err, errDown) {
					t.Errorf("%s: publish %d: %v", way, n, err)
					return
				}
			}
		})
	}
	p.cutAfter = 2000
	guest := p.client(client.Config{Transports: []string{"websocket"}, Auth: map[string]string{"client": "guest"}}).Of("/")
	guest.On("n", func(_ context.Context, args holdpost.Args) ([]any, error) {
		var n int
		err := args.Decode(&n)
		mu.Lock()
		defer mu.Unlock()
		live = append(live, n)
		return nil, err
	})
	recovered, fresh := 0, 0
	guest.OnConnect(func(context.Context) {
		mu.Lock()
		defer mu.Unlock()
		if guest.Recovered() {
			recovered++
		} else {
			fresh++
		}
	})
	p.connect(guest)
	if _, err := guest.Retrying("").EmitWithAck(soon(t), "enter"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Minute)
	emitted := 0
	behind := func() int {
		mu.Lock()
		defer mu.Unlock()
		return emitted - len(live)
	}
	for time.Now().Before(deadline) && !t.Failed() {
		mu.Lock()
		enough := p.cuts.Load() >= int64(cuts) && recovered > 0
		mu.Unlock()
		if enough && behind() == 0 {
			break
		}
		if !enough && behind() < 20 {
			p.main.To("hall").Emit(background, "n", emitted, strings.Repeat("x", 100))
			emitted++
		}
		p.publish(quiet, "pace", emitted) // takes as long as the store does
	}
	done(errDown)
	work.Wait()
	mu.Lock()
	defer mu.Unlock()
	for i, n := range live {
		if n != i {
			t.Fatalf("live event %d is %d", i, n)
		}
	}
	if len(live) != emitted {
		t.Errorf("%d of %d live events have come", len(live), emitted)
	}
	if fresh != 1 || recovered == 0 || p.delays.Load() == 0 || p.twice.Load() == 0 {
		t.Errorf("recovered %d times, and %d times not", recovered, fresh-1)
	}
	t.Logf("%d cuts, %d delays, %d connections twice; %d live events, recovered %d times",
		p.cuts.Load(), p.delays.Load(), p.twice.Load(), emitted, recovered)
}

func deadContext() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}
