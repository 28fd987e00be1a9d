package queue_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	onDisk(t)
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

// cutStream takes away everything that a stream has.
func cutStream(t *testing.T, dir, stream string) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "store", "js", "jetstream", "$G", "streams", stream, "msgs", "*"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(blocks, err)
	}
	for _, b := range blocks {
		if err := os.Remove(b); err != nil {
			t.Fatal(err)
		}
	}
}

// Queues that were lost hand out all that they may have held: nobody knows what was acknowledged, and which queues there were.
func TestForgottenQueuesBeginAnew(t *testing.T) {
	onDisk(t)
	dir := t.TempDir()
	n := openWith(t, dir, setup{config: small})
	if err := n.CreateTopic(t.Context(), queue.TopicConfig{Pattern: "made before"}); err != nil {
		t.Fatal(err)
	}
	n.publish(t, "t", 0)
	personal := n.personal(t, "t", "ann", queue.StartNew)
	n.shared(t, "t", queue.QueueConfig{Name: "work", From: queue.StartNew})
	var offsets []queue.Offset
	for i := range 20 {
		offsets = append(offsets, n.publish(t, "t", 1+i).Offset)
	}
	seen(t, personal, offsets[4])
	epoch := n.engine.Epoch()
	n.stop()
	cutStream(t, dir, "CUR")

	_, err := start(dir, setup{})
	if loss, ok := errors.AsType[*embedded.LossError](err); !ok || loss.Stream != "CUR" {
		t.Fatal("the loss went unnoticed: ", err)
	}
	n = openWith(t, dir, setup{accept: true, config: small})
	if n.engine.Epoch() != epoch {
		t.Error("offsets mean something else, though no event is lost")
	}
	got := func(q *queue.Queue, want ...string) *recorder {
		t.Helper()
		r := acks()
		c := attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
		r.want(t, want...)
		c.Close()
		return r
	}
	want := texts("t", 0, 21)
	again := func() []*queue.Queue {
		return []*queue.Queue{n.personal(t, "t", "ann", queue.StartNew), n.shared(t, "t", queue.QueueConfig{Name: "work", From: queue.StartNew})}
	}
	for _, q := range again() {
		if r := got(q, want...); len(r.gapsTold()) > 0 {
			t.Errorf("gaps %+v", r.gapsTold())
		}
	}
	n.stop()
	n = openWith(t, dir, setup{config: small})
	for _, q := range again() { // they are on record now
		if unread, err := q.Unread(t.Context()); unread > 0 || err != nil {
			t.Errorf("%s holds %d events again, %v", q.Name(), unread, err)
		}
	}
	got(n.personal(t, "t", "who says where", offsets[9].After()), texts("t", 11, 21)...)

	// A topic that is created now is known after the index was lost too: its note has a position that was used before.
	if err := n.CreateTopic(t.Context(), queue.TopicConfig{Pattern: "made after", MaxEvents: 7}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	n = openWith(t, dir, setup{config: small})
	if i, err := n.Topic(t.Context(), "made after"); err != nil || i.MaxEvents != 7 {
		t.Errorf("%+v, %v", i, err)
	}

	// Once retention has taken what came after the loss a queue begins where it is told, and its readers hear of it.
	fill(t, n, "t", 100, 1500)
	until(t, "retention", func() bool {
		p := n.history(t, "t", queue.StartFirst, 1)
		return p.Events[0].Offset.Seq > offsets[19].Seq+100
	})
	late := n.personal(t, "t", "late", queue.StartNew)
	r := &recorder{}
	attach(t, late, queue.ConsumerConfig{Sink: r})
	n.publish(t, "t", 2000)
	r.want(t, texts("t", 2000, 2001)...)
	if gaps := r.gapsTold(); len(gaps) != 1 || gaps[0].Cause != "loss" || gaps[0].To != late.Cursor() {
		t.Errorf("gaps %+v", gaps)
	}
}

// Events that were to be published later are not, once the loss of them was accepted; nothing else changes.
func TestDelayedEventsThatAreLost(t *testing.T) {
	onDisk(t)
	dir := t.TempDir()
	n := open(t, dir)
	n.personal(t, "t", "ann", queue.StartNew)
	later := message("t", 0)
	later.Delay = time.Hour
	if _, err := n.Publish(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	n.publish(t, "t", 1)
	epoch := n.engine.Epoch()
	n.stop()
	cutStream(t, dir, "DLY")
	_, err := start(dir, setup{})
	if loss, ok := errors.AsType[*embedded.LossError](err); !ok || loss.Stream != "DLY" || loss.Missing != 1 {
		t.Fatal("the loss went unnoticed: ", err)
	}
	n = openWith(t, dir, setup{accept: true})
	if _, _, forgotten := n.engine.Forgotten(); forgotten || n.engine.Epoch() != epoch {
		t.Error("it took more than that")
	}
	r := &recorder{}
	attach(t, n.personal(t, "t", "ann", queue.StartNew), queue.ConsumerConfig{Sink: r})
	r.want(t, texts("t", 1, 2)...)
	later = message("t", 2)
	later.Delay = time.Millisecond
	if _, err := n.Publish(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	r.want(t, texts("t", 1, 3)...)
}
