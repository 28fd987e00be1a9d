package auth

import (
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// endpoint is an issuer's endpoint of keys, without a network.
type endpoint struct {
	body    string
	status  int
	err     error
	fetches int
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	e.fetches++
	if e.err != nil {
		return nil, e.err
	}
	return &http.Response{StatusCode: e.status, Status: fmt.Sprint(e.status), Body: io.NopCloser(strings.NewReader(e.body)), Request: r}, nil
}

func jwk(t *testing.T, kid, algorithm string) string {
	t.Helper()
	key := pairs["ES256"].public.(*ecdsa.PublicKey)
	b, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
		"x": base64.RawURLEncoding.EncodeToString(b[1:33]), "y": base64.RawURLEncoding.EncodeToString(b[33:])}
	if algorithm != "" {
		m["alg"] = algorithm
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func TestIssuersKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{status: 200, body: set(jwk(t, "one", "ES256"))}
		a := newAuthority(t, Config{
			HTTP: &http.Client{Transport: e},
			Issuers: []Issuer{
				{Name: "https://id.example", URL: "https://id.example/keys", Algorithms: []string{"ES256"}},
				{Name: "https://other.example", URL: "https://other.example/keys", Algorithms: []string{"RS256"}},
			},
		})
		client := func(kid, issuer string) string {
			_, err := a.Client(t.Context(), sign(t, "ES256", kid, jwt.MapClaims{"iss": issuer}))
			return codeOf(err)
		}
		want := func(what, got, code string, fetches int) {
			t.Helper()
			if got != code || e.fetches != fetches {
				t.Errorf("%s: %q after %d fetches, want %q after %d", what, got, e.fetches, code, fetches)
			}
		}
		want("the first token", client("one", "https://id.example"), "", 1)
		want("the next", client("one", "https://id.example"), "", 1)
		want("the same kid of another issuer", client("one", "https://other.example"), "unauthorized", 1)
		want("an unknown issuer", client("one", "https://evil.example"), "unauthorized", 1)
		want("an unknown key, right away", client("two", "https://id.example"), "unauthorized", 1)

		// Keys rotate.
		e.body = set(jwk(t, "two", ""), `{"kty":"oct","k":"c2VjcmV0","kid":"mac"}`, `{"kty":"XY","kid":"new kind"}`)
		time.Sleep(keysAgain + time.Second)
		want("the new key", client("two", "https://id.example"), "", 2)
		want("the removed key", client("one", "https://id.example"), "unauthorized", 2)

		// The issuer is gone for a while, then for good.
		e.err = fmt.Errorf("no route")
		time.Sleep(keysFresh + time.Second)
		want("while it is gone", client("two", "https://id.example"), "", 3)
		want("again, right away", client("two", "https://id.example"), "", 3)
		time.Sleep(keysStale + time.Second)
		want("after too long", client("two", "https://id.example"), "unavailable", 4)
		e.err = nil
		time.Sleep(keysAgain + time.Second)
		want("when it is back", client("two", "https://id.example"), "", 5)

		// The rules are read again: the keys are still there.
		if err := a.Reload(a.rules.Load().Config); err != nil {
			t.Fatal(err)
		}
		want("after a reload", client("two", "https://id.example"), "", 5)
	})
}

func TestIssuersAnswers(t *testing.T) {
	for name, e := range map[string]*endpoint{
		"an error":       {status: 500},
		"a redirect":     {status: 302},
		"not JSON":       {status: 200, body: "<html>"},
		"too large":      {status: 200, body: set(jwk(t, "one", "")) + strings.Repeat(" ", maxKeySet)},
		"too many":       {status: 200, body: set(strings.Split(strings.Repeat(`{"kty":"XY"} `, maxKeys), " ")[:maxKeys]...)[:9] + strings.Repeat(`{"kty":"XY"},`, maxKeys) + jwk(t, "one", "") + "]}"},
		"the same twice": {status: 200, body: set(jwk(t, "one", ""), jwk(t, "one", ""))},
		"another's alg":  {status: 200, body: set(jwk(t, "one", "RS256"))},
		"to encrypt":     {status: 200, body: set(strings.Replace(jwk(t, "one", ""), `"sig"`, `"enc"`, 1))},
	} {
		is, err := newIssuer(Issuer{Name: "i", URL: "https://id.example/keys", Algorithms: []string{"ES256"}}, &http.Client{Transport: e})
		if err != nil {
			t.Fatal(err)
		}
		if key, err := is.key(t.Context(), "one", "ES256"); key != nil {
			t.Errorf("%s: %v %v", name, key, err)
		}
	}
	full := make([]string, maxKeys)
	for i := range full {
		full[i] = jwk(t, fmt.Sprint(i), "")
	}
	if keys, err := parseKeys([]byte(set(full...))); err != nil || len(keys) != maxKeys {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestWaitingForKeysEnds(t *testing.T) {
	is, err := newIssuer(Issuer{Name: "i", URL: "https://id.example/keys", Algorithms: []string{"ES256"}}, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	is.turn <- struct{}{} // somebody is fetching
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := is.key(ctx, "one", "ES256"); codeOf(err) != "unavailable" {
		t.Errorf("%v", err)
	}
}
