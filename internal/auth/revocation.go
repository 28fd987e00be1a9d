package auth

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// maxRevoked bounds the identities that are remembered.
	maxRevoked = 100_000
	// mostForgotten bounds how many are forgotten at once, which takes a moment each.
	mostForgotten = 16
	// revokedPrefix is before the identity in the name that a revocation is kept under. The value is its time, RFC 3339.
	revokedPrefix = "revoked/"
)

// Store keeps what an [Authority] has to know again after a restart, and at the next node. A queue.Broker is one.
type Store interface {
	// Keep keeps a value under a name, durably when it returns nil. nil removes it.
	Keep(ctx context.Context, name string, value []byte) error
	// Kept returns what is kept under names with a prefix.
	Kept(ctx context.Context, prefix string) (map[string][]byte, error)
}

// revocations remembers since when the tokens of an identity hold no more.
type revocations struct {
	store   Store         // nil remembers as long as the process runs
	storing chan struct{} // has one place, which is taken by who writes to the store

	mu    sync.RWMutex // guards the fields below
	life  time.Duration
	since map[string]time.Time
}

// load takes in what is stored.
func (v *revocations) load(ctx context.Context) error {
	kept, err := v.store.Kept(ctx, revokedPrefix)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, value := range kept {
		identity := strings.TrimPrefix(name, revokedPrefix)
		since, err := time.Parse(time.RFC3339Nano, string(value))
		if err != nil { // without it the revoked would be let in
			return fmt.Errorf("revocation of %q: %w", identity, err)
		}
		v.since[identity] = since
	}
	return nil
}

func (v *revocations) keep(life time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.life = life
}

func (v *revocations) revoked(c *Client) bool {
	since, ok := v.noted(c.Identity)
	return ok && c.Identity != "" && !c.Issued.After(since)
}

// add revokes an identity at once, and returns when that is durable. On an error of the store it is for this process alone.
func (v *revocations) add(ctx context.Context, identity string) error {
	ended, err := v.note(identity)
	if err != nil || v.store == nil {
		return err
	}
	// One at a time: what is stored last of an identity is what holds, and who is revoked again is not removed after that.
	select {
	case v.storing <- struct{}{}:
		defer func() { <-v.storing }()
	case <-ctx.Done():
		return fmt.Errorf("store revocation: %w", context.Cause(ctx))
	}
	if since, ok := v.noted(identity); ok {
		if err := v.store.Keep(ctx, revokedPrefix+identity, since.AppendFormat(nil, time.RFC3339Nano)); err != nil {
			return fmt.Errorf("store revocation: %w", err)
		}
	}
	for _, other := range ended {
		if _, again := v.noted(other); again {
			continue
		}
		if err := v.store.Keep(ctx, revokedPrefix+other, nil); err != nil {
			return nil // they mean nothing any more: the next process forgets them
		}
	}
	return nil
}

// note remembers a revocation, and returns some of those that no token of that time outlives, which it forgets.
func (v *revocations) note(identity string) (ended []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for other, since := range v.since {
		if len(ended) < mostForgotten && other != identity && now.Sub(since) > v.life {
			delete(v.since, other)
			ended = append(ended, other)
		}
	}
	if _, had := v.since[identity]; !had && len(v.since) >= maxRevoked {
		return nil, &Error{Code: "too_many", Detail: fmt.Sprintf("%d identities are revoked already", maxRevoked)}
	}
	v.since[identity] = now
	return ended, nil
}

// noted returns since when an identity is revoked, if it is.
func (v *revocations) noted(identity string) (since time.Time, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	since, ok = v.since[identity]
	return since, ok
}
