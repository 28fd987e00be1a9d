package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/holdpost/holdpost"
	socketio "github.com/holdpost/holdpost/client"
)

const (
	benchRoom  = "bench"
	benchTopic = "bench/delivered"
	// slowest is the most that a histogram can tell, in microseconds.
	slowest = int64(10 * time.Minute / time.Microsecond)
	// benchTail is how long to wait, when the time is over, for what was sent to arrive.
	benchTail = 2 * time.Second
)

// scenario is what the clients of a bench do.
type scenario struct {
	about   string
	prepare []any // an operation that each client calls once it is connected
	operate func(b *benchRun, i int, at int64) []any
	leave   []any // and one that it calls in the end
	// arrives counts events that clients get, from when they were due, instead of answers.
	arrives bool
}

var scenarios = map[string]*scenario{
	"connect": {about: "connect, and stay; on any Socket.IO server"},
	"ack": {
		about:   "send --event, and wait for its answer; on any Socket.IO server that answers it",
		operate: func(b *benchRun, _ int, at int64) []any { return []any{b.plan.event, b.payload(at)} },
	},
	"room": {
		about: "send to a room that all are in, and count what arrives", prepare: []any{"join", benchRoom}, arrives: true,
		operate: func(b *benchRun, _ int, at int64) []any { return []any{"send", benchRoom, "bench", b.payload(at)} },
	},
	"publish": {
		about: "publish, and wait until it is stored",
		operate: func(b *benchRun, i int, at int64) []any {
			return []any{"publish", fmt.Sprintf("bench/%d", i), "bench", b.payload(at)}
		},
	},
	"deliver": {
		about: "publish to a topic that all are subscribed to, and count what arrives", prepare: []any{"subscribe", benchTopic}, arrives: true,
		operate: func(b *benchRun, _ int, at int64) []any { return []any{"publish", benchTopic, "bench", b.payload(at)} },
		leave:   []any{"unsubscribe", benchTopic},
	},
}

// load is what an event carries.
type load struct {
	At  int64  `json:"at"` // when it was due, in nanoseconds since the start
	Pad string `json:"pad"`
}

// benchRun is one run of a bench.
type benchRun struct {
	plan     benchPlan
	scenario *scenario
	api      *client
	notes    io.Writer
	progress io.Writer // nil: nobody looks
	start    time.Time
	pad      string

	mu      sync.Mutex // guards the fields below
	connect *hdrhistogram.Histogram
	latency *hdrhistogram.Histogram
	errors  map[string]int
}

func newBenchRun(p benchPlan, api *client, notes io.Writer) *benchRun {
	return &benchRun{
		plan: p, scenario: scenarios[p.scenario], api: api, notes: notes, start: time.Now(), pad: strings.Repeat("x", p.size), errors: make(map[string]int),
		connect: hdrhistogram.New(1, slowest, 3), latency: hdrhistogram.New(1, slowest, 3),
	}
}

func (b *benchRun) now() int64           { return int64(time.Since(b.start)) }
func (b *benchRun) payload(at int64) any { return load{at, b.pad} }

func (b *benchRun) took(h *hdrhistogram.Histogram, since int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.RecordValue(min(max((b.now()-since)/1000, 1), slowest)) // which is within what it can tell
}

func (b *benchRun) failed(code string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors[code]++
}

// run connects the clients, has them work, and tells what came of it. When ctx ends early it tells what came until then.
func (b *benchRun) run(ctx context.Context) (*benchResult, error) {
	before := b.readCost(ctx)
	clients, err := b.connectAll(ctx)
	defer func() {
		var gone sync.WaitGroup
		for _, s := range clients {
			gone.Go(func() { b.leave(s) })
		}
		gone.Wait()
	}()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.notes, "holdpost: %d clients are connected\n", len(clients))
	connected := b.readCost(ctx)
	b.mu.Lock()
	b.latency.Reset() // what arrived while others were connecting
	b.mu.Unlock()
	begun := time.Now()
	work, cancel := context.WithTimeout(ctx, b.plan.duration)
	defer cancel()
	var busy sync.WaitGroup
	for i, s := range clients {
		busy.Go(func() { b.work(work, s, i) })
	}
	b.show(work, begun)
	busy.Wait()
	spent := time.Since(begun)
	if b.scenario.arrives && ctx.Err() == nil {
		b.settle()
	}
	r := &benchResult{
		Scenario: b.plan.scenario, URL: b.plan.url, Transport: b.plan.transport, Clients: len(clients), Seconds: spent.Seconds(),
	}
	after := b.readCost(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Operations, r.Errors = b.latency.TotalCount(), maps.Clone(b.errors)
	r.PerSecond = float64(r.Operations) / r.Seconds
	r.Connect, r.Latency = newPercentiles(b.connect), newPercentiles(b.latency)
	if before != nil && connected != nil && after != nil {
		r.Server = &benchCost{
			BytesPerConnection: (connected.memory - before.memory) / float64(len(clients)),
			ConnectCPU:         (connected.cpu - before.cpu) * 1e6 / float64(len(clients)),
			OperationCPU:       (after.cpu - connected.cpu) * 1e6 / float64(max(1, r.Operations)),
		}
	}
	return r, nil
}

// connectAll connects the first client alone: what is wrong is wrong with all of them.
func (b *benchRun) connectAll(ctx context.Context) (clients []*benchClient, err error) {
	first, err := b.dial(ctx, 0, dialPatience)
	if err != nil {
		return nil, explainConnect(b.plan.url, err)
	}
	clients = append(clients, first)
	var mu sync.Mutex // guards clients, until all are connected
	var connecting sync.WaitGroup
	pace := time.NewTicker(time.Duration(float64(time.Second) / b.plan.ramp))
	defer pace.Stop()
	for i := 1; i < b.plan.clients && ctx.Err() == nil; i++ {
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
		connecting.Go(func() {
			c, err := b.dial(ctx, i, answerPatience)
			if err != nil {
				b.failed("not connected")
				return
			}
			mu.Lock()
			clients = append(clients, c)
			mu.Unlock()
		})
		if b.progress != nil && i%100 == 0 {
			fmt.Fprintf(b.progress, "\r%d of %d clients are connecting   \r", i, b.plan.clients)
		}
	}
	connecting.Wait()
	if ctx.Err() != nil {
		return clients, context.Cause(ctx)
	}
	return clients, nil
}

// benchClient is one client.
type benchClient struct {
	client *socketio.Client
	socket *socketio.Socket
}

func (b *benchRun) dial(ctx context.Context, i int, patience time.Duration) (*benchClient, error) {
	auth := map[string]string{"client": fmt.Sprintf("%s-%d", b.plan.identity, i+1)}
	if token := os.Getenv(tokenVariable); token != "" {
		auth["token"] = token
	}
	c := socketio.New(b.plan.url, &socketio.Config{Auth: auth, Transports: []string{b.plan.transport}})
	s := c.Of("/")
	if b.scenario.arrives {
		s.On("bench", func(_ context.Context, args holdpost.Args) ([]any, error) {
			var l load
			if args.Decode(&l) == nil {
				b.took(b.latency, l.At)
			}
			return nil, nil
		})
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun := b.now()
	err := s.Connect(ctx)
	if err == nil {
		b.took(b.connect, begun)
		if b.scenario.prepare != nil {
			err = b.call(ctx, s, b.scenario.prepare)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &benchClient{c, s}, nil
}

// work makes operations until ctx ends, at the client's share of the rate.
func (b *benchRun) work(ctx context.Context, c *benchClient, i int) {
	if b.scenario.operate == nil {
		<-ctx.Done()
		return
	}
	due, between := b.now(), int64(0)
	if b.plan.rate > 0 {
		between = int64(float64(b.plan.clients) / b.plan.rate * float64(time.Second))
		due += between * int64(i) / int64(b.plan.clients)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ; ; due += between {
		if between == 0 {
			due = b.now()
		}
		timer.Reset(time.Duration(due - b.now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		err := b.call(ctx, c.socket, b.scenario.operate(b, i, due))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			code := "disconnected"
			if e, ok := errors.AsType[*holdpost.Error](err); ok {
				code = e.Code
			}
			b.failed(code)
			if c.socket.Err() != nil { // it was turned out
				return
			}
		case !b.scenario.arrives:
			b.took(b.latency, due)
		}
	}
}

// settle waits until nothing arrives any more.
func (b *benchRun) settle() {
	look := time.NewTicker(benchTail / 10)
	defer look.Stop()
	for before, n := int64(-1), 0; n < 10; n++ {
		b.mu.Lock()
		count := b.latency.TotalCount()
		b.mu.Unlock()
		if count == before {
			return
		}
		before = count
		<-look.C
	}
}

func (b *benchRun) leave(c *benchClient) {
	if b.scenario.leave != nil {
		ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
		defer cancel()
		b.call(ctx, c.socket, b.scenario.leave) // the queue goes by itself in the end
	}
	c.client.Close()
}

func (b *benchRun) call(ctx context.Context, s *socketio.Socket, event []any) error {
	return ask(ctx, s, event[0].(string), event[1:]...)
}

// show tells how it goes, once a second until ctx ends.
func (b *benchRun) show(ctx context.Context, begun time.Time) {
	if b.progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-tick.C:
			b.mu.Lock()
			count, p99, failed := b.latency.TotalCount(), float64(b.latency.ValueAtPercentile(99))/1000, len(b.errors)
			b.mu.Unlock()
			fmt.Fprintf(b.progress, "\r%3.0f s   %d a second   p99 %.4g ms   %d kinds of errors   ", time.Since(begun).Seconds(), count-last, p99, failed)
			last = count
		case <-ctx.Done():
			fmt.Fprintln(b.progress)
			return
		}
	}
}

// cost is what a server has taken so far.
type cost struct {
	cpu    float64 // seconds
	memory float64 // bytes
}

// readCost asks the server's metrics; nil if there are none.
func (b *benchRun) readCost(ctx context.Context) *cost {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	body, err := b.api.do(ctx, http.MethodGet, "/metrics", nil, "text/plain")
	if err != nil {
		return nil
	}
	defer body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(body, maxAnswer))
	if err != nil {
		return nil
	}
	cpu, memory := families["process_cpu_seconds_total"], families["process_resident_memory_bytes"]
	if cpu == nil || memory == nil {
		return nil
	}
	return &cost{cpu.Metric[0].GetCounter().GetValue(), memory.Metric[0].GetGauge().GetValue()}
}
