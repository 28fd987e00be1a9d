package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
)

type message struct {
	Room string
	Text string
}

const (
	chat holdpost.Event[message]    = "chat"
	add  holdpost.Call[[2]int, int] = "add"
)

func sum(_ context.Context, n [2]int) (int, error) {
	if n[0] < 0 {
		return 0, &holdpost.Error{Code: "negative", Message: "no"}
	}
	return n[0] + n[1], nil
}

// One scenario over every transport: typed and untyped events and calls both ways, binary, namespaces, order.
func TestEvents(t *testing.T) { run(t, holdpost.Config{}, events) }

// The same in MessagePack.
func TestEventsInMessagePack(t *testing.T) {
	run(t, holdpost.Config{MessagePack: true}, func(t *testing.T, w *world, cc client.Config) {
		cc.MessagePack = true
		events(t, w, cc)
	})
}

// The same compressed; each message by itself, and each that is worth it.
func TestEventsCompressed(t *testing.T) {
	run(t, holdpost.Config{PerMessageDeflate: true}, func(t *testing.T, w *world, cc client.Config) {
		cc.PerMessageDeflate = true
		events(t, w, cc)
		const size = 100_000
		s := w.socket(cc)
		time.Sleep(time.Second) // for an upgrade
		before := w.carried.Load()
		coins := make([]byte, size)
		for i := range coins {
			coins[i] = "ht"[rand.IntN(2)] // a bit each
		}
		args, err := s.EmitWithAck(background, "echo", string(coins), coins)
		var text string
		var binary []byte
		if err := errors.Join(err, args.Decode(&text, &binary)); err != nil || text != string(coins) || !bytes.Equal(binary, coins) {
			t.Errorf("%d characters and %d bytes come back: %v", len(text), len(binary), err)
		}
		if carried := w.carried.Load() - before; slices.Contains(cc.Transports, "websocket") != (carried < 3*size) {
			t.Errorf("%d bytes were carried", carried)
		}
	})
}

func events(t *testing.T, w *world, cc client.Config) {
	var got record
	w.main.On("echo", reply)
	holdpost.Handle(w.main, add, func(ctx context.Context, _ *holdpost.Socket, n [2]int) (int, error) { return sum(ctx, n) })
	holdpost.On(w.main, chat, func(ctx context.Context, s *holdpost.Socket, m message) error {
		return chat.Emit(ctx, s, message{m.Room, strings.ToUpper(m.Text)})
	})
	asked := make(chan *holdpost.Socket, 1)
	w.main.OnConnection(func(_ context.Context, s *holdpost.Socket) error { asked <- s; return nil })

	s := w.client(cc).Of("/")
	client.On(s, chat, func(_ context.Context, m message) error { got.add("chat %s %s", m.Room, m.Text); return nil })
	client.Handle(s, add, sum)
	s.On("bytes", func(_ context.Context, args holdpost.Args) ([]any, error) { return []any{args}, nil })
	w.connect(s)
	if !s.Connected() || len(s.ID()) != 20 || s.Err() != nil {
		t.Errorf("connected %v with id %q, %v", s.Connected(), s.ID(), s.Err())
	}

	for i := range 50 {
		if err := chat.Emit(background, s, message{"lobby", fmt.Sprint("a", i)}); err != nil {
			t.Fatal(err)
		}
	}
	args, err := s.EmitWithAck(background, "echo", 1, "<two>", []byte{0, 1, 2, 255}, map[string]any{"b": []byte("x")})
	var one int
	var two string
	var three []byte
	var four map[string]any
	if err := errors.Join(err, args.Decode(&one, &two, &three, &four)); err != nil || args.Len() != 4 {
		t.Fatalf("echo: %d arguments, %v", args.Len(), err)
	}
	if one != 1 || two != "<two>" || string(three) != "\x00\x01\x02\xff" || string(four["b"].([]byte)) != "x" {
		t.Errorf("echo: %v %v %v %v", one, two, three, four)
	}
	if n, err := add.Do(background, s, [2]int{2, 3}); n != 5 || err != nil {
		t.Errorf("2+3: %d, %v", n, err)
	}
	_, err = add.Do(background, s, [2]int{-1, 3})
	if e, ok := errors.AsType[*holdpost.Error](err); !ok || e.Code != "negative" {
		t.Errorf("-1+3: %v", err)
	}
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint("chat lobby A", i))
	}
	got.want(t, "answers", want...)

	peer := <-asked
	if n, err := add.Do(background, peer, [2]int{4, 5}); n != 9 || err != nil {
		t.Errorf("the server asks 4+5: %d, %v", n, err)
	}
	_, err = add.Do(background, peer, [2]int{-4, 5})
	if e, ok := errors.AsType[*holdpost.Error](err); !ok || e.Code != "negative" {
		t.Errorf("the server asks -4+5: %v", err)
	}
	answer, err := peer.EmitWithAck(background, "bytes", []byte{9, 8})
	if err := errors.Join(err, answer.Decode(&three)); err != nil || string(three) != "\x09\x08" {
		t.Errorf("the server's bytes come back as %v, %v", three, err)
	}
	_, err = holdpost.Call[int, int]("nothing").Do(background, peer, 1)
	if e, ok := errors.AsType[*holdpost.Error](err); !ok || e.Code != holdpost.CodeUnknownEvent {
		t.Errorf("the server asks what nobody handles: %v", err)
	}
	wantTransport := cc.Transports[len(cc.Transports)-1]
	time.Sleep(time.Second) // for an upgrade
	if name := peer.Transport(); name != wantTransport {
		t.Errorf("the transport is %s, want %s", name, wantTransport)
	}
}

// Namespaces share a connection; one that leaves does not disturb the other.
func TestNamespaces(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		admin := w.srv.Of("/admin")
		var left record
		for _, ns := range []*holdpost.Namespace{w.main, admin} {
			ns.On("where", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
				return []any{ns.Name()}, nil
			})
			ns.OnDisconnect(func(_ *holdpost.Socket, r holdpost.Reason) { left.add("%s %s", ns.Name(), r) })
		}
		cl := w.client(cc)
		a, b := cl.Of("/"), cl.Of("admin")
		w.connect(a)
		w.connect(b)
		if cl.Of("/admin") != b || a.ID() == b.ID() {
			t.Error("sockets are mixed up")
		}
		for _, s := range []*client.Socket{a, b} {
			args, err := s.EmitWithAck(background, "where")
			var where string
			if err := errors.Join(err, args.Decode(&where)); err != nil || where != s.Namespace() {
				t.Errorf("%s is at %q, %v", s.Namespace(), where, err)
			}
		}
		a.Emit(background, "where")
		a.Disconnect()
		left.want(t, "one has left", "/ client namespace disconnect")
		if _, err := b.EmitWithAck(background, "where"); err != nil {
			t.Errorf("the other: %v", err)
		}
		if err := a.Emit(background, "where"); !errors.Is(err, client.ErrClosed) {
			t.Errorf("emit after the end: %v", err)
		}
		w.connect(a)
		cl.Close()
		synctest.Wait()
		if got := left.all(); len(got) != 3 {
			t.Errorf("at the end: %q", got)
		}
		if err := a.Connect(background); !errors.Is(err, client.ErrClosed) {
			t.Errorf("connect of a closed client: %v", err)
		}
	})
}

// What was emitted before Close reaches the server.
func TestCloseFlushes(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		var got record
		w.main.On("n", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			got.add("%s", args.Raw(0))
			return nil, nil
		})
		cl := w.client(cc)
		s := cl.Of("/")
		w.connect(s)
		for i := range 100 {
			s.Emit(background, "n", i)
		}
		cl.Close()
		synctest.Wait()
		if n := len(got.all()); n != 100 {
			t.Errorf("%d of 100 events have arrived", n)
		}
	})
}

func TestAuth(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		var seen record
		w.main.Use(func(_ context.Context, s *holdpost.Socket) error {
			seen.add("%s", s.Handshake().Auth)
			return nil
		})
		cc.Auth = map[string]string{"token": "fixed"}
		w.socket(cc)
		n := 0
		cc.AuthFunc = func(_ context.Context, namespace string) (any, error) {
			n++
			return map[string]any{"namespace": namespace, "n": n}, nil
		}
		s := w.socket(cc)
		w.cut(true)
		time.Sleep(5 * time.Second)
		w.up()
		time.Sleep(20 * time.Second)
		if !s.Connected() {
			t.Fatal("not back")
		}
		var mine []string
		for _, line := range seen.all() {
			if strings.Contains(line, "namespace") {
				mine = append(mine, line)
			}
		}
		if len(mine) != 2 || mine[0] != `{"n":1,"namespace":"/"}` || mine[1] != `{"n":2,"namespace":"/"}` || seen.all()[0] != `{"token":"fixed"}` {
			t.Errorf("the gate saw %q", seen.all())
		}
		cc.AuthFunc = func(context.Context, string) (any, error) { return nil, errDown }
		if err := w.client(cc).Of("/").Connect(background); !errors.Is(err, errDown) {
			t.Errorf("without a token: %v", err)
		}
		cc.AuthFunc, cc.Auth = nil, []int{1}
		if err := w.client(cc).Of("/").Connect(background); err == nil || !strings.Contains(err.Error(), "object") {
			t.Errorf("an array as auth: %v", err)
		}
	})
}

// A gate's refusal ends the socket, with its data; one that says when to come back does not.
func TestRefused(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		busy := 2
		w.main.Use(func(_ context.Context, s *holdpost.Socket) error {
			if strings.Contains(string(s.Handshake().Auth), "later") && busy > 0 {
				busy--
				return &holdpost.ConnectError{Message: "busy", Data: map[string]any{"retry_after": 30}}
			}
			if strings.Contains(string(s.Handshake().Auth), "never") {
				return &holdpost.ConnectError{Message: "go away", Data: map[string]any{"why": 7}}
			}
			return nil
		})
		cc.Auth = map[string]string{"x": "never"}
		s := w.client(cc).Of("/")
		err := s.Connect(background)
		e, ok := errors.AsType[*holdpost.ConnectError](err)
		if !ok || e.Message != "go away" || string(e.Data.(json.RawMessage)) != `{"why":7}` {
			t.Errorf("refused: %v", err)
		}
		if !errors.Is(s.Err(), err) || !errors.Is(context.Cause(s.Context()), err) {
			t.Errorf("the socket says %v", s.Err())
		}
		synctest.Wait()
		dials := w.dialed()
		time.Sleep(time.Minute)
		if w.dialed() != dials {
			t.Error("it came back")
		}
		cc.Auth = map[string]string{"x": "later"}
		later := w.client(cc).Of("/")
		var told record
		later.OnError(func(err error) { told.add("%v", err) })
		began := time.Now()
		if err := later.Connect(background); err != nil || time.Since(began) != time.Minute {
			t.Errorf("let in after %v: %v", time.Since(began), err)
		}
		told.want(t, "refusals", "busy", "busy")
		if err := w.client(cc).Of("/nowhere").Connect(background); err == nil || err.Error() != "Invalid namespace" {
			t.Errorf("unknown namespace: %v", err)
		}
	})
}
