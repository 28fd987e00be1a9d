package auth

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
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
