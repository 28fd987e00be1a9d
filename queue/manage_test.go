package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

func TestPurge(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	for _, shared := range []bool{false, true} {
		topic := fmt.Sprint(shared)
		q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: topic, Name: "q", Shared: shared, From: queue.StartFirst})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			n.publish(t, topic, i)
		}
		r := &recorder{}
		attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true, Prefetch: 2})
		r.want(t, texts(topic, 0, 2)...)
		if err := q.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i := info(t, q); i.Unread != 0 || i.InFlight != 0 {
			t.Errorf("%+v", i)
		}
		if err := r.deliveries()[0].Ack(); queue.Code(err) != "not_in_flight" {
			t.Errorf("%v", err)
		}
		n.publish(t, topic, 20)
		r.want(t, append(texts(topic, 0, 2), texts(topic, 20, 21)...)...)
	}
	n.stop()
	n = open(t, dir)
	for _, topic := range []string{"false", "true"} {
		q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: topic, Name: "q", MustExist: true})
		if err != nil {
			t.Fatal(err)
		}
		if u, err := q.Unread(t.Context()); err != nil || u != 1 {
			t.Errorf("%s: unread %d, %v", topic, u, err)
		}
	}
}

func TestPeekTakesNothing(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{Events: []string{"e"}})
	for i := range 5 {
		n.publish(t, "jobs", i)
		if _, err := n.Publish(t.Context(), queue.Message{Topic: "jobs", Event: "other"}); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r, Prefetch: 2})
	r.want(t, texts("jobs", 0, 2)...)
	r.deliveries()[0].Ack()
	r.want(t, texts("jobs", 0, 3)...)
	r.deliveries()[1].Retry(time.Hour)
	r.want(t, texts("jobs", 0, 4)...)
	ds, err := q.Peek(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range ds {
		got = append(got, string(d.Args))
	}
	if !slices.Equal(got, texts("jobs", 1, 5)) || !slices.Equal(attempts(ds), []int{1, 1, 1, 0}) {
		t.Errorf("%q, attempts %v", got, attempts(ds))
	}
	if ds, err := q.Peek(t.Context(), 2); err != nil || len(ds) != 2 {
		t.Errorf("%d, %v", len(ds), err)
	}
	if err := ds[0].Ack(); queue.Code(err) != "not_in_flight" {
		t.Errorf("%v", err)
	}
}

func TestQueuesAreListed(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	n.publish(t, "t", 0)
	var want []string
	for i := range 30 {
		name := fmt.Sprint("q", i)
		want = append(want, name)
		n.personal(t, "t", name, queue.StartFirst)
	}
	n.shared(t, "*", queue.QueueConfig{Name: "all", MaxDeliveries: 3})
	if err := n.personal(t, "t", "q7", queue.StartNew).Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = append(slices.Delete(want, 7, 8), "all")
	for range 2 {
		var got []string
		for i, err := range n.Queues(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, i.Name)
			if i.Unread != 1 || i.Saved.IsZero() || i.Shared != (i.Topic == "*") || i.Shared && i.MaxDeliveries != 3 {
				t.Errorf("%+v", i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		n.stop()
		n = open(t, dir)
		until(t, "the index", func() bool { return n.Ready() == nil })
	}
	if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "q7", MustExist: true}); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestUnusedQueuesExpire(t *testing.T) {
	n := open(t, t.TempDir())
	const expiry = 2 * time.Second
	used, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "used", Expiry: expiry})
	if err != nil {
		t.Fatal(err)
	}
	attach(t, used, queue.ConsumerConfig{Sink: &recorder{}})
	begin := time.Now()
	unused, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "unused", Expiry: expiry})
	if err != nil {
		t.Fatal(err)
	}
	n.personal(t, "t", "kept", queue.StartNew)
	exists := func(name string) bool {
		_, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: name, MustExist: true})
		if err != nil && !errors.Is(err, queue.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	until(t, "the unused one to go", func() bool { return !exists("unused") })
	if took := time.Since(begin); took < expiry {
		t.Errorf("gone after %v", took)
	}
	if _, err := unused.Attach(queue.ConsumerConfig{Sink: &recorder{}}); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("%v", err)
	}
	until(t, "the used one to be older", func() bool { return time.Since(begin) > 2*expiry })
	if !exists("used") || !exists("kept") {
		t.Error("a queue in use is gone")
	}
}

func TestQueueSettings(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	open := func(c queue.QueueConfig) (*queue.Queue, error) {
		c.Topic, c.Name = "t", "q"
		return n.Queue(t.Context(), c)
	}
	backoff := []time.Duration{time.Second, time.Minute}
	q, err := open(queue.QueueConfig{Shared: true, AckTimeout: time.Minute, Backoff: backoff})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := open(queue.QueueConfig{MaxDeliveries: 5, Events: []string{"a"}}); err != nil || again != q {
		t.Errorf("%p, want %p, %v", again, q, err)
	}
	n.stop()
	n = openWith(t, dir, setup{})
	if q, err = open(queue.QueueConfig{AckTimeout: -1}); err != nil {
		t.Fatal(err)
	}
	i := info(t, q)
	if !i.Shared || i.AckTimeout != -1 || !slices.Equal(i.Backoff, backoff) || i.MaxDeliveries != 5 || !slices.Equal(i.Events, []string{"a"}) {
		t.Errorf("%+v", i)
	}
	for _, bad := range []queue.QueueConfig{
		{Ordered: true}, {Shared: true, Ordered: true}, {MaxPending: -1}, {MaxPending: 65_537}, {Backoff: []time.Duration{-1}},
		{Backoff: make([]time.Duration, 65)}, {Events: make([]string, 65)}, {Events: []string{""}},
	} {
		if _, err := open(bad); queue.Code(err) != "invalid_queue" && queue.Code(err) != "invalid_event" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := open(queue.QueueConfig{MaxPending: 65_536, Backoff: make([]time.Duration, 64)}); err != nil {
		t.Error(err)
	}
	n.personal(t, "t", "personal", queue.StartNew)
	if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "personal", Shared: true}); queue.Code(err) != "invalid_queue" {
		t.Errorf("%v", err)
	}
}
