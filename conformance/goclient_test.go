//go:build unix

package conformance

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// Our Go client does the same against the npm server and against ours, over every transport.
func TestGoClient(t *testing.T) {
	skipShort(t)
	if err := packages("../bench/npm"); err != nil {
		t.Fatal(err)
	}
	plain := client.Config{}
	compressed := client.Config{PerMessageDeflate: true}
	msgpack := client.Config{MessagePack: true}
	for name, start := range map[string]func(*testing.T, bool) string{"npm": npmServer, "holdpost": goServer} {
		t.Run(name, func(t *testing.T) {
			text, binary := start(t, false), start(t, true)
			for _, way := range []struct {
				name       string
				url        string
				config     client.Config
				transports []string
			}{
				{"polling", text, plain, []string{"polling"}},
				{"websocket", text, plain, []string{"websocket"}},
				{"upgrade", text, plain, []string{"polling", "websocket"}},
				{"compressed websocket", text, compressed, []string{"websocket"}},
				{"MessagePack over polling", binary, msgpack, []string{"polling"}},
				{"MessagePack over websocket", binary, msgpack, []string{"websocket"}},
				{"MessagePack over upgrade", binary, msgpack, []string{"polling", "websocket"}},
			} {
				for _, c := range goClientCases {
					t.Run(way.name+"/"+c.name, func(t *testing.T) {
						config := way.config
						config.Transports, config.ReconnectDelay = way.transports, 10*time.Millisecond
						c.run(t, &goClient{t: t, url: way.url, config: config})
					})
				}
			}
		})
	}
}

// npmServer starts js/goclient.mjs and returns its URL.
func npmServer(t *testing.T, msgpack bool) string {
	cmd := exec.Command("node", filepath.Join("js", "goclient.mjs"))
	if msgpack {
		cmd.Env = append(os.Environ(), "HOLDPOST_MSGPACK=1")
	}
	complaints := &output{}
	cmd.Stderr = complaints
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, complaints.tail(20))
	}
	return strings.TrimSpace(line)
}

// goServer serves what js/goclient.mjs does, and returns its URL.
func goServer(t *testing.T, msgpack bool) string {
	store, err := local.Open(t.Context(), local.Config{Engine: embedded.Config{Dir: t.TempDir(), Reserve: 1 << 20, Level: embedded.LevelMemory}})
	if err != nil {
		t.Fatal(err)
	}
	journal := delivery.NewJournal(store.Broker, nil)
	srv := holdpost.NewServer(&holdpost.Config{
		Recovery: &holdpost.Recovery{Journal: journal}, PingInterval: 300 * time.Millisecond, PingTimeout: 6 * time.Second,
		PerMessageDeflate: true, MessagePack: msgpack,
	})
	for _, ns := range []*holdpost.Namespace{srv.Of("/"), srv.Of("/admin")} {
		serveGoClient(ns)
	}
	web := httptest.NewServer(srv)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(ctx)
		web.Close()
		store.Broker.Close()
		journal.Close()
		store.Close()
	})
	return web.URL
}

func serveGoClient(ns *holdpost.Namespace) {
	type args = holdpost.Args
	ns.Use(func(_ context.Context, s *holdpost.Socket) error {
		var auth struct{ Refuse bool }
		if json.Unmarshal(s.Handshake().Auth, &auth); auth.Refuse {
			return &holdpost.ConnectError{Message: "go away", Data: map[string]int{"why": 7}}
		}
		return nil
	})
	ns.On("echo", func(_ context.Context, _ *holdpost.Socket, a args) ([]any, error) { return []any{a}, nil })
	ns.On("count", func(ctx context.Context, s *holdpost.Socket, a args) ([]any, error) {
		var n int
		err := a.Decode(&n)
		for i := range n {
			s.Emit(ctx, "n", i, "<&> \u2028 é")
		}
		return nil, err
	})
	ns.On("ask", func(ctx context.Context, s *holdpost.Socket, _ args) ([]any, error) {
		a, err := s.EmitWithAck(ctx, "question", 6, []byte{1, 2, 3})
		return []any{a}, err
	})
	ns.On("auth", func(_ context.Context, s *holdpost.Socket, _ args) ([]any, error) {
		h := s.Handshake()
		return []any{h.Auth, h.Query.Get("tenant"), s.Recovered()}, nil
	})
	ns.On("out", func(_ context.Context, s *holdpost.Socket, a args) ([]any, error) {
		var whole bool
		err := a.Decode(&whole)
		s.Disconnect(whole)
		return nil, err
	})
	ns.On("enter", func(_ context.Context, s *holdpost.Socket, _ args) ([]any, error) { return nil, s.Join("hall") })
	ns.On("here", func(ctx context.Context, _ *holdpost.Socket, _ args) ([]any, error) {
		here := 0
		for range ns.To("hall").FetchSockets(ctx) {
			here++
		}
		return []any{here}, nil
	})
	seen := holdpost.NewKey[*[]any]("seen")
	ns.On("note", func(_ context.Context, s *holdpost.Socket, a args) ([]any, error) {
		all := seen.LoadOrSet(s, func() *[]any { return new([]any) })
		for i := range a.Len() {
			*all = append(*all, a.Raw(i))
		}
		return []any{*all}, nil
	})
	ns.On("shout", func(ctx context.Context, _ *holdpost.Socket, a args) ([]any, error) {
		return nil, ns.To("hall").Emit(ctx, "n", a)
	})
}

// goClient makes clients for one case.
type goClient struct {
	t      *testing.T
	url    string
	config client.Config
}

func (g *goClient) client() *client.Client {
	cl := client.New(g.url+"?tenant=a+b", &g.config)
	g.t.Cleanup(cl.Close)
	return cl
}

func (g *goClient) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	return ctx
}

func (g *goClient) connect(s *client.Socket) *client.Socket {
	g.t.Helper()
	if err := s.Connect(g.ctx()); err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *goClient) socket() *client.Socket { return g.connect(g.client().Of("/")) }

// answer emits an event with an ack, and decodes the answer.
func (g *goClient) answer(s *client.Socket, event string, args []any, dst ...any) {
	g.t.Helper()
	a, err := s.EmitWithAck(g.ctx(), event, args...)
	if err := errors.Join(err, a.Decode(dst...)); err != nil {
		g.t.Fatalf("%s: %v", event, err)
	}
}

var goClientCases = []struct {
	name string
	run  func(*testing.T, *goClient)
}{
	{"echo", func(t *testing.T, g *goClient) {
		var n float64
		var text string
		var b []byte
		var tree map[string]any
		g.answer(g.socket(), "echo", []any{1.5, "<é\u2028>", []byte{0, 255}, map[string]any{"deep": []any{[]byte("x"), nil}}}, &n, &text, &b, &tree)
		if deep := fmt.Sprint(tree); n != 1.5 || text != "<é\u2028>" || string(b) != "\x00\xff" || deep != "map[deep:[[120] <nil>]]" {
			t.Errorf("%v %q %v %s", n, text, b, deep)
		}
	}},
	{"order", func(t *testing.T, g *goClient) {
		s := g.client().Of("/")
		numbers := client.Events(g.ctx(), s, holdpost.Event[int]("n"))
		g.connect(s)
		s.Emit(g.ctx(), "count", 500)
		next := 0
		for n, err := range numbers {
			if err != nil || n != next {
				t.Fatalf("event %d is %d, %v", next, n, err)
			}
			if next++; next == 500 {
				break
			}
		}
	}},
	{"asked", func(t *testing.T, g *goClient) {
		s := g.client().Of("/")
		s.On("question", func(_ context.Context, args holdpost.Args) ([]any, error) {
			var n int
			var b []byte
			err := args.Decode(&n, &b)
			return []any{n * 7, append(b, 4)}, err
		})
		g.connect(s)
		var a json.RawMessage
		g.answer(s, "ask", nil, &a)
		if !strings.HasPrefix(string(a), "42") && !strings.HasPrefix(string(a), "[42") {
			t.Errorf("answered with %s", a)
		}
	}},
	{"namespaces, auth and query", func(t *testing.T, g *goClient) {
		g.config.AuthFunc = func(_ context.Context, namespace string) (any, error) {
			return map[string]string{"in": namespace}, nil
		}
		cl := g.client()
		for _, name := range []string{"/", "/admin"} {
			s := g.connect(cl.Of(name))
			var auth struct{ In string }
			var tenant string
			g.answer(s, "auth", nil, &auth, &tenant)
			if auth.In != name || tenant != "a b" {
				t.Errorf("in %s the server sees auth for %q of tenant %q", name, auth.In, tenant)
			}
		}
		cl.Of("/").Disconnect()
		g.answer(cl.Of("/admin"), "echo", []any{1})
		if err := cl.Of("/nowhere").Connect(g.ctx()); err == nil || err.Error() != "Invalid namespace" {
			t.Errorf("unknown namespace: %v", err)
		}
	}},
	{"refused", func(t *testing.T, g *goClient) {
		g.config.Auth = map[string]bool{"refuse": true}
		err := g.client().Of("/").Connect(g.ctx())
		e, ok := errors.AsType[*holdpost.ConnectError](err)
		if !ok || e.Message != "go away" || fmt.Sprintf("%s", e.Data) != `{"why":7}` {
			t.Errorf("refused with %v", err)
		}
	}},
	{"turned out", func(t *testing.T, g *goClient) {
		for _, whole := range []bool{false, true} {
			s := g.socket()
			s.Emit(g.ctx(), "out", whole)
			select {
			case <-s.Context().Done():
			case <-g.ctx().Done():
				t.Fatal("still in")
			}
			if e, ok := errors.AsType[*holdpost.DisconnectError](s.Err()); !ok || e.Reason != holdpost.ReasonServerDisconnect {
				t.Errorf("turned out with %v", s.Err())
			}
		}
	}},
	{"heartbeat", func(t *testing.T, g *goClient) {
		s := g.client().Of("/")
		lost := make(chan error, 1)
		s.OnDisconnect(func(why error) { lost <- why })
		g.connect(s)
		select {
		case why := <-lost:
			t.Errorf("lost: %v", why)
		case <-time.After(time.Second): // three heartbeats
		}
		g.answer(s, "echo", []any{1})
	}},
	{"many and large", func(t *testing.T, g *goClient) {
		s := g.socket()
		var large string
		for len(large) < 10_000 { // what could be compressed much further is taken for a bomb
			large += rand.Text()
		}
		large = strings.Repeat(large, 30)
		results := make(chan error, 8)
		for range cap(results) {
			go func() {
				a, err := s.EmitWithAck(g.ctx(), "echo", large)
				var back string
				if err = errors.Join(err, a.Decode(&back)); err == nil && back != large {
					err = errors.New("it has changed")
				}
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	}},
	{"nothing sent before it is connected is lost, but what is volatile", func(t *testing.T, g *goClient) {
		network := &network{}
		g.config.Dial = network.dial
		s := g.socket()
		s.Volatile().Emit(g.ctx(), "note", 1)
		var seen []int
		g.answer(s, "note", []any{2}, &seen) // so that nothing waits any more
		lost, back := make(chan error, 1), make(chan struct{})
		s.OnDisconnect(func(why error) { lost <- why })
		network.cut()
		<-lost
		s.OnConnect(func(context.Context) { close(back) })
		s.Volatile().Emit(g.ctx(), "note", 3)
		s.Emit(g.ctx(), "note", 4)
		answer := make(chan error, 1)
		go func() {
			a, err := s.EmitWithAck(g.ctx(), "note", 5)
			answer <- errors.Join(err, a.Decode(&seen))
		}()
		network.mend()
		if err := <-answer; err != nil || !slices.Equal(seen, []int{4, 5}) { // by a new socket there
			t.Errorf("the server has seen %v, %v", seen, err)
		}
	}},
	{"sent again until it is answered", func(t *testing.T, g *goClient) {
		network := &network{}
		g.config.Dial = network.dial
		s := g.socket()
		network.cut()
		answer := make(chan error, 1)
		var seen []string
		go func() {
			a, err := s.Retrying("once").EmitWithAck(g.ctx(), "note", "n")
			answer <- errors.Join(err, a.Decode(&seen))
		}()
		network.mend()
		if err := <-answer; err != nil || !slices.Equal(seen[len(seen)-2:], []string{"n", "once"}) {
			t.Errorf("the server has seen %v, %v", seen, err)
		}
	}},
	{"no answer in time", func(t *testing.T, g *goClient) {
		s := g.socket()
		s.On("question", func(ctx context.Context, _ holdpost.Args) ([]any, error) {
			<-ctx.Done() // the server gets no answer, and so does not answer either
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(g.ctx(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.EmitWithAck(ctx, "ask"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
	}},
	{"what nobody handles", func(t *testing.T, g *goClient) {
		s := g.client().Of("/")
		got := make(chan string, 500)
		s.OnAny(func(_ context.Context, event string, args holdpost.Args) ([]any, error) {
			got <- fmt.Sprintf("%s %s", event, args.Raw(0))
			return nil, nil
		})
		g.connect(s)
		s.Emit(g.ctx(), "count", 2)
		for i := range 2 {
			if e := <-got; e != fmt.Sprint("n ", i) {
				t.Errorf("event %d is %q", i, e)
			}
		}
	}},
	{"recovered", recovered},
}

// recovered has its connection cut and misses events, which it is sent when it is back as the same socket.
func recovered(t *testing.T, g *goClient) {
	other := g.socket()
	network := &network{}
	g.config.Dial = network.dial
	s := g.client().Of("/")
	numbers := client.Events(g.ctx(), s, holdpost.Event[int]("n"))
	next, stop := iter.Pull2(numbers)
	defer stop()
	want := func(n int) {
		t.Helper()
		if got, err, _ := next(); got != n || err != nil {
			t.Fatalf("event %d is %d, %v", n, got, err)
		}
	}
	g.connect(s)
	g.answer(s, "enter", nil)
	g.answer(other, "shout", []any{1})
	want(1)
	id := s.ID()
	lost, back := make(chan error, 1), make(chan bool, 1)
	s.OnDisconnect(func(why error) { lost <- why })
	s.OnConnect(func(context.Context) { back <- s.Recovered() })
	network.cut()
	<-lost
	for n := 2; n < 5; n++ {
		g.answer(other, "shout", []any{n})
	}
	for here := 1; here > 0; { // the reference server recovers nobody whom it does not know to be lost
		g.answer(other, "here", nil, &here)
	}
	network.mend()
	for n := 2; n < 5; n++ {
		want(n)
	}
	if ok := <-back; !ok || s.ID() != id {
		t.Errorf("recovered %v, as %q after %q", ok, s.ID(), id)
	}
	g.answer(other, "shout", []any{5})
	want(5)
}

// network is connections that can be cut.
type network struct {
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, errors.New("the network is down")
	}
	conn, err := new(net.Dialer).DialContext(ctx, kind, address)
	if err == nil {
		n.conns = append(n.conns, conn)
	}
	return conn, err
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for _, conn := range n.conns {
		conn.Close()
	}
	n.conns = nil
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}
