package holdpost_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
)

func TestFetchSockets(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		user, note, secret := holdpost.NewRecoverableKey[map[string]int]("user"), holdpost.NewRecoverableKey[string]("note"), holdpost.NewKey[string]("secret")
		a := &client{Peer: w.ConnectQuery(transport, "q=1"), w: w}
		a.id = a.join("/", `{"as":"a"}`)
		b, c := w.connect(transport), w.connect(transport)
		s := a.socket()
		s.Join("r", "s")
		b.socket().Join("r")
		user.Set(s, map[string]int{"id": 7})
		secret.Set(s, "x")
		fetch := func(to holdpost.Broadcast) map[string]holdpost.SocketInfo {
			all := make(map[string]holdpost.SocketInfo)
			for info, err := range to.FetchSockets(deadContext()) {
				if err != nil {
					t.Error(err)
				}
				all[info.ID] = info
			}
			return all
		}
		if all := fetch(w.main.Broadcast()); len(all) != 3 {
			t.Errorf("%d sockets", len(all))
		}
		if some := fetch(s.To("r")); len(some) != 1 || some[b.id].ID != b.id {
			t.Errorf("the others in a room: %v", some)
		}
		if some := fetch(w.main.Except("r")); len(some) != 1 || some[c.id].Namespace != "/" {
			t.Errorf("all but a room: %v", some)
		}
		if none := fetch(holdpost.Broadcast{}); len(none) != 0 {
			t.Errorf("nobody: %v", none)
		}
		info := fetch(w.main.To(a.id))[a.id]
		if !slices.Equal(info.Rooms, []string{"r", "s"}) || string(info.Handshake.Auth) != `{"as":"a"}` || info.Handshake.Query.Get("q") != "1" {
			t.Errorf("got %+v", info)
		}
		if len(info.Values) != 1 || string(info.Values["user"]) != `{"id":7}` {
			t.Errorf("values %s", info.Values)
		}
		note.Set(s, "x")
		for range w.main.Broadcast().FetchSockets(background) {
			break
		}
	})
}

func TestSocketsJoinAndLeave(t *testing.T) {
	run(t, holdpost.Config{MaxRooms: 2}, func(t *testing.T, w *world, transport string) {
		a, b := w.connect(transport), w.connect(transport)
		b.socket().Join("x", "y")
		everybody := w.main.Broadcast()
		if err := everybody.SocketsJoin(background, "r"); !errors.Is(err, holdpost.ErrTooMany) {
			t.Errorf("one of them is full: %v", err)
		}
		if got := slices.Collect(a.socket().Rooms()); !slices.Equal(got, []string{"r"}) {
			t.Errorf("the other is in %q", got)
		}
		if err := everybody.SocketsJoin(background, ""); !errors.Is(err, holdpost.ErrInvalidName) {
			t.Errorf("no name: %v", err)
		}
		if err := w.main.To("y").SocketsLeave(background, "x", "y"); err != nil {
			t.Error(err)
		}
		if err := errors.Join(everybody.SocketsJoin(background, "r"), w.main.To("nobody").SocketsJoin(background, "z")); err != nil {
			t.Error(err)
		}
		w.main.To("r").Emit(background, "e")
		a.Want("in the room", `42["e"]`)
		b.Want("in the room", `42["e"]`)
	})
}

// What was emitted before goes out before the end.
func TestDisconnectSockets(t *testing.T) {
	for _, closeConn := range []bool{false, true} {
		run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
			var got record
			got.watch(w.main)
			a, b, stays := w.connect(transport), w.connect(transport), w.connect(transport)
			a.socket().Join("r")
			b.socket().Join("r")
			w.main.To("r").Emit(background, "bye")
			if err := w.main.To("r").DisconnectSockets(background, closeConn); err != nil {
				t.Error(err)
			}
			for _, c := range []*client{a, b} {
				c.Want("in order", `42["bye"]`, "41")
				if closeConn {
					c.wantClosed("with its connection")
				} else {
					c.WantIdle("the connection stays", time.Minute)
				}
			}
			got.want(t, "both", "server namespace disconnect", "server namespace disconnect")
			stays.socket()
		})
	}
}

// The same for all children of a parent.
func TestSocketsOfChildren(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		parent := w.srv.OfPattern(regexp.MustCompile(`^/\d+$`))
		c := &client{Peer: w.Connect("websocket"), w: w}
		for i := range 3 {
			c.join(fmt.Sprint("/", i), "")
		}
		if err := parent.Broadcast().SocketsJoin(background, "r"); err != nil {
			t.Error(err)
		}
		var namespaces []string
		for info := range parent.To("r").FetchSockets(background) {
			namespaces = append(namespaces, info.Namespace)
		}
		slices.Sort(namespaces)
		if !slices.Equal(namespaces, []string{"/0", "/1", "/2"}) {
			t.Errorf("sockets in %q", namespaces)
		}
		parent.To("r").DisconnectSockets(background, false)
		synctest.Wait()
		if parent.Len() != 0 {
			t.Errorf("%d sockets left", parent.Len())
		}
	})
}
