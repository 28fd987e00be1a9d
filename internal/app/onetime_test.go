package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/peertest"
)

// Who comes back brings a new token; with the used one he is refused, and has his session all the same afterwards.
func TestRecoveryTakesANewOneTimeToken(t *testing.T) {
	p := newPlace(t, func(c *config.Config) { c.Auth.OneTime = true })
	connect := func(token string, more map[string]string) (*peertest.Peer, string) {
		said := map[string]string{"token": token}
		for name, value := range more {
			said[name] = value
		}
		auth, _ := json.Marshal(said)
		peer := p.Connect(peertest.WebSocket)
		peer.Send("40" + string(auth))
		return peer, peer.Next()
	}
	made := func(id string) string { return token(t, jwt.SigningMethodHS256, []byte(jwtSecret), claim("jti", id)) }
	type handshake struct{ SID, PID string }
	session := func(said string) (h handshake) {
		t.Helper()
		if err := json.Unmarshal([]byte(strings.TrimPrefix(said, "40")), &h); err != nil || h.PID == "" {
			t.Fatal(said)
		}
		return h
	}
	first := made("1")
	peer, said := connect(first, nil)
	before := session(said)
	if code := askPeer(peer, 1, `["join","mine"]`); code != "" {
		t.Fatal(code)
	}
	p.server.sockets.Of("/").To("mine").Emit(t.Context(), "chat", "hi")
	event := peer.Next()
	offset := event[strings.LastIndex(event[:len(event)-2], `"`)+1 : len(event)-2]
	peer.Close()
	back := map[string]string{"pid": before.PID, "offset": offset}
	if _, said := connect(first, back); !strings.Contains(said, `"code":"token_used"`) {
		t.Errorf("back with the used token: %s", said)
	}
	if _, said := connect(made("2"), back); session(said) != before {
		t.Errorf("back with a new token: %s, want the session %v", said, before)
	}
}
