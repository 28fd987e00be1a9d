package queue_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// Close comes while everything is busy: everybody gets an answer, and what was acknowledged is there afterwards.
func TestCloseWhileBusy(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	var acked sync.Map
	var count atomic.Int64
	var group sync.WaitGroup
	ctx := context.Background()
	sane := func(err error) bool { return err == nil || errors.Is(err, queue.ErrClosed) }
	for p := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				m := message(fmt.Sprint("t", p%3), p*1_000_000+i)
				a, err := n.Publish(ctx, m)
				if errors.Is(err, queue.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				acked.Store(a.Offset, string(m.Args))
				count.Add(1)
			}
		})
		group.Go(func() {
			for i := 0; ; i++ {
				q, err := n.Queue(ctx, queue.QueueConfig{Topic: fmt.Sprint("t", p%3), Name: fmt.Sprint(p, "/", i%7), From: queue.StartFirst, Ephemeral: i%2 == 0})
				if !sane(err) {
					t.Error(err)
				}
				if err != nil {
					return
				}
				var c atomic.Pointer[queue.Consumer]
				r := &recorder{hook: func(d queue.Delivery) bool {
					if x := c.Load(); x != nil {
						d.Ack()
						d.Retry(time.Duration(d.Offset.Seq%3) * time.Millisecond)
					}
					return d.Offset.Seq%5 != 0
				}}
				x, err := q.Attach(queue.ConsumerConfig{Sink: r, Manual: i%3 == 0})
				if err != nil {
					if !sane(err) {
						t.Error(err)
					}
					return
				}
				c.Store(x)
				x.Resume()
				if _, err := n.History(ctx, q.Topic(), queue.StartFirst, 10); !sane(err) {
					t.Error(err)
				}
				if _, err := q.Unread(ctx); !sane(err) {
					t.Error(err)
				}
				if i%5 != 0 { // some stay attached
					x.Close()
				}
			}
		})
		group.Go(func() {
			q, err := n.Queue(ctx, queue.QueueConfig{Topic: fmt.Sprint("t", p%3), Name: fmt.Sprint("consume", p), From: queue.StartFirst})
			if err == nil {
				err = q.Consume(ctx, queue.ConsumerConfig{}, func(context.Context, *queue.Delivery) error { return nil })
			}
			if !errors.Is(err, queue.ErrClosed) {
				t.Error(err)
			}
		})
	}
	until(t, "some traffic", func() bool { return count.Load() > 500 })
	closed := make(chan struct{})
	go func() {
		n.Close()
		close(closed)
	}()
	group.Wait()
	<-closed
	n.stop()

	n = open(t, dir)
	until(t, "the index", func() bool { return n.Ready() == nil })
	found := int64(0)
	for topic := range 3 {
		for from := queue.StartFirst; ; {
			p := n.history(t, fmt.Sprint("t", topic), from, 1000)
			for _, e := range p.Events {
				if args, ok := acked.Load(e.Offset); ok {
					if args != string(e.Args) {
						t.Fatalf("%s, want %s", e.Args, args)
					}
					found++
				}
			}
			if p.Complete {
				break
			}
			from = p.Next.After()
		}
	}
	if found != count.Load() {
		t.Errorf("%d of %d acknowledged events found", found, count.Load())
	}
}

// A queue that nobody holds costs no memory, and is as it was when somebody asks again.
func TestUnusedQueuesAreForgotten(t *testing.T) {
	n := open(t, t.TempDir())
	var offsets []queue.Offset
	for i := range 10 {
		offsets = append(offsets, n.publish(t, "t", i).Offset)
	}
	for i := range 100 {
		q := n.personal(t, "t", fmt.Sprint(i), queue.StartFirst)
		c, err := q.Attach(queue.ConsumerConfig{Sink: &recorder{}})
		if err != nil {
			t.Fatal(err)
		}
		c.AckThrough(offsets[i%10])
		c.Close()
	}
	until(t, "all to be forgotten", func() bool {
		runtime.GC()
		return queue.Queues(n.Broker) == 0
	})
	for i := range 100 {
		if q := n.personal(t, "t", fmt.Sprint(i), queue.StartNew); q.Cursor() != offsets[i%10] {
			t.Errorf("queue %d: cursor %v, want %v", i, q.Cursor(), offsets[i%10])
		}
	}
}

func TestCursorIgnoresWhatItCannotKnow(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	var last queue.Offset
	for i := range 5 {
		last = n.publish(t, "t", i).Offset
	}
	for _, o := range []queue.Offset{{}, {Epoch: 7, Seq: 3}, {Epoch: last.Epoch, Seq: last.Seq + 1}, {Epoch: last.Epoch, Seq: 1 << 60}} {
		seen(t, q, o)
		if got := q.Cursor(); got.Seq != 0 {
			t.Fatalf("%v moved the cursor to %v", o, got)
		}
	}
	seen(t, q, last)
	seen(t, q, queue.Offset{Epoch: last.Epoch, Seq: 2})
	if q.Cursor() != last {
		t.Errorf("cursor %v, want %v", q.Cursor(), last)
	}
}

// Whoever publishes when everything is closed, the index too, is told so.
func TestPublishAfterClose(t *testing.T) {
	n := open(t, t.TempDir())
	if err := n.CreateTopic(t.Context(), queue.TopicConfig{Pattern: "made"}); err != nil { // so that the index is asked for it
		t.Fatal(err)
	}
	n.stop()
	if _, err := n.Publish(t.Context(), message("made", 0)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("publish: %v", err)
	}
	if _, err := n.PublishBatch(t.Context(), []queue.Message{message("made", 0)}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("publish a batch: %v", err)
	}
}
