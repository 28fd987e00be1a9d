package holdpost_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
)

func TestWrap(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		type key struct{}
		w.main.On("echo", func(ctx context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			got.add("echo %v", ctx.Value(key{}))
			return []any{args}, nil
		})
		stop := w.main.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
			got.add("first %s %d", event, args.Len())
			reply, err := next(context.WithValue(ctx, key{}, "traced"), s, args)
			got.add("first after %s: %d, %v", event, len(reply), err)
			return reply, err
		})
		w.main.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
			switch event {
			case "forbidden":
				return nil, &holdpost.Error{Code: "forbidden", Message: "not you"}
			case "quiet":
				return nil, nil
			case "panic":
				panic("wrapper broke")
			case "changed":
				changed, err := holdpost.NewArgs([]byte(`["new"]`), nil)
				if err != nil {
					return nil, err
				}
				args = changed
			}
			return next(ctx, s, args)
		})
		c := w.connect(transport)
		s := c.socket()
		s.On("changed", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			return []any{args}, nil
		})
		for i, tt := range []struct{ event, answer string }{
			{"echo", `["x"]`},
			{"forbidden", `[{"error":{"code":"forbidden","message":"not you"}}]`},
			{"quiet", `[]`},
			{"changed", `["new"]`},
			{"nobody", ""},
		} {
			c.Send(fmt.Sprintf(`42%d["%s","x"]`, i, tt.event))
			if tt.answer != "" {
				c.Want(tt.event, fmt.Sprintf(`43%d%s`, i, tt.answer))
			}
		}
		got.want(t, "outermost first", "first echo 1", "echo traced", "first after echo: 1, <nil>",
			"first forbidden 1", "first after forbidden: 0, forbidden: not you",
			"first quiet 1", "first after quiet: 0, <nil>",
			"first changed 1", "first after changed: 1, <nil>",
			"first nobody 1", "first after nobody: 0, holdpost: nobody handles this event")
		stop()
		stop()
		before := len(got.all())
		c.Send(`427["echo"]`)
		c.Want("without the first", `437[]`)
		if lines := got.all()[before:]; !slices.Equal(lines, []string{"echo <nil>"}) {
			t.Errorf("got %q", lines)
		}
		c.Send(`428["panic"]`)
		c.Want("a wrapper that panics is like a handler", `438[{"error":{"code":"internal","message":"internal error"}}]`, "41")
	})
}

// Without an ack a dropped event is dropped in silence.
func TestWrapWithoutAck(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.Wrap(func(context.Context, *holdpost.Socket, string, holdpost.Args, holdpost.Handler) ([]any, error) {
			return nil, errors.New("dropped")
		})
		w.main.On("e", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			t.Error("handled")
			return nil, nil
		})
		c := w.connect(transport)
		c.Send(`42["e"]`)
		c.WantIdle("nothing is said", time.Second)
		if !strings.Contains(w.log.String(), "dropped") {
			t.Error("the error was not logged")
		}
	})
}

func TestOnAnyOutgoing(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		a, b := w.connect(transport), w.connect(transport)
		names := map[string]string{a.id: "a", b.id: "b"}
		w.main.On("echo", reply)
		stop := w.main.OnAnyOutgoing(func(s *holdpost.Socket, event string, args holdpost.Args) {
			got.add("%s %s %d %d", names[s.ID()], event, args.Len(), len(args.Attachments()))
		})
		s := a.socket()
		s.Emit(background, "plain", 1, 2)
		s.Volatile().Emit(background, "volatile", []byte{1})
		w.main.To(b.id).Emit(background, "room")
		s.Broadcast().Emit(background, "others")
		s.EmitWithAck(deadContext(), "ack")
		for range w.main.To(b.id).EmitWithAck(deadContext(), "acks") {
		}
		p, err := holdpost.Prepare("kept")
		if err != nil {
			t.Fatal(err)
		}
		s.Deliver(p, true)
		s.DeliverWithAck(p, true, func(holdpost.Args, error) {})
		a.Send(`421["echo"]`)
		want := []string{"a plain 2 0", "a volatile 1 1", "b room 0 0", "b others 0 0", "a ack 0 0", "b acks 0 0", "a kept 0 0", "a kept 0 0"}
		got.want(t, "all but the answer to an ack", want...)
		stop()
		s.Emit(background, "plain")
		got.want(t, "no more", want...)
	})
}

// Children have the wrappers and listeners of their parent, outside their own.
func TestHooksOfParents(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		var got record
		parent := w.srv.OfPattern(regexp.MustCompile(`^/x$`))
		child := w.srv.Of("/x")
		for name, ns := range map[string]*holdpost.Namespace{"parent": parent, "child": child} {
			ns.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
				got.add("%s wrapped %s", name, event)
				return next(ctx, s, args)
			})
			ns.OnAnyOutgoing(func(_ *holdpost.Socket, event string, _ holdpost.Args) { got.add("%s emitted %s", name, event) })
			ns.OnJoin(func(_ *holdpost.Socket, room string, created bool) { got.add("%s joined %s %v", name, room, created) })
			ns.OnLeave(func(_ *holdpost.Socket, room string, deleted bool) { got.add("%s left %s %v", name, room, deleted) })
		}
		parent.On("join", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) { return nil, s.Join("r") })
		c := &client{Peer: w.Connect("websocket"), w: w}
		c.join("/x", "")
		c.Send(`42/x,1["join"]`)
		c.Want("joined", `43/x,1[]`)
		parent.Emit(background, "e")
		c.Close()
		got.want(t, "the parent first", "parent wrapped join", "child wrapped join", "parent joined r true", "child joined r true",
			"parent emitted e", "child emitted e", "parent left r true", "child left r true")
	})
}

func TestRoomHooks(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		names := map[string]string{}
		w.main.Use(func(_ context.Context, s *holdpost.Socket) error { return s.Join("gate") })
		w.main.OnJoin(func(s *holdpost.Socket, room string, created bool) {
			if !s.Connected() {
				t.Error("told before the socket is in")
			}
			got.add("join %s %v", room, created)
		})
		w.main.OnLeave(func(s *holdpost.Socket, room string, deleted bool) {
			got.add("leave %s %s %v", names[s.ID()], room, deleted)
		})
		w.main.OnDisconnect(func(s *holdpost.Socket, _ holdpost.Reason) { got.add("end %s", names[s.ID()]) })
		a := w.connect(transport)
		got.want(t, "a room of a gate", "join gate true")
		b := w.connect(transport)
		names[a.id], names[b.id] = "a", "b"
		sa, sb := a.socket(), b.socket()
		sa.Join("r", "r", "q")
		sa.Join("r")
		sb.Join("r")
		sb.Leave("r", "r", "nowhere")
		sa.Leave("r")
		sa.Leave("r")
		got.want(t, "each change once", "join gate true", "join gate false", "join r true", "join q true", "join r false",
			"leave b r false", "leave a r true")
		before := len(got.all())
		a.Send("41")
		want := got.all()[:before]
		got.want(t, "at the end", append(want, "leave a gate false", "leave a q true", "end a")...)
		w.main.Broadcast().SocketsLeave(background, "gate")
		if lines := got.all(); lines[len(lines)-1] != "leave b gate true" {
			t.Errorf("got %q", lines)
		}
	})
}

// A hook that panics at the end of a socket, or as it comes in, harms nobody.
func TestRoomHooksPanic(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		var got record
		got.watch(w.main)
		w.main.Use(func(_ context.Context, s *holdpost.Socket) error { return s.Join("r") })
		w.main.OnJoin(func(*holdpost.Socket, string, bool) { panic("join broke") })
		w.main.OnLeave(func(*holdpost.Socket, string, bool) { panic("leave broke") })
		c := w.connect("websocket")
		c.Send("41")
		got.want(t, "ended as ever", "client namespace disconnect")
		if log := w.log.String(); !strings.Contains(log, "join broke") || !strings.Contains(log, "leave broke") {
			t.Errorf("log %s", log)
		}
	})
}
