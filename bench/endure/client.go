//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/holdpost/holdpost"
	socketio "github.com/holdpost/holdpost/client"
)

// latencies counts how long events took to arrive, in microseconds. The zero value is ready.
type latencies struct {
	mu sync.Mutex // guards the field below
	h  *hdrhistogram.Histogram
}

func (l *latencies) took(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h == nil {
		l.h = hdrhistogram.New(1, int64(patience/time.Microsecond), 3)
	}
	l.h.RecordValue(min(max(d.Microseconds(), 1), int64(patience/time.Microsecond))) // which is within what it can tell
}

// take returns what was counted since the last time.
func (l *latencies) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h == nil || l.h.TotalCount() == 0 {
		return "none"
	}
	defer l.h.Reset()
	return fmt.Sprintf("%d, p50 %.1f ms, p99 %.1f ms", l.h.TotalCount(), float64(l.h.ValueAtPercentile(50))/1000, float64(l.h.ValueAtPercentile(99))/1000)
}

// reader is a client that is subscribed to a topic, and remembers what it got.
type reader struct {
	client   *socketio.Client
	topic    string
	connects atomic.Int32

	mu  sync.Mutex // guards the field below
	got map[int]bool
}

// dial connects a reader, which subscribes again whenever it is connected.
func dial(ctx context.Context, listen, identity, topic string, l *latencies) (*reader, error) {
	r := &reader{topic: topic, got: make(map[int]bool)}
	r.client = socketio.New("http://"+listen, &socketio.Config{Auth: map[string]string{"client": identity}})
	socket := r.client.Of("/")
	socket.On("e", func(_ context.Context, args holdpost.Args) ([]any, error) {
		var n int
		var at int64
		if err := args.Decode(&n, &at); err != nil {
			return nil, err
		}
		l.took(time.Since(time.Unix(0, at)))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got[n] = true
		return nil, nil
	})
	subscribed := make(chan struct{}, 1)
	socket.OnConnect(func(ctx context.Context) {
		if _, err := socket.EmitWithAck(ctx, "subscribe", topic); err == nil {
			r.connects.Add(1)
			select {
			case subscribed <- struct{}{}:
			default:
			}
		}
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := socket.Connect(ctx); err != nil {
		r.client.Close()
		return nil, err
	}
	select {
	case <-subscribed:
		return r, nil
	case <-ctx.Done():
		r.client.Close()
		return nil, context.Cause(ctx)
	}
}

// missing counts those of the events up to n that have not come.
func (r *reader) missing(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return n - len(r.got)
}

// dialAll connects readers, not all at once, each to one of the topics.
func dialAll(ctx context.Context, topics int, listen, prefix string, n int, l *latencies) ([]*reader, error) {
	readers := make([]*reader, n)
	errs := make([]error, n)
	var connecting sync.WaitGroup
	pace := time.NewTicker(time.Second / dialsPerSecond)
	defer pace.Stop()
	for i := range n {
		<-pace.C
		connecting.Go(func() {
			readers[i], errs[i] = dial(ctx, listen, fmt.Sprintf("%s-%d", prefix, i), topic(i%topics), l)
		})
	}
	connecting.Wait()
	for _, err := range errs {
		if err != nil {
			closeAll(readers)
			return nil, err
		}
	}
	return readers, nil
}

func topic(i int) string { return fmt.Sprintf("endure/%d", i) }

func closeAll(readers []*reader) {
	var closing sync.WaitGroup
	for _, r := range readers {
		if r != nil {
			closing.Go(r.client.Close)
		}
	}
	closing.Wait()
}

// publishing bounds the publishes that a publisher has on the way: those that are due when so many are, fall away.
const publishing = 16

// publisher publishes to all topics in turn until ctx ends, and tells then how many events each has.
type publisher struct {
	stored latencies // until the server had answered
	counts []int
	err    error
	ended  sync.WaitGroup
	cancel context.CancelFunc
}

func startPublisher(ctx context.Context, topics, perSecond int, s *server) *publisher {
	p := &publisher{counts: make([]int, topics)}
	until, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	p.ended.Go(func() {
		failed := make(chan error, 1)
		free := make(chan struct{}, publishing)
		var onTheWay sync.WaitGroup
		defer func() {
			onTheWay.Wait()
			if p.err == nil && len(failed) > 0 {
				p.err = <-failed
			}
		}()
		pace := time.NewTicker(time.Second / time.Duration(perSecond))
		defer pace.Stop()
		for i := 0; ; i = (i + 1) % topics {
			select {
			case <-pace.C:
			case <-until.Done():
				return
			}
			select {
			case free <- struct{}{}:
			case p.err = <-failed:
				return
			case <-until.Done():
				return
			}
			n := p.counts[i]
			p.counts[i]++
			onTheWay.Go(func() {
				begun := time.Now()
				err := s.publish(ctx, topic(i), n)
				p.stored.took(time.Since(begun))
				if err != nil {
					select {
					case failed <- err:
					default: // one is enough
					}
				}
				<-free
			})
		}
	})
	return p
}

// stop ends it, and returns how many events each topic has.
func (p *publisher) stop() ([]int, error) {
	p.cancel()
	p.ended.Wait()
	return p.counts, p.err
}
