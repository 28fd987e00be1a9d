package queue_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
)

// cut halves the newest file of events, and takes away the summary that would hide it.
func cut(t *testing.T, dir string) {
	t.Helper()
	var newest string
	err := filepath.WalkDir(filepath.Join(dir, "store"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "EVT_0") {
			switch {
			case filepath.Ext(path) == ".blk":
				newest = max(newest, path)
			case d.Name() == "index.db":
				return os.Remove(path)
			}
		}
		return err
	})
	if err != nil || newest == "" {
		t.Fatal(newest, err)
	}
	info, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(newest, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// After an accepted loss sequences are used again. Whoever was beyond the loss is told, and gets everything that is new.
func TestGapAfterAcceptedLoss(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	names := []string{"at the end", "in what is lost", "before it"}
	queues := make([]*queue.Queue, len(names))
	for i, name := range names {
		queues[i] = n.personal(t, "t", name, queue.StartFirst)
	}
	manual := n.personal(t, "t", "manual", queue.StartFirst)
	var offsets []queue.Offset
	for i := range 100 {
		offsets = append(offsets, n.publish(t, "t", i).Offset)
	}
	r := &recorder{}
	c := attach(t, manual, queue.ConsumerConfig{Sink: r, Manual: true, Prefetch: 200})
	r.want(t, texts("t", 0, 100)...)
	for _, d := range r.deliveries()[10:] {
		d.Ack()
	}
	c.Close()
	seen(t, queues[0], offsets[99])
	seen(t, queues[1], offsets[89])
	seen(t, queues[2], offsets[4])
	n.stop()
	cut(t, dir)

	if _, err := start(dir, setup{}); err == nil {
		t.Fatal("the loss went unnoticed")
	} else if _, ok := errors.AsType[*embedded.LossError](err); !ok {
		t.Fatal(err)
	}
	n = openWith(t, dir, setup{accept: true})
	losses := n.engine.Losses()
	if len(losses) != 1 || losses[0].From <= 10 || losses[0].From >= 90 || losses[0].To != 100 {
		t.Fatalf("losses %+v", losses)
	}
	lost := losses[0]
	kept := int(lost.From) - 1
	for i := range 50 {
		n.publish(t, "t", 1000+i)
	}
	fresh := texts("t", 1000, 1050)
	check := func(name string, c queue.ConsumerConfig, want []string, from uint64) {
		t.Helper()
		r := &recorder{}
		c.Sink = r
		x := attach(t, n.personal(t, "t", name, queue.StartNew), c)
		r.want(t, want...)
		gaps := r.gapsTold()
		if to := (queue.Offset{Epoch: lost.Epoch, Seq: lost.To}); from == lost.To && len(gaps) == 0 {
			return
		} else if len(gaps) != 1 || gaps[0].Cause != "loss" || gaps[0].To != to || gaps[0].From != (queue.Offset{Epoch: lost.Epoch, Seq: from}) {
			t.Errorf("%s: gaps %+v, want (%d, %d]", name, gaps, from, lost.To)
		}
		x.Close()
	}
	for range 2 { // the gap is told until something after it was acknowledged
		check(names[0], queue.ConsumerConfig{}, fresh, 100)
		check(names[1], queue.ConsumerConfig{}, fresh, 90)
		check(names[2], queue.ConsumerConfig{}, append(texts("t", 5, kept), fresh...), lost.From-1)
		check("manual", queue.ConsumerConfig{Manual: true, Prefetch: 100}, append(texts("t", 0, 10), fresh...), lost.From-1)
	}
	seen(t, n.personal(t, "t", names[2], queue.StartNew), offsets[6]) // which is before the gap and does not end it
	for range 2 {
		check(names[2], queue.ConsumerConfig{}, append(texts("t", 7, kept), fresh...), lost.From-1)
		n.stop() // which stores the queue in the new epoch
		n = open(t, dir)
	}
	p := n.history(t, "t", offsets[4].After(), 1000)
	if p.Gap == nil || p.Gap.To.Seq != lost.To || len(p.Events) != kept-5+50 {
		t.Errorf("%d events, gap %+v", len(p.Events), p.Gap)
	}
	if p := n.history(t, "t", offsets[99].After(), 1000); p.Gap != nil || len(p.Events) != 50 {
		t.Errorf("%d events, gap %+v", len(p.Events), p.Gap)
	}

	last, _ := n.Last("t")
	for _, name := range names {
		seen(t, n.personal(t, "t", name, queue.StartNew), last)
	}
	n.stop()
	n = open(t, dir)
	for _, name := range names {
		q := n.personal(t, "t", name, queue.StartNew)
		if q.Cursor() != last {
			t.Errorf("%s: cursor %v, want %v", name, q.Cursor(), last)
		}
		r := &recorder{}
		attach(t, q, queue.ConsumerConfig{Sink: r})
		p := n.publish(t, "t", 2000+len(name))
		until(t, "the new one", func() bool { return len(r.deliveries()) > 0 })
		if len(r.gapsTold()) > 0 {
			t.Errorf("%s: %+v", name, r.gapsTold())
		}
		last = p.Offset
		for _, name := range names {
			seen(t, n.personal(t, "t", name, queue.StartNew), last)
		}
	}
}
