package holdpost_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/internal/packet/msgpack"
	"github.com/holdpost/holdpost/internal/peertest"
)

// nextPacket takes the next packet of a client whose packets are MessagePack.
func nextPacket(t *testing.T, c *peertest.Peer) packet.Packet {
	t.Helper()
	text := c.Next()
	raw, ok := strings.CutPrefix(text, "binary ")
	b, err := hex.DecodeString(raw)
	if !ok || err != nil {
		t.Fatalf("got %q", text)
	}
	p, err := msgpack.Decode(b, &packet.DefaultLimits)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return p
}

func TestMessagePack(t *testing.T) {
	run(t, holdpost.Config{MessagePack: true}, func(t *testing.T, w *world, transport string) {
		args := func(s ...string) (raw [][]byte) {
			for _, a := range s {
				raw = append(raw, []byte(a))
			}
			return raw
		}
		want := func(what string, p packet.Packet, want string) {
			t.Helper()
			got := fmt.Sprintf("%v %s %d %s %s %s %x", p.Type, p.Namespace, p.ID, p.Name, p.Data, p.Args, p.Attachments)
			if p.Args != nil {
				got = fmt.Sprintf("%v %s %d %s %x", p.Type, p.Namespace, p.ID, p.Args, p.Attachments)
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
		w.srv.Of("/admin").Use(func(context.Context, *holdpost.Socket) error {
			return &holdpost.ConnectError{Message: "no", Data: []int{1}}
		})
		w.main.On("echo", func(_ context.Context, s *holdpost.Socket, a holdpost.Args) ([]any, error) {
			var v any
			if err := a.Decode(&v); err != nil {
				return nil, err
			}
			return []any{v}, s.Emit(context.Background(), "again", a)
		})
		c := w.Connect(transport)
		c.SendBinary(msgpack.AppendConnect(nil, "/", []byte(`{"t":1}`)))
		reply := nextPacket(t, c)
		if reply.Type != packet.Connect || !strings.HasPrefix(string(reply.Data), `{"sid":"`) {
			t.Fatalf("CONNECT is answered with %v %s", reply.Type, reply.Data)
		}
		if s, _ := w.main.Socket(string(reply.Data[8:28])); s == nil || string(s.Handshake().Auth) != `{"t":1}` {
			t.Errorf("no socket, or another auth")
		}
		c.SendBinary(msgpack.AppendEvent(nil, "/", 7, "echo", args(`{"a":[{"_placeholder":true,"num":0}],"n":1.5}`, `"x"`), [][]byte{{1, 2}}))
		want("event", nextPacket(t, c), `EVENT / -1 ["again" {"a":[{"_placeholder":true,"num":0}],"n":1.5} "x"] [0102]`)
		want("ack", nextPacket(t, c), `ACK / 7 [{"a":[{"_placeholder":true,"num":0}],"n":1.5}] [0102]`)

		c.SendBinary(msgpack.AppendConnect(nil, "/admin", []byte("{}")))
		want("a gate's refusal", nextPacket(t, c), `CONNECT_ERROR /admin -1  {"message":"no","data":[1]} [] []`)
		c.SendBinary(msgpack.AppendConnect(nil, "/none", []byte("{}")))
		want("no namespace", nextPacket(t, c), `CONNECT_ERROR /none -1  {"message":"Invalid namespace"} [] []`)

		w.main.Emit(t.Context(), "all", []byte{9}, nil, "é")
		want("broadcast", nextPacket(t, c), `EVENT / -1 ["all" {"_placeholder":true,"num":0} null "é"] [09]`)
		answer := make(chan string, 1)
		s, _ := w.main.Socket(string(reply.Data[8:28]))
		w.async(func() {
			a, err := s.EmitWithAck(context.Background(), "ask")
			answer <- fmt.Sprintf("%s %x %v", a.Raw(0), a.Attachments(), err)
		})
		ask := nextPacket(t, c)
		c.SendBinary(msgpack.AppendAck(nil, "/", ask.ID, args(`{"_placeholder":true,"num":0}`), [][]byte{{3}}))
		if got := <-answer; got != `{"_placeholder":true,"num":0} [03] <nil>` {
			t.Errorf("answer %s", got)
		}
		s.Disconnect(false)
		want("disconnect", nextPacket(t, c), `DISCONNECT / -1   [] []`)
	})
}

// A client of the other codec, and whatever is no packet, is told by the end of its connection (M8).
func TestWrongCodec(t *testing.T) {
	connect := msgpack.AppendConnect(nil, "/", []byte(`{"a":"`+strings.Repeat("x", 70_000)+`"}`))
	for name, tt := range map[string]struct {
		msgpack bool
		send    func(c *peertest.Peer)
	}{
		"text to a MessagePack server": {true, func(c *peertest.Peer) { c.Send("40") }},
		"MessagePack to a text server": {false, func(c *peertest.Peer) { c.SendBinary(msgpack.AppendConnect(nil, "/", []byte("{}"))) }},
		"no MessagePack":               {true, func(c *peertest.Peer) { c.SendBinary([]byte("40")) }},
		"nothing":                      {true, func(c *peertest.Peer) { c.SendBinary(nil) }},
		"an event before CONNECT":      {true, func(c *peertest.Peer) { c.SendBinary(msgpack.AppendEvent(nil, "/", -1, "x", nil, nil)) }},
		"a CONNECT that is too long":   {true, func(c *peertest.Peer) { c.SendBinary(connect) }},
		"a text once it is in": {true, func(c *peertest.Peer) {
			c.SendBinary(msgpack.AppendConnect(nil, "/", []byte("{}")))
			c.Next()
			c.Send(`42["x"]`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, holdpost.Config{MessagePack: tt.msgpack}, func(t *testing.T, w *world) {
				c := w.Connect(peertest.WebSocket)
				tt.send(c)
				if got := c.Next(); !strings.HasPrefix(got, "close ") {
					t.Errorf("got %s", peertest.Clip(got))
				}
				synctest.Wait() // the client may see the end first
				if n := w.main.Len(); n != 0 {
					t.Errorf("%d sockets", n)
				}
			})
		})
	}
}
