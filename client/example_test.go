package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
)

// Handlers first, then Connect: no event comes before its handler.
func ExampleSocket_Connect() {
	const chat holdpost.Event[string] = "chat"
	ctx := context.Background()

	c := client.New("http://localhost:7300", &client.Config{Auth: map[string]string{"token": "secret"}})
	defer c.Close()
	s := c.Of("/")
	client.On(s, chat, func(_ context.Context, text string) error {
		fmt.Println(text)
		return nil
	})
	if err := s.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	if err := chat.Emit(ctx, s, "hello"); err != nil {
		log.Print(err)
	}
}

func ExampleSocket_EmitWithAck() {
	const add holdpost.Call[[2]int, int] = "add"
	s := client.New("http://localhost:7300", nil).Of("/")

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	sum, err := add.Do(ctx, s, [2]int{1, 2}) // typed
	fmt.Println(sum, err)

	answer, err := s.EmitWithAck(ctx, "add", []int{1, 2}) // untyped
	if err == nil {
		err = answer.Decode(&sum)
	}
	fmt.Println(sum, err)
}

func ExampleSocket_Retrying() {
	const pay holdpost.Call[int, string] = "pay"
	s := client.New("http://localhost:7300", nil).Of("/")
	receipt, err := pay.Do(context.Background(), s.Retrying("payment-7"), 100) // the server sees the id as the last argument
	fmt.Println(receipt, err)
}

func ExampleEvents() {
	const price holdpost.Event[float64] = "price"
	ctx := context.Background()
	s := client.New("http://localhost:7300", nil).Of("/")
	prices := client.Events(ctx, s, price)
	if err := s.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	for p, err := range prices {
		if err != nil {
			log.Print(err)
			continue
		}
		fmt.Println(p)
	}
}

func ExampleSocket_Volatile() {
	const position holdpost.Event[[2]float64] = "position"
	s := client.New("http://localhost:7300", nil).Of("/")
	position.Emit(context.Background(), s.Volatile(), [2]float64{48.2, 16.4}) // the next one is as good
}

func ExampleHandle() {
	const ready holdpost.Call[string, bool] = "ready?"
	s := client.New("http://localhost:7300", nil).Of("/")
	client.Handle(s, ready, func(_ context.Context, what string) (bool, error) { return what == "lunch", nil })
}

// A worker in a work queue: each event goes to one of the workers, and to another one when it is not handled.
func ExampleConsumer_Deliveries() {
	ctx := context.Background()
	s := client.New("http://localhost:7300", nil).Of("/")
	if err := s.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	worker, err := s.Subscribe(ctx, client.Subscription{Topic: "jobs", Queue: "workers"})
	if err != nil {
		log.Fatal(err)
	}
	for delivery, err := range worker.Deliveries(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(delivery.Event, delivery.ID)
	}
}

// A worker that handles each event once, also when it is killed and started again.
func ExampleSubscription() {
	ctx := context.Background()
	s := client.New("http://localhost:7300", &client.Config{Auth: map[string]string{"client": "mailer"}}).Of("/")
	if err := s.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	mailer, err := s.Subscribe(ctx, client.Subscription{Topic: "orders", From: "first", HandledFile: "mailer.handled"})
	if err != nil {
		log.Fatal(err)
	}
	for order, err := range mailer.Deliveries(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("thank you for", order.Args)
	}
}

func ExampleSocket_Publish() {
	s := client.New("http://localhost:7300", nil).Of("/")
	stored, err := s.Publish(context.Background(), client.Message{Topic: "orders", ID: "order-7", Event: "created", Args: []any{7}})
	fmt.Println(stored.Offset, stored.Duplicate, err)
}

func ExampleOutbox() {
	ctx := context.Background()
	s := client.New("http://localhost:7300", nil).Of("/")
	outbox, err := client.OpenOutbox("outbox", 0)
	if err != nil {
		log.Fatal(err)
	}
	defer outbox.Close()
	sent := make(chan error, 1)
	go func() { sent <- outbox.Send(ctx, s, func(m client.Message, err error) { log.Print(m.ID, err) }) }()
	if err := outbox.Post(client.Message{Topic: "orders", Event: "created", Args: []any{7}}); err != nil {
		log.Print(err) // otherwise it is on disk, and will be published
	}
	log.Print(<-sent)
}
