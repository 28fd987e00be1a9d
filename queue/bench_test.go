package queue_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

func BenchmarkPublish1(b *testing.B)  { benchmarkPublish(b, 1) }
func BenchmarkPublish64(b *testing.B) { benchmarkPublish(b, 64) }

// benchmarkPublish reports durable acknowledgements a second, with the tail and the index at work behind them.
func benchmarkPublish(b *testing.B, publishers int) {
	n := open(b, b.TempDir())
	args := fmt.Appendf(nil, "[%q]", strings.Repeat("x", 50))
	var left atomic.Int64
	left.Store(int64(b.N))
	var group sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for p := range publishers {
		group.Go(func() {
			m := queue.Message{Topic: fmt.Sprint("t", p), Event: "e", Args: args}
			for left.Add(-1) >= 0 {
				if _, err := n.Publish(context.Background(), m); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
}

// BenchmarkReplay reads what was missed, one consumer after the other.
func BenchmarkReplay(b *testing.B) {
	n := open(b, b.TempDir())
	var group sync.WaitGroup
	for i := range 5000 {
		group.Add(1)
		n.PublishAsync(context.Background(), message("t", i), func(queue.Published, error) { group.Done() })
	}
	group.Wait()
	until(b, "the index", func() bool { l, err := n.Last("t"); return err == nil && l.Seq >= 5000 })
	b.ResetTimer()
	for range b.N {
		q, err := n.Queue(context.Background(), queue.QueueConfig{Topic: "t", From: queue.StartFirst, Ephemeral: true})
		if err != nil {
			b.Fatal(err)
		}
		s := &counter{want: 5000, done: make(chan struct{})}
		c, err := q.Attach(queue.ConsumerConfig{Sink: s})
		if err != nil {
			b.Fatal(err)
		}
		<-s.done
		c.Close()
	}
	b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "events/s")
}

type counter struct {
	n, want int
	done    chan struct{}
}

func (c *counter) Deliver(queue.Delivery) bool {
	if c.n++; c.n == c.want {
		close(c.done)
	}
	return true
}
func (c *counter) Gap(queue.Gap) {}
func (c *counter) Flush()        {}
