package queue_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// fill publishes until the log has dropped what came before.
func fill(t testing.TB, n *node, topic string, from, count int) {
	t.Helper()
	pad := strings.Repeat("x", 4000)
	var group sync.WaitGroup
	for i := from; i < from+count; i++ {
		group.Add(1)
		m := message(topic, i)
		m.Attachments = [][]byte{[]byte(pad)}
		if err := n.PublishAsync(t.Context(), m, func(_ queue.Published, err error) {
			if err != nil {
				t.Error(err)
			}
			group.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
}

func small(c *queue.Config) { c.MaxBytes = 2 << 20 }

// Whoever was away for too long is told what is missing, and nobody else is.
func TestGapAfterRetention(t *testing.T) {
	dir := t.TempDir()
	n := openWith(t, dir, setup{config: small})
	away := n.personal(t, "t", "away", queue.StartFirst)
	idle := n.personal(t, "idle", "idle", queue.StartFirst)
	manual := n.personal(t, "t", "manual", queue.StartFirst)
	live := &recorder{}
	attach(t, away, queue.ConsumerConfig{Sink: live})
	start := n.history(t, "t", queue.StartNew, 1).Next
	kept := n.publish(t, "idle", 0)
	held := &recorder{}
	attach(t, manual, queue.ConsumerConfig{Sink: held, Manual: true, Prefetch: 10})
	for i := 0; i < 1500; i += 250 { // 1 MB: retention can't overtake a consumer that has all of it
		fill(t, n, "t", i, 250)
		live.want(t, texts("t", 0, i+250)...)
	}
	if gaps := live.gapsTold(); len(gaps) > 0 {
		t.Errorf("live consumer was told of %+v", gaps)
	}
	until(t, "the index to be trimmed", func() bool {
		p := n.history(t, "t", queue.StartFirst, 1)
		return len(p.Events) == 1 && p.Events[0].Offset.Seq > 100
	})

	check := func(n *node, q *queue.Queue) {
		t.Helper()
		r := &recorder{}
		attach(t, q, queue.ConsumerConfig{Sink: r})
		until(t, "the end", func() bool { a := r.args(); return len(a) > 0 && a[len(a)-1] == `["t",1499]` })
		gaps := r.gapsTold()
		if len(gaps) != 1 || gaps[0].Topic != "t" || gaps[0].Cause != "retention" || gaps[0].From.Seq >= gaps[0].To.Seq {
			t.Fatalf("gaps %+v", gaps)
		}
		if first := r.deliveries()[0].Offset; first.Seq != gaps[0].To.Seq+1 {
			t.Errorf("gap to %d, then %d", gaps[0].To.Seq, first.Seq)
		}
		p := n.history(t, "t", start.After(), 10)
		if p.Gap == nil || p.Gap.From != start || p.Gap.To != gaps[0].To || p.Events[0].Offset != r.deliveries()[0].Offset {
			t.Errorf("history: %+v", p.Gap)
		}
		if p := n.history(t, "t", queue.StartFirst, 10); p.Gap != nil {
			t.Errorf("the first that is kept has a gap before it: %+v", p.Gap)
		}
	}
	check(n, away)

	// The manual consumer, blocked all the time, goes on behind the gap.
	for len(held.gapsTold()) == 0 {
		for _, d := range held.deliveries() {
			d.Ack()
		}
	}
	until(t, "the end", func() bool {
		ds := held.deliveries()
		for _, d := range ds {
			d.Ack()
		}
		return string(ds[len(ds)-1].Args) == `["t",1499]`
	})
	if last, _ := n.Last("t"); manual.Cursor() != last {
		t.Errorf("cursor %v, want %v", manual.Cursor(), last)
	}

	// Topics that lost everything say so too; the others hear nothing.
	r := &recorder{}
	attach(t, idle, queue.ConsumerConfig{Sink: r})
	until(t, "the gap of the other topic", func() bool { return len(r.gapsTold()) == 1 })
	if g := r.gapsTold()[0]; g.To != kept.Offset || g.Topic != "idle" {
		t.Errorf("%+v", g)
	}
	fresh := n.personal(t, "other", "x", queue.StartFirst)
	r = &recorder{}
	attach(t, fresh, queue.ConsumerConfig{Sink: r})
	n.publish(t, "other", 0)
	r.want(t, `["other",0]`)
	if len(r.gapsTold()) > 0 {
		t.Errorf("%+v", r.gapsTold())
	}

	n.stop()
	n = openWith(t, dir, setup{config: small})
	check(n, n.personal(t, "t", "away", queue.StartNew))
	n.stop()

	// Without the index nobody knows whose the lost events were, and everybody behind them is told.
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	n = openWith(t, dir, setup{config: small})
	until(t, "the index", func() bool { return n.Ready() == nil })
	check(n, n.personal(t, "t", "away", queue.StartNew))
}

// A slow consumer that retention overtakes is told, and goes on.
func TestRetentionOvertakesASlowConsumer(t *testing.T) {
	n := openWith(t, t.TempDir(), setup{config: small})
	q := n.personal(t, "t", "ann", queue.StartFirst)
	open := make(chan struct{})
	r := &recorder{hook: func(queue.Delivery) bool {
		select {
		case <-open:
			return true
		default:
			return false
		}
	}}
	c := attach(t, q, queue.ConsumerConfig{Sink: r})
	fill(t, n, "t", 0, 1500)
	until(t, "the index to be trimmed", func() bool {
		p := n.history(t, "t", queue.StartFirst, 1)
		return len(p.Events) == 1 && p.Events[0].Offset.Seq > 100
	})
	close(open)
	c.Resume()
	until(t, "the end", func() bool { a := r.args(); return len(a) > 0 && a[len(a)-1] == `["t",1499]` })
	gaps := r.gapsTold()
	if len(gaps) == 0 || gaps[0].From.Seq != 0 {
		t.Fatalf("gaps %+v", gaps)
	}
	told := uint64(len(r.deliveries()))
	for _, g := range gaps {
		told += g.To.Seq - g.From.Seq
	}
	if told != 1500 {
		t.Errorf("%d events delivered or told missing, of 1500", told)
	}
}

// hooked is an index whose reads a test can delay.
type hooked struct {
	queue.Index
	before func(topic string)
}

func (h *hooked) Range(topic string, after, upto uint64, limit int, f func(*queue.Event) bool) error {
	h.before(topic)
	return h.Index.Range(topic, after, upto, limit, f)
}

// The index is trimmed after a reader looked whether it was, and before it reads.
func TestTrimInTheMiddleOfARead(t *testing.T) {
	var n *node
	var wait atomic.Bool
	n = openWith(t, t.TempDir(), setup{config: func(c *queue.Config) {
		c.MaxBytes = 2 << 20
		c.Index = &hooked{c.Index, func(topic string) {
			if topic == "t" && wait.Load() {
				until(t, "a trim", func() bool { lost, err := n.index.Trimmed("t"); return err != nil || lost > 0 })
			}
		}}
	}})
	q := n.personal(t, "t", "ann", queue.StartFirst)
	first := n.publish(t, "t", 0)
	until(t, "the first", func() bool { last, err := n.Last("t"); return err == nil && last == first.Offset })
	wait.Store(true)
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	page := make(chan queue.Page, 1)
	go func() { page <- n.history(t, "t", queue.Offset{Epoch: first.Offset.Epoch}.After(), 10) }()
	fill(t, n, "t", 1, 1499)
	until(t, "the end", func() bool { a := r.args(); return len(a) > 0 && a[len(a)-1] == `["t",1499]` })
	told := uint64(len(r.deliveries()))
	for _, g := range r.gapsTold() {
		told += g.To.Seq - g.From.Seq
	}
	if told != 1500 {
		t.Errorf("%d events delivered or told missing, of 1500", told)
	}
	if p := <-page; p.Gap == nil && (len(p.Events) == 0 || p.Events[0].Offset != first.Offset) {
		t.Errorf("history from the start begins with %+v, without a gap", p.Events[0].Offset)
	}
}
