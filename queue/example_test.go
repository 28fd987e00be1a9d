package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// temporary opens a store that is gone with the example.
func temporary(ctx context.Context) (store *local.Store, end func()) {
	dir, err := os.MkdirTemp("", "holdpost-example-")
	if err != nil {
		panic(err)
	}
	store, err = local.Open(ctx, local.Config{Engine: embedded.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		panic(err)
	}
	return store, func() {
		store.Close()
		os.RemoveAll(dir)
	}
}

// What is published is on disk when Publish returns. An id makes it safe to repeat.
func ExampleBroker_Publish() {
	ctx := context.Background()
	store, end := temporary(ctx)
	defer end()

	for range 2 {
		p, err := store.Publish(ctx, queue.Message{Topic: "orders", Event: "created", ID: "order-7", Args: []byte(`[{"id": 7}]`)})
		fmt.Println(p.Duplicate, err)
	}
	for e, err := range store.Events(ctx, "orders", queue.StartFirst) {
		fmt.Println(e.Name, e.ID, string(e.Args), err)
	}
	// Output:
	// false <nil>
	// true <nil>
	// created order-7 [{"id": 7}] <nil>
}

// A shared queue gives each event to one of its workers. What fails comes again, and becomes a dead letter in the end.
func ExampleQueue_Consume() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, end := temporary(ctx)
	defer end()

	q, err := store.Queue(ctx, queue.QueueConfig{
		Topic: "pictures", Name: "resizers", Shared: true, MaxDeliveries: 2, Backoff: []time.Duration{time.Millisecond},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"cat", "broken"} {
		if _, err := store.Publish(ctx, queue.Message{Topic: "pictures", Event: name}); err != nil {
			fmt.Println(err)
		}
	}
	err = q.Consume(ctx, queue.ConsumerConfig{}, func(_ context.Context, d *queue.Delivery) error {
		fmt.Println(d.Name, d.Attempt)
		if d.Name == "broken" {
			if d.Attempt == 2 {
				cancel() // enough seen
			}
			return errors.New("not a picture")
		}
		return nil // acknowledges it
	})
	fmt.Println(err)
	// Output:
	// cat 1
	// broken 1
	// broken 2
	// context canceled
}

// Whoever wants events one call at a time pulls them, and settles each.
func ExampleQueue_Pull() {
	ctx := context.Background()
	store, end := temporary(ctx)
	defer end()

	q, err := store.Queue(ctx, queue.QueueConfig{Topic: "mails", Name: "sender", Shared: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := store.Publish(ctx, queue.Message{Topic: "mails", Event: "welcome", Args: []byte(`["ann"]`)}); err != nil {
		fmt.Println(err)
	}
	taken, err := q.Pull(ctx, 10, 5*time.Second)
	for _, d := range taken {
		fmt.Println(d.Name, string(d.Args), d.Ack())
	}
	fmt.Println(err)
	// Output:
	// welcome ["ann"] <nil>
	// <nil>
}
