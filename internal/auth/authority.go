package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Config says whom an [Authority] believes. For durations 0 is the default, which each field names.
type Config struct {
	Keys     []Key    // that tokens are signed with
	Issuers  []Issuer // whose keys are fetched
	Audience string   // which tokens must name in aud; "" does not look
	APIKeys  []APIKey

	// Anonymous are the permissions of clients without a token; nil lets none of them in.
	Anonymous *Permissions
	// Default are the permissions of a token that does not say.
	Default Permissions

	// Leeway is how far clocks may differ. Default 30 s.
	Leeway time.Duration
	// MaxLifetime is how far ahead a token may expire, and so how long it is remembered who was revoked. Default 30 days.
	MaxLifetime time.Duration

	// OneTime lets nobody in twice by the same token: each needs the claim jti, which its issuer gives once. It is remembered in
	// memory, until the token expires.
	OneTime bool
	// UsedTokens is how many are remembered; beyond it none is let in by another one. Default 100,000.
	UsedTokens int

	// HTTP fetches the keys of issuers. Required when there are any.
	HTTP *http.Client
}

// APIKey is a secret of a program that calls the API. The secret itself is not kept.
type APIKey struct {
	Name        string
	Hash        [sha256.Size]byte // SHA-256 of the secret, which has 128 random bits or more
	Permissions Permissions
}

// Client is somebody who was let in. It is immutable.
type Client struct {
	// Identity is the token's subject or the name of the API key; "" of the anonymous.
	Identity string
	Issued   time.Time // zero if the token does not say
	Expires  time.Time // zero: never

	permissions *Permissions // nil: Config.Default
	api         bool
	token       tokenID // of a one-time token
}

// Trusted returns a client that is believed to be who it says, and may do what a token can allow. It is for dev mode.
func Trusted(identity string) *Client {
	all := All()
	all.Manage = false
	return &Client{Identity: identity, permissions: &all}
}

// Told returns a client of whom somebody trusted says who it is and what it may do; nil is the default.
func Told(identity string, p *Permissions) (*Client, error) {
	if identity == "" || len(identity) > maxIdentity || !plain(identity) {
		return nil, fmt.Errorf("identity %.64q is not a text of 1 to 255 bytes without control characters", identity)
	}
	if p != nil {
		if p.Manage {
			return nil, errors.New("only an API key may manage")
		}
		if err := p.Validate(); err != nil {
			return nil, err
		}
	}
	return &Client{Identity: identity, permissions: p, Issued: time.Now()}, nil
}

// Authority decides. Make one with [New].
type Authority struct {
	revocations *revocations
	used        usedTokens
	rules       atomic.Pointer[rules]
}

// rules is what a reload replaces. Immutable.
type rules struct {
	Config
	issuers []*issuer
}

// New returns an authority, which remembers who was revoked for as long as the process runs.
func New(c Config) (*Authority, error) {
	r, err := newRules(c, nil)
	if err != nil {
		return nil, err
	}
	a := &Authority{revocations: &revocations{
		storing: make(chan struct{}, 1), life: r.MaxLifetime + r.Leeway, since: make(map[string]time.Time),
	}}
	a.rules.Store(r)
	return a, nil
}

// Remember has the authority keep who was revoked in a store, which tells it who was before. No other method may be called before it
// has returned, and none at all after an error: the revoked would be let in.
func (a *Authority) Remember(ctx context.Context, s Store) error {
	a.revocations.store = s
	if err := a.revocations.load(ctx); err != nil {
		return fmt.Errorf("read who was revoked: %w", err)
	}
	return nil
}

// Reload replaces the rules. Who was let in stays, under the new default permissions if its token does not say. On an error
// nothing is changed.
func (a *Authority) Reload(c Config) error {
	r, err := newRules(c, a.rules.Load())
	if err != nil {
		return err
	}
	a.rules.Store(r)
	a.revocations.keep(r.MaxLifetime + r.Leeway)
	return nil
}

func newRules(c Config, old *rules) (*rules, error) {
	if c.Leeway == 0 {
		c.Leeway = 30 * time.Second
	}
	if c.MaxLifetime == 0 {
		c.MaxLifetime = 30 * 24 * time.Hour
	}
	if c.UsedTokens == 0 {
		c.UsedTokens = defaultUsed
	}
	r := &rules{Config: c}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, k := range c.Keys {
		if err := k.check(); err != nil {
			wrong("key %d: %w", i, err)
		}
	}
	for i, k := range c.APIKeys {
		switch {
		case k.Name == "":
			wrong("API key %d: it has no name", i)
		case k.Hash == [sha256.Size]byte{} || k.Hash == sha256.Sum256(nil):
			wrong("API key %q: it is empty", k.Name)
		case slices.ContainsFunc(c.APIKeys[:i], func(o APIKey) bool { return o.Name == k.Name || o.Hash == k.Hash }):
			wrong("API key %q: it is there twice", k.Name)
		}
		if err := k.Permissions.Validate(); err != nil {
			wrong("API key %q: %w", k.Name, err)
		}
	}
	for what, p := range map[string]*Permissions{"anonymous": c.Anonymous, "default": &c.Default} {
		if p == nil {
			continue
		}
		if err := p.Validate(); err != nil {
			wrong("%s permissions: %w", what, err)
		}
		if p.Manage {
			wrong("%s permissions: only an API key may manage", what)
		}
	}
	for i, source := range c.Issuers {
		if slices.ContainsFunc(c.Issuers[:i], func(o Issuer) bool { return o.Name == source.Name }) {
			wrong("issuer %q: it is there twice", source.Name)
		}
		is, err := newIssuer(source, c.HTTP)
		if err != nil {
			wrong("issuer %q: %w", source.Name, err)
			continue
		}
		if old != nil { // it has its keys already
			if i := slices.IndexFunc(old.issuers, func(o *issuer) bool { return o.same(source) }); i >= 0 {
				is = old.issuers[i]
			}
		}
		r.issuers = append(r.issuers, is)
	}
	return r, errors.Join(errs...)
}

// Verdict returns nil if a client may do something, and else an [Error] with code unauthorized, token_expired, revoked or
// forbidden. name is as the action says. nil is nobody, who may do nothing.
func (a *Authority) Verdict(c *Client, action Action, name string) error {
	if err := a.Valid(c); err != nil {
		return err
	}
	p := c.permissions
	if p == nil {
		p = &a.rules.Load().Default
	}
	if !p.allow(c.Identity, action, name) {
		return &Error{Code: "forbidden", Detail: fmt.Sprintf("not allowed: %s", strings.TrimSpace(string(action)+" "+name))}
	}
	return nil
}

// Fingerprint returns a short text that differs when the permissions do.
func (a *Authority) Fingerprint(c *Client) string {
	p := c.permissions
	if p == nil {
		p = &a.rules.Load().Default
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // lists of texts can always be encoded
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Valid is the part of the verdict that does not depend on what the client wants: whether it is still let in.
func (a *Authority) Valid(c *Client) error {
	if c == nil {
		return unauthorized("no token was given")
	}
	if !c.Expires.IsZero() && time.Now().After(c.Expires.Add(a.rules.Load().Leeway)) {
		return &Error{Code: "token_expired", Detail: "the token has expired"}
	}
	if !c.api && a.revocations.revoked(c) {
		return &Error{Code: "revoked", Detail: "the identity was revoked"}
	}
	return nil
}

// Ends returns when the client's time is up, its leeway included; the zero time is never.
func (a *Authority) Ends(c *Client) time.Time {
	if c.Expires.IsZero() {
		return time.Time{}
	}
	return c.Expires.Add(a.rules.Load().Leeway)
}

// Revoke turns an identity out: its tokens that were issued up to now, or do not say when, hold no more. It is durable when
// Revoke returns nil. An [Error] has the code invalid_identity or too_many, and changed nothing; after any other error, of the store or of
// ctx, it holds, and may be forgotten when the process ends. Those that are revoked at the same time are stored one after the other.
func (a *Authority) Revoke(ctx context.Context, identity string) error {
	if identity == "" || !plain(identity) || len(identity) > maxIdentity {
		return &Error{Code: "invalid_identity", Detail: "an identity is a text of 1 to 255 bytes"}
	}
	return a.revocations.add(ctx, identity)
}

// NeedsKey tells whether there are API keys: without them the API is open to whoever reaches it.
func (a *Authority) NeedsKey() bool { return len(a.rules.Load().APIKeys) > 0 }

// Key returns the client that an API key stands for. It takes the same time for every wrong one.
func (a *Authority) Key(secret string) (*Client, error) {
	hash := sha256.Sum256([]byte(secret))
	var found *APIKey
	keys := a.rules.Load().APIKeys
	for i := range keys {
		if subtle.ConstantTimeCompare(hash[:], keys[i].Hash[:]) == 1 {
			found = &keys[i]
		}
	}
	if found == nil {
		return nil, unauthorized("the API key is unknown")
	}
	return &Client{Identity: found.Name, permissions: &found.Permissions, api: true}, nil
}
