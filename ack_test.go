package holdpost_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
)

func TestEmitWithAck(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		var args holdpost.Args
		ask := func(v any) {
			w.async(func() {
				var err error
				if args, err = s.EmitWithAck(background, "q", v); err != nil {
					t.Error(err)
				}
			})
		}
		ask("x")
		c.Want("the question", `421["q","x"]`)
		c.Send(`437["stray"]`)
		c.Send(`431["one",2]`)
		c.Send(`431["again"]`)
		synctest.Wait()
		var one string
		var two int
		if args.Len() != 2 || args.Decode(&one, &two) != nil || one != "one" || two != 2 {
			t.Errorf("got %q %d", one, two)
		}
		ask([]byte{1})
		c.Want("a binary question", `451-2["q",{"_placeholder":true,"num":0}]`, "binary 01")
		c.Send(`461-2[{"_placeholder":true,"num":0}]`)
		c.SendBinary([]byte{7})
		synctest.Wait()
		var b []byte
		if args.Decode(&b) != nil || !slices.Equal(b, []byte{7}) {
			t.Errorf("got %x", b)
		}
	})
}

// A wait ends with its context, whose cause is told; the late answer means nothing.
func TestAckTimeout(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		why := errors.New("no patience")
		ctx, cancel := context.WithTimeoutCause(background, time.Second, why)
		defer cancel()
		start := time.Now()
		_, err := s.EmitWithAck(ctx, "q")
		if !errors.Is(err, why) || !strings.Contains(err.Error(), `emit "q"`) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		c.Send(`431["late"]`)
		dead, cancel := context.WithCancel(background)
		cancel()
		if _, err := s.EmitWithAck(dead, "r"); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that is done: %v", err)
		}
		if err := s.Emit(dead, "s"); err != nil {
			t.Errorf("what need not wait: %v", err)
		}
		c.Want("all were sent", `421["q"]`, `422["r"]`, `42["s"]`)
	})
}

// An ack that can no longer come fails at once, with the reason.
func TestAckAtDisconnect(t *testing.T) {
	for name, tt := range map[string]struct {
		end    func(c *client, s *holdpost.Socket)
		reason holdpost.Reason
	}{
		"client leaves":     {func(c *client, _ *holdpost.Socket) { c.Send("41") }, holdpost.ReasonClientDisconnect},
		"server disconnect": {func(_ *client, s *holdpost.Socket) { s.Disconnect(false) }, holdpost.ReasonServerDisconnect},
		"connection ends":   {func(c *client, _ *holdpost.Socket) { c.Send("1") }, holdpost.ReasonTransportClose},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
				c := w.connect(transport)
				s := c.socket()
				errs := make(chan error, 3)
				for range 2 {
					go func() {
						_, err := s.EmitWithAck(background, "q")
						errs <- err
					}()
				}
				go func() {
					for a, err := range w.main.Broadcast().EmitWithAck(background, "q") {
						if a.Socket != c.id {
							t.Errorf("answer of %q", a.Socket)
						}
						errs <- err
					}
				}()
				synctest.Wait()
				tt.end(c, s)
				for range 3 {
					err := <-errs
					ended, ok := errors.AsType[*holdpost.DisconnectError](err)
					if !ok || ended.Reason != tt.reason {
						t.Errorf("got %v", err)
					}
				}
				_, err := s.EmitWithAck(background, "q")
				if ended, ok := errors.AsType[*holdpost.DisconnectError](err); !ok || ended.Reason != tt.reason {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

func TestAckFromMany(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		quick, mute, leaving := w.connect(transport), w.connect(transport), w.connect(transport)
		bystander := w.connect(transport)
		quick.socket()
		everybody := w.main.Broadcast().Except(bystander.id)
		ctx, cancel := context.WithTimeoutCause(background, 10*time.Second, errors.New("time is up"))
		defer cancel()
		w.async(func() {
			synctest.Wait()
			quick.Send(`431["yes"]`)
			time.Sleep(time.Second)
			leaving.Send("41")
		})
		start := time.Now()
		var got []string
		for a, err := range everybody.EmitWithAck(ctx, "ready?") {
			who := map[string]string{quick.id: "quick", mute.id: "mute", leaving.id: "leaving"}[a.Socket]
			got = append(got, fmt.Sprintf("%v %s %s %v", time.Since(start), who, a.Args.Raw(0), err))
		}
		want := []string{
			`0s quick "yes" <nil>`,
			`1s leaving  holdpost: socket disconnected: client namespace disconnect`,
			`10s mute  emit "ready?": wait for the ack: time is up`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		for _, c := range []*client{quick, mute, leaving} {
			c.Want("was asked", `421["ready?"]`)
		}
		mute.Send(`431["late"]`)
		bystander.WantIdle("was not asked", time.Second)
		for range w.main.To("nobody").EmitWithAck(background, "x") {
			t.Error("an answer without sockets")
		}
		for _, err := range w.main.Broadcast().EmitWithAck(background, "x", make(chan int)) {
			if err == nil {
				t.Error("arguments that cannot be encoded")
			}
		}
	})
}

// Who breaks off forgets the rest.
func TestAckFromManyBrokenOff(t *testing.T) {
	run(t, holdpost.Config{MaxPendingAcks: 1}, func(t *testing.T, w *world, transport string) {
		a, b := w.connect(transport), w.connect(transport)
		b.socket()
		for i := range 3 {
			w.async(func() {
				synctest.Wait()
				a.Send(fmt.Sprintf(`43%d[]`, i+1))
			})
			for answer, err := range w.main.Broadcast().EmitWithAck(background, "q") {
				if answer.Socket != a.id || err != nil {
					t.Errorf("round %d: %q, %v", i, answer.Socket, err)
				}
				break
			}
		}
	})
}

// Whose answer, or failure, is there already does not count as late.
func TestAckFromManyInTime(t *testing.T) {
	bubble(t, holdpost.Config{MaxPendingAcks: 1}, func(t *testing.T, w *world) {
		s := w.connect("websocket").socket()
		s.EmitWithAck(deadContext(), "forgotten")
		p, err := holdpost.Prepare("open")
		if err != nil {
			t.Fatal(err)
		}
		s.DeliverWithAck(p, true, func(holdpost.Args, error) {})
		for range 50 {
			for _, err := range w.main.Broadcast().EmitWithAck(deadContext(), "q") {
				if !errors.Is(err, holdpost.ErrTooMany) {
					t.Fatal(err)
				}
			}
		}
	})
}

// What one socket may owe is limited; what it owes too much is refused, and the rest is not touched.
func TestPendingAcks(t *testing.T) {
	run(t, holdpost.Config{MaxPendingAcks: 2}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		p, err := holdpost.Prepare("q")
		if err != nil {
			t.Fatal(err)
		}
		var got record
		emit := func() error {
			return s.DeliverWithAck(p, true, func(args holdpost.Args, err error) { got.add("%s %v", args.Raw(0), err) })
		}
		for i, want := range []error{nil, nil, holdpost.ErrTooMany} {
			if err := emit(); !errors.Is(err, want) {
				t.Errorf("ack %d: %v", i, err)
			}
		}
		if _, err := s.EmitWithAck(background, "q"); !errors.Is(err, holdpost.ErrTooMany) {
			t.Errorf("EmitWithAck: %v", err)
		}
		for a, err := range w.main.Broadcast().EmitWithAck(background, "q") {
			if a.Socket != c.id || !errors.Is(err, holdpost.ErrTooMany) {
				t.Errorf("broadcast: %q, %v", a.Socket, err)
			}
		}
		c.Send(`432["b"]`)
		synctest.Wait()
		if err := emit(); err != nil {
			t.Errorf("once one was answered: %v", err)
		}
		s.Disconnect(false)
		if err := emit(); err == nil {
			t.Error("an ack of a socket that is gone")
		}
		lines := got.all()
		slices.Sort(lines)
		end := " holdpost: socket disconnected: server namespace disconnect"
		if want := []string{end, end, `"b" <nil>`}; !slices.Equal(lines, want) {
			t.Errorf("got %q, want %q", lines, want)
		}
	})
}
