package gate

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/peertest"
)

func openOneTime(t *testing.T, c Config) *place {
	t.Helper()
	p := open(t, c)
	if err := p.authority.Reload(auth.Config{Keys: []auth.Key{{Algorithm: "HS256", Key: []byte(secret)}}, OneTime: true}); err != nil {
		t.Fatal(err)
	}
	return p
}

func oneTime(t *testing.T, identity, id string) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": identity, "jti": id, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A token lets one socket in, whatever its transport and however often that changes: a connection is one use, another one another.
func TestOneTimeTokens(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		p := openOneTime(t, Config{})
		const used = `44{"message":"the token was used before, and is for one time","data":{"code":"token_used"}}`
		first := oneTime(t, "ann", "1")
		peer, got := p.connect(transport, first)
		if !strings.HasPrefix(got, "40{") {
			t.Fatal(got)
		}
		peer.Send(`421["do","join","den"]`)
		peer.Want("while it is connected", `431[{"error":{"code":"forbidden","message":"not allowed: join den"}}]`)
		for _, other := range peertest.Transports {
			if _, got := p.connect(other, first); got != used {
				t.Errorf("once more over %s: %s", other, got)
			}
		}
		peer.Send("41")
		peer.Send(`40{"token":"` + first + `"}`)
		peer.Want("again on the same connection", used)
		peer.Send(`40{"token":"` + oneTime(t, "ann", "2") + `"}`)
		if got := peer.Next(); !strings.HasPrefix(got, "40{") {
			t.Errorf("with another token: %s", got)
		}
		peer.Send(`422["refresh","` + first + `"]`)
		peer.Want("a refresh by a used one", `432[{"error":{"code":"token_used","message":"the token was used before, and is for one time"}}]`)
		third := oneTime(t, "ann", "3")
		peer.Send(`423["refresh","` + third + `"]`)
		if got := peer.Next(); !strings.HasPrefix(got, `433[{"expiresAt"`) {
			t.Errorf("a refresh: %s", got)
		}
		if _, got := p.connect(transport, third); got != used {
			t.Errorf("what was used to refresh: %s", got)
		}
	})
}

// Who is refused for another reason may try again with the same token.
func TestOneTimeTokensAreUsedUpByThoseLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := true
		p := openOneTime(t, Config{Decide: func(_ context.Context, _ *holdpost.Socket, c *auth.Client) (*auth.Client, error) {
			if closed {
				return nil, &auth.Error{Code: "forbidden", Detail: "closed"}
			}
			return c, nil
		}})
		token := oneTime(t, "ann", "1")
		if _, got := p.connect(peertest.WebSocket, token); !strings.Contains(got, "forbidden") {
			t.Fatal(got)
		}
		closed = false
		for i, want := range []string{"40", "44"} {
			if _, got := p.connect(peertest.WebSocket, token); !strings.HasPrefix(got, want) {
				t.Errorf("try %d: %s", i, got)
			}
		}
	})
}
