package holdpost_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
)

func TestReasons(t *testing.T) {
	tests := []struct {
		name   string
		end    func(c *client, s *holdpost.Socket)
		reason holdpost.Reason
		cause  string // in the error's text
	}{
		{"client leaves", func(c *client, _ *holdpost.Socket) { c.Send("41") }, holdpost.ReasonClientDisconnect, ""},
		{"server disconnect", func(_ *client, s *holdpost.Socket) { s.Disconnect(false) }, holdpost.ReasonServerDisconnect, ""},
		{"server closes", func(_ *client, s *holdpost.Socket) { s.Disconnect(true) }, holdpost.ReasonServerDisconnect, ""},
		{"close packet", func(c *client, _ *holdpost.Socket) { c.Send("1") }, holdpost.ReasonTransportClose, ""},
		{"no packet", func(c *client, _ *holdpost.Socket) { c.Throw("4abc") }, holdpost.ReasonParseError, "unknown packet type"},
		{"no engine packet", func(c *client, _ *holdpost.Socket) { c.Throw("x") }, holdpost.ReasonParseError, ""},
		{"ping from the client", func(c *client, _ *holdpost.Socket) { c.Throw("2") }, holdpost.ReasonTransportError, "ping"},
		{"wrong state", func(c *client, _ *holdpost.Socket) { c.Throw("40") }, holdpost.ReasonForcedServer, ""},
		{"no pong", func(*client, *holdpost.Socket) { time.Sleep(time.Minute) }, holdpost.ReasonPingTimeout, ""},
		{"shutdown", func(c *client, _ *holdpost.Socket) { c.w.srv.Shutdown(background) }, holdpost.ReasonServerShutdown, ""},
		{"close", func(c *client, _ *holdpost.Socket) { c.w.srv.Close() }, holdpost.ReasonServerShutdown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, holdpost.Config{PingInterval: 25 * time.Second}, func(t *testing.T, w *world, transport string) {
				var got record
				w.main.OnDisconnect(func(s *holdpost.Socket, r holdpost.Reason) {
					ended, _ := errors.AsType[*holdpost.DisconnectError](context.Cause(s.Context()))
					if ended.Reason != r || !strings.Contains(ended.Error(), string(r)) || !strings.Contains(ended.Error(), tt.cause) {
						t.Errorf("reason %q, cause %q", r, ended)
					}
					if err := s.Emit(background, "late"); !errors.Is(err, ended) {
						t.Errorf("emit after the end: %v", err)
					}
					if _, ok := w.main.Socket(s.ID()); ok || w.main.Len() != 0 {
						t.Error("still in the namespace")
					}
					got.add("%s", r)
				})
				c := w.connect(transport)
				s := c.socket()
				tt.end(c, s)
				got.want(t, tt.name, string(tt.reason))
				s.Disconnect(false)
				s.Disconnect(true)
				synctest.Wait()
				if n := w.srv.Connections(); n != 0 { // the last call has closed it, if nothing else had
					t.Errorf("%d connections", n)
				}
				got.want(t, "only once", string(tt.reason))
			})
		})
	}
}

// Disconnect(true) tells each namespace before it closes the connection.
func TestDisconnectAll(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.srv.Of("/a")
		w.srv.Of("/b")
		c := w.connect(transport)
		c.join("/a", "")
		c.join("/b", "")
		s := c.socket()
		s.Emit(background, "last")
		s.Disconnect(true)
		c.Want("what was queued, then the ends", `42["last"]`, `41`, `41/a,`, `41/b,`)
		c.wantClosed("and the connection")
	})
}

// A packet may cross the DISCONNECT that ended its namespace: that is no offence, for a while.
func TestPacketsThatCrossTheEnd(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.srv.Of("/other").On("echo", reply)
		c := w.connect(transport)
		c.join("/other", "")
		c.socket().Disconnect(false)
		c.Want("ended", "41")
		for _, packet := range []string{`42["e"]`, `421["e"]`, `431[]`, `41`} {
			c.Send(packet)
		}
		c.Send(`451-["e",{"_placeholder":true,"num":0}]`)
		c.SendBinary([]byte{1})
		c.Send(`42/other,1["echo"]`)
		c.Want("the rest of the connection goes on", `43/other,1[]`)
		time.Sleep(11 * time.Second)
		c.Throw(`42["e"]`)
		c.wantClosed("but not for ever")
	})
}

// The namespaces that a connection has left are not remembered without limit.
func TestNamespacesLeft(t *testing.T) {
	run(t, holdpost.Config{MaxNamespaces: 2}, func(t *testing.T, w *world, transport string) {
		w.srv.Of("/a")
		w.srv.Of("/b")
		c := w.connect(transport)
		for _, name := range []string{"/a", "/b", "/b", "/a"} {
			c.join(name, "")
			c.Send("41" + name)
		}
		c.Send(`42/a,["e"]`)
		c.Send(`42/b,["e"]`)
		c.Send("41")
		c.Send(`42["e"]`)
		c.Send(`42/a,["e"]`)
		c.WantIdle("the last two are forgiven", time.Second)
		c.Throw(`42/b,["e"]`)
		c.wantClosed("the one before is not")
	})
}

func TestContext(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var seen context.Context
		w.main.On("e", func(ctx context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
			if ctx != s.Context() {
				t.Error("the handler's context is not the socket's")
			}
			seen = ctx
			return nil, nil
		})
		c := w.connect(transport)
		s := c.socket()
		c.Send(`421["e"]`)
		c.Want("handled", `431[]`)
		if seen.Err() != nil {
			t.Error("the context ended with the handler")
		}
		c.Send("41")
		<-seen.Done()
		if ended, ok := errors.AsType[*holdpost.DisconnectError](context.Cause(seen)); !ok || ended.Reason != holdpost.ReasonClientDisconnect {
			t.Errorf("cause %v", context.Cause(seen))
		}
		other := w.connect(transport).socket()
		other.Disconnect(false)
		if context.Cause(other.Context()) == nil || context.Cause(s.Context()) == nil {
			t.Error("the context of a socket that has ended is alive")
		}
	})
}

func TestShutdown(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		release := make(chan bool)
		w.main.On("slow", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			<-release
			got.add("handled")
			return nil, nil
		})
		a, b := w.connect(transport), w.connect(transport)
		b.socket()
		a.Send(`42["slow"]`)
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(background, time.Second, errors.New("out of time"))
		defer cancel()
		if err := w.srv.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "out of time") {
			t.Errorf("while a handler runs: %v", err)
		}
		a.wantClosed("is closed")
		b.wantClosed("is closed")
		got.want(t, "whose handler runs ends later", "server shutting down")
		ended := make(chan error)
		go func() { ended <- w.srv.Shutdown(background) }()
		synctest.Wait()
		close(release)
		if err := <-ended; err != nil {
			t.Errorf("once it is done: %v", err)
		}
		got.want(t, "after the handler", "server shutting down", "handled", "server shutting down")
		if err := w.srv.Shutdown(background); err != nil {
			t.Errorf("again: %v", err)
		}
		if status, _ := w.Request("GET", "EIO=4&transport=polling", ""); status != 503 {
			t.Errorf("a new client gets %d", status)
		}
	})
}

// Close waits for nobody, and a server that was never used ends too.
func TestClose(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		release := make(chan bool)
		w.main.On("slow", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { <-release; return nil, nil })
		a, b := w.connect(transport), w.connect(transport)
		b.socket()
		a.Send(`42["slow"]`)
		synctest.Wait()
		if err := w.srv.Close(); err != nil {
			t.Error(err)
		}
		got.want(t, "the other has ended", "server shutting down")
		close(release)
		got.want(t, "then both", "server shutting down", "server shutting down")
		unused := holdpost.NewServer(nil)
		if err := errors.Join(unused.Shutdown(background), unused.Close()); err != nil {
			t.Error(err)
		}
	})
}
