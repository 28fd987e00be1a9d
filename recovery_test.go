package holdpost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
	"github.com/holdpost/holdpost/internal/serial"
)

// memoryJournal is a journal that outlives servers but not the test.
type memoryJournal struct {
	work serial.Queue[func()]
	slow time.Duration // how long it takes to store

	mu       sync.Mutex // guards the fields below
	epoch    int
	last     uint64
	dropped  uint64 // positions up to here are gone
	broken   bool   // nothing is stored any more
	dead     bool   // the server was killed: what it has not stored is lost
	busy     bool   // others move it on: whenever somebody looks it is further
	records  []storedRecord
	sessions map[string]storedSession
}

type storedSession struct {
	state []byte
	at    time.Time
}

type storedRecord struct {
	position uint64
	key      string
	data     []byte
}

func newMemoryJournal() *memoryJournal {
	return &memoryJournal{sessions: make(map[string]storedSession)}
}

// store runs f in its turn, and tells it whether to store.
func (j *memoryJournal) store(f func(ok bool)) {
	if j.work.Push(func() {
		if j.slow > 0 {
			time.Sleep(j.slow)
		}
		j.mu.Lock()
		dead, ok := j.dead, !j.broken
		j.mu.Unlock()
		if !dead {
			f(ok)
		}
	}) {
		go j.work.Run(func(batch []func()) {
			for _, f := range batch {
				f()
			}
		})
	}
}

func (j *memoryJournal) Append(keys []string, data []byte, stored func(uint64)) {
	j.store(func(ok bool) {
		if !ok {
			stored(0)
			return
		}
		j.mu.Lock()
		for _, key := range keys {
			j.last++
			j.records = append(j.records, storedRecord{j.last, key, data})
		}
		last := j.last
		j.mu.Unlock()
		stored(last)
	})
}

func (j *memoryJournal) Save(session string, state []byte, stored func(bool)) {
	j.store(func(ok bool) {
		j.mu.Lock()
		if ok && state == nil {
			delete(j.sessions, session)
		} else if ok {
			j.sessions[session] = storedSession{state, time.Now()}
		}
		j.mu.Unlock()
		stored(ok)
	})
}

func (j *memoryJournal) Load(_ context.Context, session string) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sessions[session].state, nil
}

func (j *memoryJournal) Read(ctx context.Context, keys []string, after, upto uint64, f func(uint64, string, []byte) error) (bool, error) {
	j.mu.Lock()
	records, dropped := slices.Clone(j.records), j.dropped
	j.mu.Unlock()
	select {
	case <-time.After(3 * j.slow):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if after < dropped {
		return false, nil
	}
	for _, r := range records {
		if r.position > after && r.position <= upto && slices.Contains(keys, r.key) {
			if err := f(r.position, r.key, r.data); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

func (j *memoryJournal) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.busy {
		j.last++
	}
	return j.last
}

func (j *memoryJournal) Offset(position uint64) string {
	return fmt.Sprintf("%d@%d", position, j.epoch)
}

func (j *memoryJournal) Position(offset string) (uint64, bool) {
	var position uint64
	var epoch int
	if n, _ := fmt.Sscanf(offset, "%d@%d", &position, &epoch); n != 2 || epoch != j.epoch {
		return 0, false
	}
	return position, true
}

// stage is a server with recovery, and what its clients have in common.
type stage struct {
	*peertest.Host
	t       *testing.T
	journal *memoryJournal
	config  holdpost.Config
	srv     *holdpost.Server
	main    *holdpost.Namespace
	setup   func(ns *holdpost.Namespace)
}

func onStage(t *testing.T, r holdpost.Recovery, setup func(ns *holdpost.Namespace), scenario func(t *testing.T, st *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // after all else: for what is still being stored
		st := &stage{t: t, journal: newMemoryJournal(), setup: setup}
		st.start(r)
		scenario(t, st)
	})
}

func (st *stage) start(r holdpost.Recovery) {
	r.Journal = st.journal
	st.config.PingInterval, st.config.Recovery, st.config.Logger = -1, &r, slog.New(slog.DiscardHandler)
	st.srv = holdpost.NewServer(&st.config)
	st.main = st.srv.Of("/")
	if st.setup != nil {
		st.setup(st.main)
	}
	st.Host = peertest.New(st.t, st.srv)
	srv := st.srv
	st.t.Cleanup(func() { srv.Close() })
}

// restart ends the server, with kill as kill -9 does, and starts another one on what is stored.
func (st *stage) restart(kill bool) {
	r := *st.config.Recovery
	if kill {
		st.journal.mu.Lock()
		st.journal.dead = true // for the old one: the new one has a journal with the same contents
		next := &memoryJournal{
			epoch: st.journal.epoch, last: st.journal.last, slow: st.journal.slow,
			records: slices.Clone(st.journal.records), sessions: make(map[string]storedSession),
		}
		for pid, s := range st.journal.sessions {
			if time.Since(s.at) < 20*time.Minute+r.MaxAway { // what a journal has to keep
				next.sessions[pid] = s
			}
		}
		st.journal.mu.Unlock()
		st.srv.Close()
		st.journal = next
	} else {
		st.srv.Shutdown(context.Background())
	}
	synctest.Wait()
	st.start(r)
}

// visitor is a client that keeps what the official one keeps: the private id, and the last string that came last.
type visitor struct {
	*peertest.Peer
	st          *stage
	transport   string
	sid         string
	pid         string
	offset      string
	auth        map[string]string
	got         []string // events, without offsets
	acks        bool     // answer events that ask for it
	recovered   bool
	beforeReply int // events of the last connection that came before the reply
}

func (st *stage) visit(transport string, auth map[string]string) *visitor {
	v := &visitor{st: st, transport: transport, auth: auth, acks: true}
	v.connect()
	return v
}

func (v *visitor) connect() {
	v.st.t.Helper()
	v.dial()
	for !v.take(v.Next()) {
	}
}

func (v *visitor) dial() {
	v.Peer = v.st.Connect(v.transport)
	auth := map[string]string{}
	if v.pid != "" {
		auth["pid"] = v.pid
	}
	if v.offset != "" {
		auth["offset"] = v.offset
	}
	for name, value := range v.auth {
		auth[name] = value
	}
	b, _ := json.Marshal(auth)
	v.beforeReply = 0
	v.Send("40" + string(b))
}

// take takes one packet, and tells whether it was the reply to the CONNECT.
func (v *visitor) take(packet string) (connected bool) {
	v.st.t.Helper()
	if payload, ok := strings.CutPrefix(packet, "40"); ok {
		var reply struct{ SID, PID string }
		if err := json.Unmarshal([]byte(payload), &reply); err != nil || reply.PID == "" {
			v.st.t.Fatalf("reply %q", packet)
		}
		v.recovered = v.pid == reply.PID
		v.sid, v.pid = reply.SID, reply.PID
		v.beforeReply = len(v.got) - v.beforeReply
		return true
	}
	text, ok := strings.CutPrefix(packet, "42")
	if !ok {
		v.got = append(v.got, packet)
		return false
	}
	id, array, _ := strings.Cut(text, "[")
	var args []any
	if err := json.Unmarshal([]byte("["+array), &args); err != nil {
		v.st.t.Fatalf("event %q: %v", packet, err)
	}
	if id != "" {
		args = append(args, "ack")
		if v.acks {
			v.Send("43" + id + "[]")
		}
	} else if offset, ok := args[len(args)-1].(string); ok && v.pid != "" {
		v.offset = offset
		args = args[:len(args)-1]
	}
	v.got = append(v.got, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(args), "["), "]"))
	return false
}

// listen takes what has come until nothing moves.
func (v *visitor) listen() {
	v.st.t.Helper()
	for {
		synctest.Wait()
		select {
		case packet := <-v.In:
			v.take(packet)
		default:
			return
		}
	}
}

func (v *visitor) want(what string, events ...string) {
	v.st.t.Helper()
	v.listen()
	if !slices.Equal(v.got, events) {
		v.st.t.Fatalf("%s: got %q, want %q", what, v.got, events)
	}
	v.got = nil
}

// drop breaks the connection, and lets the server notice.
func (v *visitor) drop() {
	v.listen()
	v.Close()
	synctest.Wait()
}

func (v *visitor) back(what string) {
	v.st.t.Helper()
	sid := v.sid
	v.beforeReply = len(v.got)
	v.connect()
	if !v.recovered || v.sid != sid {
		v.st.t.Fatalf("%s: recovered %v, id %q then %q", what, v.recovered, sid, v.sid)
	}
}

func (st *stage) emit(to holdpost.Emitter, event string, args ...any) {
	st.t.Helper()
	if err := to.Emit(context.Background(), event, args...); err != nil {
		st.t.Fatal(err)
	}
}

func (st *stage) socket(v *visitor) *holdpost.Socket {
	st.t.Helper()
	synctest.Wait()
	s, ok := st.main.Socket(v.sid)
	if !ok {
		st.t.Fatalf("no socket %q", v.sid)
	}
	return s
}

var note = holdpost.NewRecoverableKey[string]("note")

func TestRecovery(t *testing.T) {
	for _, transport := range peertest.Transports {
		t.Run(transport, func(t *testing.T) {
			onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
				ann, bob := st.visit(transport, nil), st.visit(transport, nil)
				st.socket(ann).Join("a", "both")
				st.socket(bob).Join("b", "both")
				note.Set(st.socket(ann), "likes tea")
				st.emit(st.main, "e", 1)
				ann.want("live", "e 1")
				ann.drop()
				if st.main.Len() != 1 {
					t.Fatal("the drop went unnoticed")
				}
				st.emit(st.main, "e", 2)
				st.emit(st.main.To("a"), "e", 3)
				st.emit(st.main.To("b"), "e", "not for ann")
				st.emit(st.main.To(ann.sid), "e", 4)
				st.emit(st.main.To("a", "both"), "e", 5)
				st.emit(st.main.Except("a"), "e", "not for ann")
				st.emit(st.main.To("both").Except("b"), "e", 6, []byte{1, 2})
				st.emit(st.socket(bob).To("both"), "e", 7)
				st.emit(st.main.Volatile(), "e", "missed for good")
				ann.back("after a drop")
				ann.want("missed", "e 2", "e 3", "e 4", "e 5", "451-[\"e\",6,{\"_placeholder\":true,\"num\":0},\"9@0\"]", "binary 0102", "e 7")
				if ann.beforeReply != 7 {
					t.Errorf("%d packets before the reply", ann.beforeReply)
				}
				s := st.socket(ann)
				if rooms := slices.Sorted(s.Rooms()); !slices.Equal(rooms, []string{"a", "both"}) || !s.Recovered() {
					t.Errorf("rooms %q, recovered %v", rooms, s.Recovered())
				}
				if v, ok := note.Get(s); v != "likes tea" || !ok {
					t.Errorf("value %q, %v", v, ok)
				}
				st.emit(st.main.To("a"), "e", 8)
				ann.want("live again", "e 8")
				ann.drop()
				ann.back("without having missed anything")
				ann.want("nothing twice")
			})
		})
	}
}

// A session is stored when it has changed, and not for a value that it has: whoever comes back sets those again.
func TestSessionIsStoredWhenItChanges(t *testing.T) {
	onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
		ann := st.visit(peertest.WebSocket, nil)
		for _, c := range []struct {
			value  string
			stored bool
		}{{"tea", true}, {"tea", false}, {"milk", true}, {"tea", true}} {
			time.Sleep(time.Second)
			note.Set(st.socket(ann), c.value)
			synctest.Wait()
			st.journal.mu.Lock()
			stored := st.journal.sessions[ann.pid].at.Equal(time.Now())
			st.journal.mu.Unlock()
			if stored != c.stored {
				t.Errorf("%s: stored %v, want %v", c.value, stored, c.stored)
			}
		}
	})
}

// Whoever comes back gets in though the journal moves on all the time, as it does when many come back at once.
func TestRecoveryWhileTheJournalMovesOn(t *testing.T) {
	onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
		ann := st.visit(peertest.WebSocket, nil)
		st.emit(st.main, "e", 1)
		ann.want("live", "e 1")
		ann.drop()
		st.emit(st.main, "e", 2)
		synctest.Wait()
		st.journal.busy, st.journal.slow = true, time.Millisecond
		ann.back("while the journal moves on")
		ann.want("missed", "e 2")
	})
}

// A client may be back before all sockets of its broken connection have ended.
func TestRecoveryWhileTheConnectionEnds(t *testing.T) {
	onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
		st.srv.Of("/a")
		ann := st.visit(peertest.WebSocket, nil)
		ann.Send("40/a,")
		var first, second struct{ SID, PID string }
		reply := func(into any) {
			if err := json.Unmarshal([]byte(strings.TrimPrefix(ann.Next(), "40/a,")), into); err != nil {
				t.Fatal(err)
			}
		}
		reply(&first)
		p, err := holdpost.Prepare("e")
		if err != nil {
			t.Fatal(err)
		}
		st.socket(ann).DeliverWithAck(p, false, func(holdpost.Args, error) { time.Sleep(time.Second) }) // the other socket has to wait
		ann.Close()
		synctest.Wait()
		ann.Peer = st.Connect(peertest.WebSocket)
		ann.Send(`40/a,{"pid":"` + first.PID + `"}`)
		reply(&second)
		if second != first || second.PID == "" {
			t.Errorf("was %v, is %v", first, second)
		}
	})
}

// What fails on the reference server.
func TestRecoveryWhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		run   func(st *stage, v *visitor)
		wants []string // when it is back
	}{
		{"no event came before the drop", func(st *stage, v *visitor) {
			v.drop()
			st.emit(st.main, "e", 1)
		}, []string{"e 1"}},
		{"a volatile event without arguments came last", func(st *stage, v *visitor) {
			st.emit(st.main, "e", 1)
			v.listen() // or it is dropped
			st.emit(st.main.Volatile(), "v")
			v.want("live", "e 1", "v")
			v.drop()
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"a volatile event that ends in a string came last", func(st *stage, v *visitor) {
			st.emit(st.main, "e", 1)
			v.listen()
			st.emit(st.main.Volatile(), "v", "text")
			v.want("live", "e 1", "v text")
			v.drop()
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"an event with an ack came last", func(st *stage, v *visitor) {
			s, answered := st.socket(v), make(chan error, 1)
			go func() {
				_, err := s.EmitWithAck(context.Background(), "e", "text")
				answered <- err
			}()
			v.want("live", "e text ack")
			if err := <-answered; err != nil {
				st.t.Error(err)
			}
			v.drop()
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"events with an ack were missed", func(st *stage, v *visitor) {
			s := st.socket(v)
			v.acks = false
			failed := make(chan error)
			go func() {
				_, err := s.EmitWithAck(context.Background(), "e", 1)
				failed <- err
			}()
			synctest.Wait()
			v.Close() // without having read it
			if err := <-failed; err == nil {
				st.t.Error("an ack came from nowhere")
			}
			v.acks = true
			for range st.main.To(v.sid).EmitWithAck(context.Background(), "e", 2) {
				st.t.Error("somebody answered")
			}
		}, []string{"e 1 ack", "e 2 ack"}},
		{"an event is answered before the reply to the CONNECT", func(st *stage, v *visitor) {
			v.drop()
			for range st.main.To(v.sid).EmitWithAck(context.Background(), "e", 1) {
				st.t.Error("somebody answered")
			}
			synctest.Wait()
			st.journal.busy, st.journal.slow = true, time.Millisecond // there is time between the two
		}, []string{"e 1 ack"}},
		{"the server was restarted", func(st *stage, v *visitor) {
			st.emit(st.main, "e", 1)
			v.want("live", "e 1")
			st.restart(false)
			v.drop()
			v.got = nil
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"the server was killed", func(st *stage, v *visitor) {
			st.socket(v).Join("a")
			v.drop()
			st.emit(st.main.To("a"), "e", 1)
			synctest.Wait()
			st.restart(true)
			st.emit(st.main.To("a"), "e", 2)
		}, []string{"e 1", "e 2"}},
		{"the connection was idle for an hour", func(st *stage, v *visitor) {
			st.emit(st.main, "e", 1)
			v.want("live", "e 1")
			time.Sleep(time.Hour)
			v.drop()
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"the server was killed after hours", func(st *stage, v *visitor) {
			time.Sleep(5 * time.Hour)
			st.restart(true)
			v.drop()
			st.emit(st.main, "e", 1)
		}, []string{"e 1"}},
		{"it is recovered twice in a row", func(st *stage, v *visitor) {
			v.drop()
			st.emit(st.main, "e", 1)
			v.back("once")
			v.want("missed", "e 1")
			v.drop()
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"the connection breaks in the middle of the replay", func(st *stage, v *visitor) {
			v.drop()
			for i := range 1000 {
				st.emit(st.main, "e", i)
			}
			v.dial()
			for range 300 {
				v.take(v.Next())
			}
			v.drop()
			if len(v.got) < 300 {
				st.t.Fatalf("got %d", len(v.got))
			}
			v.got = slices.DeleteFunc(v.got, func(s string) bool { return !strings.HasPrefix(s, "e ") })
			for i, e := range v.got {
				if e != fmt.Sprint("e ", i) {
					st.t.Fatalf("event %d is %q", i, e)
				}
			}
			v.back("in the middle")
			v.listen()
			for i, e := range v.got {
				if e != fmt.Sprint("e ", i) {
					st.t.Fatalf("event %d is %q", i, e)
				}
			}
			if len(v.got) != 1000 {
				st.t.Fatalf("%d events", len(v.got))
			}
			v.got = nil
			v.drop()
		}, nil},
		{"an event that a queue keeps came last", func(st *stage, v *visitor) {
			st.emit(st.main, "e", 1)
			p, err := holdpost.Prepare("kept", "~queue-offset")
			if err != nil {
				st.t.Fatal(err)
			}
			st.socket(v).Deliver(p, true)
			v.want("live", "e 1", "kept")
			v.drop()
			st.emit(st.main, "e", 2)
		}, []string{"e 2"}},
		{"the old connection is not known to be dead", func(st *stage, v *visitor) {
			st.socket(v).Join("a")
			st.emit(st.main.To("a"), "e", 1) // on its way to nowhere
		}, []string{"e 1"}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) {
				v := st.visit(peertest.WebSocket, nil)
				c.run(st, v)
				v.got = nil
				v.back(c.name)
				v.want("missed", c.wants...)
				if st.main.Len() != 1 {
					t.Errorf("%d sockets", st.main.Len())
				}
			})
		})
	}
}

func TestRecoveryRefused(t *testing.T) {
	identity := func(s *holdpost.Socket) string {
		var auth struct{ Name string }
		json.Unmarshal(s.Handshake().Auth, &auth)
		return auth.Name
	}
	for _, c := range []struct {
		name   string
		config holdpost.Recovery
		run    func(st *stage, v *visitor)
		gap    string // what the client is told; "" is nothing
	}{
		{"unknown id", holdpost.Recovery{}, func(st *stage, v *visitor) { v.pid = "nobody" }, "unknown"},
		{"another identity", holdpost.Recovery{Identity: identity}, func(st *stage, v *visitor) { v.auth = map[string]string{"name": "eve"} }, "unknown"},
		{"away too long", holdpost.Recovery{MaxAway: time.Minute}, func(st *stage, v *visitor) { time.Sleep(time.Minute + 1) }, "expired"},
		{"records dropped", holdpost.Recovery{}, func(st *stage, v *visitor) {
			st.emit(st.main, "e", 1)
			synctest.Wait()
			st.journal.dropped = st.journal.last
		}, "dropped"},
		{"journal lost its end", holdpost.Recovery{}, func(st *stage, v *visitor) { st.journal.epoch++ }, "dropped"},
		{"event not stored", holdpost.Recovery{}, func(st *stage, v *visitor) {
			st.journal.broken = true
			st.emit(st.main, "e", 1)
			synctest.Wait()
			st.journal.broken = false
		}, "dropped"},
		{"no offset and one is needed", holdpost.Recovery{NeedOffset: true}, func(st *stage, v *visitor) {}, ""},
		{"it left by itself", holdpost.Recovery{}, func(st *stage, v *visitor) {
			v.connect()
			v.Send("41")
			v.drop()
		}, "unknown"},
		{"it was sent away", holdpost.Recovery{}, func(st *stage, v *visitor) {
			v.connect()
			st.socket(v).Disconnect(false)
			v.drop()
		}, "unknown"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			onStage(t, c.config, nil, func(t *testing.T, st *stage) {
				v := st.visit(peertest.WebSocket, nil)
				st.socket(v).Join("secret")
				v.drop()
				st.emit(st.main.To("secret"), "e", "secret")
				synctest.Wait()
				c.run(st, v)
				v.got = nil
				sid, offset := v.sid, v.offset
				v.connect()
				if v.recovered || v.sid == sid {
					t.Fatalf("recovered %v, id %q again", v.recovered, v.sid)
				}
				s := st.socket(v)
				if s.Recovered() || len(slices.Collect(s.Rooms())) > 0 {
					t.Errorf("recovered %v, rooms %q", s.Recovered(), slices.Collect(s.Rooms()))
				}
				var want []string
				if c.gap != "" {
					want = []string{fmt.Sprintf("gap map[from:%s reason:%s]", offset, c.gap)}
				}
				v.want("the client is told", want...)
				st.emit(s, "e", 1)
				v.want("live", "e 1")
			})
		})
	}
}

// A gate that refuses a client keeps what it missed from it.
func TestRecoveryBehindGates(t *testing.T) {
	var closed bool
	setup := func(ns *holdpost.Namespace) {
		ns.Use(func(context.Context, *holdpost.Socket) error {
			if closed {
				return &holdpost.ConnectError{Message: "no"}
			}
			return nil
		})
	}
	onStage(t, holdpost.Recovery{}, setup, func(t *testing.T, st *stage) {
		v := st.visit(peertest.WebSocket, nil)
		v.drop()
		st.emit(st.main, "e", "secret")
		closed = true
		v.dial()
		v.Peer.Want("refusal", `44{"message":"no"}`)
		v.drop()
		closed = false
		v.back("let in again")
		v.want("missed", "e secret")
	})
}

// Nothing that a client sees is taken back by a crash: an answer waits until what was emitted before it is stored.
func TestNothingLeavesBeforeItIsStored(t *testing.T) {
	setup := func(ns *holdpost.Namespace) {
		ns.On("say", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
			return nil, s.To("room").Emit(ctx, "said", args)
		})
		ns.On("tell", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
			return nil, ns.To("room").Emit(ctx, "said", args)
		})
		ns.On("join", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
			return nil, s.Join("room")
		})
	}
	onStage(t, holdpost.Recovery{}, setup, func(t *testing.T, st *stage) {
		ann, bob := st.visit(peertest.WebSocket, nil), st.visit(peertest.WebSocket, nil)
		bob.Send(`421["join"]`)
		bob.want("joined", "431[]")
		st.journal.slow = time.Second
		for _, event := range []string{"say", "tell", "join"} {
			ann.Send(`427["` + event + `",1]`)
			synctest.Wait()
			time.Sleep(999 * time.Millisecond)
			if len(ann.In)+len(bob.In) > 0 {
				t.Fatalf("%s: %d answers and %d events before it is stored", event, len(ann.In), len(bob.In))
			}
			time.Sleep(time.Second)
			ann.Want(event, "437[]")
			if event != "join" {
				bob.listen()
				if len(bob.got) != 1 {
					t.Fatalf("got %q", bob.got)
				}
				bob.got = nil
			}
		}
		// What is killed in between was never answered.
		bob.drop()
		ann.Send(`428["say",2]`)
		synctest.Wait()
		st.restart(true)
		bob.back("after the kill")
		bob.want("an event that nobody was told of")
		ann.drop()
		ann.got = nil
		ann.back("after the kill")
		if rooms := slices.Collect(st.socket(ann).Rooms()); !slices.Equal(rooms, []string{"room"}) {
			t.Errorf("rooms %q", rooms)
		}
	})
}

// Whatever happens to a client's connection, it gets each event that was for it when it was emitted, once and in order.
func TestRecoveryModel(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			onStage(t, holdpost.Recovery{}, nil, func(t *testing.T, st *stage) { model(t, st, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func model(t *testing.T, st *stage, rnd *rand.Rand) {
	const clients = 4
	rooms := []string{"a", "b", "c"}
	st.journal.slow = time.Millisecond
	vs := make([]*visitor, clients)
	want := make([][]string, clients)
	in := make([]map[string]bool, clients)
	away := make([]bool, clients)
	for i := range vs {
		vs[i] = st.visit(peertest.Transports[rnd.IntN(len(peertest.Transports))], nil)
		in[i] = make(map[string]bool)
	}
	some := func() (picked []string) {
		for _, room := range rooms {
			if rnd.IntN(2) == 0 {
				picked = append(picked, room)
			}
		}
		return picked
	}
	any := func(i int, of []string) bool {
		return slices.ContainsFunc(of, func(room string) bool { return in[i][room] || room == vs[i].sid })
	}
	for n := range 300 {
		i := rnd.IntN(clients)
		switch op := rnd.IntN(12); {
		case op < 6:
			to, except := some(), []string{}
			if rnd.IntN(3) == 0 {
				except = some()
			}
			b := st.main.Except(except...)
			switch rnd.IntN(4) {
			case 0:
				to = []string{vs[i].sid}
			case 1:
				to = append(to, vs[i].sid)
			}
			if len(to) > 0 {
				b = b.To(to...)
			}
			st.emit(b, "e", n)
			for k := range vs {
				if (len(to) == 0 || any(k, to)) && !any(k, except) {
					want[k] = append(want[k], fmt.Sprint("e ", n))
				}
			}
		case op < 7 && !away[i]:
			room := rooms[rnd.IntN(len(rooms))]
			st.socket(vs[i]).Join(room)
			in[i][room] = true
		case op < 8 && !away[i]:
			room := rooms[rnd.IntN(len(rooms))]
			st.socket(vs[i]).Leave(room)
			in[i][room] = false
		case op < 10:
			if away[i] {
				vs[i].back(fmt.Sprint("client ", i))
				away[i] = false
			} else {
				if rnd.IntN(2) == 0 { // or what is under way is lost
					vs[i].listen()
				}
				vs[i].Close()
				for len(vs[i].In) > 0 {
					<-vs[i].In
				}
				synctest.Wait()
				away[i] = true
			}
		case op < 11 && !away[i]: // comes back before the server has noticed
			vs[i].back(fmt.Sprint("client ", i))
		case op == 11 && rnd.IntN(6) == 0:
			time.Sleep(time.Second) // all that was emitted is stored
			for k := range vs {
				if !away[k] {
					vs[k].listen()
				}
			}
			st.restart(rnd.IntN(2) == 0)
			for k := range vs {
				vs[k].Close()
				vs[k].got = slices.DeleteFunc(vs[k].got, func(s string) bool { return !strings.HasPrefix(s, "e ") })
				away[k] = true
			}
		default:
			time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
		}
	}
	for i, v := range vs {
		if away[i] {
			v.back(fmt.Sprint("client ", i, " at the end"))
		}
	}
	time.Sleep(time.Second)
	for i, v := range vs {
		v.listen()
		v.got = slices.DeleteFunc(v.got, func(s string) bool { return !strings.HasPrefix(s, "e ") })
		if !slices.Equal(v.got, want[i]) {
			t.Fatalf("client %d:\n got %q\nwant %q", i, v.got, want[i])
		}
	}
}
