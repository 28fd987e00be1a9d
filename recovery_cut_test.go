package holdpost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// Whenever a connection breaks while its client is being let in, the session is there the next time, with its rooms and all that
// was missed: also those rooms that a gate joins, and that somebody joins who knows the socket from a gate.
func TestRecoveryCutShort(t *testing.T) {
	const slow = time.Millisecond
	var known atomic.Pointer[holdpost.Socket]
	setup := func(ns *holdpost.Namespace) {
		ns.Use(func(_ context.Context, s *holdpost.Socket) error {
			known.Store(s)
			return s.Join("gate", "left by a gate")
		}, func(_ context.Context, s *holdpost.Socket) error {
			s.Leave("left by a gate")
			return nil
		})
	}
	for _, old := range []string{"ended", "alive"} {
		for cut := range 24 { // half milliseconds after the CONNECT: a replay takes about ten
			t.Run(fmt.Sprint(old, cut), func(t *testing.T) {
				onStage(t, holdpost.Recovery{}, setup, func(t *testing.T, st *stage) {
					st.journal.slow = slow
					v := st.visit(peertest.WebSocket, nil)
					st.socket(v).Join("own")
					time.Sleep(time.Hour) // far longer than a session is kept that nobody uses
					v.got = nil
					if old == "ended" {
						v.drop()
					}
					st.emit(st.main.To("own"), "e", 1)
					time.Sleep(10 * slow)
					v.dial()
					time.Sleep(time.Duration(cut) * slow / 2)
					if err := known.Load().Join("late"); err != nil {
						t.Fatal(err)
					}
					v.drop()
					v.got = nil
					st.emit(st.main.To("own"), "e", 2)
					st.emit(st.main.To("gate"), "e", 3)
					time.Sleep(10 * slow)
					v.back("cut short")
					v.listen()
					v.got = slices.DeleteFunc(v.got, func(e string) bool { return e == "e 1" }) // it may have come before
					v.want("missed", "e 2", "e 3")
					for _, room := range []string{"own", "gate"} {
						if rooms := slices.Collect(st.socket(v).Rooms()); !slices.Contains(rooms, room) {
							t.Errorf("rooms %q", rooms)
						}
					}
				})
			})
		}
	}
}

// A client that is cut while it is let in for the first time leaves nothing behind.
func TestNewSessionCutShort(t *testing.T) {
	setup := func(ns *holdpost.Namespace) {
		ns.Use(func(_ context.Context, s *holdpost.Socket) error {
			if err := s.Join("gate"); err != nil {
				return err
			}
			s.Disconnect(true)
			return nil
		})
	}
	onStage(t, holdpost.Recovery{}, setup, func(t *testing.T, st *stage) {
		v := &visitor{st: st, transport: peertest.WebSocket}
		for _, pid := range []string{"", "unknown"} {
			v.pid = pid
			v.dial()
			v.Peer.Want("end", "41", "close 1005")
		}
		synctest.Wait()
		if len(st.journal.sessions) > 0 {
			t.Errorf("%d sessions stored", len(st.journal.sessions))
		}
	})
}

// One private id that two connections bring at once is one socket in the end: that of the one who came last. Nothing goes to both.
func TestRecoveryOfOneByTwo(t *testing.T) {
	const slow = time.Millisecond
	for apart := range 12 {
		t.Run(fmt.Sprint(apart), func(t *testing.T) {
			onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
				st.journal.slow = slow
				first := st.visit(peertest.WebSocket, nil)
				first.drop()
				first.got = nil
				st.emit(st.main, "e", 1)
				time.Sleep(10 * slow)
				second := &visitor{st: st, transport: peertest.WebSocket, pid: first.pid, sid: first.sid, offset: first.offset}
				first.dial()
				synctest.Wait() // so that it is the one who comes first
				time.Sleep(time.Duration(apart) * slow)
				second.back("the last one")
				second.want("missed", "e 1")
				first.listen()
				if len(first.got) == 0 || first.got[len(first.got)-1] != "close 1005" {
					t.Errorf("the other one hears %q and is left to wait", first.got)
				}
				first.got = nil
				if st.main.Len() != 1 {
					t.Errorf("%d sockets", st.main.Len())
				}
				st.emit(st.main, "e", 2)
				time.Sleep(10 * slow)
				second.want("live", "e 2")
				first.want("nothing for the other one")
			})
		})
	}
}

// A client that can't be recovered though its last connection still stands leaves nothing behind there: neither the socket nor, once
// its time is over, a namespace that was made for it.
func TestRecoveryRefusedWhileAlive(t *testing.T) {
	onStage(t, holdpost.Recovery{MaxAway: time.Minute}, nil, func(t *testing.T, st *stage) {
		st.config.MaxDynamicNamespaces = 1
		st.restart(false)
		rooms := st.srv.OfPattern(regexp.MustCompile("^/room/"))
		join := func(room, auth string) (*peertest.Peer, string) {
			t.Helper()
			p := st.Connect(peertest.WebSocket)
			p.Send("40" + room + auth)
			var reply struct{ PID string }
			for reply.PID == "" {
				packet := p.Next()
				if payload, ok := strings.CutPrefix(packet, "40"+room); ok {
					if err := json.Unmarshal([]byte(payload), &reply); err != nil {
						t.Fatal(err)
					}
				} else if strings.HasPrefix(packet, "44") {
					t.Fatal(packet)
				}
			}
			return p, reply.PID
		}
		_, pid := join("/room/7,", "")
		st.emit(rooms, "e", 1)
		synctest.Wait()
		st.journal.dropped = st.journal.last
		second, other := join("/room/7,", `{"pid":"`+pid+`"}`)
		if other == pid {
			t.Fatal("recovered without what it missed")
		}
		second.Send("41/room/7,")
		time.Sleep(2 * time.Minute)
		join("/room/8,", "") // for which the other one has to be gone
	})
}
