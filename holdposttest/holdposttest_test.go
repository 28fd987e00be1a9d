package holdposttest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/holdposttest"
	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const add holdpost.Call[[2]int, int] = "add"

// A network in a bubble: clients call, are cut off for an hour of its clock, and come back.
func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := holdpost.NewServer(nil)
		defer srv.Close()
		holdpost.Handle(srv.Of("/"), add, func(_ context.Context, _ *holdpost.Socket, n [2]int) (int, error) { return n[0] + n[1], nil })
		network := holdposttest.Serve(t, srv)
		for _, transports := range [][]string{{"websocket"}, {"polling"}, {"polling", "websocket"}} {
			s := network.Client(&client.Config{Transports: transports}).Of("/")
			if err := s.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if sum, err := add.Do(t.Context(), s, [2]int{1, 2}); sum != 3 || err != nil {
				t.Errorf("1+2: %d, %v", sum, err)
			}
			var failed error
			s.OnError(func(err error) { failed = err })
			network.Cut()
			time.Sleep(time.Hour)
			synctest.Wait()
			if s.Connected() || !errors.Is(failed, holdposttest.ErrDown) {
				t.Errorf("cut: connected %v, %v", s.Connected(), failed)
			}
			network.Mend()
			if sum, err := add.Do(t.Context(), s, [2]int{3, 4}); sum != 7 || err != nil {
				t.Errorf("3+4: %d, %v", sum, err)
			}
			s.Disconnect()
		}
		if s := network.Client(nil).Of("/"); s.Connect(t.Context()) != nil {
			t.Errorf("with defaults: %v", s.Err())
		}
	})
}
