package queue_test

import (
	"errors"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

func TestDeletedQueueHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	q := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 5 {
		n.publish(t, "t", i)
	}
	r := &recorder{}
	c := attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, texts("t", 0, 5)...)
	c.AckThrough(r.deliveries()[2].Offset)
	for range 2 { // deleting twice is harmless
		if err := q.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Attach(queue.ConsumerConfig{Sink: r}); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("attach to a deleted queue: %v", err)
	}
	again := n.personal(t, "t", "ann", queue.StartNew)
	if again == q {
		t.Fatal("the deleted queue came back")
	}
	if unread, err := again.Unread(t.Context()); err != nil || unread != 0 {
		t.Errorf("a queue made now has %d unread, %v", unread, err)
	}
	if err := again.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.stop()

	n = open(t, dir)
	q = n.personal(t, "t", "ann", queue.StartFirst)
	if q.Cursor().Seq != 0 {
		t.Errorf("the deleted queue's cursor %v survived a restart", q.Cursor())
	}
	r = &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, texts("t", 0, 5)...)
}

// The offset of another topic's event says nothing about this queue, however high it is.
func TestSeenOfAnotherTopic(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	first := n.publish(t, "t", 0).Offset
	other := n.publish(t, "other", 0).Offset
	seen(t, q, other)
	if got := q.Cursor(); got.Seq != 0 {
		t.Errorf("an offset of another topic moved the cursor to %v", got)
	}
	seen(t, q, first)
	if got := q.Cursor(); got != first {
		t.Errorf("cursor %v, want %v", got, first)
	}
}
