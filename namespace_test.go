package holdpost_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
)

func TestConnect(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		if s.ID() != c.id || s.Namespace() != w.main || w.main.Name() != "/" {
			t.Errorf("socket %q in %q", s.ID(), s.Namespace().Name())
		}
		if got, want := s.Transport(), strings.Replace(transport, "upgrade", "websocket", 1); got != want {
			t.Errorf("transport %q, want %q", got, want)
		}
		if w.main.Len() != 1 || len(slices.Collect(w.main.Sockets())) != 1 || w.srv.Connections() != 1 {
			t.Errorf("%d sockets, %d connections", w.main.Len(), w.srv.Connections())
		}
		c.WantIdle("nothing else is said", time.Minute)
	})
}

// What connection handlers emit comes behind the reply, and not in the same read: a client that asks for its first event only when it
// has seen the reply gets it.
func TestGreeting(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.OnConnection(func(ctx context.Context, s *holdpost.Socket) error {
			time.Sleep(time.Second) // until the writer of the reply is done, which over a pipe is another goroutine
			return errors.Join(s.Emit(ctx, "hello", 1), s.Emit(ctx, "hello", 2))
		})
		c := &client{Peer: w.Connect(transport), w: w}
		start := time.Now()
		c.join("/", "")
		if d := time.Since(start); d > 0 {
			t.Errorf("reply after %v", d)
		}
		c.WantIdle("the greeting waits a little", time.Second+time.Millisecond)
		c.Want("greeting", `42["hello",1]`, `42["hello",2]`)
		if d := time.Since(start); d > time.Second+5*time.Millisecond {
			t.Errorf("greeting after %v", d)
		}
	})
}

func TestHandshake(t *testing.T) {
	c := holdpost.Config{KeepHeaders: []string{"x-app"}}
	run(t, c, func(t *testing.T, w *world, transport string) {
		p := &client{Peer: w.ConnectQuery(transport, "room=a&room=b&x=%20y", "X-App", "one", "X-Other", "two"), w: w}
		p.id = p.join("/", `{"token":"secret","n":1}`)
		h := p.socket().Handshake()
		if string(h.Auth) != `{"token":"secret","n":1}` {
			t.Errorf("auth %s", h.Auth)
		}
		if got := h.Query["room"]; !slices.Equal(got, []string{"a", "b"}) || h.Query.Get("x") != " y" {
			t.Errorf("query %v", h.Query)
		}
		if len(h.Header) != 1 || h.Header.Get("X-App") != "one" {
			t.Errorf("header %v", h.Header)
		}
		if !strings.HasPrefix(h.URL, "/socket.io/?") || !strings.Contains(h.URL, "room=a&room=b&x=%20y") {
			t.Errorf("URL %q", h.URL)
		}
		if h.Secure || h.Address == "" || time.Since(h.Time) > time.Second {
			t.Errorf("secure %v, address %q, time %v", h.Secure, h.Address, h.Time)
		}
	})
}

// A client may be in many namespaces over one connection; each has its own id, handlers, and end.
func TestNamespaces(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		admin := w.srv.Of("admin")
		got.watch(admin)
		w.main.On("echo", reply)
		admin.On("echo", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return []any{"admin"}, nil })

		c := &client{Peer: w.Connect(transport), w: w}
		c.Send(`40/nope,{"a":1}`)
		c.Want("an unknown namespace is refused", `44/nope,{"message":"Invalid namespace"}`)
		c.Send(`40/nope`)
		c.Want("also without a comma", `44/nope,{"message":"Invalid namespace"}`)
		c.Send(`40/admin?x=1,`)
		c.Want("a query is part of the name", `44/admin?x=1,{"message":"Invalid namespace"}`)
		first := c.join("/admin", "")
		c.id = c.join("/", "")
		w.srv.Of("/nope")
		if other := c.join("/nope", ""); first == c.id || other == first || other == c.id {
			t.Errorf("ids %q, %q, %q", first, c.id, other)
		}
		c.Send(`42/admin,1["echo","x"]`)
		c.Want("each namespace has its own handlers", `43/admin,1["admin"]`)
		c.Send(`422["echo","x"]`)
		c.Want("and so has the main one", `432["x"]`)
		c.Send(`41/admin`)
		got.want(t, "one is left", "client namespace disconnect")
		c.Send(`423["echo","y"]`)
		c.Want("the rest goes on", `433["y"]`)
		c.join("/admin", "")
		c.socket().Disconnect(false)
		c.Want("the server may end one too", `41`)
		c.Send(`42/admin,4["echo"]`)
		c.Want("without the rest", `43/admin,4["admin"]`)
		var names []string
		for ns := range w.srv.Namespaces() {
			names = append(names, ns.Name())
		}
		if !slices.Equal(names, []string{"/", "/admin", "/nope"}) {
			t.Errorf("namespaces %q", names)
		}
	})
}

func TestOf(t *testing.T) {
	srv := holdpost.NewServer(nil)
	if srv.Of("") != srv.Of("/") || srv.Of("chat") != srv.Of("/chat") || srv.Of("/chat").Name() != "/chat" {
		t.Error("names of one namespace are not the same")
	}
	srv.Of("/" + strings.Repeat("x", 254))
	for _, bad := range []string{strings.Repeat("x", 255), "/a,b", "/\x00", "/\x7f", "/\xff"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Of(%q) did not panic", bad)
				}
			}()
			srv.Of(bad)
		}()
	}
}

func TestGates(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		user := holdpost.NewKey[string]("user")
		w.main.Use(func(_ context.Context, s *holdpost.Socket) error {
			if _, ok := w.main.Socket(s.ID()); ok || w.main.Len() > 0 {
				t.Error("in the namespace before the gates")
			}
			switch auth := string(s.Handshake().Auth); auth {
			case `{"as":"ann"}`:
				user.Set(s, "ann")
				if err := s.Emit(background, "early", 1); err != nil {
					t.Errorf("emit at a gate: %v", err)
				}
				return s.Join("lobby")
			case `{"as":"plain"}`:
				return errors.New("not you")
			case `{"as":"coded"}`:
				return &holdpost.ConnectError{Message: "not now", Data: map[string]int{"retry": 5}}
			case `{"as":"unencodable"}`:
				return &holdpost.ConnectError{Message: "odd", Data: make(chan int)}
			case `{"as":"panic"}`:
				panic("gate broke")
			}
			return nil
		}, func(_ context.Context, s *holdpost.Socket) error {
			name, _ := user.Get(s)
			got.add("second gate: %q", name)
			return nil
		})
		w.main.OnConnection(func(_ context.Context, s *holdpost.Socket) error {
			got.add("connection: %v", slices.Collect(s.Rooms()))
			return nil
		})

		c := &client{Peer: w.Connect(transport), w: w}
		for auth, want := range map[string]string{
			`{"as":"plain"}`:       `44{"message":"not you"}`,
			`{"as":"coded"}`:       `44{"message":"not now","data":{"retry":5}}`,
			`{"as":"unencodable"}`: `44{"message":"odd"}`,
			`{"as":"panic"}`:       `44{"message":"internal error"}`,
		} {
			c.Send(`40` + auth)
			c.Want("refused with what the gate said", want)
		}
		if w.main.Len() != 0 {
			t.Errorf("%d sockets after refusals", w.main.Len())
		}
		got.want(t, "a refused socket reaches nobody")
		if !strings.Contains(w.log.String(), "gate broke") {
			t.Error("the panic was not logged")
		}
		c.Send(`40{"as":"ann"}`)
		c.Want("what a gate emits comes before the reply", `42["early",1]`)
		c.id = c.joined("")
		got.want(t, "then it is let in", `second gate: "ann"`, `connection: [lobby]`)
		w.main.To("lobby").Emit(background, "hi")
		c.Want("and is in the rooms of the gate", `42["hi"]`)
	})
}

// A gate may also disconnect the socket; what it returns then is not told.
func TestDisconnectAtTheGate(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		for _, result := range []error{nil, errors.New("refused")} {
			w.srv.Of("/a").Use(func(_ context.Context, s *holdpost.Socket) error {
				s.Disconnect(false)
				return result
			})
			c := &client{Peer: w.Connect(transport), w: w}
			c.Send("40/a,")
			c.Want("disconnected", "41/a,")
			c.join("/", "")
			c.WantIdle("and nothing else", time.Second)
		}
		got.want(t, "nobody was there")
	})
}

// Gates are registered while clients are there, and only for their own namespace.
func TestGateOfOneNamespace(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		w.srv.Of("/admin")
		c := w.connect("websocket")
		w.main.Use(func(context.Context, *holdpost.Socket) error { return errors.New("closed") })
		c.join("/admin", "")
		c.Send("41")
		c.Send("40")
		c.Want("the main namespace has the gate", `44{"message":"closed"}`)
	})
}

// A client that goes while it waits at a gate was never there.
func TestGoneAtTheGate(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		w.main.Use(func(ctx context.Context, s *holdpost.Socket) error {
			s.Join("lobby")
			<-ctx.Done()
			ended, _ := errors.AsType[*holdpost.DisconnectError](context.Cause(ctx))
			got.add("gate: %s", ended.Reason)
			return nil
		})
		w.main.OnConnection(func(context.Context, *holdpost.Socket) error {
			got.add("connection")
			return nil
		})
		c := &client{Peer: w.Connect(transport), w: w}
		c.Send("40")
		synctest.Wait()
		if transport == "polling" {
			c.Send("1")
		}
		c.Close()
		got.want(t, "the gate's context ends, and nothing follows", "gate: transport close")
		w.main.To("lobby").Emit(background, "x")
		if w.main.Len() != 0 || w.srv.Connections() != 0 {
			t.Errorf("%d sockets, %d connections", w.main.Len(), w.srv.Connections())
		}
	})
}

// Two CONNECTs to one namespace end the connection, also when the first waits at a gate.
func TestConnectTwice(t *testing.T) {
	for _, slow := range []bool{false, true} {
		run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
			var got record
			got.watch(w.main)
			w.main.Use(func(ctx context.Context, _ *holdpost.Socket) error {
				if slow {
					<-ctx.Done()
				}
				return nil
			})
			c := &client{Peer: w.Connect(transport), w: w}
			c.Send("40")
			if !slow {
				c.joined("")
			}
			c.Throw("40")
			c.wantClosed("a second CONNECT")
			if slow {
				got.want(t, "was never there")
			} else {
				got.want(t, "is told", "forced server close")
			}
		})
	}
}

// A connection has to join a namespace in time. A refusal is no reason to stay, leaving again none to go.
func TestConnectTimeout(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.srv.Of("/shut").Use(func(context.Context, *holdpost.Socket) error { return errors.New("no") })
		start := time.Now() // an upgrade may take a moment
		silent := &client{Peer: w.Connect(transport), w: w}
		refused := &client{Peer: w.Connect(transport), w: w}
		refused.Send("40/shut,")
		refused.Want("refused", `44/shut,{"message":"no"}`)
		left := w.connect(transport)
		left.Send("41")
		stays := w.connect(transport)
		silent.wantClosed("joined nothing")
		refused.wantClosed("was refused only")
		if d := time.Since(start); d < 45*time.Second || d > 46*time.Second {
			t.Errorf("closed after %v", d)
		}
		left.WantIdle("left again", time.Minute)
		stays.WantIdle("joined", time.Minute)
	})
	run(t, holdpost.Config{ConnectTimeout: -1}, func(t *testing.T, w *world, transport string) {
		w.Connect(transport).WantIdle("no limit", time.Hour)
	})
}

func TestConnectionHandlerFails(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		fail := errors.New("no room")
		w.main.OnConnection(func(context.Context, *holdpost.Socket) error {
			if fail == nil {
				panic("connection broke")
			}
			return fail
		})
		w.main.OnConnection(func(context.Context, *holdpost.Socket) error {
			got.add("next handler")
			return nil
		})
		c := w.connect(transport)
		c.Want("an error disconnects", `41`)
		got.want(t, "and is told", "server namespace disconnect")
		fail = nil
		c.id = c.join("/", "")
		c.Want("a panic too", `41`)
		got.want(t, "and is told", "server namespace disconnect", "handler panic")
		if log := w.log.String(); !strings.Contains(log, "no room") || !strings.Contains(log, "connection broke") {
			t.Errorf("log %s", log)
		}
	})
}

// What connection handlers emit comes right behind the reply, in order, whatever the gates emitted before.
func TestEmitFromConnectionHandler(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.OnConnection(func(ctx context.Context, s *holdpost.Socket) error {
			for i := range 3 {
				if err := s.Emit(ctx, "n", i); err != nil {
					return err
				}
			}
			return w.main.Emit(ctx, "all", s.ID())
		})
		c := w.connect(transport)
		c.Want("in order", `42["n",0]`, `42["n",1]`, `42["n",2]`, `42["all","`+c.id+`"]`)
	})
}
