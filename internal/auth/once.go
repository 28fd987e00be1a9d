package auth

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

const (
	defaultUsed = 100_000     // one-time tokens that are remembered
	usedLook    = time.Second // between two looks for those that have expired
)

// tokenID says which one-time token it is: a hash of iss and jti (RFC 7519, 4.1.7). The zero value is none.
type tokenID [16]byte

func newTokenID(issuer, jti string) tokenID {
	sum := sha256.Sum256([]byte(issuer + "\x00" + jti))
	return tokenID(sum[:16])
}

// usedTokens remembers the one-time tokens that were used, for as long as they would hold.
type usedTokens struct {
	mu     sync.Mutex            // guards the fields below
	until  map[tokenID]time.Time // when they hold no more
	looked time.Time
}

func (u *usedTokens) has(id tokenID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, used := u.until[id]
	return used
}

// add returns an [Error] if the token was used before, or if most are remembered already.
func (u *usedTokens) add(id tokenID, until time.Time, most int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, used := u.until[id]; used {
		return errTokenUsed
	}
	if now := time.Now(); len(u.until) >= most && now.Sub(u.looked) >= usedLook {
		u.looked = now
		maps.DeleteFunc(u.until, func(_ tokenID, until time.Time) bool { return now.After(until) })
	}
	if len(u.until) >= most {
		return &Error{Code: "too_many", Detail: "too many one-time tokens are remembered: try again later"}
	}
	if u.until == nil {
		u.until = make(map[tokenID]time.Time)
	}
	u.until[id] = until
	return nil
}

var errTokenUsed = &Error{Code: "token_used", Detail: "the token was used before, and is for one time"}

// Use uses up the one-time token that a client was made of: nobody is let in by it again. The error is an [Error] with code
// token_used, or too_many when Config.UsedTokens are remembered, whose tokens would still hold. Of other clients it says nothing.
func (a *Authority) Use(c *Client) error {
	if c.token == (tokenID{}) {
		return nil
	}
	r := a.rules.Load()
	return a.used.add(c.token, c.Expires.Add(r.Leeway), r.UsedTokens)
}
