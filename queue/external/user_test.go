package external

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue"
)

// issuer is an operator with an account, which gives users their credentials as nsc does.
type issuer struct {
	*testing.T
	operator, account nkeys.KeyPair
	claims            *jwt.AccountClaims // of the account
	fixed             string             // of the server's configuration
}

func must[A any](a A, err error) A {
	if err != nil {
		panic(err)
	}
	return a
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{T: t, operator: must(nkeys.CreateOperator()), account: must(nkeys.CreateAccount())}
	i.claims = jwt.NewAccountClaims(must(i.account.PublicKey()))
	i.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	system := must(must(nkeys.CreateAccount()).PublicKey())
	operator := jwt.NewOperatorClaims(must(i.operator.PublicKey()))
	operator.SystemAccount = system
	i.fixed = fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\n", must(operator.Encode(i.operator)), system)
	i.fixed += fmt.Sprintf("resolver_preload: { %s: %s, ", system, must(jwt.NewAccountClaims(system).Encode(i.operator)))
	return i
}

// config is what a server has to be told.
func (i *issuer) config() string {
	return i.fixed + fmt.Sprintf("%s: %s }\n", i.claims.Subject, must(i.claims.Encode(i.operator)))
}

// user writes the credentials of a new user to a file, and returns the user's key. They end at a time, if it is not zero.
func (i *issuer) user(path string, signer nkeys.KeyPair, ends time.Time) string {
	i.Helper()
	pair := must(nkeys.CreateUser())
	claims := jwt.NewUserClaims(must(pair.PublicKey()))
	if !ends.IsZero() {
		claims.Expires = ends.Unix()
	}
	creds := must(jwt.FormatUserConfig(must(claims.Encode(signer)), must(pair.Seed())))
	next := path + ".next"
	if err := errors.Join(os.WriteFile(next, creds, 0o600), os.Rename(next, path)); err != nil {
		i.Fatal(err)
	}
	return claims.Subject
}

// unwell waits until the engine says that nothing can be stored, and why.
func unwell(t *testing.T, n *node, why error) {
	t.Helper()
	until(t, "the engine to say "+why.Error(), func() bool { return errors.Is(n.engine.Health(), why) })
	until(t, "the broker to notice", func() bool { return n.Health() != nil })
	if _, err := n.Publish(t.Context(), message(0)); !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, why) {
		t.Errorf("published: %v", err)
	}
}

// Credentials that end or are revoked while events are published stop that, until there are others in their file. Nothing is lost.
func TestCredentials(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := natstest.Run(t, natstest.Config{Extra: i.config()})
	path := filepath.Join(t.TempDir(), "creds")

	if err := refused(t, Config{Credentials: path}, s); !strings.Contains(err.Error(), path) || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, Config{Credentials: path}, s); !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	i.user(path, must(nkeys.CreateAccount()), time.Time{})
	if err := refused(t, Config{Credentials: path}, s); !errors.Is(err, nats.ErrAuthorization) || !strings.Contains(err.Error(), "do not let this user in") {
		t.Error("of another account:", err)
	}
	i.user(path, i.account, time.Now().Add(-time.Minute))
	if err := refused(t, Config{Credentials: path}, s); !errors.Is(err, nats.ErrAuthorization) {
		t.Error("too late:", err)
	}

	i.user(path, i.account, time.Now().Add(4*time.Second))
	n := open(t, startOn(t, Config{Credentials: path}, s), t.TempDir())
	l := startLoad(t, n)
	unwell(t, n, nats.ErrAuthorization)
	user := i.user(path, i.account, time.Time{})
	t.Logf("credentials ended: no event for %v", l.more(t, 100))

	i.claims.Revoke(user)
	if err := s.Reload(i.config()); err != nil {
		t.Fatal(err)
	}
	unwell(t, n, nats.ErrAuthorization)
	i.user(path, i.account, time.Time{})
	t.Logf("credentials revoked: no event for %v", l.more(t, 100))
	l.end(t, n)
}

// subjects are those that docs/operations.md says a user has to be allowed to publish to.
var subjects = []string{"evt.>", "cur.>", "top.>", "trm.>", "kpt.>", "frt", "dly.>", "rcp.>", "$KV.HOLDPOST.>", "$JS.API.>"}

// may returns an account whose user may publish to subjects.
func may(account string, subjects ...string) string {
	return fmt.Sprintf("%s { jetstream: enabled, users: [{ user: %[1]s, password: test, permissions: { publish: [\"%s\"], subscribe: \"_INBOX.>\" } }] }\n",
		account, strings.Join(subjects, `", "`))
}

// A user who lacks a permission is told which one.
func TestMissingPermissions(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("accounts {\n")
	for i := range subjects {
		b.WriteString(may(fmt.Sprint("without", i), slices.Delete(slices.Clone(subjects), i, i+1)...))
	}
	b.WriteString(`deaf { jetstream: enabled, users: [{ user: deaf, password: test, permissions: { subscribe: "x" } }] } }`)
	s := natstest.Run(t, natstest.Config{Extra: b.String()})
	start := func(user string) error {
		e, err := Start(t.Context(), Config{URLs: []string{s.URL}, User: user, Password: "test", Logger: quiet()})
		if err != nil {
			return err
		}
		defer e.Close()
		ix := openIndex(t, t.TempDir())
		defer ix.Close()
		b, err := queue.Open(t.Context(), queue.Config{Engine: e, Index: ix, Logger: quiet(), MaxBytes: -1})
		if err == nil {
			b.Close()
		}
		return err
	}
	for i, subject := range subjects {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			err := start(fmt.Sprint("without", i))
			if !errors.Is(err, ErrUnsuited) || !strings.Contains(err.Error(), `Publish to "`+strings.TrimSuffix(subject, ">")) {
				t.Error(err)
			}
		})
	}
	if err := start("deaf"); !errors.Is(err, ErrUnsuited) || !strings.Contains(err.Error(), `Subscription to "_INBOX.`) {
		t.Error(err)
	}
}

// A permission that is taken away while events are published stops that, until it is given back. Nothing is lost.
func TestPermissionIsTakenAway(t *testing.T) {
	t.Parallel()
	all, without := "accounts { "+may("a", subjects...)+"}", "accounts { "+may("a", subjects[1:]...)+"}"
	s := natstest.Run(t, natstest.Config{Extra: all})
	n := open(t, startOn(t, Config{User: "a", Password: "test"}, s), t.TempDir())
	l := startLoad(t, n)
	l.more(t, 100)
	if err := s.Reload(without); err != nil {
		t.Fatal(err)
	}
	unwell(t, n, nats.ErrPermissionViolation)
	if err := s.Reload(all); err != nil {
		t.Fatal(err)
	}
	t.Logf("no event for %v", l.more(t, 100))
	if err := s.Reload(strings.Replace(all, "user: a", "user: b", 1)); err != nil {
		t.Fatal(err)
	}
	unwell(t, n, nats.ErrAuthorization)
	if err := s.Reload(all); err != nil {
		t.Fatal(err)
	}
	t.Logf("no event for %v", l.more(t, 100))
	l.end(t, n)
}
