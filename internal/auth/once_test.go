package auth

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func oneTime(t *testing.T, issuer, jti any, life time.Duration) string {
	t.Helper()
	said := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(life).Unix()}
	for name, value := range map[string]any{"iss": issuer, "jti": jti} {
		if value != nil {
			said[name] = value
		}
	}
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, said).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// use lets somebody in by a token, and returns the code of the error.
func use(t *testing.T, a *Authority, token string) string {
	c, err := a.Client(t.Context(), token)
	if err == nil {
		err = a.Use(c)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestOneTimeTokens(t *testing.T) {
	keys := []Key{{Algorithm: "HS256", Key: secret}}
	a := newAuthority(t, Config{Keys: keys, OneTime: true, Anonymous: &Permissions{}})
	first := oneTime(t, nil, "1", time.Hour)
	for _, c := range []struct{ name, token, want string }{
		{"the first time", first, ""},
		{"the second time", first, "token_used"},
		{"another token of the same jti", oneTime(t, nil, "1", time.Minute), "token_used"},
		{"another jti", oneTime(t, nil, "2", time.Hour), ""},
		{"the same jti of an issuer", oneTime(t, "x", "1", time.Hour), ""},
		{"what looks like it", oneTime(t, "x\x00", "1", time.Hour), ""},
		{"without a jti", oneTime(t, nil, nil, time.Hour), "unauthorized"},
		{"with an empty one", oneTime(t, nil, "", time.Hour), "unauthorized"},
		{"with one that is no text", oneTime(t, nil, 7, time.Hour), "unauthorized"},
		{"with a long one", oneTime(t, nil, strings.Repeat("x", 4<<10), time.Hour), ""},
		{"expired and used", oneTime(t, nil, "1", -time.Hour), "token_expired"},
		{"anonymously", "", ""},
		{"anonymously again", "", ""},
	} {
		if got := use(t, a, c.token); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}

	// A look uses nothing up; of all who come at once one is let in.
	token := oneTime(t, nil, "at once", time.Hour)
	for range 3 {
		if _, err := a.Client(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	var in atomic.Int32
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			if use(t, a, token) == "" {
				in.Add(1)
			}
		})
	}
	group.Wait()
	if n := in.Load(); n != 1 {
		t.Errorf("%d were let in by one token", n)
	}

	// What was used is remembered over reloads, and does not count without OneTime.
	if err := a.Reload(Config{Keys: keys}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if code := use(t, a, first); code != "" {
			t.Error(code)
		}
	}
	if err := a.Reload(Config{Keys: keys, OneTime: true}); err != nil {
		t.Fatal(err)
	}
	if code := use(t, a, first); code != "token_used" {
		t.Errorf("after a reload: %q", code)
	}
}

// As many are remembered as the limit says; those that have expired make room.
func TestUsedTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 10
		a := newAuthority(t, Config{Keys: []Key{{Algorithm: "HS256", Key: secret}}, OneTime: true, UsedTokens: most})
		for i := range most {
			life := time.Hour
			if i == 0 {
				life = time.Minute
			}
			if code := use(t, a, oneTime(t, nil, fmt.Sprint(i), life)); code != "" {
				t.Fatalf("token %d: %s", i, code)
			}
		}
		more := oneTime(t, nil, "more", time.Hour)
		if code := use(t, a, more); code != "too_many" {
			t.Errorf("one more: %q", code)
		}
		if code := use(t, a, oneTime(t, nil, "1", time.Hour)); code != "token_used" {
			t.Errorf("a used one: %q", code)
		}
		time.Sleep(time.Minute + 31*time.Second)
		for _, want := range []string{"", "token_used"} {
			if code := use(t, a, more); code != want {
				t.Errorf("when one has expired: %q, want %q", code, want)
			}
		}
		if code := use(t, a, oneTime(t, nil, "another", time.Hour)); code != "too_many" {
			t.Errorf("full again: %q", code)
		}
	})
}
