package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// A server whose clients subscribe to topics by themselves, and get what was published while they were away.
func Example() {
	ctx := context.Background()
	quiet := slog.New(slog.DiscardHandler)
	dir, err := os.MkdirTemp("", "holdpost-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := local.Open(ctx, local.Config{Engine: embedded.Config{Dir: dir, Logger: quiet}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	srv := holdpost.NewServer(&holdpost.Config{Logger: quiet})
	main := srv.Of("/")
	post := delivery.New(delivery.Config{
		Broker: store.Broker, Logger: quiet,
		Identity: func(s *holdpost.Socket) string { // in a program: from a token that a gate has checked
			var auth struct{ Name string }
			json.Unmarshal(s.Handshake().Auth, &auth)
			return auth.Name
		},
	})
	post.Handle(main) // subscribe, publish, history, and the others of docs/delivery.md
	defer post.Close()
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Shutdown(ctx)

	orders := make(chan int, 1)
	visit := func() *client.Client {
		c := client.New(web.URL, &client.Config{Auth: map[string]string{"name": "ann"}})
		s := c.Of("/")
		s.On("created", func(_ context.Context, args holdpost.Args) ([]any, error) {
			var id int
			err := args.Decode(&id)
			orders <- id
			return nil, err
		})
		if err := s.Connect(ctx); err != nil {
			fmt.Println(err)
		}
		if _, err := s.EmitWithAck(ctx, "subscribe", "orders"); err != nil {
			fmt.Println(err)
		}
		return c
	}
	visit().Close()
	if _, err := store.Publish(ctx, queue.Message{Topic: "orders", Event: "created", Args: []byte(`[7]`)}); err != nil {
		fmt.Println(err)
	}
	defer visit().Close()
	fmt.Println("order", <-orders)
	// Output: order 7
}
