package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

const (
	aTrace       = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	anotherTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

// The trace of an event comes with it wherever it is read: from the tail, from the index, after a restart, when it was delayed, gave
// up or came in a batch.
func TestTraceGoesWithTheEvent(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	publish := func(m queue.Message) {
		t.Helper()
		if _, err := n.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "orders", Name: "packers", Shared: true, From: queue.StartFirst})
	if err != nil {
		t.Fatal(err)
	}
	pulled := func() queue.Delivery {
		t.Helper()
		got, err := q.Pull(t.Context(), 1, 30*time.Second)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		return got[0]
	}
	publish(queue.Message{Topic: "orders", Event: "live", TraceParent: aTrace})
	d := pulled()
	if d.TraceParent != aTrace {
		t.Errorf("from the tail: %q", d.TraceParent)
	}
	if err := d.Reject("no"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is dead", func() bool { i, err := q.Info(t.Context()); return err == nil && i.Dead == 1 })
	if n, err := q.Redrive(t.Context(), 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if d = pulled(); d.TraceParent != aTrace {
		t.Errorf("redriven: %q", d.TraceParent)
	}
	publish(queue.Message{Topic: "orders", Event: "later", Delay: time.Millisecond, TraceParent: anotherTrace})
	if d = pulled(); d.TraceParent != anotherTrace {
		t.Errorf("delayed: %q", d.TraceParent)
	}
	if _, err := n.PublishBatch(t.Context(), []queue.Message{{Topic: "orders", Event: "a", TraceParent: aTrace}, {Topic: "orders", Event: "b"}}); err != nil {
		t.Fatal(err)
	}
	want := []string{aTrace, aTrace, anotherTrace, aTrace, ""}
	for range 2 {
		until(t, "the log is read in", func() bool { return n.Ready() == nil })
		p, err := n.History(t.Context(), "orders", queue.StartFirst, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range p.Events {
			got = append(got, e.TraceParent)
		}
		if i := slices.Delete(slices.Clone(want), 1, 2); !slices.Equal(got, i) { // what was redriven is for its queue alone
			t.Errorf("history has the traces %q", got)
		}
		n.stop()
		n = open(t, dir)
	}
}

// A publish that is repeated in another trace is the same, and what is no trace is left out.
func TestTraceIsNoPartOfTheEvent(t *testing.T) {
	n := open(t, t.TempDir())
	m := queue.Message{Topic: "orders", Event: "e", ID: "7", TraceParent: aTrace}
	if p, err := n.Publish(t.Context(), m); err != nil || p.Duplicate {
		t.Fatal(p, err)
	}
	m.TraceParent = anotherTrace
	if p, err := n.Publish(t.Context(), m); err != nil || !p.Duplicate {
		t.Errorf("again, in another trace: %v %v", p, err)
	}
	for _, bad := range []string{
		"x", aTrace + "-", aTrace[:54], "01" + aTrace[2:], strings.ToUpper(aTrace), strings.Replace(aTrace, "0af7", "0ag7", 1),
		"00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01", aTrace[:54] + "\n", strings.Repeat("0", 1<<20),
	} {
		p, err := n.Publish(t.Context(), queue.Message{Topic: "bad", Event: "e", TraceParent: bad})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := n.Event(t.Context(), "bad", p.ID); err != nil || e.TraceParent != "" {
			t.Errorf("%.60q is kept: %v", bad, err)
		}
	}
}

type spanKey struct{}

// Who traces hears of each publish with its outcome, and of each event that is handled.
func TestTracingHooks(t *testing.T) {
	boom := errors.New("boom")
	outcomes := make(chan string, 10)
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) {
		c.OnPublish = func(ctx context.Context, m *queue.Message) func(error) {
			if ctx.Value(spanKey{}) == nil {
				return nil
			}
			m.TraceParent = aTrace
			return func(err error) { outcomes <- "publish " + m.Event + " " + queue.Code(err) }
		}
		c.OnConsume = func(ctx context.Context, name string, d queue.Delivery) (context.Context, func(error)) {
			if name != "w" {
				t.Errorf("queue %q", name)
			}
			return context.WithValue(ctx, spanKey{}, d.TraceParent), func(err error) {
				if err != nil {
					outcomes <- "handle " + d.Name + " " + err.Error()
				}
			}
		}
	}})
	want := func(all ...string) {
		t.Helper()
		for _, w := range all {
			if got := <-outcomes; got != w {
				t.Errorf("got %q, want %q", got, w)
			}
		}
	}
	ctx := context.WithValue(t.Context(), spanKey{}, "")
	if _, err := n.Publish(t.Context(), queue.Message{Topic: "orders", Event: "plain"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Publish(ctx, queue.Message{Topic: "orders", Event: "traced"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Publish(ctx, queue.Message{Topic: "", Event: "wrong"}); err == nil {
		t.Error("an event without a topic is published")
	}
	want("publish traced ", "publish wrong invalid_topic")
	stored := make(chan error, 1)
	if err := n.PublishAsync(ctx, queue.Message{Topic: "orders", Event: "async"}, func(_ queue.Published, err error) { stored <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if err := n.PublishAsync(ctx, queue.Message{Topic: "", Event: "wrong"}, nil); err == nil {
		t.Error("an event without a topic is published")
	}
	want("publish async ", "publish wrong invalid_topic")
	if _, err := n.PublishBatch(ctx, []queue.Message{{Topic: "orders", Event: "one"}, {Topic: "orders", Event: "two"}}); err != nil {
		t.Fatal(err)
	}
	want("publish two ", "publish one ")

	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "orders", Name: "w", Shared: true, From: queue.StartFirst, Backoff: []time.Duration{time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	consuming, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	err = q.Consume(consuming, queue.ConsumerConfig{}, func(ctx context.Context, d *queue.Delivery) error {
		trace, _ := ctx.Value(spanKey{}).(string)
		if trace != d.TraceParent || (d.Name == "plain") != (trace == "") {
			t.Errorf("%s is handled in %q", d.Name, trace)
		}
		if d.Name == "two" {
			cancel(boom)
			return boom
		}
		return nil
	})
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	want("handle two boom")
}
