package auth

import (
	"crypto/sha256"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, identity, name string
		want                    bool
	}{
		{"lobby", "", "lobby", true},
		{"lobby", "", "lobby2", false},
		{"lobby", "", "Lobby", false},
		{"team/*", "", "team/7", true},
		{"team/*", "", "team/", true},
		{"team/*", "", "team/7/8", false},
		{"team/**", "", "team/7/8", true},
		{"*", "", "a/b", false},
		{"**", "", "a/b", true},
		{"*/b/*", "", "a/b/c", true},
		{"*/b/*", "", "a/c/c", false},
		{"a*c*e", "", "abcde", true},
		{"a*c*e", "", "abcd", false},
		{"a.c", "", "abc", false},
		{"(a|b)", "", "a", false},
		{"[ab]", "", "a", false},
		{"", "", "", true},

		{"u/{identity}", "ann", "u/ann", true},
		{"u/{identity}", "ann", "u/bob", false},
		{"u/{identity}", "ann", "u/{identity}", false},
		{"u/{identity}", "", "u/", false},
		{"u/{identity}/*", "ann", "u/ann/x", true},
		{"{identity}-{identity}*", "a", "a-ab", true},
		{"u/{identity}", "*", "u/bob", false},
		{"u/{identity}", "*", "u/*", false}, // asked for as a pattern
		{"u/{identity}/*", "*", "u/bob/x", false},
		{"u/{identity}/*", "**", "u/a/b/x", false},
		{"u/{identity}*", ".", "u/x", false},
		{"u/{identity}*", ">", "u/x", false},
		{"u/{identity}*", "(", "u/(x", true},
		{"u/{identity}", "{identity}", "u/{identity}", true},

		// What is asked for is a pattern itself.
		{"chat/*", "", "chat/*", true},
		{"chat/**", "", "chat/*", true},
		{"chat/*", "", "chat/**", false},
		{"chat/*", "", "chat/a*b", true},
		{"chat/*", "", "*", false},
		{"chat/*", "", "**", false},
		{"**", "", "**", true},
		{"*", "", "**", false},
		{"chat/a", "", "chat/*", false},
		{"*a*", "", "*a*", true},
		{"*a*", "", "*b*", false},
		{"u/{identity}/*", "ann", "u/*/x", false},
	} {
		if got := matches(c.pattern, c.identity, c.name, true); got != c.want {
			t.Errorf("%q for %q takes in %q: %v, want %v", c.pattern, c.identity, c.name, got, c.want)
		}
	}
	if !matches("u/{identity}", "*", "u/*", false) {
		t.Error("a star is a character where names are no patterns")
	}
	matches(strings.Repeat("*a", 255), "", strings.Repeat("a", 255)+"b", true) // ends
}

func TestVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{
			Keys:    []Key{{Algorithm: "HS256", Key: secret}},
			Default: Permissions{Subscribe: []string{"news"}},
		})
		client := func(said jwt.MapClaims) *Client {
			t.Helper()
			c, err := a.Client(t.Context(), sign(t, "HS256", "", said))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		plain := client(nil)
		rich := client(jwt.MapClaims{"holdpost": map[string]any{
			"join": []string{"lobby"}, "send": []string{"u/{identity}"}, "subscribe": []string{"chat/*"}, "publish": []string{"orders"}, "work": []string{"workers"},
		}})
		for _, c := range []struct {
			client *Client
			action Action
			name   string
			want   string
		}{
			{nil, Join, "lobby", "unauthorized"},
			{plain, Subscribe, "news", ""},
			{plain, Publish, "news", "forbidden"},
			{plain, Join, "lobby", "forbidden"},
			{rich, Subscribe, "news", "forbidden"},
			{rich, Subscribe, "chat/1", ""},
			{rich, Join, "lobby", ""},
			{rich, Send, "lobby", "forbidden"},
			{rich, Send, "u/ann", ""},
			{rich, Publish, "orders", ""},
			{rich, Publish, "order*", "forbidden"},
			{rich, Work, "workers", ""},
			{rich, Work, "others", "forbidden"},
			{plain, Inbox, "ann", ""},
			{plain, Inbox, "bob", "forbidden"},
			{plain, Inbox, "", "forbidden"},
			{&Client{permissions: &Permissions{}}, Inbox, "", "forbidden"},
			{rich, Manage, "", "forbidden"},
			{rich, "delete", "orders", "forbidden"},
		} {
			if got := codeOf(a.Verdict(c.client, c.action, c.name)); got != c.want {
				t.Errorf("%+v %s %q: %q, want %q", c.client, c.action, c.name, got, c.want)
			}
		}

		// Other rules count for those who are there, where their token does not say.
		if err := a.Reload(Config{Keys: []Key{{Algorithm: "HS256", Key: secret}}, Default: Permissions{Join: []string{"lobby"}}}); err != nil {
			t.Fatal(err)
		}
		if codeOf(a.Verdict(plain, Subscribe, "news")) != "forbidden" || a.Verdict(plain, Join, "lobby") != nil || a.Verdict(rich, Subscribe, "chat/1") != nil {
			t.Error("the permissions after a reload are not those of the rules")
		}
		if err := a.Reload(Config{Keys: []Key{{Algorithm: "none"}}}); err == nil || a.Verdict(plain, Join, "lobby") != nil {
			t.Errorf("rules that are wrong: %v", err)
		}

		// Time passes.
		time.Sleep(time.Hour + 30*time.Second)
		if err := a.Verdict(rich, Join, "lobby"); err != nil {
			t.Errorf("within the leeway: %v", err)
		}
		time.Sleep(time.Second)
		if got := codeOf(a.Verdict(rich, Join, "lobby")); got != "token_expired" {
			t.Errorf("after the leeway: %q", got)
		}
	})
}

func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{Keys: []Key{{Algorithm: "HS256", Key: secret}}, Default: Permissions{Join: []string{"**"}}})
		old, other := sign(t, "HS256", "", nil), sign(t, "HS256", "", jwt.MapClaims{"sub": "bob"})
		undated := sign(t, "HS256", "", jwt.MapClaims{"iat": nil})
		here, err := a.Client(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Revoke(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		renewed := sign(t, "HS256", "", nil)
		if got := codeOf(a.Verdict(here, Join, "lobby")); got != "revoked" {
			t.Errorf("who is there: %q", got)
		}
		for token, want := range map[string]string{old: "revoked", undated: "revoked", other: "", renewed: ""} {
			if _, err := a.Client(t.Context(), token); codeOf(err) != want {
				t.Errorf("%v, want %q", err, want)
			}
		}
		for _, identity := range []string{"", "a\nb", strings.Repeat("x", 256)} {
			if got := codeOf(a.Revoke(t.Context(), identity)); got != "invalid_identity" {
				t.Errorf("revoke %.20q: %q", identity, got)
			}
		}

		// Who was revoked longer ago than a token lives is forgotten.
		time.Sleep(31 * 24 * time.Hour)
		if err := a.Revoke(t.Context(), "cid"); err != nil || len(a.revocations.since) != 1 {
			t.Errorf("%v, %d are remembered", err, len(a.revocations.since))
		}
	})
}

func TestRevokedAreBounded(t *testing.T) {
	a := newAuthority(t, Config{})
	for i := range maxRevoked {
		a.revocations.since[string(rune(i+0x10000))] = time.Now()
	}
	if got := codeOf(a.Revoke(t.Context(), "one more")); got != "too_many" {
		t.Errorf("%q", got)
	}
}

func TestAPIKeys(t *testing.T) {
	a := newAuthority(t, Config{APIKeys: []APIKey{
		{Name: "shop", Hash: sha256.Sum256([]byte("the shop's secret")), Permissions: Permissions{Publish: []string{"orders"}}},
		{Name: "admin", Hash: sha256.Sum256([]byte("the admin's secret")), Permissions: All()},
	}})
	if !a.NeedsKey() || newAuthority(t, Config{}).NeedsKey() {
		t.Error("NeedsKey does not tell whether there are keys")
	}
	shop, err := a.Key("the shop's secret")
	if err != nil || a.Verdict(shop, Publish, "orders") != nil || codeOf(a.Verdict(shop, Manage, "")) != "forbidden" {
		t.Errorf("%+v %v", shop, err)
	}
	admin, err := a.Key("the admin's secret")
	if err != nil || a.Verdict(admin, Manage, "") != nil {
		t.Errorf("%+v %v", admin, err)
	}
	for _, secret := range []string{"", "the shop's secre", "the shop's secret ", "shop"} {
		if _, err := a.Key(secret); codeOf(err) != "unauthorized" {
			t.Errorf("%q: %v", secret, err)
		}
	}
	for _, keys := range [][]APIKey{
		{{Name: "a", Hash: sha256.Sum256(nil)}},
		{{Name: "a", Hash: sha256.Sum256([]byte("x"))}, {Name: "a", Hash: sha256.Sum256([]byte("y"))}},
		{{Name: "a", Hash: sha256.Sum256([]byte("x"))}, {Name: "b", Hash: sha256.Sum256([]byte("x"))}},
	} {
		if _, err := New(Config{APIKeys: keys}); err == nil {
			t.Errorf("accepted: %v", keys)
		}
	}
}
