package holdposttest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/holdposttest"
)

func Example() {
	const chat holdpost.Event[string] = "chat"

	_ = func(t *testing.T) { // TestChat
		synctest.Test(t, func(t *testing.T) {
			srv := holdpost.NewServer(nil)
			defer srv.Close()
			holdpost.On(srv.Of("/"), chat, func(ctx context.Context, s *holdpost.Socket, text string) error {
				return chat.Emit(ctx, s, "you said "+text)
			})

			network := holdposttest.Serve(t, srv)
			s := network.Client(nil).Of("/")
			var got []string
			client.On(s, chat, func(_ context.Context, text string) error {
				got = append(got, text)
				return nil
			})
			if err := s.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			chat.Emit(t.Context(), s, "hi")
			synctest.Wait() // until nothing moves any more
			if len(got) != 1 || got[0] != "you said hi" {
				t.Errorf("got %q", got)
			}
		})
	}
}
