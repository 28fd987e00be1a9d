package queue_test

import (
	"testing"

	"github.com/holdpost/holdpost/queue"
)

func TestMissedThenLive(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "orders", "ann", queue.StartNew)
	for i := range 5 {
		n.publish(t, "orders", i)
		n.publish(t, "other", i)
	}
	r := &recorder{}
	c := attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, texts("orders", 0, 5)...)
	for i := range 5 {
		n.publish(t, "orders", 5+i)
	}
	r.want(t, texts("orders", 0, 10)...)
	c.AckThrough(r.deliveries()[6].Offset)
	c.Close()

	again := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: again})
	again.want(t, texts("orders", 7, 10)...)
	if unread, err := q.Unread(t.Context()); err != nil || unread != 3 {
		t.Errorf("unread %d, %v", unread, err)
	}
}
