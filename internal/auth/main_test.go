package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var secret = []byte(strings.Repeat("s", 64))

// pair is a key that signs and what verifies it.
type pair struct{ private, public any }

var pairs = func() map[string]pair {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	all := map[string]pair{"HS256": {secret, secret}, "HS384": {secret, secret}, "HS512": {secret, secret}}
	for _, a := range []string{"RS256", "RS384", "RS512"} {
		all[a] = pair{r, &r.PublicKey}
	}
	for a, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		all[a] = pair{k, &k.PublicKey}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	all["EdDSA"] = pair{private, public}
	return all
}()

func newAuthority(t *testing.T, c Config) *Authority {
	t.Helper()
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sign returns a token with these claims over ones that hold.
func sign(t *testing.T, algorithm, kid string, said jwt.MapClaims) string {
	t.Helper()
	now := time.Now()
	all := jwt.MapClaims{"sub": "ann", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix()}
	maps.Copy(all, said)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), all)
	if kid != "" {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(pairs[algorithm].private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// raw makes a token of whatever header and claims, signed as HS256 with the key, or with the signature as it is given.
func raw(t *testing.T, header, said map[string]any, key []byte, signature string) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(said)
	if key == nil {
		return text + "." + signature
	}
	b, err := jwt.SigningMethodHS256.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(b)
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if err != nil {
		return "uncoded: " + err.Error()
	}
	return ""
}
