package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

func (n *node) shared(t testing.TB, topic string, c queue.QueueConfig) *queue.Queue {
	t.Helper()
	c.Topic, c.Shared = topic, true
	if c.Name == "" {
		c.Name = "workers"
	}
	if c.From == "" {
		c.From = queue.StartFirst
	}
	q, err := n.Queue(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func info(t testing.TB, q *queue.Queue) queue.QueueInfo {
	t.Helper()
	i, err := q.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// drained waits until nothing of the queue is left.
func drained(t testing.TB, q *queue.Queue) {
	t.Helper()
	until(t, "an empty queue", func() bool { u, err := q.Unread(t.Context()); return err == nil && u == 0 })
}

// acks settles all that it gets at once.
func acks() *recorder {
	r := &recorder{}
	r.hook = func(d queue.Delivery) bool { return d.Ack() == nil }
	return r
}

func all(rs ...*recorder) (got []string) {
	for _, r := range rs {
		got = append(got, r.args()...)
	}
	slices.Sort(got)
	return got
}

// sorted is what all of the topic's events look like in the order of text.
func sorted(topic string, from, to int) []string {
	s := texts(topic, from, to)
	slices.Sort(s)
	return s
}

func TestSharedQueueGivesEachEventToOne(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{})
	const missed, live = 300, 300
	for i := range missed {
		n.publish(t, "jobs", i)
	}
	rs := make([]*recorder, 4)
	for i := range rs {
		rs[i] = acks()
		attach(t, q, queue.ConsumerConfig{Sink: rs[i], Prefetch: 4, Name: fmt.Sprint("w", i)})
	}
	for i := missed; i < missed+live; i++ {
		n.publish(t, "jobs", i)
	}
	drained(t, q)
	if got := all(rs...); !slices.Equal(got, sorted("jobs", 0, missed+live)) {
		t.Errorf("%d deliveries of %d events", len(got), missed+live)
	}
	for i, r := range rs {
		if len(r.deliveries()) == 0 {
			t.Errorf("consumer %d got nothing", i)
		}
		for j, d := range r.deliveries() {
			if d.Attempt != 1 || j > 0 && d.Offset.Seq < r.deliveries()[j-1].Offset.Seq {
				t.Errorf("consumer %d: offset %d, attempt %d", i, d.Offset.Seq, d.Attempt)
			}
		}
	}
	if got := info(t, q).Consumers; !slices.Equal(got, []string{"w0", "w1", "w2", "w3"}) {
		t.Errorf("consumers %q", got)
	}
}

// One consumer never has room and one never settles: the others go on with all that those don't hold.
func TestStuckConsumersKeepNobodyWaiting(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{})
	full := &recorder{hook: func(queue.Delivery) bool { return false }}
	silent := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: full})
	stuck := attach(t, q, queue.ConsumerConfig{Sink: silent, Prefetch: 3})
	good := acks()
	attach(t, q, queue.ConsumerConfig{Sink: good, Prefetch: 1})
	const count = 200
	for i := range count {
		n.publish(t, "jobs", i)
	}
	until(t, "all but what is stuck", func() bool { return len(good.deliveries()) >= count-3 })
	if got := len(silent.deliveries()); got != 3 {
		t.Errorf("a prefetch of 3 let %d through", got)
	}
	if i := info(t, q); i.InFlight != 3 || i.Unread != 3 || i.Waiting != 0 {
		t.Errorf("%+v", i)
	}
	stuck.Close()
	drained(t, q)
	if got := all(good); !slices.Equal(got, sorted("jobs", 0, count)) {
		t.Errorf("%d of %d", len(got), count)
	}
	if got := attempts(good.deliveries()); slices.Max(got) != 2 {
		t.Errorf("what came back is attempt %d", slices.Max(got))
	}
}

func TestAckTimeoutAndBackoff(t *testing.T) {
	n := open(t, t.TempDir())
	const timeout = 60 * time.Millisecond
	backoff := []time.Duration{50 * time.Millisecond, 150 * time.Millisecond}
	q := n.shared(t, "jobs", queue.QueueConfig{AckTimeout: timeout, Backoff: backoff, MaxDeliveries: 4})
	n.publish(t, "jobs", 0)
	var mu sync.Mutex
	var times []time.Time
	r := &recorder{hook: func(d queue.Delivery) bool {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Now())
		if d.Attempt == 2 {
			d.Retry(-1)
		}
		return true
	}}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	drained(t, q)
	if got := attempts(r.deliveries()); !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Fatalf("attempts %v", got)
	}
	for i, least := range []time.Duration{timeout + backoff[0], backoff[1], timeout + backoff[1]} {
		if took := times[i+1].Sub(times[i]); took < least {
			t.Errorf("delivery %d came after %v, not %v", i+2, took, least)
		}
	}
	why := deadReason(t, n, "workers", 0)
	if why.Attempts != 4 || why.Reason != "gave up after 4 deliveries; the last time it was not acknowledged in time" {
		t.Errorf("%+v", why)
	}
	if err := r.deliveries()[3].Ack(); queue.Code(err) != "not_in_flight" {
		t.Errorf("ack of a dead letter: %v", err)
	}
}

func TestExtend(t *testing.T) {
	n := open(t, t.TempDir())
	const timeout = 100 * time.Millisecond
	q := n.shared(t, "jobs", queue.QueueConfig{AckTimeout: timeout, Backoff: []time.Duration{0}})
	n.publish(t, "jobs", 0)
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, `["jobs",0]`)
	d := r.deliveries()[0]
	for begin := time.Now(); time.Since(begin) < 3*timeout; <-time.After(timeout / 20) {
		if err := d.Extend(); err != nil {
			t.Fatal(err)
		}
	}
	r.want(t, `["jobs",0]`, `["jobs",0]`) // nobody extends any more
	if err := d.Extend(); queue.Code(err) != "not_in_flight" {
		t.Errorf("%v", err)
	}
	if err := r.deliveries()[1].Ack(); err != nil {
		t.Error(err)
	}
}

// Events with one key are handed out one at a time, in their order, whatever becomes of them.
func TestOrderedByKey(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	const keys, each = 5, 40
	config := queue.QueueConfig{Ordered: true, Backoff: []time.Duration{0, time.Millisecond}}
	q := n.shared(t, "jobs", config)
	for i := range each {
		for k := range keys {
			m := message("jobs", i*keys+k)
			m.Key = fmt.Sprint("key", k)
			if _, err := n.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	var mu sync.Mutex
	var held [keys]bool // somebody has one of this key
	var next [keys]int  // to come
	var count atomic.Int64
	rejected := 0
	worker := func(stop int64) *recorder {
		r := &recorder{}
		r.hook = func(d queue.Delivery) bool {
			if count.Add(1) > stop {
				return false
			}
			var i int
			fmt.Sscanf(string(d.Args), `["jobs",%d]`, &i)
			k := i % keys
			mu.Lock()
			if held[k] {
				t.Errorf("two events of key %d at a time", k)
			}
			if i/keys != next[k] {
				t.Errorf("key %d: event %d, want %d", k, i/keys, next[k])
			}
			held[k] = true
			mu.Unlock()
			go func() {
				mu.Lock()
				defer mu.Unlock()
				held[k] = false
				if (i+d.Attempt)%3 == 0 && d.Attempt < 4 {
					d.Retry(time.Duration(i%2) * time.Millisecond)
					return
				}
				next[k]++
				if i%7 == 0 {
					d.Reject("seven")
					rejected++
				} else {
					d.Ack()
				}
			}()
			return true
		}
		return r
	}
	for range 3 {
		attach(t, q, queue.ConsumerConfig{Sink: worker(100), Prefetch: 3})
	}
	until(t, "half of it", func() bool { return count.Load() > 100 })
	until(t, "the last to be settled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.Contains(held[:], true) && info(t, q).Dead == rejected
	})
	n.stop()

	n = open(t, dir) // the queue learns the keys of what is unsettled anew
	q = n.shared(t, "jobs", queue.QueueConfig{})
	for range 3 {
		attach(t, q, queue.ConsumerConfig{Sink: worker(1 << 40), Prefetch: 3})
	}
	drained(t, q)
	for k := range keys {
		if next[k] != each {
			t.Errorf("key %d: %d of %d", k, next[k], each)
		}
	}
}

func TestExclusiveConsumerTakesOver(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{})
	for i := range 4 {
		n.publish(t, "jobs", i)
	}
	ended := make(chan error, 2)
	first := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: first, Prefetch: 2, Closed: func(err error) { ended <- err }})
	first.want(t, texts("jobs", 0, 2)...)
	second := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: second, Exclusive: true, Closed: func(err error) { ended <- err }})
	if err := <-ended; queue.Code(err) != "taken_over" {
		t.Errorf("the first one was told %v", err)
	}
	second.want(t, texts("jobs", 0, 4)...)
	if got := attempts(second.deliveries()); !slices.Equal(got, []int{2, 2, 1, 1}) {
		t.Errorf("attempts %v", got)
	}
	if err := first.deliveries()[0].Ack(); queue.Code(err) != "not_in_flight" {
		t.Errorf("ack by the first one: %v", err)
	}
	if _, err := q.Attach(queue.ConsumerConfig{Sink: first}); queue.Code(err) != "queue_exclusive" {
		t.Errorf("%v", err)
	}
	gone, leave := context.WithCancelCause(t.Context())
	leave(io.ErrUnexpectedEOF)
	if _, err := q.Attach(queue.ConsumerConfig{Sink: first, Exclusive: true, Context: gone}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("for who is gone: %v", err)
	}
	third := acks()
	c := attach(t, q, queue.ConsumerConfig{Sink: third, Exclusive: true})
	if err := <-ended; queue.Code(err) != "taken_over" {
		t.Errorf("the second one was told %v", err)
	}
	drained(t, q)
	c.Close()
	attach(t, q, queue.ConsumerConfig{Sink: first}) // anybody again
}

func TestPauseOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	q := n.shared(t, "jobs", queue.QueueConfig{})
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	n.publish(t, "jobs", 0)
	r.want(t, `["jobs",0]`)
	if err := q.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.deliveries()[0].Ack(); err != nil {
		t.Errorf("what was handed out can't be settled: %v", err)
	}
	n.publish(t, "jobs", 1)
	n.stop()

	n = open(t, dir)
	q = n.shared(t, "jobs", queue.QueueConfig{})
	if !info(t, q).Paused {
		t.Fatal("not paused any more")
	}
	personal := n.personal(t, "jobs", "ann", queue.StartFirst)
	sign := &recorder{}
	attach(t, personal, queue.ConsumerConfig{Sink: sign})
	r = &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	n.publish(t, "jobs", 2)
	sign.want(t, texts("jobs", 0, 3)...)
	if got := r.args(); len(got) > 0 {
		t.Errorf("a paused queue handed out %q", got)
	}
	if err := q.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(t, texts("jobs", 1, 3)...)
}

func TestFilterByName(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	config := queue.QueueConfig{Topic: "t", Name: "ann", From: queue.StartFirst, Events: []string{"wanted", "also"}}
	for _, shared := range []bool{false, true} {
		config.Shared, config.Name = shared, fmt.Sprint("shared=", shared)
		q, err := n.Queue(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"wanted", "other", "also", "other", "other", "wanted", "other"} {
			if _, err := n.Publish(t.Context(), queue.Message{Topic: "t", Event: name, Args: fmt.Appendf(nil, "[%q]", name)}); err != nil {
				t.Fatal(err)
			}
		}
		if u, err := q.Unread(t.Context()); err != nil || u%3 != 0 || u == 0 {
			t.Errorf("%s: unread %d, %v", q.Name(), u, err)
		}
		r := &recorder{}
		c := attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
		until(t, "what is wanted", func() bool { return len(r.deliveries()) >= 3 })
		if got := r.args()[:3]; !slices.Equal(got, []string{`["wanted"]`, `["also"]`, `["wanted"]`}) {
			t.Errorf("%s: %q", q.Name(), got)
		}
		r.deliveries()[0].Ack()
		r.deliveries()[1].Ack()
		c.Close()
	}
	n.stop()
	n = open(t, dir)
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "shared=false"})
	if err != nil {
		t.Fatal(err)
	}
	r := acks()
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	drained(t, q)
	for _, d := range r.deliveries() {
		if d.Name == "other" {
			t.Error("the filter was forgotten")
		}
	}
}

func TestQueueOverAPattern(t *testing.T) {
	n := open(t, t.TempDir())
	topics := []string{"chat/1", "orders", "chat/2", "chat/1/typing", "chat/1"}
	for i, topic := range topics {
		n.publish(t, topic, i)
	}
	want := []string{`["chat/1",0]`, `["chat/2",2]`, `["chat/1",4]`}
	for _, shared := range []bool{false, true} {
		q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "chat/*", Name: fmt.Sprint(shared), Shared: shared, From: queue.StartFirst})
		if err != nil {
			t.Fatal(err)
		}
		if u, err := q.Unread(t.Context()); err != nil || u != 3+btoi(shared) {
			t.Errorf("unread %d, %v", u, err)
		}
		r := acks()
		c := attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
		r.want(t, append(want, texts("chat/9", 9, 9+btoi(shared))...)...)
		n.publish(t, "other", 9)
		n.publish(t, "chat/9", 9+btoi(shared)) // of a topic that did not exist
		r.want(t, append(want, texts("chat/9", 9, 10+btoi(shared))...)...)
		drained(t, q)
		c.Close()
	}
	if _, err := n.Publish(t.Context(), message("chat/*", 0)); queue.Code(err) != "invalid_topic" {
		t.Errorf("publish to a pattern: %v", err)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A socket, a Go function and a caller that pulls work on one queue.
func TestPullBesideOthers(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{})
	if ds, err := q.Pull(t.Context(), 10, 10*time.Millisecond); err != nil || len(ds) != 0 {
		t.Errorf("an empty queue gave %d, %v", len(ds), err)
	}
	const count = 300
	var mu sync.Mutex
	got := map[string]int{}
	take := func(d queue.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		got[string(d.Args)]++
	}
	sink := &recorder{hook: func(d queue.Delivery) bool { take(d); return d.Ack() == nil }}
	attach(t, q, queue.ConsumerConfig{Sink: sink, Prefetch: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		q.Consume(ctx, queue.ConsumerConfig{Name: "function"}, func(_ context.Context, d *queue.Delivery) error { take(*d); return nil })
	})
	pulled := 0
	group.Go(func() {
		for {
			ds, err := q.Pull(ctx, 5, time.Minute)
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			if len(ds) == 0 || len(ds) > 5 {
				t.Errorf("pulled %d", len(ds))
			}
			pulled += len(ds)
			for _, d := range ds {
				take(d)
				again, err := q.InFlight(d.Offset, d.Attempt)
				if err != nil || string(again.Args) != string(d.Args) {
					t.Error(again, err)
					continue
				}
				if err := again.Ack(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range count {
		n.publish(t, "jobs", i)
	}
	drained(t, q)
	cancel()
	group.Wait()
	if len(got) != count || pulled == 0 {
		t.Errorf("%d of %d events, %d pulled", len(got), count, pulled)
	}
	for e, times := range got {
		if times != 1 {
			t.Errorf("%s came %d times", e, times)
		}
	}
}

// What was pulled and not settled comes again, and settling it later is refused.
func TestPulledLeaseEnds(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{AckTimeout: 80 * time.Millisecond, Backoff: []time.Duration{0}})
	n.publish(t, "jobs", 0)
	first, err := q.Pull(t.Context(), 1, time.Minute)
	if err != nil || len(first) != 1 {
		t.Fatal(first, err)
	}
	if i := info(t, q); i.InFlight != 1 || len(i.Consumers) != 0 {
		t.Errorf("%+v", i)
	}
	second, err := q.Pull(t.Context(), 1, time.Minute)
	if err != nil || len(second) != 1 || second[0].Attempt != 2 {
		t.Fatal(second, err)
	}
	if err := first[0].Ack(); queue.Code(err) != "not_in_flight" {
		t.Errorf("%v", err)
	}
	if _, err := q.InFlight(first[0].Offset, 1); queue.Code(err) != "not_in_flight" {
		t.Errorf("%v", err)
	}
	if err := second[0].Retry(time.Hour); err != nil {
		t.Error(err)
	}
	if i := info(t, q); i.InFlight != 0 || i.Waiting != 1 {
		t.Errorf("%+v", i)
	}
	if _, err := n.personal(t, "jobs", "ann", queue.StartFirst).Pull(t.Context(), 1, 0); queue.Code(err) != "invalid_queue" {
		t.Errorf("pull from a personal queue: %v", err)
	}
}

// An automatic consumer acknowledges all that it got so far by the last of it.
func TestSharedAckThrough(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{})
	var rs [2]*recorder
	var cs [2]*queue.Consumer
	for i := range rs {
		rs[i] = &recorder{}
		cs[i] = attach(t, q, queue.ConsumerConfig{Sink: rs[i], Prefetch: 10})
	}
	for i := range 10 {
		n.publish(t, "jobs", i)
	}
	until(t, "all", func() bool { return len(rs[0].deliveries())+len(rs[1].deliveries()) == 10 })
	ds := rs[0].deliveries()
	cs[0].AckThrough(ds[len(ds)-2].Offset)
	if i := info(t, q); i.Unread != len(rs[1].deliveries())+1 || i.InFlight != i.Unread {
		t.Errorf("%+v after %d and %d were handed out", i, len(ds), len(rs[1].deliveries()))
	}
}

// What is settled stays settled over a restart, and what is not comes again with the attempts counted and its delay kept.
func TestSharedQueueOverARestart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	q := n.shared(t, "jobs", queue.QueueConfig{MaxDeliveries: 7})
	for i := range 6 {
		n.publish(t, "jobs", i)
	}
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r, Prefetch: 5})
	r.want(t, texts("jobs", 0, 5)...)
	ds := r.deliveries()
	ds[1].Ack()
	r.want(t, texts("jobs", 0, 6)...)
	ds[3].Ack()
	ds[2].Retry(time.Hour)
	n.stop()

	n = open(t, dir)
	q = n.shared(t, "jobs", queue.QueueConfig{})
	if i := info(t, q); i.MaxDeliveries != 7 || i.Unread != 4 || i.Waiting != 4 {
		t.Errorf("%+v", i)
	}
	r = acks()
	attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, `["jobs",0]`, `["jobs",4]`, `["jobs",5]`)
	if got := attempts(r.deliveries()); !slices.Equal(got, []int{2, 2, 2}) {
		t.Errorf("attempts %v", got)
	}
	if i := info(t, q); i.Unread != 1 || i.Waiting != 1 {
		t.Errorf("%+v", i)
	}
}
