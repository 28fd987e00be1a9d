package holdpost_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// Who gets what: ann is in a and b, ben in b, cat in c, dan nowhere.
func TestBroadcast(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		names := []string{"ann", "ben", "cat", "dan"}
		rooms := map[string][]string{"ann": {"a", "b"}, "ben": {"b"}, "cat": {"c"}}
		clients := make(map[string]*client)
		for _, name := range names {
			clients[name] = w.connect(transport)
			if err := clients[name].socket().Join(rooms[name]...); err != nil {
				t.Fatal(err)
			}
		}
		ann := clients["ann"].socket()
		everybody := w.main.Broadcast()
		inB := everybody.To("b")
		inB.To("c")     // a copy: inB stays what it is
		inB.Except("b") // as it does here
		inB.Volatile()  // and here
		var zero holdpost.Broadcast
		none := []string{}
		tests := []struct {
			name string
			to   holdpost.Emitter
			want string
		}{
			{"a namespace", w.main, "ann ben cat dan"},
			{"everybody", everybody, "ann ben cat dan"},
			{"this node", w.main.Local(), "ann ben cat dan"},
			{"volatile", w.main.Volatile(), "ann ben cat dan"},
			{"a room", inB, "ann ben"},
			{"rooms, each socket once", w.main.To("a").To("b", "c"), "ann ben cat"},
			{"one room twice", w.main.To("a", "a"), "ann"},
			{"a socket", w.main.To(clients["dan"].id), "dan"},
			{"a socket and a room of it", w.main.To("a", ann.ID()), "ann"},
			{"an empty room", w.main.To("z"), ""},
			{"no rooms at all", w.main.To(none...), ""},
			{"all but a room", w.main.Except("b"), "cat dan"},
			{"all but rooms", w.main.Except("a").Except("c"), "ben dan"},
			{"all but a socket", everybody.Except(clients["dan"].id, "c"), "ann ben"},
			{"a room but another", inB.Except("a"), "ben"},
			{"a room but itself", inB.Except("b"), ""},
			{"the others", ann.Broadcast(), "ben cat dan"},
			{"the others in a room", ann.To("b"), "ben"},
			{"the others in rooms, but one", ann.To("b", "c").Except("c").Local(), "ben"},
			{"only the sender", ann.To("a"), ""},
			{"the sender's own id", ann.To(ann.ID()), ""},
			{"nobody", zero, ""},
			{"nobody either", zero.To("a").Except("b"), ""},
		}
		for i, tt := range tests {
			if err := tt.to.Emit(background, "e", i); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			var got []string
			synctest.Wait()
			for _, name := range names {
				select {
				case packet := <-clients[name].In:
					if packet != fmt.Sprintf(`42["e",%d]`, i) {
						t.Errorf("%s: %s got %q", tt.name, name, packet)
					}
					got = append(got, name)
				default:
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s: went to %q, want %q", tt.name, got, tt.want)
			}
		}
	})
}

// A broadcast is encoded once, binary arguments and all, and arrives the same in every namespace's form.
func TestBroadcastBinary(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		other := w.srv.Of("/other")
		a, b := w.connect(transport), w.connect(transport)
		a.join("/other", "")
		b.socket()
		arg := []byte{1, 2, 3}
		p, err := holdpost.Prepare("e", map[string]any{"b": arg}, "x", []byte{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			w.main.Broadcast().EmitPrepared(p)
			other.Broadcast().EmitPrepared(p)
			for _, c := range []*client{a, b} {
				c.Want("binary", `452-["e",{"b":{"_placeholder":true,"num":0}},"x",{"_placeholder":true,"num":1}]`, "binary 010203", "binary ")
			}
			a.Want("in another namespace", `452-/other,["e",{"b":{"_placeholder":true,"num":0}},"x",{"_placeholder":true,"num":1}]`, "binary 010203", "binary ")
		}
	})
}

// What the caller does with its arguments afterwards changes nothing.
func TestArgumentsAreEncodedAtOnce(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		m, raw := map[string]any{"a": 1}, []byte{1, 2}
		if err := s.Emit(background, "e", m, raw); err != nil {
			t.Fatal(err)
		}
		m["a"], raw[0] = 2, 9
		c.Want("as it was", `451-["e",{"a":1},{"_placeholder":true,"num":0}]`, "binary 0102")
		if err := s.Emit(background, "e", make(chan int)); err == nil || !strings.Contains(err.Error(), `emit "e": argument 0`) {
			t.Errorf("an argument that cannot be encoded: %v", err)
		}
		args, err := holdpost.NewArgs([]byte(`[1,{"_placeholder":true,"num":0}]`), [][]byte{{5}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Emit(background, "e", "first", args, "last"); err != nil {
			t.Fatal(err)
		}
		c.Want("Args stand for their elements", `451-["e","first",1,{"_placeholder":true,"num":0},"last"]`, "binary 05")
		if err := s.Emit(background, "e", []byte{1}, args); err == nil {
			t.Error("binary values before Args with binary values")
		}
		if _, err := holdpost.NewArgs([]byte(`{"a":1}`), nil); err == nil {
			t.Error("Args of what is no array")
		}
	})
}

func TestRooms(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var atEnd record
		w.main.OnDisconnect(func(s *holdpost.Socket, _ holdpost.Reason) {
			atEnd.add("%v", slices.Collect(s.Rooms()))
			if err := s.Join("late"); err != nil {
				t.Errorf("join after the end: %v", err)
			}
		})
		c := w.connect(transport)
		s := c.socket()
		rooms := func(want ...string) {
			t.Helper()
			if got := slices.Collect(s.Rooms()); !slices.Equal(got, want) {
				t.Errorf("in %q, want %q", got, want)
			}
			w.main.To("a").Emit(background, "a")
			if slices.Contains(want, "a") {
				c.Want("in a", `42["a"]`)
			} else {
				c.WantIdle("not in a", time.Second)
			}
		}
		rooms()
		if err := s.Join("a", "b", "a"); err != nil {
			t.Error(err)
		}
		rooms("a", "b")
		if err := s.Join("a"); err != nil {
			t.Error(err)
		}
		rooms("a", "b")
		s.Leave("a", "nowhere")
		s.Leave("a")
		rooms("b")
		for _, bad := range []string{"", "\x00", "a\nb", "\xff", strings.Repeat("x", 256)} {
			if err := s.Join("fine", bad); !errors.Is(err, holdpost.ErrInvalidName) {
				t.Errorf("join %q: %v", bad, err)
			}
		}
		rooms("b")
		if err := s.Join(strings.Repeat("x", 255)); err != nil {
			t.Error(err)
		}
		s.Leave(strings.Repeat("x", 255))
		s.Join("a")
		c.Send("41")
		atEnd.want(t, "the rooms that it was in", "[b a]")
		w.main.To("a", "late").Emit(background, "a")
		c.WantIdle("it is in no room any more", time.Second)
		if got := slices.Collect(s.Rooms()); len(got) > 0 {
			t.Errorf("in %q", got)
		}
		s.Leave("b")
		c.join("/", "")
		c.WantIdle("and a new socket begins in none", time.Second)
	})
}

func TestMaxRooms(t *testing.T) {
	bubble(t, holdpost.Config{MaxRooms: 3}, func(t *testing.T, w *world) {
		s := w.connect("websocket").socket()
		if err := s.Join("a", "b", "b", "a"); err != nil {
			t.Error(err)
		}
		if err := s.Join("c", "d"); !errors.Is(err, holdpost.ErrTooMany) {
			t.Errorf("one too many: %v", err)
		}
		if got := slices.Collect(s.Rooms()); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("in %q: all or nothing", got)
		}
		if err := s.Join("a", "c"); err != nil {
			t.Errorf("at the limit: %v", err)
		}
		s.Leave("b")
		if err := s.Join("d"); err != nil {
			t.Errorf("after leaving one: %v", err)
		}
	})
}

// Joining, leaving, broadcasting and disconnecting at once leave nobody behind in a room.
func TestRoomsAtOnce(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		var sockets []*holdpost.Socket
		for range 8 {
			sockets = append(sockets, w.connect("websocket").socket())
		}
		for i, s := range sockets {
			all.Go(func() {
				for range 200 {
					s.Join("a", fmt.Sprint(i))
					s.To("a").Emit(background, "x")
					s.Leave("a")
				}
				s.Join("a")
			})
			if i%2 == 0 {
				all.Go(func() { s.Disconnect(i%4 == 0) })
			}
		}
		all.Wait()
		synctest.Wait()
		if n := w.main.Len(); n != 4 {
			t.Errorf("%d sockets left", n)
		}
		n := 0
		for range w.main.To("a").EmitWithAck(deadContext(), "count") {
			n++
		}
		if n != 4 {
			t.Errorf("%d sockets in the room", n)
		}
	})
}

// A volatile event is dropped for who cannot take it now: with something before it on its way, or no poll waiting. Header
// and attachments are one, and events that are not volatile are not touched.
func TestVolatile(t *testing.T) {
	for name, emitters := range map[string]func(w *world, s *holdpost.Socket) (plain, volatile holdpost.Emitter){
		"socket": func(_ *world, s *holdpost.Socket) (plain, volatile holdpost.Emitter) { return s, s.Volatile() },
		"namespace": func(w *world, _ *holdpost.Socket) (plain, volatile holdpost.Emitter) {
			return w.main, w.main.Volatile()
		},
	} {
		t.Run(name+" polling", func(t *testing.T) {
			bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
				s, query := w.deafPolling()
				plain, volatile := emitters(w, s)
				polls := make(chan string)
				poll := func() {
					w.async(func() {
						_, body := w.Request("GET", query, "")
						polls <- body
					})
					synctest.Wait()
				}
				want := func(what, body string) {
					t.Helper()
					if got := <-polls; got != body {
						t.Errorf("%s: got %q, want %q", what, got, body)
					}
				}
				volatile.Emit(background, "v", 1)
				poll()
				volatile.Emit(background, "v", 2)
				volatile.Emit(background, "v", 3)
				want("of two in a row the first, and nothing from before the poll", `42["v",2]`)
				poll()
				plain.Emit(background, "e")
				volatile.Emit(background, "v", 4)
				want("none right behind another", `42["e"]`)
				volatile.Emit(background, "v", 5)
				plain.Emit(background, "e", 1)
				volatile.Emit(background, "v", 6)
				plain.Emit(background, "e", 2)
				poll()
				want("the others are all there", `42["e",1]`+"\x1e"+`42["e",2]`)
				poll()
				volatile.Emit(background, "v", []byte{1})
				want("with all of its parts", `451-["v",{"_placeholder":true,"num":0}]`+"\x1ebAQ==")
			})
		})
		t.Run(name+" websocket", func(t *testing.T) {
			bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
				s, conn := w.deafWebSocket()
				plain, volatile := emitters(w, s)
				volatile.Emit(background, "v", []byte{1})
				volatile.Emit(background, "v", []byte{2})
				plain.Emit(background, "e")
				volatile.Emit(background, "v", []byte{3})
				p := w.NewPeer()
				p.Read(conn)
				p.Want("what was first, and what is not volatile", `451-["v",{"_placeholder":true,"num":0}]`, "binary 01", `42["e"]`)
				synctest.Wait()
				volatile.Emit(background, "v", []byte{4})
				p.Want("and one when all of it was taken", `451-["v",{"_placeholder":true,"num":0}]`, "binary 04")
				conn.Close()
				p.Close()
				synctest.Wait()
				if err := s.Volatile().Emit(background, "v"); !errors.Is(err, s.Err()) || err == nil {
					t.Errorf("when it is gone: %v", err)
				}
				if err := volatile.Emit(background, "connect"); !errors.Is(err, holdpost.ErrInvalidName) {
					t.Errorf("a reserved name: %v", err)
				}
			})
		})
	}
}

// What the events of one read make a room hear goes out in one write for each of its members, and at once.
func TestBroadcastsOfOneRead(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		w.main.On("all", func(ctx context.Context, s *holdpost.Socket, a holdpost.Args) ([]any, error) {
			return nil, s.Broadcast().Emit(ctx, "e", a)
		})
		var reads atomic.Int64
		dial := w.Dial
		w.Dial = func() (net.Conn, error) {
			conn, err := dial()
			return &readCounter{conn, &reads}, err
		}
		receiver := w.connect(peertest.WebSocket)
		w.Dial = dial
		sender := w.connect(peertest.WebSocket)
		synctest.Wait()
		before, start := reads.Load(), time.Now()
		var stream []byte
		for i := range 20 {
			stream = frame.AppendMasked(stream, frame.Text, true, [4]byte{}, fmt.Appendf(nil, `42["all",%d]`, i))
		}
		sender.Conn().Write(stream)
		for i := range 20 {
			receiver.Want("in order", fmt.Sprintf(`42["e",%d]`, i))
		}
		synctest.Wait()
		if n := reads.Load() - before; n != 1 {
			t.Errorf("%d writes", n)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("after %v", d)
		}
	})
}

// A readCounter counts how often something came.
type readCounter struct {
	net.Conn
	n *atomic.Int64
}

func (c *readCounter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.n.Add(1)
	}
	return n, err
}
