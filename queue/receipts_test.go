package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// story is what receipts say, without the times.
func story(rs []queue.Receipt) string {
	var s []string
	for _, r := range rs {
		text := r.What
		if r.Consumer != "" {
			text += " " + r.Consumer
		}
		if r.Attempt > 0 {
			text += fmt.Sprint(" ", r.Attempt)
		}
		if r.Reason != "" {
			text += " (" + r.Reason + ")"
		}
		s = append(s, text)
	}
	return strings.Join(s, ", ")
}

func receiptsOf(t testing.TB, q *queue.Queue, id string) []queue.Receipt {
	t.Helper()
	rs, err := q.ReceiptsOf(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// TestReceipts: did the workers get job 3, and what did they do with it?
func TestReceipts(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprint("keeps=", keeps), func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, dir)
			begin := time.Now().Add(-time.Millisecond)
			q := n.shared(t, "jobs", queue.QueueConfig{Receipts: keeps, MaxDeliveries: 2, Events: []string{"e"}})
			for i := range 7 {
				n.publish(t, "jobs", i)
			}
			if _, err := n.Publish(t.Context(), queue.Message{Topic: "jobs", Event: "other", ID: "other"}); err != nil {
				t.Fatal(err)
			}
			r := &recorder{}
			c := attach(t, q, queue.ConsumerConfig{Sink: r, Name: "w1", Prefetch: 6})
			r.want(t, texts("jobs", 0, 6)...)
			ds := r.deliveries()
			ds[0].Ack()
			ds[1].Retry(time.Hour)
			ds[2].Reject("broken")
			ds[3].Retry(0)
			until(t, "two more", func() bool { return len(r.deliveries()) == 8 })
			i := slices.IndexFunc(r.deliveries()[6:], func(d queue.Delivery) bool { return d.Attempt == 2 })
			r.deliveries()[6+i].Retry(0)
			until(t, "two dead letters", func() bool { return info(t, q).Dead == 2 })
			c.Close()
			again := &recorder{}
			attach(t, q, queue.ConsumerConfig{Sink: again, Name: "w2", Prefetch: 1})
			again.want(t, `["jobs",4]`)

			gaveUp := "gave up after 2 deliveries; the last time its consumer gave it back"
			want := []string{
				"stored, delivered w1 1, acked w1 1",
				"stored, delivered w1 1, nacked w1 1 (its consumer gave it back)",
				"stored, delivered w1 1, dead-lettered 1 (broken)",
				"stored, delivered w1 1, nacked w1 1 (its consumer gave it back), delivered w1 2, nacked w1 2 (its consumer gave it back), dead-lettered 2 (" + gaveUp + ")",
				"stored, delivered w1 1, nacked w1 1 (its consumer went away), delivered w2 2",
				"stored, delivered w1 1, nacked w1 1 (its consumer went away)",
				"stored, delivered w1 1, nacked w1 1 (its consumer went away)",
			}
			if !keeps {
				want = []string{
					"stored, acked", "stored, nacked 1 (its consumer gave it back)", "stored, dead-lettered (broken)",
					"stored, dead-lettered (" + gaveUp + ")", "stored, delivered w2 2", "stored, nacked 1 (its consumer went away)", "stored, nacked 1 (its consumer went away)",
				}
			}
			for i, w := range want {
				rs := receiptsOf(t, q, fmt.Sprintf("jobs#%d", i))
				if got := story(rs); got != w {
					t.Errorf("%d: %s, want %s", i, got, w)
				}
				for j, r := range rs {
					if r.Offset != ds[0].Offset && i == 0 || j > 0 && r.Queue != "workers" {
						t.Errorf("%+v", r)
					}
					if keeps && (r.Time.Before(begin) || r.Time.After(time.Now())) {
						t.Errorf("%s at %v", r.What, r.Time)
					}
				}
			}
			if got := story(receiptsOf(t, q, "other")); got != "stored" {
				t.Errorf("what the queue does not want: %s", got)
			}
			if _, err := q.ReceiptsOf(t.Context(), "none"); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("%v", err)
			}
			count := 0
			for r, err := range q.Receipts(t.Context(), begin) {
				if err != nil || r.Queue != "workers" {
					t.Fatal(r, err)
				}
				count++
			}
			if wanted := 18; keeps && count != wanted || !keeps && count != 0 {
				t.Errorf("%d receipts in all", count)
			}
			n.stop()
			n = open(t, dir)
			until(t, "the index", func() bool { return n.Ready() == nil })
			q = n.shared(t, "jobs", queue.QueueConfig{})
			for _, i := range []int{0, 2, 3} {
				if got := story(receiptsOf(t, q, fmt.Sprintf("jobs#%d", i))); got != want[i] {
					t.Errorf("after a restart %d: %s, want %s", i, got, want[i])
				}
			}
		})
	}
}

// Did ann get o-17? And everybody else?
func TestReceiptsOfAnEvent(t *testing.T) {
	n := open(t, t.TempDir())
	make := func(topic, name string, c queue.QueueConfig) *queue.Queue {
		c.Topic, c.Name, c.From = topic, name, queue.StartFirst
		q, err := n.Queue(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	ann := make("orders", "ann", queue.QueueConfig{Receipts: true})
	make("orders", "bob", queue.QueueConfig{})
	over := make("**", "log", queue.QueueConfig{Receipts: true})
	make("other", "carl", queue.QueueConfig{})
	for i := range 20 {
		n.publish(t, "orders", i)
	}
	r := &recorder{}
	c := attach(t, ann, queue.ConsumerConfig{Sink: r, Name: "phone"})
	r.want(t, texts("orders", 0, 20)...)
	if got := story(receiptsOf(t, ann, "orders#17")); got != "stored, delivered phone 1" {
		t.Errorf("%s", got)
	}
	c.AckThrough(r.deliveries()[18].Offset)
	if got := story(receiptsOf(t, ann, "orders#17")); got != "stored, delivered phone 1, acked phone" {
		t.Errorf("%s", got)
	}
	if got := story(receiptsOf(t, ann, "orders#19")); got != "stored, delivered phone 1" {
		t.Errorf("%s", got)
	}
	all := &recorder{}
	attach(t, over, queue.ConsumerConfig{Sink: all, Name: "logger"})
	all.want(t, texts("orders", 0, 20)...)
	if got := story(receiptsOf(t, over, r.deliveries()[17].Offset.String())); got != "stored, delivered logger 1" {
		t.Errorf("%s", got)
	}
	of := map[string][]queue.Receipt{}
	for r, err := range n.ReceiptsOf(t.Context(), "orders", "orders#17") {
		if err != nil {
			t.Fatal(err)
		}
		of[r.Queue] = append(of[r.Queue], r)
	}
	for name, want := range map[string]string{"": "stored", "ann": "delivered phone 1, acked phone", "bob": "", "log": "delivered logger 1"} {
		if got := story(of[name]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if len(of["carl"]) > 0 {
		t.Errorf("carl's queue has %s", story(of["carl"]))
	}
}

func TestReceiptOfAnExpiredEvent(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "t", queue.QueueConfig{Receipts: true})
	m := message("t", 0)
	m.TTL = 50 * time.Millisecond
	p, err := n.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	c := attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, `["t",0]`)
	until(t, "it to expire", func() bool { return len(n.all(t, "t")) == 0 })
	c.Close()
	attach(t, q, queue.ConsumerConfig{Sink: r})
	drained(t, q)
	var got []queue.Receipt
	for r, err := range q.Receipts(t.Context(), time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset == p.Offset {
			got = append(got, r)
		}
	}
	if s := story(got); s != "delivered 1, nacked 1 (its consumer went away), expired" {
		t.Error(s)
	}
}

// Receipts are dropped by size, and the queue still knows how things are.
func TestReceiptsAreBounded(t *testing.T) {
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { c.ReceiptBytes = 20_000 }})
	q := n.shared(t, "t", queue.QueueConfig{Receipts: true})
	r := acks()
	attach(t, q, queue.ConsumerConfig{Sink: r})
	const count = 2000
	for i := range count {
		if err := n.PublishAsync(t.Context(), message("t", i), func(queue.Published, error) {}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all", func() bool { return len(r.deliveries()) == count })
	kept := 0
	for _, err := range q.Receipts(t.Context(), time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		kept++
	}
	if kept == 0 || kept >= 2*count {
		t.Errorf("%d receipts are kept", kept)
	}
	if got := story(receiptsOf(t, q, "t#0")); got != "stored, acked" {
		t.Errorf("%s", got)
	}
}

// A consumer that has no room did not get what was offered to it, and its receipts say so.
func TestReceiptOfARefusedEvent(t *testing.T) {
	for _, manual := range []bool{false, true} {
		n := open(t, t.TempDir())
		q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann", Receipts: true})
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder{hook: func(queue.Delivery) bool { return false }}
		c := attach(t, q, queue.ConsumerConfig{Sink: r, Name: "phone", Manual: manual})
		n.publish(t, "t", 0)
		until(t, "a refusal", func() bool { return queue.Parked(c) })
		const refused = "stored, delivered phone 1, nacked phone 1 (its consumer had no room)"
		if got := story(receiptsOf(t, q, "t#0")); got != refused {
			t.Errorf("manual=%v: %s, want %s", manual, got, refused)
		}
		n.stop()
	}
}

// unwellEngine is an engine that says so while it is told to.
type unwellEngine struct {
	queue.Engine
	unwell *atomic.Bool
}

func (e unwellEngine) Health() error {
	if e.unwell.Load() {
		return queue.ErrUnavailable
	}
	return e.Engine.Health()
}

// Receipts that come one at a time while the store is away are stored when it is back.
func TestReceiptsWhileTheStoreIsAway(t *testing.T) {
	var unwell atomic.Bool
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { c.Engine = unwellEngine{c.Engine, &unwell} }})
	q := n.shared(t, "t", queue.QueueConfig{Receipts: true})
	const count = 50
	for i := range count {
		n.publish(t, "t", i)
	}
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r, Prefetch: count})
	until(t, "all", func() bool { return len(r.deliveries()) == count })
	acks := func() (n int) {
		for x, err := range q.Receipts(t.Context(), time.Time{}) {
			if err != nil {
				t.Fatal(err)
			}
			if x.What == "acked" {
				n++
			}
		}
		return n
	}
	unwell.Store(true)
	for _, d := range r.deliveries() {
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
		if n := acks(); n > 0 {
			t.Fatalf("%d are stored meanwhile", n)
		}
	}
	unwell.Store(false)
	until(t, "receipts of all", func() bool { return acks() == count })
}
