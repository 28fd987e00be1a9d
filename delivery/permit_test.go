package delivery_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
)

func TestPermit(t *testing.T) {
	var permitted atomic.Pointer[string] // "action name", separated by semicolons
	p := newPost(t, false, func(c *delivery.Config) {
		c.Permit = func(_ context.Context, _ *holdpost.Socket, action, name string) error {
			if strings.Contains(*permitted.Load(), ";"+action+" "+name+";") {
				return nil
			}
			return &holdpost.Error{Code: "forbidden", Message: "no"}
		}
	})
	permit := func(s string) { permitted.Store(&s) }
	permit("")
	ann := p.guest("ann")
	operations := []struct {
		needs     string
		operation string
		args      []any
	}{
		{";join lobby;", "join", []any{"lobby"}},
		{";send lobby;", "send", []any{"lobby", "chat"}},
		{";subscribe orders;", "subscribe", []any{"orders"}},
		{";subscribe orders/*;", "subscribe", []any{"orders/*"}},
		{";subscribe jobs;work workers;", "subscribe", []any{map[string]any{"topic": "jobs", "queue": "workers"}}},
		{";subscribe orders;", "history", []any{"orders"}},
		{";publish orders;", "publish", []any{"orders", "created"}},
		{";publish orders;send lobby;", "publish", []any{map[string]any{"topic": "orders", "room": "lobby"}, "created"}},
		{";join lobby;", "presence", []any{"lobby"}},
		{";subscribe orders;", "presence", []any{map[string]any{"topic": "orders"}}},
		{";inbox ann;", "subscribe", []any{"inbox/ann"}},
		{";inbox ann;", "history", []any{"inbox/ann"}},
		{"", "leave", []any{"lobby"}},
		{"", "unsubscribe", []any{"never"}},
	}
	for _, o := range operations {
		parts := strings.Split(strings.Trim(o.needs, ";"), ";")
		for i := range parts { // with all but one it is refused
			if o.needs == "" {
				break
			}
			others := strings.Join(append(append([]string{""}, parts[:i]...), parts[i+1:]...), ";") + ";"
			permit(others)
			ann.refused("forbidden", o.operation, o.args...)
		}
		permit(o.needs)
		ann.ok(nil, o.operation, o.args...)
	}
	permit(";subscribe inbox/bob;subscribe **;")
	ann.refused("forbidden", "subscribe", "inbox/bob") // whatever is permitted
	ann.refused("forbidden", "subscribe", "**")
}

func TestEnforce(t *testing.T) {
	var stopped atomic.Bool
	p := newPost(t, false, func(c *delivery.Config) {
		c.Permit = func(_ context.Context, _ *holdpost.Socket, _, name string) error {
			if stopped.Load() && strings.HasPrefix(name, "secret") {
				return &holdpost.Error{Code: "forbidden", Message: "no"}
			}
			return nil
		}
	})
	ann, bob := p.guest("ann"), p.guest("bob")
	for _, room := range []string{"lobby", "secret"} {
		ann.ok(nil, "join", room)
	}
	ann.ok(nil, "presence", map[string]any{"room": "secret room", "watch": true})
	ann.ok(nil, "subscribe", "news")
	ann.ok(nil, "subscribe", "secrets")
	stopped.Store(true)
	s, ok := p.srv.Of("/").Socket(ann.sid)
	if !ok {
		t.Fatal("no socket")
	}
	if err := p.delivery.Enforce(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	ann.want("told", `unsubscribed {"queue":"ann","reason":"forbidden","topic":"secrets"}`)
	stopped.Store(false)
	bob.ok(nil, "join", "secret room")
	bob.ok(nil, "send", "secret", "chat", 1)
	bob.ok(nil, "publish", "secrets", "kept", 2)
	bob.ok(nil, "send", "lobby", "chat", 3)
	ann.want("what is still allowed", "chat 3")
	stopped.Store(true)
	ann.refused("forbidden", "subscribe", "secrets")
	bob.ok(nil, "publish", "news", "kept", 4)
	ann.want("the other topic", "kept 4")
}
