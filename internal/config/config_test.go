package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/holdpost/holdpost/queue"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLaterOnesWin(t *testing.T) {
	file := write(t, "holdpost.yaml", `
listen: 0.0.0.0:80
data_dir: /var/lib/holdpost
origins: [https://a.example, "https://*.b.example"]
internal: {listen: 127.0.0.1:81}
auth:
  leeway: 5s
  keys:
    - {id: main, algorithm: HS256, secret_env: SECRET}
  permissions: {subscribe: ["u/{identity}"]}
limits: {events_per_second: 2.5}
`)
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("listen", "unused", "")
	flags.String("internal-listen", "unused", "")
	if err := flags.Parse([]string{"--listen", "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, []string{"HOLDPOST_LISTEN=127.0.0.1:2", "HOLDPOST_INTERNAL_LISTEN=127.0.0.1:3", "HOLDPOST_DATA_DIR=", "HOLDPOST_ORIGINS=https://c.example, https://d.example",
		"HOLDPOST_STORE_MAX_AGE=-1s", "HOLDPOST_LIMITS_ROOMS=7", "HOLDPOST_DEV=true", "HOLDPOST_AUTH_KEYS=x", "OTHER=1"}, flags)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen, want.Internal.Listen, want.DataDir, want.Dev = "127.0.0.1:1", "127.0.0.1:3", "/var/lib/holdpost", true
	want.Origins = []string{"https://c.example", "https://d.example"}
	want.Auth.Leeway = 5 * time.Second
	want.Auth.Keys = []Key{{ID: "main", Algorithm: "HS256", Secret: Secret{Env: "SECRET"}}}
	want.Auth.Permissions.Subscribe = []string{"u/{identity}"}
	want.Limits.EventsPerSecond, want.Limits.Rooms, want.Store.MaxAge = 2.5, 7, -time.Second
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, file string
		environ    []string
		where      string // of the error, after the file's name
		err, hint  string // parts
	}{
		{"unknown key", "lisen: x", nil, ": lisen", "unknown key", `did you mean "listen"?`},
		{"unknown key, far", "port: 80", nil, ": port", "unknown key", "holdpost config default"},
		{"unknown key below", "internal: {lisen: x}", nil, ": internal.lisen", "unknown key", `"internal.listen"`},
		{"unknown section", "limit: {rooms: 1}", nil, ": limit", "unknown key", `"limits"`},
		{"unknown key in a list", "auth: {keys: [{id: a}, {algoritm: HS256}]}", nil, ": auth.keys[1].algoritm", "unknown key", `"auth.keys[1].algorithm"`},
		{"unknown key in an object of a list", "auth: {api_keys: [{permissions: {publsh: []}}]}", nil, ": auth.api_keys[0].permissions.publsh", "unknown key", "publish"},
		{"a value for a section", "internal: 127.0.0.1:7301", nil, ": internal", "keys are expected", ""},
		{"a value for a list of objects", "hooks: https://a.example", nil, ": hooks", "list of objects is expected", ""},
		{"a text in a list of objects", "hooks: [https://a.example]", nil, ": hooks[0]", "keys are expected", ""},
		{"the same key twice", "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", nil, "", "already", ""},
		{"not YAML", "a: [", nil, "", "", ""},
		{"two documents' worth", "- a\n- b", nil, "", "", ""},
		{"no number", "limits: {rooms: many}", nil, ": limits.rooms", "number is expected", ""},
		{"no duration", "auth: {leeway: soon}", nil, ": auth.leeway", "duration is expected", "30s"},
		{"below zero", "limits: {rooms: -1}", nil, ": limits.rooms", "below zero", ""},
		{"no such level", "log: {level: loud}", nil, ": log.level", `"loud"`, "debug"},
		{"no such format", "log: {format: xml}", nil, ": log.format", `"xml"`, "json"},
		{"no port", "listen: localhost", nil, ": listen", "missing port", "HOST:PORT"},
		{"no directory", `data_dir: ""`, nil, ": data_dir", "empty", ""},
		{"no origin", "origins: [example.com]", nil, ": origins", "example.com", "https://"},
		{"every origin", `origins: ["*"]`, nil, ": origins", "every web page", ""},
		{"half a certificate", "tls: {cert_file: a}", nil, ": tls.cert_file", "needs its key", ""},
		{"two certificates", "tls: {cert_file: a, key_file: b, acme: {domains: [a.example]}}", nil, ": tls.acme.domains", "already", ""},
		{"a certificate for everything", "tls: {acme: {domains: ['*.example.com']}}", nil, ": tls.acme.domains", "not the name", "events.example.com"},
		{"an authority in the clear", "tls: {acme: {directory: 'http://ca.example/dir'}}", nil, ": tls.acme.directory", "not the URL", "https://"},
		{"a root for Let's Encrypt", "tls: {acme: {root_file: a}}", nil, ": tls.acme.root_file", "needs none", "tls.acme.directory"},
		{"WebTransport in the clear", "webtransport: true", nil, ": webtransport", "without TLS", "tls.acme.domains"},
		{"a redirect to nowhere", "tls: {http_listen: ':80'}", nil, ": tls.http_listen", "nothing to redirect to", "tls.acme.domains"},
		{"a redirect without a port", "tls: {http_listen: localhost, cert_file: a, key_file: b}", nil, ": tls.http_listen", "missing port", "0.0.0.0:80"},
		{"no network", "proxies: [10.0.0.0/99]", nil, ": proxies", "not a network", ""},
		{"no such level of the store", "store: {level: tape}", nil, ": store.level", `"tape"`, "quorum"},
		{"a quorum of one disk", "store: {level: quorum}", nil, ": store.level", "replicate", "nats.urls"},
		{"a disk elsewhere", "store: {level: memory}\nnats: {urls: ['nats://a.example']}", nil, ": store.level", "this machine's disk", "quorum"},
		{"NATS with a password", "nats: {urls: ['nats://a:b@a.example']}", nil, ": nats.urls", "not the URL", "without a password"},
		{"NATS over HTTP", "nats: {urls: ['http://a.example']}", nil, ": nats.urls", "not the URL", "nats://"},
		{"half a certificate for NATS", "nats: {urls: ['nats://a.example'], key_file: a}", nil, "nats.cert_file", "needs its key", ""},
		{"NATS users twice", "nats: {urls: ['nats://a.example'], user: a, secret_env: X, credentials_file: c}", nil, ": nats.credentials_file", "nats.user", ""},
		{"a NATS user without a password", "nats: {urls: ['nats://a.example'], user: a}", nil, ": nats.user", "no password", "secret_file"},
		{"too many replicas", "nats: {urls: ['nats://a.example'], replicas: 6}", nil, ": nats.replicas", "5 copies", ""},
		{"a hook without a secret", "hooks: [{url: https://a.example, events: [mail]}]", nil, "hooks[0]", "no secret", "secret_file"},
		{"a hook to a file", "hooks: [{url: file:///etc/passwd, events: [mail], secret_env: X}]", nil, "hooks[0].url", "not the URL", ""},
		{"a hook with a password", "hooks: [{url: https://a:b@a.example, events: [mail], secret_env: X}]", nil, "hooks[0].url", "not the URL", "password"},
		{"a hook for nothing", "hooks: [{url: https://a.example, events: [sleep], secret_env: X}]", nil, "hooks[0].events", "sleep", ""},
		{"a topic without a pattern", "topics: [{max_events: 1}]", nil, "topics[0]", "pattern", ""},
		{"a topic that refuses at no limit", "topics: [{pattern: orders, refuse: true}]", nil, "topics[0]", "no limit", ""},
		{"a topic that keeps less than nothing", "topics: [{pattern: orders}, {pattern: chat/*, max_bytes: -1}]", nil, "topics[1]", "negative", ""},
		{"events larger than any may be", "topics: [{pattern: orders, max_event_bytes: 1000001}]", nil, "topics[0]", "larger", ""},
		{"a topic of the server", "topics: [{pattern: holdpost/hooks}]", nil, "topics[0].pattern", "the server's own", ""},
		{"one topic too many", "topics:\n" + strings.Repeat("- {pattern: a}\n", maxTopics+1), nil, ": topics", "more than 250", ""},
		{"a variable", "", []string{"HOLDPOST_LISTEN=7300"}, "HOLDPOST_LISTEN", "missing port", ""},
		{"a variable that is no boolean", "", []string{"HOLDPOST_DEV=yes"}, "HOLDPOST_DEV", "true or false is expected", ""},
	} {
		file := write(t, "holdpost.yaml", c.file)
		_, err := Load(file, c.environ, nil)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		where := strings.TrimPrefix(e.Where, file)
		if where != c.where || !strings.Contains(e.Err.Error(), c.err) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %q %q, hint %q; want %q %q %q", c.name, where, e.Err, e.Hint, c.where, c.err, c.hint)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(write(t, "f", strings.Repeat("#", maxFile)), nil, nil); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
	if _, err := Load(write(t, "f", strings.Repeat("#", maxFile+1)), nil, nil); err == nil {
		t.Error("a file that is too large is read")
	}
}

func TestTopics(t *testing.T) {
	c, err := Load(write(t, "holdpost.yaml", `
topics:
  - {pattern: prices/*, max_events: 10, compact: true, ttl: 1h}
  - {pattern: ledger, must_exist: true, max_age: -1s, max_bytes: 1000, refuse: true, max_event_bytes: 1000000, dedupe_window: 1h}
`+strings.Repeat("  - {pattern: a}\n", maxTopics-2)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []queue.TopicConfig{
		{Pattern: "prices/*", MaxEvents: 10, Compact: true, TTL: time.Hour},
		{Pattern: "ledger", MustExist: true, MaxAge: -time.Second, MaxBytes: 1000, Refuse: true, MaxEventBytes: 1_000_000, DedupeWindow: time.Hour},
	} {
		if got := c.Topics[i].Kept(); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestDefaultFileSaysTheDefaults(t *testing.T) {
	c, err := Load(write(t, "holdpost.yaml", DefaultFile()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if changed := Changes(Default(), c); len(changed) != 0 {
		t.Errorf("the file says other than the defaults: %v\n%s", changed, DefaultFile())
	}
}

func TestReferencePage(t *testing.T) {
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil || string(b) != Reference() {
		t.Errorf("docs/configuration.md is not what the code says (%v): holdpost config docs > docs/configuration.md", err)
	}
	for _, f := range fields(reflect.ValueOf(Default()).Elem(), "") {
		for _, f := range append(f.items, f) {
			if f.doc == "" {
				t.Errorf("%s is not described", f.key)
			}
		}
	}
}

func TestChanges(t *testing.T) {
	before, after := Default(), Default()
	after.Listen = "127.0.0.1:1"
	after.Auth.Permissions.Join = []string{"lobby"}
	got := Changes(before, after)
	if want := []Change{{"listen", false}, {"auth.permissions.join", true}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSecrets(t *testing.T) {
	t.Setenv("A_SECRET", "from the environment")
	file := write(t, "secret", "  from a file\n")
	for s, want := range map[Secret]string{{Env: "A_SECRET"}: "from the environment", {File: file}: "from a file"} {
		if got, err := s.Read(); string(got) != want || err != nil {
			t.Errorf("%+v: %q %v", s, got, err)
		}
	}
	open := write(t, "open", "x")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[Secret]string{
		{}: "neither", {Env: "A_SECRET", File: file}: "both", {Env: "NO_SECRET"}: "not set", {File: open}: "everybody",
		{File: write(t, "empty", " \n")}: "empty", {File: write(t, "large", strings.Repeat("x", maxSecret+1))}: "more than", {File: "none"}: "no such file",
	} {
		if got, err := s.Read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %q %v, want %q", s, got, err, want)
		}
	}
	if got, err := (Secret{File: write(t, "full", strings.Repeat("x", maxSecret))}).Read(); len(got) != maxSecret || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "internal-listen", "data-dir", "dev", "json"}
	for word, want := range map[string]string{
		"lisen": "listen", "listne": "listen", "data-dr": "data-dir", "datadir": "data-dir", "dve": "", "dex": "dev", "jsn": "json",
		"port": "", "x": "", "": "", "listen": "listen", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("nearest to %.20q: %q, want %q", word, got, want)
		}
	}
}
