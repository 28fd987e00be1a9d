package holdpost_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
)

type message struct {
	Room string `json:"room"`
	Data []byte `json:"data"`
}

const (
	said holdpost.Event[message]     = "said"
	told holdpost.Event[string]      = "told"
	add  holdpost.Call[[]int, int]   = "add"
	both holdpost.Event[couple]      = "both"
	ask  holdpost.Call[string, bool] = "ask"
)

// couple decodes two arguments at once.
type couple struct{ name, value string }

func (c *couple) UnmarshalArgs(args holdpost.Args) error {
	if args.Len() != 2 {
		return errors.New("two arguments, please")
	}
	return args.Decode(&c.name, &c.value)
}

func TestTypedEvents(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		holdpost.On(w.main, said, func(ctx context.Context, s *holdpost.Socket, m message) error {
			got.add("said %q %x", m.Room, m.Data)
			return s.Emit(ctx, "said", map[string]any{"room": m.Room, "data": m.Data}, m.Data)
		})
		holdpost.On(w.main, both, func(_ context.Context, _ *holdpost.Socket, c couple) error {
			got.add("both %q %q", c.name, c.value)
			return nil
		})
		holdpost.Handle(w.main, add, func(_ context.Context, _ *holdpost.Socket, n []int) (int, error) {
			if len(n) == 0 {
				return 0, &holdpost.Error{Code: "empty", Message: "nothing to add"}
			}
			sum := 0
			for _, v := range n {
				sum += v
			}
			return sum, nil
		})
		c := w.connect(transport)
		c.Send(`451-["said",{"room":"a","data":{"_placeholder":true,"num":0}}]`)
		c.SendBinary([]byte{1, 2})
		c.Want("binary goes both ways", `452-["said",{"data":{"_placeholder":true,"num":0},"room":"a"},{"_placeholder":true,"num":1}]`, "binary 0102", "binary 0102")
		c.Send(`421["add",[1,2,3]]`)
		c.Want("a call is answered", `431[6]`)
		c.Send(`422["add",[]]`)
		c.Want("with an error of its own", `432[{"error":{"code":"empty","message":"nothing to add"}}]`)
		c.Send(`423["add","x"]`)
		if got := c.Next(); !strings.HasPrefix(got, `433[{"error":{"code":"invalid_argument","message":"argument 0: `) {
			t.Errorf("arguments of the wrong type are answered %s", got)
		}
		c.Send(`424["both","a"]`)
		c.Want("also by a type that decodes itself", `434[{"error":{"code":"invalid_argument","message":"two arguments, please"}}]`)
		c.Send(`425["both","a","b"]`)
		c.Want("an event may ask for an ack too", `435[]`)
		got.want(t, "handlers got", `said "a" 0102`, `both "a" "b"`)
		for _, to := range []holdpost.Emitter{c.socket(), w.main, w.main.To(c.id)} {
			if err := told.Emit(background, to, "hi"); err != nil {
				t.Error(err)
			}
			c.Want("a typed event goes to a socket, a namespace, a broadcast", `42["told","hi"]`)
		}
	})
}

func TestCallFromServer(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		tests := []struct{ name, answer, want string }{
			{"a value", `[true]`, "true <nil>"},
			{"nothing", `[]`, "false <nil>"},
			{"an error", `[{"error":{"code":"busy","message":"later"}}]`, "false busy: later"},
			{"no error of ours", `[{"error":"x"}]`, `false invalid_argument: argument 0: json: cannot unmarshal object into Go value of type bool`},
		}
		for i, tt := range tests {
			w.async(func() {
				synctest.Wait()
				c.Send(fmt.Sprintf("43%d%s", i+1, tt.answer))
			})
			ok, err := ask.Do(background, s, "ready?")
			if got := fmt.Sprint(ok, " ", err); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
			c.Want(tt.name, fmt.Sprintf(`42%d["ask","ready?"]`, i+1))
		}
	})
}

func TestUntypedEvents(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.On("args", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			var n int
			var m map[string]any
			missing := "unset"
			if err := args.Decode(&n, nil, &m, &missing); err != nil {
				return nil, err
			}
			return []any{args.Len(), n, m, missing, args.From(1).Len(), args.From(9).Len(), string(args.Raw(1)), args.Raw(9) == nil, len(args.Attachments())}, nil
		})
		w.main.On("none", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return nil, nil })
		w.main.On("", reply)
		w.main.On("1", reply)
		c := w.connect(transport)
		c.Send(`420["args",7,null,{"a":[1,"x"]}]`)
		c.Want("arguments", `430[3,7,{"a":[1,"x"]},"unset",2,0,"null",true,0]`)
		c.Send(`421["none"]`)
		c.Want("no answer is an empty one", `431[]`)
		c.Send(`422["","x",1,2]`)
		c.Want("an event may have an empty name", `432["x",1,2]`)
		c.Send(`423[1,"x"]`)
		c.Want("or a number for one", `433["x"]`)
		c.Send(`429007199254740991["none"]`)
		c.Want("the largest ack id", `439007199254740991[]`)
		c.Send(`424["args",12345678901234567890,0,{"u":"\u2028<>&\ud83d\ude00"}]`)
		c.Want("numbers that do not fit", `434[{"error":{"code":"invalid_argument","message":"argument 0: json: cannot unmarshal number 12345678901234567890 into Go value of type int"}}]`)
		c.Send(`425["",12345678901234567890,"\u2028<>&\ud83d\ude00",1.50]`)
		c.Want("what is passed on stays as it came", `435[12345678901234567890,"\u2028<>&\ud83d\ude00",1.50]`)
	})
}

func TestNoHandler(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.On("known", reply)
		c := w.connect(transport)
		c.Send(`42["nobody","x"]`)
		c.Send(`421["nobody","x"]`)
		c.Send(`422["known","x"]`)
		c.Want("nobody is answered, and the socket goes on", `432["x"]`)
		w.main.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
			reply, err := next(ctx, s, args)
			if errors.Is(err, holdpost.ErrUnhandled) {
				err = &holdpost.Error{Code: holdpost.CodeUnknownEvent, Message: event}
			}
			return reply, err
		})
		c.Send(`423["nobody","x"]`)
		c.Want("unless the program says so", `433[{"error":{"code":"unknown_event","message":"nobody"}}]`)
	})
}

func TestHandlerErrors(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		results := map[string]func() ([]any, error){
			"plain":     func() ([]any, error) { return nil, errors.New("the database is at db.internal") },
			"coded":     func() ([]any, error) { return nil, &holdpost.Error{Code: "gone", Message: "no such thing"} },
			"wrapped":   func() ([]any, error) { return nil, fmt.Errorf("load: %w", &holdpost.Error{Code: "gone", Message: "x"}) },
			"unencoded": func() ([]any, error) { return []any{make(chan int)}, nil },
		}
		for name, f := range results {
			w.main.On(name, func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return f() })
		}
		c := w.connect(transport)
		for i, tt := range []struct{ name, want string }{
			{"plain", `{"code":"internal","message":"internal error"}`},
			{"coded", `{"code":"gone","message":"no such thing"}`},
			{"wrapped", `{"code":"gone","message":"x"}`},
			{"unencoded", `{"code":"internal","message":"internal error"}`},
		} {
			c.Send(fmt.Sprintf(`42%d["%s"]`, i, tt.name))
			c.Want(tt.name, fmt.Sprintf(`43%d[{"error":%s}]`, i, tt.want))
			c.Send(fmt.Sprintf(`42["%s"]`, tt.name))
		}
		c.socket()
		if log := w.log.String(); strings.Count(log, "db.internal") != 2 || !strings.Contains(log, "event=plain") || !strings.Contains(log, "socket="+c.id) {
			t.Errorf("log %s", log)
		}
	})
}

// A handler may leave an ack unanswered, and a wrapper may so for the events that nobody handles.
func TestUnanswered(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.On("silent", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			return []any{"unheard"}, fmt.Errorf("silent: %w", holdpost.ErrUnanswered)
		})
		w.main.On("said", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			return nil, holdpost.ErrUnanswered
		})
		w.main.On("echo", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			return []any{args}, nil
		})
		c := w.connect(transport)
		for i, event := range []string{"silent", "said"} {
			c.Send(fmt.Sprintf(`42%d["%s"]`, i, event))
			c.Send(fmt.Sprintf(`42["%s"]`, event))
		}
		c.Send(`422["echo",1]`)
		c.Want("only what is answered", "432[1]")
		if log := w.log.String(); strings.Contains(log, "event=") {
			t.Errorf("log %s", log)
		}
	})
}

func TestRegisterTwice(t *testing.T) {
	ns := holdpost.NewServer(nil).Of("/")
	ns.On("a", reply)
	for name, f := range map[string]func(){
		"twice":          func() { ns.On("a", reply) },
		"typed too":      func() { holdpost.On(ns, "a", func(context.Context, *holdpost.Socket, int) error { return nil }) },
		"connect":        func() { ns.On("connect", reply) },
		"disconnect":     func() { ns.On("disconnect", reply) },
		"connect_error":  func() { ns.On("connect_error", reply) },
		"disconnecting":  func() { ns.On("disconnecting", reply) },
		"newListener":    func() { ns.On("newListener", reply) },
		"removeListener": func() { ns.On("removeListener", reply) },
		"not UTF-8":      func() { ns.On("\xff", reply) },
		"a typed reserve": func() {
			holdpost.Handle(ns, "connect", func(context.Context, *holdpost.Socket, int) (int, error) { return 0, nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			f()
		})
	}
}

// Reserved names cannot be emitted either.
func TestReservedEvents(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "\xff"} {
			errs := []error{s.Emit(background, name), w.main.Emit(background, name), s.Broadcast().Emit(background, name)}
			_, err := s.EmitWithAck(background, name)
			errs = append(errs, err)
			for _, err := range w.main.To(c.id).EmitWithAck(background, name) {
				errs = append(errs, err)
			}
			for i, err := range errs {
				if !errors.Is(err, holdpost.ErrInvalidName) {
					t.Errorf("%q, way %d: %v", name, i, err)
				}
			}
			if len(errs) != 5 {
				t.Errorf("%q: %d answers", name, len(errs))
			}
		}
		c.WantIdle("nothing was sent", time.Second)
	})
}

func TestSocketOn(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		handler := func(name string) holdpost.Handler {
			return func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
				got.add("%s", name)
				return []any{name}, nil
			}
		}
		w.main.On("x", handler("namespace"))
		c := w.connect(transport)
		other := w.connect(transport)
		s := c.socket()
		stop := s.On("x", handler("first"))
		s.On("x", handler("second"))
		s.On("y", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			return nil, errors.New("of a listener")
		})
		c.Send(`421["x"]`)
		c.Want("the namespace answers", `431["namespace"]`)
		stop()
		stop()
		c.Send(`422["x"]`)
		c.Want("and again", `432["namespace"]`)
		other.Send(`423["x"]`)
		other.Want("others are not concerned", `433["namespace"]`)
		got.want(t, "handlers ran", "namespace", "first", "second", "namespace", "second", "namespace")
		c.Send(`424["y"]`)
		c.Want("without one in the namespace the socket's answers", `434[{"error":{"code":"internal","message":"internal error"}}]`)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a reserved name did not panic")
				}
			}()
			s.On("disconnect", reply)
		}()
	})
}

// Each socket's events are handled one at a time and in order, also over a change of transport.
func TestOrder(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		const count = 200
		var got record
		busy := 0
		w.main.On("n", func(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
			busy++ // the race detector sees to it that only one runs
			got.add("%s", args.Raw(0))
			busy--
			return []any{args}, s.Emit(background, "back", args)
		})
		c := w.connect(transport)
		var want []string
		for i := range count {
			c.Send(fmt.Sprintf(`42%d["n",%d]`, i, i))
			want = append(want, fmt.Sprint(i))
		}
		for i := range count {
			c.Want("emit, then ack, in order", fmt.Sprintf(`42["back",%d]`, i), fmt.Sprintf(`43%d[%d]`, i, i))
		}
		got.want(t, "handled in order", want...)
	})
}

// A handler that blocks holds up its own socket: not its acks, its heartbeat or its other namespaces, and not others.
func TestBlockedHandler(t *testing.T) {
	run(t, holdpost.Config{PingInterval: 25 * time.Second}, func(t *testing.T, w *world, transport string) {
		var got record
		release := make(chan bool)
		w.main.On("block", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { <-release; return nil, nil })
		w.main.On("echo", reply)
		w.srv.Of("/other").On("echo", reply)
		c, other := w.connect(transport), w.connect(transport)
		c.join("/other", "")
		s := c.socket()
		c.Send(`421["block"]`)
		c.Send(`422["echo","x"]`)
		other.Send(`421["echo","y"]`)
		other.Want("another socket", `431["y"]`)
		c.Send(`42/other,3["echo","z"]`)
		c.Want("its other namespace", `43/other,3["z"]`)
		w.async(func() {
			if _, err := s.EmitWithAck(background, "q"); err != nil {
				t.Errorf("its acks: %v", err)
			}
			got.add("answered")
		})
		c.Want("what is emitted to it", `421["q"]`)
		c.Send(`431["answer"]`)
		got.want(t, "its acks", "answered")
		c.Want("its heartbeat", "2")
		c.Send("3")
		close(release)
		c.Want("then the rest follows", `431[]`, `432["x"]`)
	})
}

// A handler may wait for an ack of its own socket.
func TestAckInsideHandler(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.On("start", func(ctx context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
			args, err := s.EmitWithAck(ctx, "question", 42)
			return []any{args}, err
		})
		c := w.connect(transport)
		c.Send(`427["start"]`)
		c.Want("asks", `421["question",42]`)
		c.Send(`431["answer"]`)
		c.Want("answers", `437["answer"]`)
	})
}

// A panic costs its own socket and nobody else; what that had sent meanwhile is dropped.
func TestPanic(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		got.watch(w.srv.Of("/other"))
		w.srv.Of("/other").On("echo", reply)
		started, release := make(chan bool), make(chan bool)
		w.main.On("panic", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			close(started)
			<-release
			panic("handler broke")
		})
		w.main.On("echo", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			got.add("echo")
			return nil, nil
		})
		c, other := w.connect(transport), w.connect(transport)
		c.join("/other", "")
		c.Send(`421["panic"]`)
		<-started
		c.Send(`422["echo"]`)
		synctest.Wait()
		close(release)
		c.Want("whoever asked is told, and sent away", `431[{"error":{"code":"internal","message":"internal error"}}]`, `41`)
		got.want(t, "the socket ends", "handler panic")
		if log := w.log.String(); !strings.Contains(log, "handler broke") || !strings.Contains(log, "event_test.go") {
			t.Errorf("no panic with its stack in the log: %s", log)
		}
		other.Send(`421["echo"]`)
		other.Want("others go on", `431[]`)
		c.Send(`42/other,1["echo"]`)
		c.Want("and so does its other namespace", `43/other,1[]`)
		c.join("/", "")
	})
}

// What a client sent before it left is handled; what it sent before the server ended it is not.
func TestEventsBeforeTheEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		end     func(c *client, s *holdpost.Socket)
		handled bool
	}{
		"client leaves":     {func(c *client, _ *holdpost.Socket) { c.Send("41") }, true},
		"client hangs up":   {func(c *client, _ *holdpost.Socket) { c.Send("1") }, true},
		"server disconnect": {func(_ *client, s *holdpost.Socket) { s.Disconnect(false) }, false},
		"server closes":     {func(_ *client, s *holdpost.Socket) { s.Disconnect(true) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
				var got record
				w.main.OnDisconnect(func(*holdpost.Socket, holdpost.Reason) { got.add("end") })
				release := make(chan bool)
				w.main.On("e", func(ctx context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
					<-release
					got.add("%s, ended %v", args.Raw(0), ctx.Err() != nil)
					return nil, nil
				})
				c := w.connect(transport)
				s := c.socket()
				c.Send(`42["e",1]`)
				c.Send(`42["e",2]`)
				synctest.Wait()
				tt.end(c, s)
				synctest.Wait()
				close(release)
				if tt.handled {
					got.want(t, "everything, then the end", "1, ended true", "2, ended true", "end")
				} else {
					got.want(t, "what was under way, then the end", "1, ended true", "end")
				}
			})
		})
	}
}
