package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/holdpost/holdpost/queue"
)

const (
	probeAge      = 5 * time.Second // how long an outcome counts
	probePatience = 5 * time.Second
)

// probeTopic is where readiness is tried out.
var probeTopic = queue.TopicConfig{Pattern: "holdpost/probe", MaxEvents: 10}

// probe publishes an event and has it handed out, as a check from end to end.
type probe struct {
	broker *queue.Broker

	mu   sync.Mutex // guards the fields below; held while a probe runs, so that one serves all who wait
	last time.Time
	err  error
}

// run returns nil if an event came through within the last seconds, or just now.
func (p *probe) run(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.last) > probeAge {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), probePatience, errors.New("no event came through"))
		defer cancel()
		p.err = p.try(ctx)
		p.last = time.Now()
	}
	return p.err
}

func (p *probe) try(ctx context.Context) error {
	q, err := p.broker.Queue(ctx, queue.QueueConfig{Topic: probeTopic.Pattern, Ephemeral: true})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	arrived := make(arrival, 1)
	consumer, err := q.Attach(queue.ConsumerConfig{Sink: arrived})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer consumer.Close()
	if _, err := p.broker.Publish(ctx, queue.Message{Topic: probeTopic.Pattern, Event: "probe"}); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	select {
	case <-arrived:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("probe: %w", context.Cause(ctx))
	}
}

// arrival is a sink that tells of the first event.
type arrival chan struct{}

func (a arrival) Deliver(queue.Delivery) bool {
	select {
	case a <- struct{}{}:
	default:
	}
	return true
}

func (a arrival) Gap(queue.Gap) {}
func (a arrival) Flush()        {}

// operations are what the internal listener has besides the API.
func (s *server) operations() map[string]http.Handler {
	return map[string]http.Handler{
		"/metrics":             s.metrics.Handler(),
		backupPath:             http.HandlerFunc(s.backup),
		changesPath:            http.HandlerFunc(s.configChanges),
		"/debug/pprof/":        http.HandlerFunc(pprof.Index),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
		"/debug/pprof/cmdline": http.NotFoundHandler(), // a command line may hold what is nobody's business
	}
}

// queued returns the bytes that clients have not taken yet.
func (s *server) queued() (total int) {
	for socket := range s.sockets.Of("/").Sockets() {
		total += socket.Queued()
	}
	return total
}
