package client_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// Each way in which a connection can end has its reason, and decides whether the client comes back by itself.
func TestDisconnectReasons(t *testing.T) {
	for _, c := range []struct {
		reason  holdpost.Reason
		config  holdpost.Config
		end     func(w *world, s *client.Socket)
		returns bool
	}{
		{holdpost.ReasonServerDisconnect, holdpost.Config{}, func(w *world, s *client.Socket) {
			peer, _ := w.main.Socket(s.ID())
			peer.Disconnect(false)
		}, false},
		{holdpost.ReasonClientDisconnect, holdpost.Config{}, func(_ *world, s *client.Socket) { s.Disconnect() }, false},
		{holdpost.ReasonPingTimeout, holdpost.Config{PingInterval: 10 * time.Second, PingTimeout: 5 * time.Second}, func(w *world, _ *client.Socket) {
			w.freeze()
			time.Sleep(16 * time.Second)
			w.cut(false)
			w.thaw()
		}, true},
	} {
		t.Run(string(c.reason), func(t *testing.T) {
			bubble(t, c.config, func(t *testing.T, w *world) {
				s := w.client(client.Config{}).Of("/")
				var why error
				s.OnDisconnect(func(err error) { why = err })
				w.connect(s)
				synctest.Wait()
				c.end(w, s)
				synctest.Wait()
				if e, ok := errors.AsType[*holdpost.DisconnectError](why); !ok || e.Reason != c.reason {
					t.Errorf("%v, want %s", why, c.reason)
				}
				time.Sleep(time.Minute)
				if s.Connected() != c.returns {
					t.Errorf("a minute later: connected %v", s.Connected())
				}
			})
		})
	}
	for reason, packet := range map[holdpost.Reason]string{
		holdpost.ReasonParseError:     text("4x"),
		holdpost.ReasonTransportError: "\xf1\x01x",
		holdpost.ReasonTransportClose: string(frame.AppendClose(nil, frame.CodeNormal, "")),
	} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := &badServer{write: func(w io.Writer) { io.WriteString(w, packet); time.Sleep(time.Second) }}
				cl := client.New("http://test", &client.Config{Dial: (&world{Host: peertest.New(t, bad)}).dial, Transports: []string{"websocket"}})
				defer time.Sleep(time.Second)
				defer cl.Close()
				s := cl.Of("/")
				lost := make(chan error, 10)
				s.OnDisconnect(func(err error) { lost <- err })
				if err := s.Connect(background); err != nil {
					t.Fatal(err)
				}
				if e, ok := errors.AsType[*holdpost.DisconnectError](<-lost); !ok || e.Reason != reason {
					t.Errorf("%v, want %s", e, reason)
				}
				<-lost // of the next connection
			})
		})
	}
}

// A volatile event is dropped while the client is away and while something else waits to be written, and else is sent.
func TestClientVolatile(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		var got record
		w.main.On("e", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			got.add("%s", args.Raw(0))
			return nil, nil
		})
		emit := func(to holdpost.Emitter, n int) {
			t.Helper()
			if err := to.Emit(background, "e", n); err != nil {
				t.Errorf("emit %d: %v", n, err)
			}
		}
		s := w.socket(client.Config{})
		emit(s.Volatile(), 1)
		got.want(t, "free", "1")
		release := w.hold()
		emit(s, 2)
		synctest.Wait()
		emit(s, 3)
		emit(s.Volatile(), 4)
		release()
		got.want(t, "busy", "1", "2", "3")
		emit(s.Volatile(), 5)
		got.want(t, "free again", "1", "2", "3", "5")
		w.cut(true)
		synctest.Wait()
		emit(s.Volatile(), 6)
		emit(s, 7)
		w.up()
		time.Sleep(time.Minute)
		got.want(t, "away", "1", "2", "3", "5", "7")
	})
}
