package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost/internal/api"
	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/peertest"
)

const (
	jwtSecret = "a secret that has 32 bytes and some more, 64 are enough for all of them"
	apiKey    = "hpk_a-key-of-the-api-of-some-length"
)

// place is a whole server, but for its listeners: peers and requests reach it in memory.
type place struct {
	*peertest.Host
	t      *testing.T
	server *server
	api    http.Handler
	drain  context.CancelFunc // begins the end
}

func newPlace(t *testing.T, change func(*config.Config)) *place {
	t.Helper()
	t.Setenv(jwtSecretVariable, jwtSecret)
	t.Setenv(apiKeyVariable, apiKey)
	c := config.Default()
	c.Listen, c.Internal.Listen, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", t.TempDir()
	c.Origins = []string{"https://example.com"}
	c.Auth.Leeway = time.Nanosecond
	if change != nil {
		change(c)
	}
	s, err := startServer(t.Context(), c, settings{level: new(slog.LevelVar), log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error)
	go func() { ended <- s.run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return &place{peertest.New(t, s.publicHandler()), t, s, api.Handler(s.apiConfig("127.0.0.1")), cancel}
}

// token signs claims, by default those of ann for an hour with permissions for "mine".
func token(t *testing.T, method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
	t.Helper()
	mine := []string{"mine"}
	said := jwt.MapClaims{
		"sub": "ann", "iat": time.Now().Add(-time.Second).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"holdpost": map[string]any{"join": mine, "send": mine, "subscribe": mine, "publish": mine, "work": mine},
	}
	if change != nil {
		change(said)
	}
	s, err := jwt.NewWithClaims(method, said).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claim(name string, value any) func(jwt.MapClaims) {
	return func(said jwt.MapClaims) { said[name] = value }
}

// request calls the API with a key and returns the code of the answer, "" if it was a good one.
func (p *place) request(key, method, path, body string) string {
	p.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1"
	r.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	p.api.ServeHTTP(w, r)
	var said struct{ Code string }
	json.Unmarshal(w.Body.Bytes(), &said)
	if w.Code >= 400 && said.Code == "" {
		p.t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return said.Code
}

// askPeer calls an operation and returns the code of its answer, "" if it was a good one. Events that come meanwhile are passed over.
func askPeer(peer *peertest.Peer, id int, event string) string {
	peer.Send(fmt.Sprintf("42%d%s", id, event))
	prefix := fmt.Sprintf("43%d", id)
	for {
		packet := peer.Next()
		if packet == "2" {
			peer.Send("3")
		}
		if packet == "41" || strings.HasPrefix(packet, "close") || packet == "gone" {
			return "disconnected"
		}
		if text, ok := strings.CutPrefix(packet, prefix); ok {
			var said []struct{ Error struct{ Code string } }
			if json.Unmarshal([]byte(text), &said) != nil || len(said) == 0 {
				return "no answer: " + text
			}
			return said[0].Error.Code
		}
	}
}

// The operations, on what is ann's and on what is not.
var everyOperation = map[string]struct{ mine, theirs string }{
	"join":               {`["join","mine"]`, `["join","theirs"]`},
	"presence":           {`["presence","mine"]`, `["presence","theirs"]`},
	"send":               {`["send","mine","hi"]`, `["send","theirs","hi"]`},
	"subscribe":          {`["subscribe","mine"]`, `["subscribe","theirs"]`},
	"subscribe, pattern": {`["subscribe","mine"]`, `["subscribe","**"]`},
	"subscribe, inbox":   {`["subscribe","inbox/ann"]`, `["subscribe","inbox/bob"]`},
	"subscribe, inboxes": {`["subscribe","inbox/ann"]`, `["subscribe","inbox/*"]`},
	"subscribe, to work": {`["subscribe",{"topic":"mine","queue":"mine"}]`, `["subscribe",{"topic":"mine","queue":"theirs"}]`},
	"history":            {`["history","mine"]`, `["history","theirs"]`},
	"history, inbox":     {`["history","inbox/ann"]`, `["history","inbox/bob"]`},
	"presence, topic":    {`["presence",{"topic":"mine"}]`, `["presence",{"topic":"theirs"}]`},
	"publish":            {`["publish","mine","hi"]`, `["publish","theirs","hi"]`},
	"publish, and emit":  {`["publish",{"topic":"mine","room":"mine"},"hi"]`, `["publish",{"topic":"mine","room":"theirs"},"hi"]`},
}

// Whoever has no token that holds gets in by no path: neither by any transport, nor as somebody who comes back, nor to the API.
func TestNobodyGetsInWithoutATokenThatHolds(t *testing.T) {
	p := newPlace(t, nil)
	if err := p.server.authority.Revoke(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	good := token(t, jwt.SigningMethodHS256, []byte(jwtSecret), nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	hs := func(change func(jwt.MapClaims)) string {
		return token(t, jwt.SigningMethodHS256, []byte(jwtSecret), change)
	}
	refused := map[string]struct{ token, code string }{
		"none":           {"", "unauthorized"},
		"no token":       {"hello", "unauthorized"},
		"alg none":       {none + "." + parts[1] + ".", "unauthorized"},
		"another alg":    {token(t, jwt.SigningMethodHS512, []byte(jwtSecret), nil), "unauthorized"},
		"another key":    {token(t, jwt.SigningMethodHS256, []byte("x"+jwtSecret), nil), "unauthorized"},
		"no signature":   {parts[0] + "." + parts[1] + ".", "unauthorized"},
		"expired":        {hs(claim("exp", time.Now().Add(-time.Second).Unix())), "token_expired"},
		"no expiry":      {hs(func(said jwt.MapClaims) { delete(said, "exp") }), "unauthorized"},
		"not yet":        {hs(claim("nbf", time.Now().Add(time.Minute).Unix())), "unauthorized"},
		"no subject":     {hs(claim("sub", "")), "unauthorized"},
		"too much":       {hs(claim("holdpost", map[string]any{"manage": true})), "unauthorized"},
		"revoked":        {hs(claim("sub", "eve")), "revoked"},
		"key of the API": {apiKey, "unauthorized"},
	}
	connect := func(transport, auth string, header ...string) (*peertest.Peer, string) {
		peer := p.Connect(transport, header...)
		peer.Send("40" + auth)
		return peer, peer.Next()
	}
	// Somebody whose session can be recovered.
	auth, _ := json.Marshal(map[string]string{"token": good})
	away, said := connect(peertest.WebSocket, string(auth))
	var session struct{ PID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(said, "40")), &session); err != nil || session.PID == "" {
		t.Fatal(said)
	}
	if code := askPeer(away, 1, `["publish","mine","hi"]`); code != "" {
		t.Fatal(code)
	}
	away.Close()
	for name, c := range refused {
		text := fmt.Sprintf(`"code":%q`, c.code)
		for _, transport := range peertest.Transports {
			for how, auth := range map[string]map[string]string{
				"token": {"token": c.token},
				"back":  {"token": c.token, "pid": session.PID, "offset": "x"},
			} {
				b, _ := json.Marshal(auth)
				peer, said := connect(transport, string(b))
				if !strings.HasPrefix(said, "44") || !strings.Contains(said, text) {
					t.Errorf("%s over %s, %s: %s, want %s", name, transport, how, said, c.code)
				}
				peer.Close()
			}
			if c.token != "" {
				peer, said := connect(transport, "", "Authorization", "Bearer "+c.token)
				if !strings.HasPrefix(said, "44") || !strings.Contains(said, text) {
					t.Errorf("%s over %s, in a header: %s, want %s", name, transport, said, c.code)
				}
				peer.Close()
			}
		}
		if c.token != apiKey {
			if code := p.request(c.token, "GET", "/v1/topics", ""); code != "unauthorized" {
				t.Errorf("%s, to the API: %q", name, code)
			}
		}
	}
	if code := p.request(good, "GET", "/v1/topics", ""); code != "unauthorized" {
		t.Errorf("a client's token, to the API: %q", code)
	}
	peer := p.ConnectQuery(peertest.WebSocket, "token="+good)
	peer.Send("40")
	if said := peer.Next(); !strings.HasPrefix(said, "44") {
		t.Errorf("a token in the URL, which logs have: %s", said)
	}
}

// What somebody may do, and what not, is the same over every transport; and once the time is up, or the identity revoked, it is
// nothing at all.
func TestEveryOperationPassesTheVerdict(t *testing.T) {
	p := newPlace(t, nil)
	for _, transport := range peertest.Transports {
		for name, end := range map[string]func(string) string{
			"revoked": func(identity string) string {
				if err := p.server.authority.Revoke(t.Context(), identity); err != nil { // without the look at all sockets that the API has follow
					t.Fatal(err)
				}
				return "revoked"
			},
			"forbidden": func(string) string { return "" },
		} {
			for operation, c := range everyOperation {
				identity := strings.ReplaceAll("ann/"+transport+"/"+name+"/"+operation, " ", "")
				auth, _ := json.Marshal(map[string]string{"token": token(t, jwt.SigningMethodHS256, []byte(jwtSecret), claim("sub", identity))})
				mine := strings.ReplaceAll(c.mine, "inbox/ann", "inbox/"+identity)
				peer := p.Connect(transport)
				peer.Send("40" + string(auth))
				if said := peer.Next(); !strings.HasPrefix(said, "40") {
					t.Fatal(said)
				}
				if code := askPeer(peer, 1, c.theirs); code != "forbidden" {
					t.Errorf("%s over %s, what is not allowed: %q", operation, transport, code)
				}
				if code := askPeer(peer, 2, mine); code != "" {
					t.Errorf("%s over %s, what is allowed: %q", operation, transport, code)
				}
				want := end(identity)
				if code := askPeer(peer, 3, mine); code != want {
					t.Errorf("%s over %s, then: %q, want %q", operation, transport, code, want)
				}
				peer.Close()
			}
		}
	}
}

// A token's time is up for a client that was recovered, too, whatever transport it came back by.
func TestTheTimeOfTheRecoveredIsUpToo(t *testing.T) {
	p := newPlace(t, nil)
	for _, transport := range peertest.Transports {
		end := time.Unix(time.Now().Unix()+2, 0)
		text := token(t, jwt.SigningMethodHS256, []byte(jwtSecret), claim("exp", end.Unix()))
		connect := func(auth map[string]string) (*peertest.Peer, string) {
			b, _ := json.Marshal(auth)
			peer := p.Connect(transport)
			peer.Send("40" + string(b))
			said := peer.Next()
			for strings.HasPrefix(said, "42") { // that the token expires
				said = peer.Next()
			}
			var hs struct{ PID string }
			if err := json.Unmarshal([]byte(strings.TrimPrefix(said, "40")), &hs); err != nil {
				t.Fatal(said)
			}
			return peer, hs.PID
		}
		first, pid := connect(map[string]string{"token": text})
		if code := askPeer(first, 1, `["join","mine"]`); code != "" {
			t.Fatal(code)
		}
		if code := p.request(apiKey, "POST", "/v1/emit", `{"event":"e","rooms":["mine"]}`); code != "" {
			t.Fatal(code)
		}
		offset, ok := "", false
		for !ok { // token_expiring may come first
			offset, ok = strings.CutPrefix(first.Next(), `42["e","`)
		}
		first.Close()
		second, again := connect(map[string]string{"token": text, "pid": pid, "offset": strings.TrimSuffix(offset, `"]`)})
		if again != pid {
			t.Errorf("over %s it was not recovered", transport)
		}
		for {
			said := second.Next()
			if said == "2" {
				second.Send("3")
			}
			if said == "41" {
				break
			}
			if strings.HasPrefix(said, "close") || said == "gone" {
				t.Fatalf("over %s: %s", transport, said)
			}
		}
		if time.Now().Before(end) {
			t.Errorf("over %s it ended before its time", transport)
		}
	}
}

// What was published when somebody was allowed to see it is not delivered any more once he is not: his socket is gone, and the
// next one is not let in.
func TestNothingIsDeliveredToTheRevoked(t *testing.T) {
	p := newPlace(t, nil)
	auth, _ := json.Marshal(map[string]string{"token": token(t, jwt.SigningMethodHS256, []byte(jwtSecret), nil)})
	var peers []*peertest.Peer
	for _, transport := range peertest.Transports {
		peer := p.Connect(transport)
		peer.Send("40" + string(auth))
		peer.Next()
		if code := askPeer(peer, 1, `["subscribe","mine"]`); code != "" {
			t.Fatal(code)
		}
		peers = append(peers, peer)
	}
	if code := p.request(apiKey, "POST", "/v1/identities/ann/revoke", ""); code != "" {
		t.Fatal(code)
	}
	if code := p.request(apiKey, "POST", "/v1/publish", `{"topic":"mine","event":"secret"}`); code != "" {
		t.Fatal(code)
	}
	for i, peer := range peers {
		if said := peer.Next(); said != "41" {
			t.Errorf("over %s: %s", peertest.Transports[i], said)
		}
	}
}
