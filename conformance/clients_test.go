//go:build unix

package conformance

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

var update = flag.Bool("update", false, "write docs/clients.md from the run instead of comparing it")

// clients are those of the matrix, and what a server has to be set to for them.
var clients = []struct {
	name    string // in docs/clients.md
	argv    []string
	env     []string
	config  func(*holdpost.Config)
	without []string // features that the client does not have
}{
	{name: "JavaScript 4.8.4", env: js("socket.io-client")},
	{name: "JavaScript 4.0.2", env: js("socket.io-client-4.0"), without: []string{"recovery"}},
	{name: "JavaScript 3.1.3", env: js("socket.io-client-3.1"), without: []string{"recovery"}},
	{
		name: "JavaScript 4.8.4, MessagePack", env: append(js("socket.io-client"), "HOLDPOST_PARSER=socket.io-msgpack-parser"),
		config: func(c *holdpost.Config) { c.MessagePack = true },
	},
	{
		name: "JavaScript 2.5.0", env: js("socket.io-client-2.5"),
		config: func(c *holdpost.Config) { c.AllowEIO3 = true }, without: []string{"recovery"},
	},
	{name: "Python 5.7.2 (Debian)", argv: []string{"", "py/clients.py"}, without: []string{"recovery"}},
}

func js(name string) []string { return []string{"HOLDPOST_CLIENT=" + name} }

var features = []string{"connect", "auth", "events", "namespaces", "refusals", "rooms", "acks", "binary", "big payloads", "reconnect", "recovery"}

// Every client that one meets, over each of its transports. docs/clients.md is what came of it.
func TestClients(t *testing.T) {
	skipShort(t)
	var b strings.Builder
	all := true // false when some were left out by -run, or failed
	b.WriteString(clientsHead + "| client | transport | " + strings.Join(features, " | ") + " |\n|---|---|" + strings.Repeat("---|", len(features)) + "\n")
	for _, c := range clients {
		for _, transport := range transports {
			var passed map[string]bool
			all = t.Run(strings.ReplaceAll(c.name, " ", "_")+"/"+transport, func(t *testing.T) {
				argv := c.argv
				if argv == nil {
					argv = []string{"node", "js/clients.mjs"}
				} else {
					argv = []string{python, argv[1]}
				}
				url := clientsServer(t, c.config)
				passed = runProgram(t, argv, nil, append([]string{"HOLDPOST_URL=" + url, "HOLDPOST_TRANSPORT=" + transport}, c.env...)...)
			}) && passed != nil && all
			fmt.Fprintf(&b, "| %s | %s |", c.name, transport)
			for _, f := range features {
				mark := map[bool]string{true: "yes", false: "**no**"}[passed[f]]
				for _, none := range c.without {
					if none == f {
						mark = "–"
					}
				}
				fmt.Fprintf(&b, " %s |", mark)
			}
			b.WriteString("\n")
		}
	}
	const file = "../docs/clients.md"
	if !all {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(file); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what this run shows (error %v): go test ./conformance -run TestClients -update", file, err)
	}
}

const clientsHead = `# Clients

What each client was seen to do with this version of Holdpost, over each of its transports. The table is written by the conformance tests
(` + "`go test ./conformance -run TestClients -update`" + `), which fail when it is not what they see. A dash is for what the client does not have.
MessagePack needs ` + "`Config.MessagePack`" + `, JavaScript 2.5 ` + "`Config.AllowEIO3`" + `.

The clients for Swift, Java, Kotlin, Dart, C++ and .NET speak the same protocol, revision 4 of Engine.IO and 5 of Socket.IO; they are not tested here.

Over long-polling a client that gives its requests a parameter named t, from the first one on, gives each another one, as the official client does: two with the same are one that was repeated. Times do not count.

`

// clientsServer serves what clients.mjs and clients.py ask for, with recovery.
func clientsServer(t *testing.T, configure func(*holdpost.Config)) (url string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	store, err := local.Open(ctx, local.Config{Engine: embedded.Config{Dir: t.TempDir(), Level: embedded.LevelMemory, Logger: log}})
	if err != nil {
		t.Fatal(err)
	}
	journal := delivery.NewJournal(store.Broker, log)
	config := holdpost.Config{Logger: log, Recovery: &holdpost.Recovery{Journal: journal}}
	if configure != nil {
		configure(&config)
	}
	srv := holdpost.NewServer(&config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wire := &cutter{Listener: listener}
	handleClients(srv, wire)
	web := &http.Server{Handler: srv}
	served := make(chan struct{})
	go func() { web.Serve(wire); close(served) }()
	t.Cleanup(func() {
		srv.Close() // the clients have gone, those that polled without a word
		web.Close()
		<-served
		store.Close()
		journal.Close()
	})
	return "http://" + listener.Addr().String()
}

func handleClients(srv *holdpost.Server, wire *cutter) {
	main := srv.Of("/")
	reply := func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		return []any{args}, nil
	}
	main.On("echo", reply)
	main.On("who", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		var auth map[string]any
		json.Unmarshal(s.Handshake().Auth, &auth)
		name := auth["name"]
		if name == nil { // Socket.IO v2 has only the query
			name = s.Handshake().Query.Get("name")
		}
		return []any{map[string]any{"name": name}}, nil
	})
	main.On("bounce", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		return nil, s.Emit(ctx, "back", args)
	})
	main.On("ask me", func(ctx context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		answer, err := s.EmitWithAck(ctx, "question", "how many?")
		return []any{answer}, err
	})
	room := func(args holdpost.Args) (name string, err error) {
		err = args.Decode(&name)
		return name, err
	}
	main.On("join", func(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		name, err := room(args)
		if err != nil {
			return nil, err
		}
		return nil, s.Join(name)
	})
	main.On("leave", func(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		name, err := room(args)
		s.Leave(name)
		return nil, err
	})
	main.On("say", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		name, err := room(args)
		if err != nil {
			return nil, err
		}
		return nil, s.To(name).Emit(ctx, "said", args.From(1))
	})
	main.On("cut me", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
		wire.cut()
		return nil, nil
	})
	admin := srv.Of("/admin")
	admin.Use(func(_ context.Context, s *holdpost.Socket) error {
		var auth struct{ Token string }
		if json.Unmarshal(s.Handshake().Auth, &auth) != nil || auth.Token != "sesame" {
			return &holdpost.ConnectError{Message: "not you", Data: map[string]string{"code": "forbidden"}}
		}
		return nil
	})
	admin.On("where", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		return []any{s.Namespace().Name()}, nil
	})
}

// cutter is a listener that can break all of its connections.
type cutter struct {
	net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.SetDeadline(time.Now().Add(-time.Second))
		conn.Close()
	}
	c.conns = nil
}
