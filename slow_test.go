package holdpost_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// deaf joins the main namespace and takes nothing from then on.
func (w *world) deaf(transport string) *holdpost.Socket {
	w.t.Helper()
	if transport == peertest.Polling {
		s, _ := w.deafPolling()
		return s
	}
	s, _ := w.deafWebSocket()
	return s
}

// deafPolling joins and does not poll. It returns the query of the client's requests.
func (w *world) deafPolling() (*holdpost.Socket, string) {
	w.t.Helper()
	query := w.openPolling()
	w.Request("POST", query, "40")
	_, reply := w.Request("GET", query, "")
	return w.socketOf(reply), query
}

// deafWebSocket joins and does not read.
func (w *world) deafWebSocket() (*holdpost.Socket, net.Conn) {
	w.t.Helper()
	conn := w.DialWebSocket("EIO=4&transport=websocket")
	w.t.Cleanup(func() { conn.Close() })
	go conn.Write(frame.AppendMasked(nil, frame.Text, true, [4]byte{}, []byte("40")))
	reply := ""
	for b := make([]byte, 1); !strings.HasSuffix(reply, `"}`); reply += string(b) {
		if _, err := conn.Read(b); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.socketOf(reply[strings.LastIndex(reply, "40{"):]), conn
}

// socketOf returns the socket that a CONNECT was answered with.
func (w *world) socketOf(reply string) *holdpost.Socket {
	w.t.Helper()
	synctest.Wait()
	s, ok := w.main.Socket(strings.TrimSuffix(strings.TrimPrefix(reply, `40{"sid":"`), `"}`))
	if !ok {
		w.t.Fatalf("CONNECT is answered %q", reply)
	}
	return s
}

// A client that takes nothing is closed when its queue is full, in packets or in bytes, and costs nobody else anything.
func TestSlowPeer(t *testing.T) {
	event := func(size int) string { return strings.Repeat("x", size) }
	for name, tt := range map[string]struct {
		config holdpost.Config
		size   int // of an event, in bytes
		fits   int // so many events
	}{
		"packets": {holdpost.Config{QueuePackets: 20}, 10, 20},
		"bytes":   {holdpost.Config{QueueBytes: 10_000}, 1000 - 4 - 10, 10}, // frame header, and 42["e",""]
	} {
		t.Run(name, func(t *testing.T) {
			for _, transport := range []string{peertest.Polling, peertest.WebSocket} {
				t.Run(transport, func(t *testing.T) {
					bubble(t, tt.config, func(t *testing.T, w *world) {
						var got record
						got.watch(w.main)
						good := w.connect(transport)
						s := w.deaf(transport)
						for i := range tt.fits {
							w.main.Emit(background, "e", event(tt.size))
							if s.Err() != nil {
								t.Fatalf("closed by event %d: %v", i, s.Err())
							}
							good.Want("the other gets it", fmt.Sprintf(`42["e","%s"]`, event(tt.size)))
						}
						if q := s.Queued(); q == 0 || q > 10_000 {
							t.Errorf("%d bytes are queued", q)
						}
						got.want(t, "at the limit")
						w.main.Emit(background, "e", "one more")
						got.want(t, "beyond it", "slow peer")
						good.Want("the other gets all of it", `42["e","one more"]`)
						if s.Queued() != 0 || w.srv.Connections() != 1 {
							t.Errorf("%d bytes queued, %d connections", s.Queued(), w.srv.Connections())
						}
					})
				})
			}
		})
	}
}

// A single event may be larger than the queue: somebody who takes it is no slow peer.
func TestEventLargerThanQueue(t *testing.T) {
	run(t, holdpost.Config{QueueBytes: 1000}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		big := strings.Repeat("x", 100_000)
		c.socket().Emit(background, "e", big)
		c.Want("it arrives", `42["e","`+big+`"]`)
	})
}

// A write that stands still for the write timeout ends the connection, however little is queued.
func TestWriteTimeout(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		var got record
		got.watch(w.main)
		s := w.deaf(peertest.WebSocket)
		s.Emit(background, "e")
		time.Sleep(9 * time.Second)
		got.want(t, "for a while")
		time.Sleep(2 * time.Second)
		got.want(t, "but not for ever", "slow peer")
	})
}

// What a client sends faster than its handlers run is limited, in events and in bytes.
func TestInboundOverrun(t *testing.T) {
	for name, tt := range map[string]struct {
		config holdpost.Config
		event  string
	}{
		"events": {holdpost.Config{MaxInboundEvents: 3}, `42["block"]`},
		"bytes":  {holdpost.Config{MaxInboundBytes: 300}, `42["block","` + strings.Repeat("x", 100-len(`["block",""]`)) + `"]`},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, tt.config, func(t *testing.T, w *world, transport string) {
				var got record
				got.watch(w.main)
				release := make(chan bool)
				w.main.On("block", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
					<-release
					got.add("handled")
					return nil, nil
				})
				w.main.On("echo", reply)
				c, other := w.connect(transport), w.connect(transport)
				for range 1 + 3 { // one is under way
					c.Send(tt.event)
					synctest.Wait()
				}
				if w.srv.Connections() != 2 {
					t.Fatal("closed at the limit")
				}
				c.Throw(tt.event)
				c.wantClosed("beyond it")
				other.Send(`421["echo"]`)
				other.Want("another socket goes on", `431[]`)
				synctest.Wait()
				close(release)
				got.want(t, "what waited is dropped", "handled", "inbound overrun")
			})
		})
	}
}

// What was handled no longer counts.
func TestInboundIsCountedDown(t *testing.T) {
	run(t, holdpost.Config{MaxInboundEvents: 2, MaxInboundBytes: 300}, func(t *testing.T, w *world, transport string) {
		w.main.On("e", reply)
		c := w.connect(transport)
		for i := range 50 {
			c.Send(fmt.Sprintf(`42%d["e","%s"]`, i, strings.Repeat("x", 200)))
			c.Next()
		}
	})
}
