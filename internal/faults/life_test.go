package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/external"
	"github.com/holdpost/holdpost/queue/index"
)

// life is what a child process is told to do: to open the store, and to publish and consume until it is killed or its standard input
// ends, when it stops in an orderly way.
type life struct {
	Dir        string
	NATS       []string // servers that have the log instead
	Seed       uint64
	Number     int // of the process in its run; names of consumers have it
	Level      string
	AcceptLoss bool
	Reserve    int64
	Publishers []progress

	// Eager attaches consumers at once; else they wait until the broker is ready.
	Eager bool

	// Later are events that are to be there before the queues can be empty, each as its topic and id.
	Later [][2]string

	// Lossy says that they may be lost: nobody waits for them for long.
	Lossy bool

	// Drain publishes only what has no outcome yet, consumes until all queues are empty, reads everything, and ends.
	Drain bool
}

// progress is where a publisher stands: Next is its next number, and before that Open, if not negative, is to be repeated.
type progress struct{ Next, Open int }

// node is an open store that records.
type node struct {
	life
	*history.Recorder
	broker *queue.Broker
	close  func() error
	stop   chan struct{} // closed when publishers and consumers are to end
	later  sync.Mutex    // guards Later
	group  sync.WaitGroup
}

func (l life) open(out io.Writer) (_ *node, err error) {
	logger := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := &node{life: l, Recorder: history.NewRecorder(out), stop: make(chan struct{})}
	engine, err := l.engine(ctx, logger)
	if err != nil {
		return nil, err
	}
	for _, loss := range engine.Losses() {
		n.Record(history.Event{Kind: history.Accept, Loss: &loss})
	}
	ix, err := index.Open(filepath.Join(l.Dir, "index"), logger)
	if err != nil {
		return nil, err
	}
	if n.broker, err = queue.Open(ctx, queue.Config{Engine: engine, Index: ix, Logger: logger}); err != nil {
		return nil, err
	}
	n.close = func() error {
		for _, f := range []func() error{n.broker.Close, ix.Close, engine.Close} {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}
	n.Record(history.Event{Kind: history.Start, Offset: queue.Offset{Epoch: engine.Epoch()}})
	return n, nil
}

// engine is a queue.Engine that its owner closes.
type engine interface {
	queue.Engine
	Close() error
}

func (l life) engine(ctx context.Context, logger *slog.Logger) (engine, error) {
	if l.NATS != nil {
		return external.Start(ctx, external.Config{URLs: l.NATS, Node: "the only one", AcceptLoss: l.AcceptLoss, Logger: logger})
	}
	return embedded.Start(ctx, embedded.Config{Dir: l.Dir, Level: l.Level, AcceptLoss: l.AcceptLoss, Reserve: l.Reserve, Logger: logger})
}

// child is the main function of a child process.
func child(config string) int {
	var l life
	err := json.Unmarshal([]byte(config), &l)
	if err == nil {
		err = l.live()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func (l life) live() error {
	n, err := l.open(os.Stdout)
	if err != nil {
		return err
	}
	if !l.Eager {
		if err := n.ready(); err != nil {
			return err
		}
	}
	var queues []*queue.Queue
	for _, r := range roles {
		if l.Number > 1 { // it goes on where it stood; one that is not there any more must not begin here
			r.config.From = queue.StartNew
		}
		q, err := n.broker.Queue(context.Background(), r.config)
		if err != nil {
			return err
		}
		queues = append(queues, q)
		n.Record(history.Event{Kind: history.Queue, Queue: r.name(), Topic: r.config.Topic, Names: strings.Join(r.config.Events, " "),
			Shared: r.config.Shared, Ordered: r.config.Ordered, Timeout: max(0, r.config.AckTimeout), Limit: max(0, r.config.MaxDeliveries), Receipts: r.config.Receipts})
		for i := range r.consumers {
			n.group.Go(func() { n.consume(r, q, i) })
		}
	}
	var publishers sync.WaitGroup
	for p, at := range l.Publishers {
		publishers.Go(func() { n.publish(p, at) })
	}
	if l.Drain {
		publishers.Wait()
		err = n.drain(queues)
	} else {
		err = n.obey(os.Stdin)
	}
	close(n.stop)
	publishers.Wait()
	n.group.Wait()
	if err != nil {
		return err
	}
	if err := n.close(); err != nil {
		return err
	}
	n.Record(history.Event{Kind: history.Stop})
	return n.Err()
}

// obey does what the parent says, a line each, until it says no more.
func (n *node) obey(orders io.Reader) error {
	in := bufio.NewScanner(orders)
	for in.Scan() {
		if err := failCalls(in.Text()); err != nil {
			return err
		}
	}
	return in.Err()
}

// ready waits until the broker has read in what the log holds.
func (n *node) ready() error {
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := n.broker.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return err
		}
	}
}

// drain waits until the queues hold nothing, and then records what the topics hold.
func (n *node) drain(queues []*queue.Queue) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	enough, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if !n.Lossy {
		enough = ctx
	}
	for _, x := range n.Later {
	waiting:
		for {
			if _, err := n.broker.Event(ctx, x[0], x[1]); err == nil {
				break
			} else if !errors.Is(err, queue.ErrNotFound) {
				return fmt.Errorf("event %s of %q, which was for later: %w", x[1], x[0], err)
			}
			select {
			case <-tick.C:
			case <-enough.Done():
				if n.Lossy {
					break waiting
				}
				return fmt.Errorf("event %s of %q, which was for later, does not come", x[1], x[0])
			}
		}
	}
	for i, q := range queues {
		for {
			info, err := q.Info(context.Background())
			if err != nil {
				return fmt.Errorf("drain %s: %w", q.Name(), err)
			}
			if info.Unread == 0 && info.InFlight == 0 && info.Waiting == 0 {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("queue %s is not empty: %+v", q.Name(), info)
			}
		}
		n.Record(history.Event{Kind: history.Drained, Queue: roles[i].name()})
	}
	for _, topic := range topics {
		if err := n.read(ctx, topic, func(e *queue.Event) error {
			n.Record(history.Event{Kind: history.Read, Topic: topic, ID: e.ID, Content: digest(e.Name, e.Args, e.Attachments), Offset: e.Offset})
			return nil
		}); err != nil {
			return err
		}
		n.Record(history.Event{Kind: history.End, Topic: topic})
	}
	for _, r := range roles {
		if err := n.read(ctx, "dead/"+r.config.Name, func(e *queue.Event) error { return n.deadLetter(r, e) }); err != nil {
			return err
		}
	}
	for i, q := range queues {
		all, err := n.receipts(ctx, q)
		if err != nil {
			return err
		}
		for _, x := range all {
			n.Record(history.Event{Kind: history.Receipt, Queue: roles[i].name(), Content: x.What, Offset: x.Offset, Consumer: x.Consumer, Attempt: x.Attempt, Wall: x.Time.UnixNano()})
		}
	}
	return nil
}

// receipts reads those of a queue, again while the log can't be read: servers outside may still be electing who leads it.
func (n *node) receipts(ctx context.Context, q *queue.Queue) (all []queue.Receipt, err error) {
	for {
		all, err = all[:0], nil
		var x queue.Receipt
		for x, err = range q.Receipts(ctx, time.Time{}) {
			all = append(all, x)
		}
		if !errors.Is(err, queue.ErrUnavailable) {
			return all, err
		}
	}
}

func (n *node) deadLetter(r role, e *queue.Event) error {
	var args []json.RawMessage
	var why struct {
		Offset   string
		Attempts int
	}
	err := json.Unmarshal(e.Args, &args)
	if err == nil {
		err = json.Unmarshal(args[len(args)-1], &why)
	}
	if err != nil {
		return fmt.Errorf("dead letter %s: %w", e.Args, err)
	}
	o, err := queue.ParseOffset(why.Offset)
	n.Record(history.Event{Kind: history.Dead, Queue: r.name(), Offset: o, Attempt: why.Attempts})
	return err
}

func (n *node) read(ctx context.Context, topic string, f func(*queue.Event) error) error {
	for from := queue.StartFirst; ; {
		page, err := n.broker.History(ctx, topic, from, 1000)
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			if err := f(e); err != nil {
				return err
			}
		}
		if page.Complete {
			return nil
		}
		from = page.Next.After()
	}
}
