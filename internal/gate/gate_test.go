package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/peertest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const secret = "a secret that has at least 32 bytes"

func token(t *testing.T, identity string, life time.Duration, grants any) string {
	t.Helper()
	now := time.Now()
	said := jwt.MapClaims{"sub": identity, "iat": now.Unix(), "exp": now.Add(life).Unix()}
	if grants != nil {
		said["holdpost"] = grants
	}
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, said).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// place is a server behind a gate. Its operation "do" asks for a permission.
type place struct {
	*peertest.Host
	t         *testing.T
	gate      *Gate
	authority *auth.Authority
	srv       *holdpost.Server
}

func open(t *testing.T, c Config) *place {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	authority, err := auth.New(auth.Config{Keys: []auth.Key{{Algorithm: "HS256", Key: []byte(secret)}}, Default: auth.Permissions{Join: []string{"lobby"}}})
	if err != nil {
		t.Fatal(err)
	}
	c.Authority, c.Logger = authority, log
	if c.Limits == (Limits{}) {
		c.Limits = Limits{PerAddress: -1, PerIdentity: -1, EventsPerSecond: -1}
	}
	p := &place{t: t, gate: New(c), authority: authority}
	p.srv = holdpost.NewServer(&holdpost.Config{Logger: log, PingInterval: -1})
	main := p.srv.Of("/")
	p.gate.Guard(main)
	main.On("do", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		var action, name string
		if err := args.Decode(&action, &name); err != nil {
			return nil, err
		}
		return []any{p.gate.Identity(s)}, p.gate.Permit(ctx, s, action, name)
	})
	p.Host = peertest.New(t, p.srv)
	t.Cleanup(func() { p.srv.Close() })
	return p
}

// connect joins the main namespace with a token and returns what the server said.
func (p *place) connect(transport, token string, header ...string) (*peertest.Peer, string) {
	p.t.Helper()
	peer := p.Connect(transport, header...)
	said := ""
	if token != "" {
		b, _ := json.Marshal(map[string]string{"token": token})
		said = string(b)
	}
	peer.Send("40" + said)
	return peer, peer.Next()
}

func overAll(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range peertest.Transports {
		t.Run(transport, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, transport) }) })
	}
}

// Whoever comes in, and whatever he does then, is judged the same over every transport.
func TestTokens(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		p := open(t, Config{})
		for name, c := range map[string]struct{ token, want string }{
			"none":    {"", `44{"message":"no token was given","data":{"code":"unauthorized"}}`},
			"forged":  {token(t, "ann", time.Hour, nil) + "x", `44{"message":"the token is not signed with a key that is known here","data":{"code":"unauthorized"}}`},
			"expired": {token(t, "ann", -time.Hour, nil), `44{"message":"the token has expired","data":{"code":"token_expired"}}`},
		} {
			peer, got := p.connect(transport, c.token)
			if got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
			peer.Close()
		}
		if err := p.authority.Revoke(t.Context(), "eve"); err != nil {
			t.Fatal(err)
		}
		if _, got := p.connect(transport, token(t, "eve", time.Hour, nil)); !strings.Contains(got, `"code":"revoked"`) {
			t.Errorf("revoked: %s", got)
		}
		for _, said := range []string{`40{"token":7}`, `40{"token":{}}`} {
			peer := p.Connect(transport)
			peer.Send(said)
			if got := peer.Next(); !strings.Contains(got, "unauthorized") {
				t.Errorf("%s: %s", said, got)
			}
		}

		peer, got := p.connect(transport, token(t, "ann", time.Hour, nil))
		if !strings.HasPrefix(got, "40{") {
			t.Fatalf("%s", got)
		}
		peer.Send(`421["do","join","lobby"]`)
		peer.Want("what the rules allow", `431["ann"]`)
		peer.Send(`422["do","join","elsewhere"]`)
		peer.Want("and what not", `432[{"error":{"code":"forbidden","message":"not allowed: join elsewhere"}}]`)

		peer, got = p.connect(transport, "", "Authorization", "bearer "+token(t, "bob", time.Hour, map[string]any{"send": []string{"**"}}))
		if !strings.HasPrefix(got, "40{") {
			t.Fatalf("%s", got)
		}
		peer.Send(`421["do","send","anywhere"]`)
		peer.Want("what the token allows", `431["bob"]`)
		peer.Send(`422["do","join","lobby"]`)
		peer.Want("and what not", `432[{"error":{"code":"forbidden","message":"not allowed: join lobby"}}]`)
	})
}

func TestTokensEnd(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		p := open(t, Config{})
		start := time.Now()
		end := start.Add(time.Hour).UTC().Truncate(time.Second)
		peer, _ := p.connect(transport, token(t, "ann", time.Hour, nil))
		peer.WantIdle("long before the end", 58*time.Minute)
		peer.Want("a minute before", fmt.Sprintf(`42["token_expiring",{"expiresAt":%q}]`, end.Format(time.RFC3339)))
		peer.WantIdle("within the leeway", 89*time.Second)
		peer.Want("the end", "41")
		if got := time.Since(start); got < time.Hour+29*time.Second || got > time.Hour+32*time.Second {
			t.Errorf("after %v", got)
		}
	})
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enforced := 0
		p := open(t, Config{Enforce: func(context.Context, *holdpost.Socket) error { enforced++; return nil }})
		peer, _ := p.connect(peertest.WebSocket, token(t, "ann", time.Hour, nil))
		time.Sleep(30 * time.Minute)
		peer.Send(fmt.Sprintf(`421["refresh",%q]`, token(t, "bob", time.Hour, nil)))
		peer.Want("another's token", `431[{"error":{"code":"unauthorized","message":"the token is of another identity"}}]`)
		peer.Send(`422["refresh","x"]`)
		peer.Want("no token", `432[{"error":{"code":"unauthorized","message":"this is not a token"}}]`)
		peer.Send(`423["refresh"]`)
		peer.Want("nothing", `433[{"error":{"code":"invalid_argument","message":"argument 0: a token is expected, a string"}}]`)
		if enforced != 0 {
			t.Error("the permissions of a refused token were enforced")
		}
		peer.Send(fmt.Sprintf(`424["refresh",%q]`, token(t, "ann", time.Hour, map[string]any{"join": []string{"den"}})))
		end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		peer.Want("a new one", fmt.Sprintf(`434[{"expiresAt":%q}]`, end.Format(time.RFC3339)))
		if enforced != 1 {
			t.Error("the new permissions were not enforced")
		}
		peer.Send(`425["do","join","den"]`)
		peer.Want("the new permissions", `435["ann"]`)
		peer.Send(`426["do","join","lobby"]`)
		peer.Want("and no others", `436[{"error":{"code":"forbidden","message":"not allowed: join lobby"}}]`)
		peer.WantIdle("the end of the first", 58*time.Minute)
		peer.Want("the end of the second", fmt.Sprintf(`42["token_expiring",{"expiresAt":%q}]`, end.Format(time.RFC3339)), "41")
	})
}

func TestRevokedAreDisconnected(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		p := open(t, Config{})
		ann, _ := p.connect(transport, token(t, "ann", time.Hour, nil))
		bob, _ := p.connect(transport, token(t, "bob", time.Hour, nil))
		if err := p.authority.Revoke(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		ann.Send(`421["do","join","lobby"]`)
		ann.Want("before anybody looked", `431[{"error":{"code":"revoked","message":"the identity was revoked"}}]`)
		p.gate.Enforce(t.Context(), p.srv.Of("/"))
		ann.Want("the revoked", "41")
		bob.Send(`421["do","join","lobby"]`)
		bob.Want("the others", `431["bob"]`)
	})
}

func TestSessionsBelongToPermissionsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, Config{})
		of := func(token string) string {
			peer, got := p.connect(peertest.WebSocket, token)
			defer peer.Close()
			var hs struct{ SID string }
			if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "40")), &hs); err != nil {
				t.Fatal(got)
			}
			s, _ := p.srv.Of("/").Socket(hs.SID)
			return p.gate.RecoveryIdentity(s)
		}
		plain := of(token(t, "ann", time.Hour, nil))
		if of(token(t, "ann", 2*time.Hour, nil)) != plain {
			t.Error("a new token of the same kind is somebody else's")
		}
		if of(token(t, "bob", time.Hour, nil)) == plain || of(token(t, "ann", time.Hour, map[string]any{"join": []string{"den"}})) == plain {
			t.Error("others get the session")
		}
	})
}

func TestDevMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, Config{Dev: true})
		peer := p.Connect(peertest.WebSocket)
		peer.Send(`40{"client":"ann"}`)
		peer.Next()
		peer.Send(`421["do","publish","anything"]`)
		peer.Want("everything is allowed", `431["ann"]`)
		peer.Send(`422["refresh","x"]`)
		peer.Want("there are no tokens", `432[{"error":{"code":"unauthorized","message":"this socket was let in without a token"}}]`)
		peer = p.Connect(peertest.WebSocket)
		peer.Send(`40{"client":""}`)
		peer.Want("no identity", `44{"message":"auth.client is empty","data":{"code":"invalid_identity"}}`)
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, Config{Limits: Limits{PerAddress: 3, PerIdentity: 2, EventsPerSecond: -1}})
		in := func(identity string) (*peertest.Peer, bool) {
			peer, got := p.connect(peertest.WebSocket, token(t, identity, time.Hour, nil))
			if strings.HasPrefix(got, "44") && !strings.Contains(got, "too_many") {
				t.Errorf("%s", got)
			}
			return peer, strings.HasPrefix(got, "40")
		}
		first, _ := in("ann")
		for _, c := range []struct {
			identity string
			want     bool
		}{{"ann", true}, {"ann", false}, {"bob", true}, {"cid", false}} {
			if _, ok := in(c.identity); ok != c.want {
				t.Errorf("%s is let in: %v, want %v", c.identity, ok, c.want)
			}
		}
		first.Close()
		synctest.Wait()
		if _, ok := in("ann"); !ok {
			t.Error("who left is counted still")
		}
		p.gate.SetLimits(Limits{PerAddress: 4, PerIdentity: 2, EventsPerSecond: -1})
		if _, ok := in("cid"); !ok {
			t.Error("the limits are the old ones")
		}
	})
}

func TestEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, Config{Limits: Limits{PerAddress: -1, PerIdentity: -1, EventsPerSecond: 1, EventsBurst: 20}})
		peer, _ := p.connect(peertest.WebSocket, token(t, "ann", time.Hour, nil))
		do := func(n int) { peer.Send(fmt.Sprintf(`42%d["do","join","lobby"]`, n)) }
		for i := range 20 {
			do(i)
			peer.Want("up to the limit", fmt.Sprintf(`43%d["ann"]`, i))
		}
		do(20)
		peer.Want("one more", `42["rate_limited",{"burst":20,"eventsPerSecond":1}]`, `4320[{"error":{"code":"too_many","message":"events come too fast"}}]`)
		time.Sleep(time.Second)
		do(21)
		peer.Want("a second later", `4321["ann"]`)
		for i := 22; i < 41; i++ {
			do(i)
			peer.Want("too fast, without another warning", fmt.Sprintf(`43%d[{"error":{"code":"too_many","message":"events come too fast"}}]`, i))
		}
		do(41)
		peer.Want("the cut", "41")
	})
}

func TestForwarded(t *testing.T) {
	var seen string
	h := Forwarded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.RemoteAddr }),
		[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")})
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string // for the handler
		counted   string
	}{
		{"1.2.3.4:80", nil, "1.2.3.4:80", "1.2.3.4"},
		{"1.2.3.4:80", []string{"9.9.9.9"}, "1.2.3.4:80", "1.2.3.4"},
		{"10.0.0.1:80", nil, "10.0.0.1:80", "10.0.0.1"},
		{"10.0.0.1:80", []string{"9.9.9.9"}, "9.9.9.9", "9.9.9.9"},
		{"10.0.0.1:80", []string{"6.6.6.6, 9.9.9.9, 10.0.0.2"}, "9.9.9.9", "9.9.9.9"},
		{"10.0.0.1:80", []string{"6.6.6.6", "9.9.9.9"}, "9.9.9.9", "9.9.9.9"},
		{"10.0.0.1:80", []string{"9.9.9.9, nonsense"}, "10.0.0.1:80", "10.0.0.1"},
		{"10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", "10.0.0.3"},
		{"[::1]:80", []string{"2001:db8:1:2:3::4"}, "2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		{"[::ffff:10.0.0.1]:80", []string{"::ffff:9.9.9.9"}, "9.9.9.9", "9.9.9.9"},
		{"[fe80::1%eth0]:80", nil, "[fe80::1%eth0]:80", "fe80::/64"},
		{"pipe", nil, "pipe", "pipe"},
	} {
		r := httptest.NewRequest("GET", "/socket.io/", nil)
		r.RemoteAddr, r.Header = c.peer, http.Header{"X-Forwarded-For": c.forwarded}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got := countedAs(seen); seen != c.want || got != c.counted {
			t.Errorf("%s %q: %s, counted as %s; want %s, %s", c.peer, c.forwarded, seen, got, c.want, c.counted)
		}
		if r.RemoteAddr != c.peer {
			t.Errorf("%s: the request was changed", c.peer)
		}
	}
}

func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := make(map[string]int)
		a := NewAdmission(t.Context(), 10, 2, 0, func(by string) { refused[by]++ })
		h := a.Around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		ask := func(query string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/socket.io/"+query, nil))
			return w
		}
		const handshake = "?EIO=4&transport=polling"
		for i, want := range []int{200, 200, 503} {
			if w := ask(handshake); w.Code != want || (want == 503) != (w.Header().Get("Retry-After") != "") {
				t.Errorf("handshake %d: %d %v", i, w.Code, w.Header())
			}
		}
		if w := ask(handshake + "&sid=x"); w.Code != 200 {
			t.Errorf("a session that is there: %d", w.Code)
		}
		if w := ask("socket.io.js"); w.Code != 200 {
			t.Errorf("a file: %d", w.Code)
		}
		time.Sleep(100 * time.Millisecond)
		if w := ask(handshake); w.Code != 200 {
			t.Errorf("a tenth of a second later: %d", w.Code)
		}
		a.Set(-1, 0, 0)
		a.Hold(true)
		if w := ask(handshake); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("without memory: %d", w.Code)
		}
		if w := ask(handshake + "&sid=x"); w.Code != 200 {
			t.Errorf("a session that is there, without memory: %d", w.Code)
		}
		a.Hold(false)
		if want := map[string]int{"admission": 1, "memory": 1}; !maps.Equal(refused, want) {
			t.Errorf("refused were %v, want %v", refused, want)
		}
		for range 100 {
			if w := ask(handshake); w.Code != 200 {
				t.Fatalf("without a limit: %d", w.Code)
			}
		}
	})
}

// Who comes too early waits for a turn that is near enough. Those who are refused, or go away, take none from others.
func TestAdmissionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving, leave := context.WithCancel(t.Context())
		a := NewAdmission(leaving, 10, 1, 350*time.Millisecond, nil)
		h := a.Around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		start := time.Now()
		type answer struct {
			code  int
			after time.Duration
		}
		var asked []chan answer
		ask := func(ctx context.Context) {
			c := make(chan answer, 1)
			asked = append(asked, c)
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/socket.io/?EIO=4&transport=polling", nil))
				c <- answer{w.Code, time.Since(start)}
			}()
			synctest.Wait() // so that they come in order
		}
		want := func(what string, want ...answer) {
			t.Helper()
			for i, c := range asked {
				if got := <-c; got != want[i] {
					t.Errorf("%s: number %d got %v, want %v", what, i, got, want[i])
				}
			}
			asked, start = nil, time.Now()
		}
		for range 5 {
			ask(t.Context())
		}
		const tenth = 100 * time.Millisecond
		want("five at once", answer{200, 0}, answer{200, tenth}, answer{200, 2 * tenth}, answer{200, 3 * tenth}, answer{503, 0})

		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			ask(t.Context())
		}
		ask(ctx)
		cancel()
		synctest.Wait()
		ask(t.Context())
		want("one goes", answer{200, tenth}, answer{200, 2 * tenth}, answer{503, 0}, answer{200, 3 * tenth})

		h = a.Around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		var flood sync.WaitGroup
		for range 1000 {
			flood.Go(func() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/socket.io/?EIO=4", nil))
			})
		}
		flood.Wait()
		start = time.Now()
		ask(t.Context())
		want("behind those who were let in of a flood", answer{200, tenth})

		for range 2 {
			ask(t.Context())
		}
		a.Hold(true)
		want("memory gets short", answer{503, tenth}, answer{503, 2 * tenth})

		a.Hold(false)
		ask(t.Context())
		leave()
		want("the server ends", answer{200, 0})
	})
}
