package auth

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// Who was revoked is so for the next process too, and for the next, up to when no token of that time holds.
func TestRevocationsAreStored(t *testing.T) {
	dir := t.TempDir()
	var store *local.Store
	begin := func() *Authority {
		t.Helper()
		if store != nil {
			store.Close()
		}
		var err error
		if store, err = local.Open(t.Context(), local.Config{Engine: embedded.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		a := newAuthority(t, Config{})
		if err := a.Remember(t.Context(), store.Broker); err != nil {
			t.Fatal(err)
		}
		return a
	}
	code := func(a *Authority, identity string, issued time.Time) string {
		return codeOf(a.Valid(&Client{Identity: identity, Issued: issued}))
	}
	longest := strings.Repeat("ü", 127) + "x"
	a := begin()
	for _, identity := range []string{"ann", longest, "a/b", "ann"} {
		if err := a.Revoke(t.Context(), identity); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	for range 2 {
		a = begin()
		for _, identity := range []string{"ann", longest, "a/b"} {
			if code(a, identity, now.Add(-time.Minute)) != "revoked" || code(a, identity, time.Time{}) != "revoked" {
				t.Errorf("%.10s is let in again by an old token", identity)
			}
			if c := code(a, identity, now); c != "" {
				t.Errorf("%.10s, by a new token: %q", identity, c)
			}
		}
		if c := code(a, "bob", time.Time{}); c != "" {
			t.Errorf("another one: %q", c)
		}
	}

	// What means nothing any more is removed as others come, a few at a time.
	long := time.Now().Add(-40*24*time.Hour).AppendFormat(nil, time.RFC3339Nano)
	for i := range mostForgotten + 2 {
		if err := store.Keep(t.Context(), revokedPrefix+string(rune('a'+i)), long); err != nil {
			t.Fatal(err)
		}
	}
	a = begin()
	for n := range 3 {
		if err := a.Revoke(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		kept, err := store.Kept(t.Context(), revokedPrefix)
		if want := []int{3 + 2, 3, 3}[n]; err != nil || len(kept) != want || len(a.revocations.since) != want {
			t.Errorf("%d are remembered, and stored %q, %v, want %d", len(a.revocations.since), slices.Sorted(maps.Keys(kept)), err, want)
		}
	}

	// Nobody is let in when it can't be read who was revoked, and a revocation that can't be stored is told, and holds meanwhile.
	if err := store.Keep(t.Context(), revokedPrefix+"dan", []byte("soon")); err != nil {
		t.Fatal(err)
	}
	if err := newAuthority(t, Config{}).Remember(t.Context(), store.Broker); err == nil || !strings.Contains(err.Error(), `"dan"`) {
		t.Errorf("what can't be read: %v", err)
	}
	store.Broker.Close()
	if err := a.Revoke(t.Context(), "eve"); queue.Code(err) != "closed" || code(a, "eve", now) != "revoked" {
		t.Errorf("without a store: %v, then %q", err, code(a, "eve", now))
	}
}

// slow is a store that takes its time over one thing, up to when it is let go on.
type slow struct {
	letGo chan struct{}

	mu   sync.Mutex // guards the fields below
	kept map[string][]byte
	held string // the next that is kept under this name waits
}

func (s *slow) Keep(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	wait := s.held == name
	if wait {
		s.held = ""
	}
	s.mu.Unlock()
	if wait {
		<-s.letGo
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == nil {
		delete(s.kept, name)
	} else {
		s.kept[name] = value
	}
	return nil
}

func (s *slow) Kept(context.Context, string) (map[string][]byte, error) {
	return maps.Clone(s.kept), nil
}

// What one revocation stores does not undo what another one has, whichever of them the store takes longer over.
func TestRevocationsAtTheSameTime(t *testing.T) {
	for what, c := range map[string]struct{ held, second string }{
		"one that has ended comes while another one is stored":      {"new", "old"},
		"one that has ended comes while it is removed":              {"old", "old"},
		"one comes again while it is stored":                        {"new", "new"},
		"one comes again while one that has ended is being removed": {"old", "new"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slow{kept: make(map[string][]byte), letGo: make(chan struct{})}
				a := newAuthority(t, Config{})
				if err := a.Remember(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				revoke := func(identity string) {
					if err := a.Revoke(t.Context(), identity); err != nil {
						t.Error(err)
					}
				}
				revoke("old")
				time.Sleep(31 * 24 * time.Hour)
				s.held = revokedPrefix + c.held
				var all sync.WaitGroup
				all.Go(func() { revoke("new") })
				synctest.Wait()
				time.Sleep(time.Minute)
				all.Go(func() { revoke(c.second) })
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := a.Revoke(ctx, "eve"); !errors.Is(err, context.DeadlineExceeded) || codeOf(a.Valid(&Client{Identity: "eve"})) != "revoked" {
					t.Errorf("while the store is busy: %v", err)
				}
				close(s.letGo)
				all.Wait()
				for _, identity := range []string{"new", c.second} {
					since, _ := a.revocations.noted(identity)
					if got, err := time.Parse(time.RFC3339Nano, string(s.kept[revokedPrefix+identity])); err != nil || !got.Equal(since) {
						t.Errorf("%s is stored as of %v, %v, want %v", identity, got, err, since)
					}
				}
			})
		})
	}
}
