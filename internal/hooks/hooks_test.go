package hooks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/gate"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/outbound"
	"github.com/holdpost/holdpost/internal/peertest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const secret = "a secret to sign with"

// world is a server with one hook, which answers with f.
type world struct {
	*peertest.Host
	t     *testing.T
	hooks *Hooks
	store *local.Store
	notes chan note
}

func start(t *testing.T, allow string, f http.HandlerFunc) *world {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	w := &world{t: t, notes: make(chan note, 100)}
	var err error
	w.store, err = local.Open(t.Context(), local.Config{Engine: embedded.Config{Dir: t.TempDir(), Level: embedded.LevelMemory, Reserve: -1, Logger: quiet}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		var n note
		if err := json.Unmarshal(body, &n); err != nil {
			t.Error(err)
		}
		at, signature, _ := strings.Cut(r.Header.Get("Holdpost-Signature"), ",v1=")
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%s.%s.%s", strings.TrimPrefix(at, "t="), r.Header.Get("Holdpost-Id"), body)
		if signature != hex.EncodeToString(mac.Sum(nil)) || r.Header.Get("Holdpost-Id") != n.ID {
			t.Errorf("signature %q of %s", r.Header.Get("Holdpost-Signature"), body)
		}
		if strings.Contains(string(body), "hidden") {
			t.Errorf("a token is told: %s", body)
		}
		f(rw, r)
		w.notes <- n
	}))
	t.Cleanup(server.Close)
	var networks outbound.Networks
	if allow != "" {
		networks.Replace([]netip.Prefix{netip.MustParsePrefix(allow)})
	}
	client := outbound.Client(&networks, Timeout)
	t.Cleanup(client.CloseIdleConnections)
	authority, err := auth.New(auth.Config{Anonymous: &auth.Permissions{}})
	if err != nil {
		t.Fatal(err)
	}
	g := gate.New(gate.Config{
		Authority: authority, Limits: gate.Limits{PerAddress: -1, PerIdentity: -1, EventsPerSecond: -1}, Logger: quiet,
		Decide: func(ctx context.Context, s *holdpost.Socket, c *auth.Client) (*auth.Client, error) {
			return w.hooks.Decide(ctx, s, c)
		},
	})
	w.hooks = New(Config{
		Hooks:  []Hook{{URL: server.URL, Events: []string{"connect", "event", "disconnect", "mail"}, Secret: []byte(secret)}},
		Broker: w.store.Broker, HTTP: client, Identity: g.Identity, Online: g.Online, Logger: quiet,
	})
	srv := holdpost.NewServer(&holdpost.Config{Logger: quiet})
	t.Cleanup(func() { srv.Close() })
	main := srv.Of("/")
	g.Guard(main)
	main.On("join", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		return []any{g.Identity(s)}, g.Permit(ctx, s, "join", "lobby")
	})
	w.hooks.Watch(main, func(event string) bool { return event == "join" })
	w.Host = peertest.New(t, srv)
	return w
}

// run tells what is to be told, until the test ends.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.hooks.Run(ctx); close(done) }()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) connect() (*peertest.Peer, string) {
	w.t.Helper()
	p := w.Connect(peertest.WebSocket)
	p.Send(`40{"token":"","room":7,"secret":1}`)
	return p, p.Next()
}

const loopback = "127.0.0.0/8"

func TestConnectAndEvent(t *testing.T) {
	w := start(t, loopback, func(rw http.ResponseWriter, r *http.Request) {
		var n note
		json.NewDecoder(r.Body).Decode(&n)
		switch {
		case n.Type == "connect":
			io.WriteString(rw, `{"identity":"ann","permissions":{"join":["lobby"]}}`)
		case n.Event == "sum":
			var args []int
			json.Unmarshal(n.Args, &args)
			fmt.Fprintf(rw, `{"args":[%d,%q]}`, args[0]+args[1], n.Identity)
		case n.Event == "no":
			io.WriteString(rw, `{"error":{"code":"closed_today","message":"come back"}}`)
		case n.Event == "long":
			io.WriteString(rw, strings.Repeat(" ", maxAnswer+1))
		case n.Event == "odd":
			io.WriteString(rw, `<html>`)
		}
	})
	p, got := w.connect()
	if !strings.HasPrefix(got, "40{") {
		t.Fatal(got)
	}
	if n := <-w.notes; n.Type != "connect" || string(n.Auth) != `{"room":7,"secret":1}` || n.Socket == "" {
		t.Errorf("%+v", n)
	}
	for i, c := range []struct{ send, want string }{
		{`["join"]`, `["ann"]`},
		{`["sum",2,3]`, `[5,"ann"]`},
		{`["no"]`, `[{"error":{"code":"closed_today","message":"come back"}}]`},
		{`["nothing"]`, `[]`},
		{`["long"]`, `[{"error":{"code":"unavailable","message":"whoever handles this event can't be asked"}}]`},
		{`["odd"]`, `[{"error":{"code":"unavailable","message":"whoever handles this event can't be asked"}}]`},
	} {
		p.Send(fmt.Sprintf("42%d%s", i, c.send))
		p.Want(c.send, fmt.Sprintf("43%d%s", i, c.want))
	}
}

func TestConnectRefused(t *testing.T) {
	w := start(t, loopback, func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, `{"allow":false,"message":"closed"}`)
	})
	if _, got := w.connect(); got != `44{"message":"closed","data":{"code":"forbidden"}}` {
		t.Error(got)
	}
}

// An endpoint that fails lets nobody in, and is left alone for a while.
func TestEndpointRests(t *testing.T) {
	var asked atomic.Int32
	w := start(t, loopback, func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		rw.WriteHeader(http.StatusInternalServerError)
	})
	for range maxFailures + 3 {
		if _, got := w.connect(); !strings.Contains(got, `"code":"unavailable"`) {
			t.Error(got)
		}
	}
	if n := asked.Load(); n != maxFailures {
		t.Errorf("it was asked %d times, want %d", n, maxFailures)
	}
}

func TestPrivateAddressesAreNotReached(t *testing.T) {
	w := start(t, "", func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	if _, got := w.connect(); !strings.Contains(got, `"code":"unavailable"`) {
		t.Error(got)
	}
}

// What is told is told again until it was taken.
func TestDisconnectAndMail(t *testing.T) {
	var failed atomic.Bool
	w := start(t, loopback, func(rw http.ResponseWriter, r *http.Request) {
		var n note
		json.NewDecoder(r.Body).Decode(&n)
		if n.Type == "connect" {
			io.WriteString(rw, `{"identity":"ann"}`)
		}
		if n.Type == "disconnect" && !failed.Swap(true) {
			rw.WriteHeader(http.StatusBadGateway)
		}
	})
	p, _ := w.connect()
	first := <-w.notes
	p.Send("41")
	w.run() // what happened before is told too
	tried, again := <-w.notes, <-w.notes
	if first.Type != "connect" || tried.Type != "disconnect" || again.ID != tried.ID || again.Identity != "ann" || again.Reason != "client namespace disconnect" {
		t.Errorf("%+v %+v %+v", first, tried, again)
	}
	p.Close()
	for w.hooks.config.Online("ann") {
		runtime.Gosched()
	}
	for range 3 {
		if _, err := w.store.Publish(t.Context(), queue.Message{Topic: "inbox/ann", Event: "letter"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-w.notes; n.Type != "mail" || n.Identity != "ann" {
		t.Errorf("%+v", n)
	}
}

// Who was connected when post came, and is away a moment later without having seen it, has mail too. Who has seen it has not.
func TestMailForWhoeverLeftWithoutSeeingIt(t *testing.T) {
	w := start(t, loopback, func(http.ResponseWriter, *http.Request) {})
	w.hooks.secondLook = time.Millisecond
	seen := make(map[string]int)
	var mu sync.Mutex // guards seen
	w.hooks.config.Online = func(identity string) bool {
		mu.Lock()
		defer mu.Unlock()
		seen[identity]++
		if seen[identity] == 1 && identity == "bob" { // he reads it right away
			q, err := w.store.Queue(t.Context(), queue.QueueConfig{Topic: "inbox/bob", Name: "bob", From: queue.StartFirst})
			if err == nil {
				err = q.Purge(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		}
		return seen[identity] == 1 || identity == "cid" // who stays
	}
	w.run()
	for _, identity := range []string{"ann", "bob", "cid", "dan"} {
		if _, err := w.store.Publish(t.Context(), queue.Message{Topic: "inbox/" + identity, Event: "letter"}); err != nil {
			t.Fatal(err)
		}
	}
	var mail []string
	for !slices.Contains(mail, "dan") || !slices.Contains(mail, "ann") {
		mail = append(mail, (<-w.notes).Identity)
	}
	if len(mail) != 2 {
		t.Errorf("%q have mail, want ann and dan", mail)
	}
}

// Other endpoints count from the reload on: who is asked, who is told, and from when on.
func TestReload(t *testing.T) {
	var paths sync.Map // by the id of a note
	w := start(t, loopback, func(rw http.ResponseWriter, r *http.Request) {
		paths.Store(r.Header.Get("Holdpost-Id"), r.URL.Path)
		io.WriteString(rw, `{"args":["answered"]}`)
	})
	w.run()
	mail := func(identity, path string) {
		t.Helper()
		if _, err := w.store.Publish(t.Context(), queue.Message{Topic: "inbox/" + identity, Event: "letter"}); err != nil {
			t.Fatal(err)
		}
		n := <-w.notes
		if p, _ := paths.Load(n.ID); n.Type != "mail" || n.Identity != identity || p != path {
			t.Errorf("%s %s at %v, want %s at %s", n.Type, n.Identity, p, identity, path)
		}
	}
	mail("ann", "/")
	first := w.hooks.now.Load().all[0].Hook
	second := Hook{URL: first.URL + "/second", Events: []string{"event", "mail"}, Secret: first.Secret}
	w.hooks.Reload([]Hook{second})
	kept := w.hooks.now.Load().all[0]
	mail("bob", "/second")
	p, got := w.connect()
	if !strings.HasPrefix(got, "40{") {
		t.Fatal(got)
	}
	p.Send(`421["sum"]`)
	p.Want("the answer of the second", `431["answered"]`)
	if n := <-w.notes; n.Type != "event" {
		t.Errorf("%+v, want the event: nobody is asked about clients any more", n)
	}
	w.hooks.Reload([]Hook{{URL: first.URL, Events: []string{"disconnect"}, Secret: first.Secret}, second})
	if w.hooks.now.Load().all[1] != kept {
		t.Error("an endpoint that is configured as before does not go on as it was")
	}
	p.Send("41")
	if n := <-w.notes; n.Type != "disconnect" {
		t.Errorf("%+v, want the end of the socket", n)
	}
	w.hooks.Reload(nil)
	p, _ = w.connect()
	p.Send(`42["sum"]`) // which nobody answers
	p.Send(`421["join"]`)
	p.Want("the next answer", `431[{"error":{"code":"forbidden","message":"not allowed: join lobby"}}]`)
	if len(w.notes) > 0 {
		t.Errorf("%+v, with nobody to be told", <-w.notes)
	}
}

// What clients choose is in the body of a request, and in none of its headers (K5).
func TestHeadersHaveNothingOfClients(t *testing.T) {
	headers := make(chan http.Header, 10)
	w := start(t, loopback, func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header })
	p, _ := w.connect()
	p.Send(`421["planted\r\nX-Planted: y",{"planted":"planted"}]`)
	p.Next()
	for range 2 {
		known := []string{"Accept-Encoding", "Content-Length", "Content-Type", "Holdpost-Id", "Holdpost-Signature", "User-Agent"}
		for name, values := range <-headers {
			if !slices.Contains(known, name) || strings.Contains(strings.Join(values, " "), "planted") {
				t.Errorf("header %q: %q", name, values)
			}
		}
	}
	if connect, event := <-w.notes, <-w.notes; connect.Type != "connect" || event.Event != "planted\r\nX-Planted: y" {
		t.Errorf("%+v %+v", connect, event)
	}
}
