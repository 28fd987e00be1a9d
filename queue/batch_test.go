package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

func batch(topic string, from, to int) (ms []queue.Message) {
	for i := from; i < to; i++ {
		ms = append(ms, message(topic, i))
	}
	return ms
}

func TestBatchIsStoredTogether(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	r := &recorder{}
	attach(t, n.personal(t, "**", "all", queue.StartFirst), queue.ConsumerConfig{Sink: r})
	var group sync.WaitGroup
	group.Go(func() { // in between there is no room for others
		for i := range 300 {
			n.publish(t, "single", i)
		}
	})
	ms := append(batch("t", 0, 50), batch("u", 0, 50)...)
	ms[7].ID = ""
	ps, err := n.PublishBatch(t.Context(), ms)
	if err != nil || len(ps) != 100 {
		t.Fatal(len(ps), err)
	}
	for i, p := range ps {
		if p.Offset.Seq != ps[0].Offset.Seq+uint64(i) || p.Topic != ms[i].Topic || p.Duplicate || p.ID != ms[i].ID && i != 7 || i == 7 && p.ID != p.Offset.String() {
			t.Errorf("%d: %+v", i, p)
		}
	}
	group.Wait()
	until(t, "all", func() bool { return len(r.deliveries()) == 400 })

	ms = batch("t", 100, 110)
	first, err := n.PublishBatch(t.Context(), ms)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again, err := n.PublishBatch(t.Context(), ms)
		if err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if !again[i].Duplicate || again[i].Offset != first[i].Offset {
				t.Errorf("%+v, want %+v", again[i], first[i])
			}
		}
		n.stop()
		n = open(t, dir)
	}
	before := len(n.all(t, "t"))
	for name, bad := range map[string][]queue.Message{
		"conflict":      append(batch("t", 200, 205), batch("t", 109, 110)...),
		"too_large":     batch("t", 200, 1201),
		"invalid_batch": {message("t", 300), {Topic: "t", Event: "e", Delay: time.Second}},
		"invalid_event": {message("t", 300), {Topic: "t"}},
		"wrong_last":    {{Topic: "t", Event: "e", ExpectLast: &first[3].Offset}, message("t", 300)},
	} {
		if _, err := n.PublishBatch(t.Context(), bad); queue.Code(err) != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := queue.Message{Topic: "t", Event: "e", Attachments: [][]byte{make([]byte, 900_000)}}
	if _, err := n.PublishBatch(t.Context(), slices.Repeat([]queue.Message{big}, 10)); queue.Code(err) != "too_large" {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.PublishBatch(ended, batch("t", 300, 310)); !errors.Is(err, context.Canceled) || errors.Is(err, queue.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if got := len(n.all(t, "t")); got != before {
		t.Errorf("%d events of refused batches are stored", got-before)
	}
	if ps, err := n.PublishBatch(t.Context(), batch("t", 400, 1400)); err != nil || len(ps) != 1000 {
		t.Errorf("%d, %v", len(ps), err)
	}
	if ps, err := n.PublishBatch(t.Context(), nil); err != nil || len(ps) != 0 {
		t.Errorf("%v, %v", ps, err)
	}
}

// Of many who compare and append one wins each time.
func TestExpectLast(t *testing.T) {
	n := openWith(t, t.TempDir(), topics(queue.TopicConfig{Pattern: "short", TTL: 100 * time.Millisecond}))
	var none queue.Offset
	expect := func(topic string, i int, last queue.Offset) (queue.Published, error) {
		m := message(topic, i)
		m.ExpectLast = &last
		return n.Publish(t.Context(), m)
	}
	first, err := expect("t", 0, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := expect("t", 1, none); queue.Code(err) != "wrong_last" {
		t.Errorf("%v", err)
	}
	if again, err := expect("t", 0, none); err != nil || !again.Duplicate || again.Offset != first.Offset {
		t.Errorf("the same id again: %+v, %v", again, err)
	}
	const writers, each = 8, 20
	var group sync.WaitGroup
	var lost atomic.Int64
	for w := range writers {
		group.Go(func() {
			for i := range each {
				for {
					last, err := n.Last("t")
					if err != nil {
						t.Error(err)
						return
					}
					if _, err = expect("t", 1000*(w+1)+i, last); err == nil {
						break
					}
					if queue.Code(err) != "wrong_last" {
						t.Error(err)
						return
					}
					lost.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got := len(n.all(t, "t")); got != 1+writers*each {
		t.Errorf("%d events", got)
	}
	t.Logf("%d lost races", lost.Load())

	// The last event may be gone.
	gone, err := expect("short", 0, none)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it to expire", func() bool { return len(n.all(t, "short")) == 0 })
	if _, err := expect("short", 1, none); queue.Code(err) != "wrong_last" {
		t.Errorf("%v", err)
	}
	until(t, "the log to lose it", func() bool { return n.stored(t) == uint64(1+writers*each) })
	next, err := expect("short", 1, gone.Offset)
	if err != nil {
		t.Error(err)
	}
	if _, err := n.PublishBatch(t.Context(), []queue.Message{{Topic: "short", Event: "e", ExpectLast: &next.Offset}, message("t", 1)}); err != nil {
		t.Error(err)
	}
}

func TestDelayedEvents(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	const delay = 1500 * time.Millisecond
	begin := time.Now()
	for i := range 20 {
		m := message("t", i)
		m.Key, m.TTL, m.Attachments = "k", time.Hour, [][]byte{{1}}
		if i%2 == 0 {
			m.Delay = delay + time.Duration(i)*10*time.Millisecond
		} else {
			m.At = begin.Add(delay + time.Duration(i)*10*time.Millisecond)
		}
		if i == 3 {
			m.ID = ""
		}
		p, err := n.Publish(t.Context(), m)
		if err != nil || p.Offset != (queue.Offset{}) || p.ID == "" || p.ID != m.ID && i != 3 {
			t.Fatalf("%+v, %v", p, err)
		}
		if again, err := n.Publish(t.Context(), m); i != 3 && (err != nil || !again.Duplicate) {
			t.Fatalf("%+v, %v", again, err)
		} else if i == 3 {
			m.At = time.Now().Add(-time.Hour)
			if p, err := n.Publish(t.Context(), m); err != nil || p.Offset.Seq == 0 {
				t.Fatalf("what is in the past is published later: %+v, %v", p, err)
			}
		}
	}
	n.stop() // they wait on the disk
	n = open(t, dir)
	if got := len(n.all(t, "t")); got != 1 && time.Since(begin) < delay {
		t.Errorf("%d too early", got)
	}
	until(t, "all of them", func() bool { return len(n.all(t, "t")) == 22 })
	var got []string
	for e, err := range n.Events(t.Context(), "t", queue.StartFirst) {
		if err != nil {
			t.Fatal(err)
		}
		if early := e.Time.Sub(begin) < delay; early != (len(got) == 0) || e.Key != "k" || len(e.Attachments) != 1 || e.Expires.IsZero() {
			t.Errorf("%+v", e)
		}
		got = append(got, string(e.Args))
	}
	slices.Sort(got)
	want := append(texts("t", 0, 20), `["t",3]`, `["t",3]`)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	n.stop()
	n = open(t, dir)
	m := message("u", 0)
	m.Delay = 10 * time.Millisecond
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	until(t, "another", func() bool { return len(n.all(t, "u")) == 1 })
	if got := len(n.all(t, "t")); got != 22 {
		t.Errorf("%d events: some were published again", got)
	}
	for _, bad := range []queue.Message{
		{Delay: -1}, {Delay: time.Second, At: time.Now()}, {Delay: 11 * 365 * 24 * time.Hour}, {Delay: time.Second, ExpectLast: &queue.Offset{}},
	} {
		bad.Topic, bad.Event = "t", "e"
		if _, err := n.Publish(t.Context(), bad); queue.Code(err) != "invalid_delay" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// The process ends between the publishing of a delayed event and the note that it was published.
func TestDelayedEventIsNotPublishedTwice(t *testing.T) {
	dir := t.TempDir()
	slow := setup{config: func(c *queue.Config) { c.DedupeWindow = 100 * time.Millisecond }}
	n := openWith(t, dir, slow)
	m := message("t", 0)
	m.Delay = time.Second
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	n.publish(t, "t", 0) // as the process before may have done
	n.stop()
	n = openWith(t, dir, slow)
	n.publish(t, "u", 0)
	m = message("u", 1)
	m.Delay = 2 * time.Second
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	until(t, "a later one", func() bool { return len(n.all(t, "u")) == 2 })
	if got := n.all(t, "t"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestMaxDelayed(t *testing.T) {
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { c.MaxDelayed = 3 }})
	for i := range 3 {
		m := message("t", i)
		m.Delay = time.Hour
		if _, err := n.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "no more to be taken", func() bool {
		m := message("t", 2) // a repetition takes no room
		m.Delay = time.Hour
		_, err := n.Publish(t.Context(), m)
		return errors.Is(err, queue.ErrFull)
	})
	n.publish(t, "t", 9)
}

func TestRequest(t *testing.T) {
	n := openWith(t, t.TempDir(), topics(queue.TopicConfig{Pattern: "math"}, queue.TopicConfig{Pattern: "**", MustExist: true}))
	q := n.shared(t, "math", queue.QueueConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			q.Consume(ctx, queue.ConsumerConfig{}, func(ctx context.Context, d *queue.Delivery) error {
				for range 2 { // the second answer is nobody's
					if _, err := n.Publish(ctx, queue.Message{Topic: d.ReplyTo, Event: "sum", Args: fmt.Appendf(nil, "[%s]", d.Args)}); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	var requests sync.WaitGroup
	for i := range 20 {
		requests.Go(func() {
			m := message("math", i)
			e, err := n.Request(t.Context(), m)
			if err != nil || e.Name != "sum" || string(e.Args) != fmt.Sprintf("[%s]", m.Args) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	requests.Wait()
	cancel()
	group.Wait()
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := n.Request(short, message("math", 99)); queue.Code(err) != "timeout" {
		t.Errorf("%v", err)
	}
	if got := len(n.all(t, "math")); got != 21 {
		t.Errorf("%d requests are stored", got)
	}
}
