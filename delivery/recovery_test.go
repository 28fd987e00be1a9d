package delivery_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/delivery"
)

// What rooms a client was in, and what it missed there, survives a restart of the server.
func TestRecoveryOverARestart(t *testing.T) {
	p := newPost(t, true, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	long := strings.Repeat("ä", 127)
	for _, room := range []string{"lobby", long} {
		ann.ok(nil, "join", room)
	}
	bob.ok(nil, "send", "lobby", "chat", 0)
	ann.want("live", "chat 0")
	ann.Close()
	for i := 1; i <= 3; i++ {
		bob.ok(nil, "send", "lobby", "chat", i)
		bob.ok(nil, "send", long, "long", i)
	}
	p.restart()
	bob.connect()
	bob.ok(nil, "send", "lobby", "chat", 4)
	if !ann.connect() {
		t.Fatal("not recovered")
	}
	ann.want("missed", "chat 1", "long 1", "chat 2", "long 2", "chat 3", "long 3", "chat 4")
	bob.ok(nil, "send", "lobby", "chat", 5)
	ann.want("live again", "chat 5")
	ann.Close()
	if !ann.connect() {
		t.Fatal("not recovered for a second time")
	}
	bob.ok(nil, "send", "lobby", "chat", 6)
	ann.want("nothing twice", "chat 6")
}

// A client that missed much is recovered page by page.
func TestRecoveryOfMuch(t *testing.T) {
	const events = 1500
	p := newPost(t, true, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	ann.ok(nil, "join", "a")
	ann.ok(nil, "join", "b")
	ann.Close()
	var want []string
	for i := range events {
		room := "a"
		if i%3 == 0 {
			room = "b"
		}
		bob.ok(nil, "send", room, "e", i)
		want = append(want, fmt.Sprint("e ", i))
	}
	if !ann.connect() {
		t.Fatal("not recovered")
	}
	ann.want("missed", want...)
}

// Who is recovered has all subscriptions in its session at all times: a server that is killed meanwhile loses none.
func TestSubscriptionsStayInTheSession(t *testing.T) {
	const subscriptions = 20
	p := newPost(t, true, nil)
	ann := p.guest("ann")
	for i := range subscriptions {
		ann.ok(nil, "subscribe", fmt.Sprint("topic/", i))
	}
	before := p.journals.Broker.End()
	ann.Close()
	if !ann.connect() {
		t.Fatal("not recovered")
	}
	ann.ok(nil, "join", "lobby") // answered when the session has it
	stored := 0
	for e, err := range p.journals.Broker.Events(t.Context(), "s="+ann.pid, before.After()) {
		if err != nil {
			t.Fatal(err)
		}
		var state struct {
			Values map[string][]delivery.Subscription
		}
		if err := json.Unmarshal(e.Attachments[0], &state); err != nil {
			t.Fatal(err)
		}
		if n := len(state.Values["delivery.subscriptions"]); n != subscriptions {
			t.Errorf("a session with %d of %d subscriptions", n, subscriptions)
		}
		stored++
	}
	if stored == 0 {
		t.Error("the session was not stored")
	}
}
