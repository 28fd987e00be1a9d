package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxToken bounds a token in bytes, before anything of it is looked at.
	maxToken = 8 << 10
	// maxIdentity bounds an identity in bytes: it is the name of a queue.
	maxIdentity = 255
)

// Algorithms lists the algorithms that tokens may be signed with (RFC 7518, 3.1; RFC 8037).
var Algorithms = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}

// Key is a key that tokens are signed with, and the one algorithm that it is for.
type Key struct {
	ID        string // which a token may name in kid; "" is the key of tokens that name none too
	Algorithm string
	Issuer    string // which tokens must name in iss; "" does not look
	// Key is a secret, []byte, for HS*, of at least as many bytes as the hash has (RFC 7518, 3.2); else a public key.
	Key any
}

func (k *Key) check() error {
	if !slices.Contains(Algorithms, k.Algorithm) {
		return fmt.Errorf("algorithm %q is unknown: there are %s", k.Algorithm, strings.Join(Algorithms, ", "))
	}
	if !fits(k.Algorithm, k.Key) {
		return fmt.Errorf("the key is not one for %s", k.Algorithm)
	}
	switch key := k.Key.(type) {
	case []byte:
		if need := map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[k.Algorithm]; len(key) < need {
			return fmt.Errorf("the secret has %d bytes: %s needs %d", len(key), k.Algorithm, need)
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return fmt.Errorf("the key has %d bits: RSA needs 2048", key.N.BitLen())
		}
	}
	return nil
}

// fits tells whether a key is of the kind that the algorithm uses.
func fits(algorithm string, key any) bool {
	switch key := key.(type) {
	case []byte:
		return strings.HasPrefix(algorithm, "HS")
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS")
	case *ecdsa.PublicKey:
		return algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Params().BitSize]
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

type claims struct {
	jwt.RegisteredClaims
	Holdpost json.RawMessage `json:"holdpost"`
}

// Client returns whom a token stands for; "" is the anonymous client, if there may be one. The error is an [Error] with code
// unauthorized, token_expired, token_used, revoked or unavailable. A one-time token is used up by [Authority.Use] alone. ctx bounds the fetch of an issuer's keys.
func (a *Authority) Client(ctx context.Context, token string) (*Client, error) {
	r := a.rules.Load()
	if token == "" {
		if r.Anonymous == nil {
			return nil, unauthorized("no token was given")
		}
		return &Client{permissions: r.Anonymous}, nil
	}
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return nil, unauthorized("this is not a token")
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(Algorithms), jwt.WithLeeway(r.Leeway), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
	}
	if r.Audience != "" {
		options = append(options, jwt.WithAudience(r.Audience))
	}
	var said claims
	_, err := jwt.NewParser(options...).ParseWithClaims(token, &said, func(t *jwt.Token) (any, error) {
		return r.keysFor(ctx, t, said.Issuer)
	})
	if err != nil {
		return nil, explain(err)
	}
	c, err := r.client(&said)
	if err != nil {
		return nil, unauthorized(err.Error())
	}
	if a.used.has(c.token) {
		return nil, errTokenUsed
	}
	return c, a.Valid(c)
}

// explain keeps of an error of the parser what tells nothing to who forges tokens. The signature's comes first: a token that
// nobody has signed has not expired.
func explain(err error) error {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return unauthorized("this is not a token")
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return unauthorized("the token is not signed with a key that is known here")
	case errors.Is(err, jwt.ErrTokenExpired):
		return &Error{Code: "token_expired", Detail: "the token has expired"}
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return unauthorized("the token does not hold yet")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return unauthorized("the token is for somebody else")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return unauthorized("a claim is missing that the token needs: exp, or aud")
	}
	return unauthorized("the token's claims can't be read")
}

// keysFor returns the keys that may have signed a token. Nothing that the token brings along is a key or says where one is.
func (r *rules) keysFor(ctx context.Context, t *jwt.Token, issuer string) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	if _, ok := t.Header["crit"]; ok { // extensions that must be understood (RFC 7515, 4.1.11), and there are none
		return set, unauthorized("the token needs an extension that is unknown here")
	}
	kid, _ := t.Header["kid"].(string)
	algorithm := t.Method.Alg()
	for _, k := range r.Keys {
		if k.Algorithm == algorithm && (k.ID == "" || k.ID == kid) && (k.Issuer == "" || k.Issuer == issuer) {
			set.Keys = append(set.Keys, k.Key)
		}
	}
	for _, is := range r.issuers {
		if is.Name != issuer || !slices.Contains(is.Algorithms, algorithm) {
			continue
		}
		key, err := is.key(ctx, kid, algorithm)
		if err != nil {
			return set, err
		}
		if key != nil {
			set.Keys = append(set.Keys, key)
		}
	}
	if len(set.Keys) == 0 {
		return set, unauthorized("the token is not signed with a key that is known here")
	}
	return set, nil
}

// client makes a client of the claims of a token that holds.
func (r *rules) client(said *claims) (*Client, error) {
	c := &Client{Identity: said.Subject, Expires: said.ExpiresAt.Time}
	if said.IssuedAt != nil {
		c.Issued = said.IssuedAt.Time
	}
	switch {
	case c.Identity == "":
		return nil, errors.New("the token has no sub")
	case len(c.Identity) > maxIdentity || !plain(c.Identity):
		return nil, errors.New("the token's sub is not a text of 1 to 255 bytes without control characters")
	case c.Expires.After(time.Now().Add(r.MaxLifetime + r.Leeway)):
		return nil, fmt.Errorf("the token holds for longer than %v", r.MaxLifetime)
	case r.OneTime && said.ID == "":
		return nil, errors.New("the token has no jti, which one for one time needs")
	}
	if r.OneTime {
		c.token = newTokenID(said.Issuer, said.ID)
	}
	if len(said.Holdpost) == 0 || string(said.Holdpost) == "null" {
		return c, nil
	}
	c.permissions = new(Permissions)
	d := json.NewDecoder(bytes.NewReader(said.Holdpost))
	d.DisallowUnknownFields() // a misspelt one must not be ignored
	if err := d.Decode(c.permissions); err != nil {
		return nil, fmt.Errorf("the token's claim holdpost: %w", err)
	}
	if err := c.permissions.Validate(); err != nil {
		return nil, fmt.Errorf("the token's claim holdpost: %w", err)
	}
	if c.permissions.Manage {
		return nil, errors.New("the token's claim holdpost: only an API key may manage")
	}
	return c, nil
}
