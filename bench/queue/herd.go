//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/bench/load"
	"github.com/holdpost/holdpost/queue"
)

// herd is the return of many clients at once: each takes what its personal queue held for it.
type herd struct {
	Queues      int           `json:"queues"`
	Missed      int           `json:"missed"`
	PublishRate float64       `json:"publishRate"` // of the events beforehand, 256 publishers
	Time        time.Duration `json:"timens"`      // from the first attach to the last delivery
	CPU         float64       `json:"cpuMicros"`   // of the whole process, per event, with the others' events

	Calm latency `json:"calm"` // of the others before
	Busy latency `json:"busy"` // and meanwhile
}

const herdTime = 2 * time.Minute

// measureHerd gives each queue a topic of its own. The events of all topics lie interleaved in the log, as they do when
// many people are away at the same time.
func measureHerd(ctx context.Context, b *queue.Broker, queues, missed int) (*herd, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*herdTime)
	defer cancel()
	all := make([]*queue.Queue, queues)
	for i := range all {
		var err error
		all[i], err = b.Queue(ctx, queue.QueueConfig{Topic: fmt.Sprintf("inbox/%d", i), Name: fmt.Sprintf("client-%d", i), From: queue.StartNew})
		if err != nil {
			return nil, err
		}
	}
	h := &herd{Queues: queues, Missed: missed}
	start := time.Now()
	if err := publishMissed(ctx, b, queues, missed); err != nil {
		return nil, err
	}
	h.PublishRate = float64(queues*missed) / time.Since(start).Seconds()

	o, err := startOthers(ctx, b)
	if err != nil {
		return nil, err
	}
	defer o.close()
	time.Sleep(calmTime)
	h.Calm = o.take()
	cpu, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	done := make(chan error, queues)
	sinks := make([]sink, queues)
	start = time.Now()
	for i, q := range all {
		s := &sinks[i]
		s.index, s.missed, s.done = i, missed, done
		c, err := q.Attach(queue.ConsumerConfig{Sink: s})
		if err != nil {
			return nil, err
		}
		s.consumer.Store(c)
		defer c.Close()
	}
	end := time.After(herdTime)
	for n := range queues {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
		case <-end:
			return nil, fmt.Errorf("only %d of %d queues were delivered in %v", n, queues, herdTime)
		}
	}
	h.Time = time.Since(start).Round(time.Millisecond)
	h.Busy = o.take()
	after, err := load.ReadCPU(os.Getpid())
	if err != nil {
		return nil, err
	}
	h.CPU = float64(after.Sub(cpu).Total.Nanoseconds()) / 1e3 / float64(queues*missed)
	for i := range sinks {
		if n := sinks[i].count.Load(); n != int64(missed) {
			return nil, fmt.Errorf("queue %d: %d deliveries, want %d", i, n, missed)
		}
	}
	return h, nil
}

// publishMissed publishes event 0 to every topic, then event 1 and so on, many at a time but in order within a topic.
func publishMissed(ctx context.Context, b *queue.Broker, queues, missed int) error {
	const publishers = 256
	var (
		wg   sync.WaitGroup
		errs [publishers]error
	)
	for p := range publishers {
		wg.Go(func() {
			for e := range missed {
				for i := p; i < queues; i += publishers {
					if _, errs[p] = b.Publish(ctx, queue.Message{Topic: fmt.Sprintf("inbox/%d", i), Event: "post", Args: missedArgs(i, e)}); errs[p] != nil {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// missedArgs names the queue and the event in 256 bytes.
func missedArgs(queue, event int) []byte {
	return fmt.Appendf(nil, `["%0125d","%0125d"]`, queue, event)
}

// sink checks that each event comes once and in order.
type sink struct {
	index, missed int
	done          chan<- error
	consumer      atomic.Pointer[queue.Consumer]
	count         atomic.Int64
	last          queue.Offset // owned by the delivering goroutine
}

func (s *sink) Deliver(d queue.Delivery) bool {
	n := s.count.Add(1)
	s.last = d.Offset
	if want := missedArgs(s.index, int(n-1)); string(d.Args) != string(want) {
		s.report(fmt.Errorf("queue %d: delivery %d is %s", s.index, n, d.Args))
	} else if n == int64(s.missed) {
		s.report(nil)
	}
	return true
}

// report says at most once how it went; more would find no room.
func (s *sink) report(err error) {
	select {
	case s.done <- err:
	default:
	}
}

func (s *sink) Gap(g queue.Gap) { s.report(fmt.Errorf("queue %d: gap %v", s.index, g)) }

func (s *sink) Flush() {
	// Attach may deliver before it returns; then a later batch, or the close, has the rest redelivered to nobody here.
	if c := s.consumer.Load(); c != nil {
		c.AckThrough(s.last)
	}
}
