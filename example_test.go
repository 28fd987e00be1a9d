package holdpost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/holdpost/holdpost"
	socketio "github.com/holdpost/holdpost/client"
)

// A server is an http.Handler. Its handlers stand on namespaces, and what a room is told is told to all in it but the sender.
func Example() {
	const chat holdpost.Event[string] = "chat"
	ctx := context.Background()

	srv := holdpost.NewServer(nil)
	main := srv.Of("/")
	main.Use(func(_ context.Context, s *holdpost.Socket) error {
		return s.Join("lobby") // before its client hears that it is in
	})
	holdpost.On(main, chat, func(ctx context.Context, s *holdpost.Socket, text string) error {
		return chat.Emit(ctx, s.To("lobby"), text)
	})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	web := httptest.NewServer(mux) // in a program: http.ListenAndServe
	defer web.Close()
	defer srv.Shutdown(ctx) // before the HTTP server's own

	ann, bob := socketio.New(web.URL, nil), socketio.New(web.URL, nil)
	defer ann.Close()
	defer bob.Close()
	heard := make(chan string)
	socketio.On(bob.Of("/"), chat, func(_ context.Context, text string) error {
		heard <- text
		return nil
	})
	for _, c := range []*socketio.Client{ann, bob} {
		if err := c.Of("/").Connect(ctx); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := chat.Emit(ctx, ann.Of("/"), "hello"); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-heard)
	// Output: hello
}

// What a handler returns answers its client. Of errors only those with a code reach it.
func ExampleHandle() {
	type pair struct{ A, B int }
	const divide holdpost.Call[pair, int] = "divide"
	ctx := context.Background()

	srv := holdpost.NewServer(nil)
	holdpost.Handle(srv.Of("/"), divide, func(_ context.Context, _ *holdpost.Socket, p pair) (int, error) {
		if p.B == 0 {
			return 0, &holdpost.Error{Code: "by_zero", Message: "there is no such number"}
		}
		return p.A / p.B, nil
	})
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Shutdown(ctx)

	c := socketio.New(web.URL, nil)
	defer c.Close()
	s := c.Of("/")
	if err := s.Connect(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(divide.Do(ctx, s, pair{6, 3}))
	_, err := divide.Do(ctx, s, pair{1, 0})
	if e, ok := errors.AsType[*holdpost.Error](err); ok {
		fmt.Println(e.Code)
	}
	// Output:
	// 2 <nil>
	// by_zero
}

// A gate lets clients in, or refuses them with an error that they see; what it finds out it keeps under a key of the socket.
func ExampleNamespace_Use() {
	user := holdpost.NewKey[string]("user")
	ctx := context.Background()

	srv := holdpost.NewServer(nil)
	main := srv.Of("/")
	main.Use(func(_ context.Context, s *holdpost.Socket) error {
		var auth struct{ Token string }
		if err := json.Unmarshal(s.Handshake().Auth, &auth); err != nil || auth.Token != "secret" {
			return &holdpost.ConnectError{Message: "who are you?"}
		}
		user.Set(s, "ann")
		return nil
	})
	main.On("whoami", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		name, _ := user.Get(s)
		return []any{name}, nil
	})
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Shutdown(ctx)

	for _, token := range []string{"guess", "secret"} {
		c := socketio.New(web.URL, &socketio.Config{Auth: map[string]string{"token": token}})
		defer c.Close()
		if err := c.Of("/").Connect(ctx); err != nil {
			fmt.Println(err)
			continue
		}
		var name string
		answer, err := c.Of("/").EmitWithAck(ctx, "whoami")
		if err == nil {
			err = answer.Decode(&name)
		}
		fmt.Println(name, err)
	}
	// Output:
	// who are you?
	// ann <nil>
}

// Each socket in a room answers, or is told of as one that did not.
func ExampleBroadcast_EmitWithAck() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	srv := holdpost.NewServer(nil)
	srv.Of("/").Use(func(_ context.Context, s *holdpost.Socket) error { return s.Join("voters") }) // before its client hears that it is in
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Shutdown(ctx)

	for range 3 {
		c := socketio.New(web.URL, nil)
		defer c.Close()
		c.Of("/").On("vote", func(context.Context, holdpost.Args) ([]any, error) { return []any{"yes"}, nil })
		if err := c.Of("/").Connect(ctx); err != nil {
			fmt.Println(err)
			return
		}
	}
	for answer, err := range srv.Of("/").To("voters").EmitWithAck(ctx, "vote") {
		var vote string
		if err == nil {
			err = answer.Args.Decode(&vote)
		}
		fmt.Println(vote, err)
	}
	// Output:
	// yes <nil>
	// yes <nil>
	// yes <nil>
}
