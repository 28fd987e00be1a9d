package queue_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// checker is a sink that refuses now and then, and checks that what it gets is the next event of its topic.
type checker struct {
	t        *testing.T
	topic    string
	consumer atomic.Pointer[queue.Consumer]
	refuse   float64 // how often
	ack      int     // acknowledge every so many
	manual   bool    // acknowledge each, from another goroutine, or give it back

	busy    atomic.Bool
	next    atomic.Int64
	refused int
	last    queue.Offset
	done    chan struct{}
	total   int64
}

func (c *checker) Deliver(d queue.Delivery) bool {
	if c.busy.Swap(true) {
		c.t.Error("two deliveries at a time")
	}
	defer c.busy.Store(false)
	if c.refuse > 0 && rand.Float64() < c.refuse {
		c.refused++
		if rand.IntN(2) == 0 { // resumed from inside, before it has said no
			if x := c.consumer.Load(); x != nil {
				x.Resume()
				return false
			}
		}
		time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, c.resume)
		return false
	}
	i := c.next.Load()
	if c.manual {
		x := c.consumer.Load()
		if x == nil {
			time.AfterFunc(time.Millisecond, func() { c.resume() })
			return false
		}
		if back := rand.IntN(20) == 0; back && d.Attempt < 3 {
			go d.Retry(0)
		} else {
			go d.Ack()
		}
		if d.Attempt > 1 {
			if d.Offset.Seq > c.last.Seq {
				c.t.Errorf("offset %d again, before it came", d.Offset.Seq)
			}
			return true
		}
	}
	if want := fmt.Sprintf(`[%q,%d]`, c.topic, i); string(d.Args) != want || d.Topic != c.topic {
		c.t.Errorf("%s: got %s, want %s", c.topic, d.Args, want)
	}
	if d.Offset.Seq <= c.last.Seq {
		c.t.Errorf("offset %d after %d", d.Offset.Seq, c.last.Seq)
	}
	c.last = d.Offset
	if c.ack > 0 && i%int64(c.ack) == 0 {
		if x := c.consumer.Load(); x != nil {
			x.AckThrough(d.Offset)
		}
	}
	if c.next.Add(1) == c.total {
		close(c.done)
	}
	return true
}

func (c *checker) resume() {
	if x := c.consumer.Load(); x != nil {
		x.Resume()
	} else { // Attach has not returned yet
		time.AfterFunc(time.Millisecond, c.resume)
	}
}

func (c *checker) Gap(g queue.Gap) { c.t.Errorf("gap %+v", g) }
func (c *checker) Flush()          {}

// Consumers come while others publish, some are slow, and each gets everything once and in order.
func TestHandOverHasNoGapAndNoDuplicate(t *testing.T) {
	n := open(t, t.TempDir())
	const topics, consumers, before, live = 5, 400, 100, 600
	counters := make([]int, topics)
	for topic := range topics {
		for range before {
			n.publish(t, fmt.Sprint("t", topic), counters[topic])
			counters[topic]++
		}
	}
	var group sync.WaitGroup
	for topic := range topics {
		group.Go(func() {
			name := fmt.Sprint("t", topic)
			done := make(chan struct{}, 64)
			for i := before; i < before+live; i++ {
				done <- struct{}{}
				if err := n.PublishAsync(t.Context(), message(name, i), func(_ queue.Published, err error) {
					if err != nil {
						t.Error(err)
					}
					<-done
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	checkers := make([]*checker, consumers)
	for i := range checkers {
		c := &checker{t: t, topic: fmt.Sprint("t", i%topics), done: make(chan struct{}), total: before + live, ack: 1 + i%50}
		if i%3 == 0 {
			c.refuse = 0.01
		}
		if c.manual = i%4 == 1; c.manual {
			c.ack = 0
		}
		checkers[i] = c
		group.Go(func() {
			q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: c.topic, Name: fmt.Sprint("u", i), From: queue.StartFirst})
			if err != nil {
				t.Error(err)
				return
			}
			x, err := q.Attach(queue.ConsumerConfig{Sink: c, Manual: c.manual, Prefetch: 200})
			if err != nil {
				t.Error(err)
				return
			}
			c.consumer.Store(x)
			<-c.done
			x.Close()
		})
	}
	group.Wait()
	refused := 0
	for _, c := range checkers {
		refused += c.refused
		if got := c.next.Load(); got != c.total {
			t.Errorf("%s: %d of %d", c.topic, got, c.total)
		}
	}
	t.Logf("%d deliveries, %d refusals", consumers*(before+live), refused)
	if refused == 0 {
		t.Error("nobody was slow")
	}
}

// Everybody comes back at once.
func TestTenThousandQueuesWithFiftyMissedEach(t *testing.T) {
	people, missed := 10_000, 50
	if testing.Short() {
		people = 500
	}
	n := open(t, t.TempDir())
	var group sync.WaitGroup
	begin := time.Now()
	queues := make([]*queue.Queue, people)
	for w := range 64 {
		group.Go(func() {
			for i := w; i < people; i += 64 {
				queues[i] = n.personal(t, fmt.Sprint("inbox/", i), fmt.Sprint(i), queue.StartNew)
			}
		})
	}
	group.Wait()
	t.Logf("%d queues made in %v", people, time.Since(begin))
	begin = time.Now()
	for i := range missed {
		for p := range people {
			group.Add(1)
			topic := fmt.Sprint("inbox/", p)
			m := queue.Message{Topic: topic, Event: "e", Args: fmt.Appendf(nil, `[%q,%d]`, topic, i)}
			if err := n.PublishAsync(t.Context(), m, func(_ queue.Published, err error) {
				if err != nil {
					t.Error(err)
				}
				group.Done()
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	group.Wait()
	t.Logf("%d events stored in %v", people*missed, time.Since(begin))
	until(t, "the index", func() bool {
		last, err := n.Last(fmt.Sprint("inbox/", people-1))
		return err == nil && last.Seq >= uint64(people*missed)
	})
	begin = time.Now()
	checkers := make([]*checker, people)
	for i, q := range queues {
		c := &checker{t: t, topic: q.Topic(), done: make(chan struct{}), total: int64(missed)}
		checkers[i] = c
		x, err := q.Attach(queue.ConsumerConfig{Sink: c})
		if err != nil {
			t.Fatal(err)
		}
		c.consumer.Store(x)
		group.Go(func() {
			<-c.done
			x.AckThrough(c.last)
		})
	}
	group.Wait()
	t.Logf("%d events delivered in %v", people*missed, time.Since(begin))
}

// A consumer leaves the tail, and comes back to it, while the tail is busy with another one and has yet to come to it.
func TestBackBeforeTheTailCameBy(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	inside, release := make(chan struct{}), make(chan struct{})
	slow := &recorder{hook: func(d queue.Delivery) bool {
		if string(d.Args) == `["t",1]` {
			close(inside)
			<-release
		}
		return true
	}}
	attach(t, q, queue.ConsumerConfig{Sink: slow})
	quick := &recorder{}
	n.publish(t, "t", 0)
	slow.want(t, `["t",0]`)
	attach(t, q, queue.ConsumerConfig{Sink: quick, Manual: true})
	quick.want(t, `["t",0]`)
	until(t, "both to be live", func() bool { return queue.Live(n.Broker, "t") == 2 })
	n.publish(t, "t", 1)
	<-inside // the tail has both on its list
	quick.deliveries()[0].Retry(0)
	quick.want(t, `["t",0]`, `["t",0]`, `["t",1]`)
	until(t, "it to be live again", func() bool { return queue.Live(n.Broker, "t") == 2 })
	close(release)
	n.publish(t, "t", 2)
	quick.want(t, `["t",0]`, `["t",0]`, `["t",1]`, `["t",2]`)
	slow.want(t, `["t",0]`, `["t",1]`, `["t",2]`)
}
