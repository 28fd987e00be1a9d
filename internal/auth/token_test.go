package auth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestEveryAlgorithm(t *testing.T) {
	for _, algorithm := range Algorithms {
		a := newAuthority(t, Config{Keys: []Key{{ID: "k", Algorithm: algorithm, Key: pairs[algorithm].public}}})
		c, err := a.Client(t.Context(), sign(t, algorithm, "k", nil))
		if err != nil || c.Identity != "ann" || c.Expires.IsZero() || c.Issued.IsZero() {
			t.Errorf("%s: %+v %v", algorithm, c, err)
		}
		for _, other := range Algorithms {
			if other == algorithm {
				continue
			}
			if _, err := a.Client(t.Context(), sign(t, other, "k", nil)); codeOf(err) != "unauthorized" {
				t.Errorf("a key for %s takes %s: %v", algorithm, other, err)
			}
		}
	}
}

// Forged, broken and borrowed tokens.
func TestRefusedTokens(t *testing.T) {
	der, err := x509.MarshalPKIXPublicKey(pairs["RS256"].public)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	a := newAuthority(t, Config{
		Audience: "chat",
		Keys: []Key{
			{ID: "rsa", Algorithm: "RS256", Key: pairs["RS256"].public},
			{ID: "ec", Algorithm: "ES256", Key: pairs["ES256"].public, Issuer: "https://id.example"},
			{ID: "mac", Algorithm: "HS256", Key: secret},
		},
	})
	good := jwt.MapClaims{"aud": "chat"}
	with := func(name string, value any) jwt.MapClaims { return jwt.MapClaims{"aud": "chat", name: value} }
	mac := func(name string, value any) string { return sign(t, "HS256", "mac", with(name, value)) }
	said := map[string]any{"sub": "ann", "aud": "chat", "exp": time.Now().Add(time.Hour).Unix()}
	header := func(kv ...any) map[string]any {
		h := map[string]any{"alg": "HS256", "typ": "JWT", "kid": "mac"}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i].(string)] = kv[i+1]
		}
		return h
	}
	valid := sign(t, "HS256", "mac", good)
	parts := strings.Split(valid, ".")
	now := time.Now()

	accepted := map[string]string{
		"by secret":          valid,
		"by RSA":             sign(t, "RS256", "rsa", good),
		"by EC, of its own":  sign(t, "ES256", "ec", with("iss", "https://id.example")),
		"for several":        mac("aud", []string{"mail", "chat"}),
		"just over":          mac("exp", now.Add(-20*time.Second).Unix()),
		"just begun":         mac("nbf", now.Add(20*time.Second).Unix()),
		"a fraction":         mac("exp", float64(now.Unix())+100.5),
		"255 bytes":          mac("sub", strings.Repeat("x", 255)),
		"an awkward subject": mac("sub", "../*>. (é"),
		"no permissions":     mac("holdpost", nil),
	}
	for name, token := range accepted {
		if _, err := a.Client(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused := []struct {
		name, token, code string
	}{
		{"none at all", "", "unauthorized"},
		{"alg none", raw(t, header("alg", "none"), said, nil, ""), "unauthorized"},
		{"alg None", raw(t, header("alg", "None"), said, nil, "x"), "unauthorized"},
		{"alg is missing", raw(t, map[string]any{"typ": "JWT"}, said, nil, "x"), "unauthorized"},
		{"alg is a number", raw(t, header("alg", 1), said, secret, ""), "unauthorized"},
		{"the public key as a secret", raw(t, header("kid", "rsa"), said, public, ""), "unauthorized"},
		{"the public key's DER as a secret", raw(t, header("kid", "rsa"), said, der, ""), "unauthorized"},
		{"another secret", raw(t, header(), said, []byte(strings.Repeat("x", 64)), ""), "unauthorized"},
		{"an empty secret", raw(t, header(), said, []byte{}, ""), "unauthorized"},
		{"ES256 of zeroes", raw(t, header("alg", "ES256", "kid", "ec"), said, nil, strings.Repeat("A", 86)), "unauthorized"},
		{"a path for a kid", raw(t, header("kid", "../../dev/null"), said, secret, ""), "unauthorized"},
		{"a kid that is no text", raw(t, header("kid", map[string]any{"a": 1}), said, secret, ""), "unauthorized"},
		{"a key along with it", raw(t, header("kid", "own", "jwk", map[string]any{"kty": "oct", "k": "c3M"}, "jku", "https://evil.example", "x5u", "https://evil.example"), said, []byte("ss"), ""), "unauthorized"},
		{"an extension", raw(t, header("crit", []string{"exp"}), said, secret, ""), "unauthorized"},
		{"signature left out", parts[0] + "." + parts[1] + ".", "unauthorized"},
		{"signature cut", valid[:len(valid)-4], "unauthorized"},
		{"claims of another", parts[0] + "." + strings.Split(mac("sub", "bob"), ".")[1] + "." + parts[2], "unauthorized"},
		{"two segments", parts[0] + "." + parts[1], "unauthorized"},
		{"encrypted", valid + ".x.y", "unauthorized"},
		{"100 segments", strings.Repeat("a.", 100), "unauthorized"},
		{"dots", strings.Repeat(".", 1<<20), "unauthorized"},
		{"not base64", parts[0] + "." + parts[1] + ".****", "unauthorized"},
		{"too long", mac("x", strings.Repeat("x", maxToken)), "unauthorized"},
		{"another issuer's key", sign(t, "ES256", "ec", with("iss", "https://evil.example")), "unauthorized"},
		{"no issuer", sign(t, "ES256", "ec", good), "unauthorized"},
		{"no audience", sign(t, "HS256", "mac", nil), "unauthorized"},
		{"another audience", mac("aud", "chat2"), "unauthorized"},
		{"empty audience", mac("aud", ""), "unauthorized"},
		{"audience of no kind", mac("aud", 7), "unauthorized"},
		{"expired", mac("exp", now.Add(-time.Minute).Unix()), "token_expired"},
		{"expired and forged", raw(t, header(), map[string]any{"sub": "ann", "aud": "chat", "exp": 1}, []byte("wrong"), ""), "unauthorized"},
		{"no exp", mac("exp", nil), "unauthorized"},
		{"exp is a text", mac("exp", "2100-01-01"), "unauthorized"},
		{"exp below zero", mac("exp", -1), "token_expired"},
		{"exp beyond all time", mac("exp", 1e300), ""},
		{"exp at the end of int64", mac("exp", math.MaxInt64), ""},
		{"exp too far", mac("exp", now.Add(31*24*time.Hour).Unix()), "unauthorized"},
		{"not yet", mac("nbf", now.Add(time.Minute).Unix()), "unauthorized"},
		{"issued later", mac("iat", now.Add(time.Minute).Unix()), "unauthorized"},
		{"no subject", mac("sub", nil), "unauthorized"},
		{"empty subject", mac("sub", ""), "unauthorized"},
		{"subject is a number", mac("sub", 7), "unauthorized"},
		{"256 bytes", mac("sub", strings.Repeat("x", 256)), "unauthorized"},
		{"subject with a line", mac("sub", "a\nb"), "unauthorized"},
		{"permissions of no kind", mac("holdpost", "all"), "unauthorized"},
		{"a permission that is unknown", mac("holdpost", map[string]any{"jion": []string{"*"}}), "unauthorized"},
		{"an empty pattern", mac("holdpost", map[string]any{"join": []string{""}}), "unauthorized"},
		{"to manage", mac("holdpost", map[string]any{"manage": true}), "unauthorized"},
	}
	for _, c := range refused {
		client, err := a.Client(t.Context(), c.token)
		if err == nil || c.code != "" && codeOf(err) != c.code {
			t.Errorf("%s: %+v %v, want %s", c.name, client, err, c.code)
		}
	}
}

func TestRefusedConfigs(t *testing.T) {
	for name, c := range map[string]Config{
		"no algorithm":      {Keys: []Key{{Key: secret}}},
		"none":              {Keys: []Key{{Algorithm: "none", Key: secret}}},
		"RSA for a MAC":     {Keys: []Key{{Algorithm: "HS256", Key: pairs["RS256"].public}}},
		"a secret for RSA":  {Keys: []Key{{Algorithm: "RS256", Key: secret}}},
		"another curve":     {Keys: []Key{{Algorithm: "ES256", Key: pairs["ES384"].public}}},
		"an empty secret":   {Keys: []Key{{Algorithm: "HS256", Key: []byte{}}}},
		"31 bytes":          {Keys: []Key{{Algorithm: "HS256", Key: secret[:31]}}},
		"no key":            {Keys: []Key{{Algorithm: "EdDSA"}}},
		"an empty API key":  {APIKeys: []APIKey{{Name: "shop"}}},
		"anonymous manager": {Anonymous: &Permissions{Manage: true}},
		"default manager":   {Default: Permissions{Manage: true}},
		"an empty pattern":  {Default: Permissions{Send: []string{""}}},
		"issuer over http":  {Issuers: []Issuer{{Name: "i", URL: "http://id.example/keys", Algorithms: []string{"RS256"}}}},
		"symmetric issuer":  {Issuers: []Issuer{{Name: "i", URL: "https://id.example/keys", Algorithms: []string{"HS256"}}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(Config{Keys: []Key{{Algorithm: "HS256", Key: secret[:32]}}}); err != nil {
		t.Errorf("32 bytes: %v", err)
	}
	many := make([]string, maxPatterns+1)
	for i := range many {
		many[i] = fmt.Sprint("room", i)
	}
	if err := (&Permissions{Join: many[:maxPatterns]}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (&Permissions{Join: many}).Validate(); err == nil {
		t.Error("one pattern too many is accepted")
	}
	if err := (&Permissions{Join: []string{strings.Repeat("x", maxPattern)}}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (&Permissions{Join: []string{strings.Repeat("x", maxPattern+1)}}).Validate(); err == nil {
		t.Error("a pattern too long is accepted")
	}
}

func TestAnonymous(t *testing.T) {
	if _, err := newAuthority(t, Config{}).Client(t.Context(), ""); codeOf(err) != "unauthorized" {
		t.Errorf("nobody asked for it: %v", err)
	}
	a := newAuthority(t, Config{Anonymous: &Permissions{Join: []string{"lobby", "u/{identity}", "**{identity}"}}})
	c, err := a.Client(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verdict(c, Join, "lobby"); err != nil {
		t.Error(err)
	}
	for _, room := range []string{"u/", "u/{identity}", "", "other"} {
		if err := a.Verdict(c, Join, room); codeOf(err) != "forbidden" {
			t.Errorf("join %q: %v", room, err)
		}
	}
}

func TestErrorsTellNoSecret(t *testing.T) {
	a := newAuthority(t, Config{Keys: []Key{{Algorithm: "HS256", Key: secret}}})
	token := sign(t, "HS512", "", nil)
	_, err := a.Client(t.Context(), token)
	var refused *Error
	if !errors.As(err, &refused) || strings.Contains(err.Error(), token[len(token)-20:]) {
		t.Errorf("%v", err)
	}
}
