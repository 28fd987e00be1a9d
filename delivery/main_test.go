package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/peertest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/index"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// store is a broker with all that it stands on.
type store struct {
	*queue.Broker
	engine *embedded.Engine
	index  *index.Index
}

func openStore(t *testing.T, dir string, config func(*queue.Config)) *store {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s := &store{}
	var err error
	if s.engine, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "store"), Logger: log, Reserve: 1 << 20, Level: embedded.LevelMemory}); err != nil {
		t.Fatal(err)
	}
	if s.index, err = index.Open(filepath.Join(dir, "index"), log); err != nil {
		t.Fatal(err)
	}
	c := queue.Config{Engine: s.engine, Index: s.index, Logger: log}
	if config != nil {
		config(&c)
	}
	if s.Broker, err = queue.Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) close() {
	s.Broker.Close()
	s.index.Close()
	s.engine.Close()
}

// post is a server that serves the client operations.
type post struct {
	*peertest.Host
	t        *testing.T
	dir      string
	recovery bool
	store    *store
	journals *store // nil without recovery
	journal  *delivery.Journal
	delivery *delivery.Delivery
	srv      *holdpost.Server
	config   func(*delivery.Config)
	once     *sync.Once
}

func newPost(t *testing.T, recovery bool, config func(*delivery.Config)) *post {
	p := &post{t: t, dir: t.TempDir(), recovery: recovery, config: config}
	p.start()
	return p
}

var names = holdpost.NewKey[string]("name")

func (p *post) start() {
	p.t.Helper()
	log := slog.New(slog.DiscardHandler)
	p.store = openStore(p.t, filepath.Join(p.dir, "kept"), nil)
	c := holdpost.Config{Logger: log}
	identity := func(s *holdpost.Socket) string {
		name, _ := names.Get(s)
		return name
	}
	if p.recovery {
		p.journals = openStore(p.t, filepath.Join(p.dir, "recovery"), nil)
		p.journal = delivery.NewJournal(p.journals.Broker, log)
		c.Recovery = &holdpost.Recovery{Journal: p.journal, Identity: identity}
	}
	p.srv = holdpost.NewServer(&c)
	dc := delivery.Config{Broker: p.store.Broker, Identity: identity, Logger: log}
	if p.config != nil {
		p.config(&dc)
	}
	ns := p.srv.Of("/")
	ns.Use(func(_ context.Context, s *holdpost.Socket) error {
		var auth struct{ Client string }
		json.Unmarshal(s.Handshake().Auth, &auth)
		if auth.Client != "" {
			names.Set(s, auth.Client)
		}
		return nil
	})
	p.delivery = delivery.New(dc)
	p.delivery.Handle(ns)
	p.Host = peertest.New(p.t, p.srv)
	p.once = new(sync.Once)
	p.t.Cleanup(p.stop)
}

// stop ends the server and its store, once.
func (p *post) stop() {
	srv, kept, journals, journal, d := p.srv, p.store, p.journals, p.journal, p.delivery
	p.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		srv.Shutdown(ctx)
		d.Close()
		kept.close()
		if journals != nil {
			journals.Broker.Close()
			journal.Close()
			journals.index.Close()
			journals.engine.Close()
		}
	})
}

func (p *post) restart() {
	p.stop()
	p.start()
}

// guest is a client that keeps what the official one keeps for recovery.
type guest struct {
	*peertest.Peer
	p      *post
	name   string
	pid    string
	offset string
	sid    string
	calls  int
	events []event // that came and were not taken yet
}

type event struct {
	name string
	args []json.RawMessage
	ack  string // id, or empty
}

// String returns the event without its offset.
func (e event) String() string {
	var b strings.Builder
	b.WriteString(e.name)
	for _, a := range e.args {
		if !strings.HasPrefix(string(a), `"~`) {
			b.WriteByte(' ')
			b.Write(a)
		}
	}
	return b.String()
}

func (p *post) guest(name string) *guest {
	g := &guest{p: p, name: name}
	g.connect()
	return g
}

// connect connects, with what there is from the last time, and reports whether the client was recovered.
func (g *guest) connect() (recovered bool) {
	g.p.t.Helper()
	g.Peer = g.p.Connect(peertest.WebSocket)
	auth := map[string]string{"client": g.name}
	if g.pid != "" {
		auth["pid"], auth["offset"] = g.pid, g.offset
	}
	b, _ := json.Marshal(auth)
	g.Send("40" + string(b))
	for {
		packet := g.take()
		if payload, ok := strings.CutPrefix(packet, "40"); ok {
			var reply struct{ SID, PID string }
			if err := json.Unmarshal([]byte(payload), &reply); err != nil {
				g.p.t.Fatalf("reply %q: %v", packet, err)
			}
			recovered = g.pid != "" && reply.PID == g.pid
			g.sid, g.pid = reply.SID, reply.PID
			return recovered
		}
	}
}

// take takes one packet: events are put aside, pings answered.
func (g *guest) take() string {
	g.p.t.Helper()
	packet := g.Next()
	if packet == "2" {
		g.Send("3")
	}
	if text, ok := strings.CutPrefix(packet, "42"); ok {
		id, array, _ := strings.Cut(text, "[")
		var args []json.RawMessage
		if err := json.Unmarshal([]byte("["+array), &args); err != nil || len(args) == 0 {
			g.p.t.Fatalf("event %q: %v", packet, err)
		}
		e := event{args: args[1:], ack: id}
		json.Unmarshal(args[0], &e.name)
		if n := len(e.args); id == "" && n > 0 {
			json.Unmarshal(e.args[n-1], &g.offset) // keeps what it has unless this is a string
		}
		g.events = append(g.events, e)
	}
	return packet
}

// call calls an operation and returns its answer.
func (g *guest) call(operation string, args ...any) json.RawMessage {
	g.p.t.Helper()
	g.calls++
	b, err := json.Marshal(append([]any{operation}, args...))
	if err != nil {
		g.p.t.Fatal(err)
	}
	g.Send(fmt.Sprintf("42%d%s", g.calls, b))
	prefix := fmt.Sprintf("43%d[", g.calls)
	for {
		if text, ok := strings.CutPrefix(g.take(), prefix); ok {
			return json.RawMessage(strings.TrimSuffix(text, "]"))
		}
	}
}

// ok calls an operation that must work, and decodes its answer.
func (g *guest) ok(into any, operation string, args ...any) {
	g.p.t.Helper()
	answer := g.call(operation, args...)
	var failed struct{ Error *holdpost.Error }
	if json.Unmarshal(answer, &failed); failed.Error != nil {
		g.p.t.Fatalf("%s%v: %v", operation, args, failed.Error)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			g.p.t.Fatalf("%s%v: %s: %v", operation, args, answer, err)
		}
	}
}

// refused calls an operation that must fail with a code.
func (g *guest) refused(code string, operation string, args ...any) {
	g.p.t.Helper()
	answer := g.call(operation, args...)
	var failed struct{ Error *holdpost.Error }
	if err := json.Unmarshal(answer, &failed); err != nil || failed.Error == nil || failed.Error.Code != code || failed.Error.Message == "" {
		g.p.t.Errorf("%s%v: %s, want code %q", operation, args, answer, code)
	}
}

// want waits for the next events.
func (g *guest) want(what string, events ...string) []event {
	g.p.t.Helper()
	for len(g.events) < len(events) {
		g.take()
	}
	got := g.events[:len(events)]
	for i, e := range got {
		if e.String() != events[i] {
			g.p.t.Fatalf("%s: got %q, want %q", what, got, events)
		}
	}
	g.events = g.events[len(events):]
	return got
}

// heartbeat waits until the server has asked for and got a sign of life that proves what came before.
func (g *guest) heartbeat() {
	g.p.t.Helper()
	for g.take() != "2" {
	}
	g.call("leave", "nowhere") // answered by the same reader, behind the pong
}

func (g *guest) publish(topic string, n int) {
	g.p.t.Helper()
	g.ok(nil, "publish", topic, "e", n)
}
