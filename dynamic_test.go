package holdpost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// names returns the names of the namespaces that there are, without the main one.
func (w *world) names() []string {
	return slices.DeleteFunc(namesOf(w.srv), func(name string) bool { return name == "/" })
}

func (w *world) wantNames(what string, names ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.names(); !slices.Equal(got, names) {
		w.t.Errorf("%s: namespaces %q, want %q", what, got, names)
	}
}

func TestDynamicNamespaces(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		w.srv.OnNamespace(func(ns *holdpost.Namespace) { got.add("made %s", ns.Name()) })
		rooms := w.srv.OfPattern(regexp.MustCompile(`^/room-\d+$`))
		rooms.Use(func(_ context.Context, s *holdpost.Socket) error {
			if string(s.Handshake().Auth) == `{"bad":true}` {
				return errors.New("refused")
			}
			return nil
		})
		rooms.OnConnection(func(_ context.Context, s *holdpost.Socket) error {
			got.add("in %s", s.Namespace().Name())
			return s.Join("all")
		})
		rooms.OnDisconnect(func(s *holdpost.Socket, _ holdpost.Reason) { got.add("out %s", s.Namespace().Name()) })
		rooms.On("echo", reply)
		if rooms.Name() != `^/room-\d+$` {
			t.Errorf("the parent is called %q", rooms.Name())
		}

		a, b := &client{Peer: w.Connect(transport), w: w}, &client{Peer: w.Connect(transport), w: w}
		a.Send("40/other")
		a.Want("a name that does not match", `44/other,{"message":"Invalid namespace"}`)
		a.Send(`40/room-1,{"bad":true}`)
		a.Want("a gate of the parent", `44/room-1,{"message":"refused"}`)
		w.wantNames("is gone after a refusal")
		one := a.join("/room-1", "")
		b.join("/room-1", "")
		synctest.Wait()
		b.join("/room-2", "")
		w.wantNames("are there", "/room-1", "/room-2")
		a.Send(`42/room-1,1["echo","x"]`)
		a.Want("handlers of the parent", `43/room-1,1["x"]`)
		rooms.On("late", reply)
		a.Send(`42/room-1,2["late"]`)
		a.Want("also those that came later", `43/room-1,2[]`)

		rooms.Emit(background, "e")
		a.Want("emitted to the parent", `42/room-1,["e"]`)
		for _, want := range []string{b.Next(), b.Next()} {
			if want != `42/room-1,["e"]` && want != `42/room-2,["e"]` {
				t.Errorf("got %q", want)
			}
		}
		rooms.To("all").Except(one).Emit(background, "f")
		b.Next()
		b.Next()
		a.WantIdle("in rooms of the parent, but one", time.Second)
		if rooms.Len() != 3 || len(slices.Collect(rooms.Sockets())) != 3 {
			t.Errorf("%d sockets", rooms.Len())
		}
		if s, ok := rooms.Socket(one); !ok || s.Namespace().Name() != "/room-1" {
			t.Error("a socket is not found from the parent")
		}
		if _, ok := rooms.Socket("nobody"); ok {
			t.Error("nobody is found")
		}

		b.Send("41/room-1")
		synctest.Wait()
		b.Send("41/room-2")
		w.wantNames("one is empty", "/room-1")
		a.Close()
		w.wantNames("both are")
		b.join("/room-1", "")
		w.wantNames("is made again", "/room-1")
		got.want(t, "in order", "made /room-1", "made /room-1", "in /room-1", "in /room-1", "made /room-2", "in /room-2",
			"out /room-1", "out /room-2", "out /room-1", "made /room-1", "in /room-1")
	})
}

func TestFunctionParents(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		w.srv.OfFunc(func(_ context.Context, name string, auth json.RawMessage) bool {
			got.add("first %s %s", name, auth)
			time.Sleep(time.Second)
			if name == "/panic" {
				panic("match broke")
			}
			return name == "/a"
		}).On("who", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return []any{"first"}, nil })
		w.srv.OfFunc(func(_ context.Context, name string, auth json.RawMessage) bool {
			return strings.Contains(string(auth), "please")
		}).On("who", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return []any{"second"}, nil })
		c := &client{Peer: w.Connect(transport), w: w}
		c.join("/a", `{"p":"please"}`)
		c.join("/b", `{"p":"please"}`)
		for ns, want := range map[string]string{"/a": "first", "/b": "second"} {
			c.Send("42" + ns + `,1["who"]`)
			c.Want("the first parent that matches has it", "43"+ns+`,1["`+want+`"]`)
		}
		c.Send("40/c,")
		c.Want("nobody wants it", `44/c,{"message":"Invalid namespace"}`)
		c.Send("40/panic,")
		c.Want("a function that panics", `44/panic,{"message":"Invalid namespace"}`)
		if !strings.Contains(w.log.String(), "match broke") {
			t.Error("the panic was not logged")
		}
		got.want(t, "asked with the auth object", `first /a {"p":"please"}`, `first /b {"p":"please"}`, "first /c ", "first /panic ")
		w.wantNames("what was refused is not there", "/a", "/b")
	})
}

// Two clients that connect at once share one namespace; both wait for the hooks.
func TestConnectToOneAtOnce(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		made := 0
		var got record
		w.srv.OnNamespace(func(ns *holdpost.Namespace) {
			made++
			time.Sleep(time.Second)
			ns.On("hooked", reply)
			got.add("hooked")
			if w.srv.Of(ns.Name()) != ns {
				t.Error("the namespace is not there")
			}
		})
		parent := w.srv.OfFunc(func(context.Context, string, json.RawMessage) bool { time.Sleep(time.Second); return true })
		parent.OnConnection(func(context.Context, *holdpost.Socket) error {
			got.add("in")
			return nil
		})
		var clients []*client
		for range 5 {
			c := &client{Peer: w.Connect("websocket"), w: w}
			c.Send("40/x,")
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.joined("/x,")
			c.Send(`42/x,1["hooked"]`)
			c.Want("what the hook registered", `43/x,1[]`)
		}
		got.want(t, "nobody is in before the hook has ended", "hooked", "in", "in", "in", "in", "in")
		if made != 1 || w.srv.Of("/x").Len() != 5 {
			t.Errorf("made %d times, %d sockets", made, w.srv.Of("/x").Len())
		}
	})
}

// Who goes while the parents are asked, or the hooks run, holds nothing.
func TestGoneBeforeTheNamespaceIsThere(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.srv.OfFunc(func(_ context.Context, name string, _ json.RawMessage) bool { time.Sleep(time.Second); return true })
		w.srv.OnNamespace(func(*holdpost.Namespace) { time.Sleep(time.Second) })
		for _, wait := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond} {
			c := &client{Peer: w.Connect(transport), w: w}
			c.Send("40/x,")
			time.Sleep(wait)
			c.Close()
			time.Sleep(time.Minute)
			w.wantNames("nothing is left")
		}
		c := &client{Peer: w.Connect(transport), w: w}
		c.Send("40/x,")
		c.Throw("40/x,")
		c.wantClosed("a second CONNECT meanwhile")
		time.Sleep(time.Minute)
		w.wantNames("nothing is left")
	})
}

// Of makes a namespace stay, with the parent whose pattern it matches, whoever was first.
func TestDynamicNamespacesThatStay(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		parent := w.srv.OfPattern(regexp.MustCompile(`^/room-`))
		parent.On("who", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return []any{"parent"}, nil })
		w.srv.OfFunc(func(context.Context, string, json.RawMessage) bool { return true })
		first, other := w.srv.Of("/room-1"), w.srv.Of("/other")
		c := &client{Peer: w.Connect(transport), w: w}
		for _, name := range []string{"/room-1", "/room-2", "/other"} {
			c.join(name, "")
		}
		second := w.srv.Of("/room-2")
		second.On("who", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return []any{"own"}, nil })
		c.Send(`42/room-1,1["who"]`)
		c.Want("of the parent", `43/room-1,1["parent"]`)
		c.Send(`42/room-2,1["who"]`)
		c.Want("its own handler comes first", `43/room-2,1["own"]`)
		c.Send(`42/other,1["who"]`) // is not answered: a function claims nothing that the program made
		parent.Emit(background, "e")
		for range 2 {
			if got := c.Next(); got != `42/room-1,["e"]` && got != `42/room-2,["e"]` {
				t.Errorf("got %q", got)
			}
		}
		c.Close()
		w.wantNames("they stay", "/other", "/room-1", "/room-2")
		if w.srv.Of("/room-1") != first || w.srv.Of("/room-2") != second || w.srv.Of("/other") != other {
			t.Error("they are others now")
		}
	})
}

func TestMaxDynamicNamespaces(t *testing.T) {
	bubble(t, holdpost.Config{MaxDynamicNamespaces: 2}, func(t *testing.T, w *world) {
		w.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		w.srv.Of("/static")
		c := &client{Peer: w.Connect("websocket"), w: w}
		c.join("/1", "")
		c.join("/2", "")
		c.Send("40/3,")
		c.Want("one too many", `44/3,{"message":"Too many namespaces"}`)
		c.join("/static", "")
		c.Send("41/1")
		synctest.Wait()
		c.join("/3", "")
		w.srv.Of("/2")
		c.join("/4", "")
		w.wantNames("those that stay do not count", "/2", "/3", "/4", "/static")
	})
}

func TestAnswersFromChildren(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		parent := w.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		c := &client{Peer: w.Connect(transport), w: w}
		ids := map[string]string{c.join("/1", ""): "/1", c.join("/2", ""): "/2"}
		w.async(func() {
			for range 2 {
				namespace, _, _ := strings.Cut(strings.TrimPrefix(c.Next(), "42"), ",")
				c.Send(fmt.Sprintf(`43%s,1["%s"]`, namespace, namespace))
			}
		})
		n := 0
		for a, err := range parent.Broadcast().EmitWithAck(background, "q") {
			if want := ids[a.Socket]; err != nil || string(a.Args.Raw(0)) != `"`+want+`"` {
				t.Errorf("answer of %q: %s, %v", want, a.Args.Raw(0), err)
			}
			n++
		}
		if n != 2 {
			t.Errorf("%d answers", n)
		}
	})
}

// Coming and going at once leaves no namespace behind, and takes none away from somebody.
func TestDynamicNamespacesAtOnce(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		w.srv.OfPattern(regexp.MustCompile(`^/x$`)).On("echo", reply)
		var all sync.WaitGroup
		for range 8 {
			c := &client{Peer: w.Connect("websocket"), w: w}
			all.Go(func() {
				for i := range 100 {
					c.Send("40/x,")
					c.Next()
					c.Send(fmt.Sprintf(`42/x,%d["echo"]`, i))
					if got := c.Next(); got != fmt.Sprintf("43/x,%d[]", i) {
						t.Errorf("got %q", got)
						return
					}
					c.Send("41/x")
				}
			})
		}
		all.Wait()
		w.wantNames("all have left")
	})
}

// comeTo connects a client with recovery to a namespace, and returns its connection, the private id and what came before.
func (st *stage) comeTo(namespace, auth string) (p *peertest.Peer, pid string, before []string) {
	st.t.Helper()
	p = st.Connect(peertest.WebSocket)
	p.Send("40" + namespace + "," + auth)
	for {
		packet := p.Next()
		payload, ok := strings.CutPrefix(packet, "40"+namespace+",")
		if !ok {
			before = append(before, packet)
			continue
		}
		var reply struct{ PID string }
		if err := json.Unmarshal([]byte(payload), &reply); err != nil {
			st.t.Fatalf("reply %q: %v", packet, err)
		}
		return p, reply.PID, before
	}
}

// A namespace that clients may come back to is kept for them, what is emitted to its parent included.
func TestRecoveryInDynamicNamespace(t *testing.T) {
	onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
		st.journal.slow = 10 * time.Millisecond
		parent := st.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		p, pid, _ := st.comeTo("/1", "{}")
		p.Close()
		st.emit(parent, "missed")
		time.Sleep(time.Minute)
		p, again, before := st.comeTo("/1", `{"pid":"`+pid+`"}`)
		if again != pid || len(before) != 1 || !strings.HasPrefix(before[0], `42/1,["missed"`) {
			t.Errorf("comes back as %q, was %q, after %q", again, pid, before)
		}
		p.Close()
		time.Sleep(3 * time.Minute) // away too long
		st.emit(parent, "missed")
		_, again, _ = st.comeTo("/1", `{"pid":"`+pid+`"}`)
		if again == pid {
			t.Error("recovered after its time")
		}
	})
}

// Where a parent's event was not stored because the namespace was not there, nobody is recovered past it in silence.
func TestRecoveryBehindAParent(t *testing.T) {
	onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
		ofPattern := func() *holdpost.Namespace { return st.srv.OfPattern(regexp.MustCompile(`^/\d+$`)) }
		parent := ofPattern()
		p, pid, _ := st.comeTo("/1", "{}")
		st.emit(parent, "seen")
		p.Next()
		p.Close()
		time.Sleep(time.Second)
		st.restart(false)
		st.emit(ofPattern(), "missed") // nobody is in /1 yet
		p, again, _ := st.comeTo("/1", `{"pid":"`+pid+`"}`)
		if again == pid {
			t.Error("recovered without what it missed")
		}
		if got := p.Next(); !strings.HasPrefix(got, `42/1,["gap"`) {
			t.Errorf("got %q, want the gap", got)
		}
	})
}

// Namespaces kept for sessions that have expired give way to new ones.
func TestExpiredNamespacesGiveWay(t *testing.T) {
	onStage(t, holdpost.Recovery{MaxAway: time.Minute}, nil, func(t *testing.T, st *stage) {
		st.config.MaxDynamicNamespaces = 2
		st.restart(false)
		st.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		for i := range 2 {
			p, _, _ := st.comeTo(fmt.Sprintf("/%d", i), "{}")
			p.Close()
		}
		p := st.Connect(peertest.WebSocket)
		p.Send("40/2,{}")
		p.Want("both are kept", `44/2,{"message":"Too many namespaces"}`)
		time.Sleep(2 * time.Minute)
		st.comeTo("/2", "{}")
	})
}

// Who is refused for a reason of its connection does not keep the namespace either.
func TestRefusedByTheConnection(t *testing.T) {
	bubble(t, holdpost.Config{MaxNamespaces: 1}, func(t *testing.T, w *world) {
		w.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		a, b := &client{Peer: w.Connect("websocket"), w: w}, &client{Peer: w.Connect("websocket"), w: w}
		a.join("/1", "")
		b.join("/2", "")
		b.Send("40/1,")
		b.Want("one too many", `44/1,{"message":"Too many namespaces"}`)
		a.Throw("40/1,")
		a.wantClosed("twice")
		w.wantNames("the one that was left", "/2")
	})
}

// Who has left is not recovered, however soon it comes back.
func TestRecoveryAfterLeaving(t *testing.T) {
	onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
		st.journal.slow = 10 * time.Millisecond
		st.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		st.srv.Of("/static")
		for _, namespace := range []string{"/1", "/static"} {
			p, pid, _ := st.comeTo(namespace, "{}")
			time.Sleep(time.Second)
			p.Send("41" + namespace)
			synctest.Wait()
			if _, again, _ := st.comeTo(namespace, `{"pid":"`+pid+`"}`); again == pid {
				t.Errorf("%s: recovered", namespace)
			}
		}
	})
}
