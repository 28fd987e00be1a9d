package holdpost_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// A clientV2 speaks Socket.IO v2 over a WebSocket.
type clientV2 struct {
	*peertest.Peer
	sid  string
	send func(packet string)
}

func (w *world) connectV2(query string) *clientV2 {
	w.t.Helper()
	conn := w.DialWebSocket("EIO=3&transport=websocket" + query)
	c := &clientV2{Peer: w.NewPeer()}
	w.t.Cleanup(func() { conn.Close(); c.Close() })
	c.Read(conn)
	c.send = func(packet string) { c.Write(conn, frame.Text, packet) }
	if _, err := fmt.Sscanf(c.Next(), `0{"sid":"%20s`, &c.sid); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestSocketIOv2(t *testing.T) {
	bubble(t, holdpost.Config{AllowEIO3: true, MaxNameBytes: 20}, func(t *testing.T, w *world) {
		w.main.On("echo", func(_ context.Context, _ *holdpost.Socket, a holdpost.Args) ([]any, error) { return []any{a}, nil })
		var auth, query string
		w.srv.Of("/admin").Use(func(_ context.Context, s *holdpost.Socket) error {
			auth, query = string(s.Handshake().Auth), s.Handshake().Query.Get("user")
			return nil
		})
		w.srv.Of("/shut").Use(func(context.Context, *holdpost.Socket) error { return errors.New("no way") })
		w.srv.Of("/closed").Use(func(context.Context, *holdpost.Socket) error {
			return &holdpost.ConnectError{Message: "no", Data: map[string]int{"n": 1}}
		})
		c := w.connectV2("&user=me")
		c.Want("in without asking", "40")
		if s, ok := w.main.Socket(c.sid); !ok || s.ID() != c.sid {
			t.Error("the socket has another id than the client thinks")
		}
		c.send(`4212["echo",1,"é"]`)
		c.Want("ack", `4312[1,"é"]`)
		c.send(`451-2["echo",{"_placeholder":true,"num":0}]`)
		c.send("b4AQI=")
		c.Want("binary ack", `461-2[{"_placeholder":true,"num":0}]`, "binary 040102")

		c.send("40/admin?token=a%20b&x=1&x=2,")
		c.Want("another namespace", "40/admin,")
		if auth != `{"token":"a b","x":["1","2"]}` || query != "me" {
			t.Errorf("auth %s, query %q", auth, query)
		}
		if _, ok := w.srv.Of("/admin").Socket("/admin#" + c.sid); !ok {
			t.Error("the socket has another id than the client thinks")
		}
		c.send("40/shut,")
		c.Want("refused with its text", `44/shut,"no way"`)
		c.send("40/closed,")
		c.Want("refused with data", `44/closed,{"n":1}`)
		c.send("40/none")
		c.Want("no namespace", `44/none,{"message":"Invalid namespace"}`)
		long := strings.Repeat("x", 20)
		c.send("40/" + long + ",")
		c.Want("a long name", "44/"+long+`,{"message":"Invalid namespace"}`)
		c.send("40/?token=" + strings.Repeat("x", 70_000))
		c.Want("a query that is too long", "close 1005")
	})
}

// Broadcasts reach the clients of both protocols.
func TestSocketIOv2AmongOthers(t *testing.T) {
	bubble(t, holdpost.Config{AllowEIO3: true}, func(t *testing.T, w *world) {
		old, young := w.connectV2(""), w.connect(peertest.WebSocket)
		old.Want("in", "40")
		w.main.Emit(t.Context(), "e", []byte{1, 2})
		old.Want("broadcast", `451-["e",{"_placeholder":true,"num":0}]`, "binary 040102")
		young.Want("broadcast", `451-["e",{"_placeholder":true,"num":0}]`, "binary 0102")
		old.send(`40`)
		old.Want("a CONNECT that is not its to send", "close 1005")
		young.Send("41")
		synctest.Wait()
		if n := w.main.Len(); n != 0 {
			t.Errorf("%d sockets", n)
		}
	})
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		if status, body := w.Request("GET", "EIO=3&transport=polling", ""); status != 400 || !strings.Contains(body, `"code":5`) {
			t.Errorf("off by default: %d %s", status, body)
		}
	})
}
