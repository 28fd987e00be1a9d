package delivery_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdpost/holdpost/delivery"
)

type presence struct {
	Identities []string
	Count      int
	Complete   bool
}

func TestPresence(t *testing.T) {
	p := newPost(t, false, func(c *delivery.Config) { c.Grace = 50 * time.Millisecond })
	ann, bob, laptop, anon := p.guest("ann"), p.guest("bob"), p.guest("bob"), p.guest("")
	var who presence
	ann.ok(&who, "presence", map[string]any{"room": "lobby", "watch": true})
	if who.Count != 0 || len(who.Identities) != 0 || !who.Complete {
		t.Errorf("in an empty room: %+v", who)
	}
	bob.ok(nil, "join", "lobby")
	ann.want("bob comes", `presence {"count":1,"identity":"bob","room":"lobby","type":"join"}`)
	laptop.ok(nil, "join", "lobby") // the same person
	anon.ok(nil, "join", "lobby")   // nobody in particular
	ann.ok(nil, "join", "lobby")
	ann.want("ann comes", `presence {"count":2,"identity":"ann","room":"lobby","type":"join"}`)
	ann.ok(&who, "presence", "lobby")
	if !slices.Equal(who.Identities, []string{"ann", "bob"}) || who.Count != 2 || !who.Complete {
		t.Errorf("in the lobby: %+v", who)
	}
	bob.Close()
	laptop.ok(nil, "leave", "lobby")
	ann.want("bob has gone", `presence {"count":1,"identity":"bob","room":"lobby","type":"leave"}`)
	ann.ok(nil, "presence", map[string]any{"room": "lobby", "watch": false})
	laptop.ok(nil, "join", "lobby")
	ann.ok(nil, "subscribe", "orders")
	laptop.ok(&who, "presence", map[string]any{"topic": "orders"})
	if !slices.Equal(who.Identities, []string{"ann"}) {
		t.Errorf("at the topic: %+v", who)
	}
	if len(ann.events) > 0 {
		t.Errorf("told though not watching: %v", ann.events)
	}
}

// Who comes back within the grace period was never away.
func TestPresenceGrace(t *testing.T) {
	p := newPost(t, true, func(c *delivery.Config) { c.Grace = time.Hour })
	ann, bob := p.guest("ann"), p.guest("bob")
	ann.ok(nil, "presence", map[string]any{"room": "lobby", "watch": true})
	bob.ok(nil, "join", "lobby")
	ann.want("bob comes", `presence {"count":1,"identity":"bob","room":"lobby","type":"join"}`)
	for range 3 {
		bob.Close()
		if !bob.connect() {
			t.Fatal("not recovered")
		}
	}
	var who presence
	ann.ok(&who, "presence", "lobby")
	if who.Count != 1 || len(ann.events) > 0 {
		t.Errorf("in the lobby: %+v, told %v", who, ann.events)
	}
	ann.Close() // what it watches comes back with it
	if !ann.connect() {
		t.Fatal("not recovered")
	}
	ann.ok(nil, "leave", "nowhere") // answered behind the connection handlers
	carl := p.guest("carl")
	carl.ok(nil, "join", "lobby")
	ann.want("carl comes", `presence {"count":2,"identity":"carl","room":"lobby","type":"join"}`)
}

func TestPresenceIsListedInPages(t *testing.T) {
	p := newPost(t, false, nil)
	var want []string
	for i := range 7 {
		name := fmt.Sprint("guest-", i)
		p.guest(name).ok(nil, "join", "lobby")
		want = append(want, name)
	}
	ann := p.guest("ann")
	var all []string
	for after := ""; ; {
		var who presence
		ann.ok(&who, "presence", map[string]any{"room": "lobby", "after": after, "limit": 3})
		all = append(all, who.Identities...)
		if who.Count != 7 || len(who.Identities) > 3 {
			t.Fatalf("page %+v", who)
		}
		if who.Complete {
			break
		}
		after = all[len(all)-1]
	}
	if !slices.Equal(all, want) {
		t.Errorf("listed %q", all)
	}
	for _, args := range [][]any{{}, {7}, {map[string]any{}}, {map[string]any{"room": "a", "topic": "b"}}, {map[string]any{"room": "a", "limit": -1}}} {
		ann.refused("invalid_argument", "presence", args...)
	}
}

func TestInbox(t *testing.T) {
	p := newPost(t, false, func(c *delivery.Config) { c.Inbox = true })
	bob := p.guest("bob")
	bob.publish("inbox/ann", -1)
	ann := p.guest("ann")
	ann.want("published before ann ever came", "e -1")
	bob.publish("inbox/ann", 0)
	ann.want("live", "e 0")
	ann.heartbeat()
	ann.Close()
	bob.publish("inbox/ann", 1)
	ann.connect()
	ann.want("missed", "e 1")
	for _, topic := range []string{"inbox/ann", "inbox/", "inbox/*", "i*", "**", "*"} {
		bob.refused("forbidden", "subscribe", topic)
		bob.refused("forbidden", "history", topic)
	}
	ann.ok(nil, "history", "inbox/ann")
	p.guest("").refused("forbidden", "subscribe", "inbox/")
}

func TestPublishToATopicAndARoom(t *testing.T) {
	p := newPost(t, false, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	bob.ok(nil, "join", "lobby")
	for range 2 { // the second is a duplicate, and not emitted again
		ann.ok(nil, "publish", map[string]any{"topic": "orders", "id": "o-1", "room": "lobby"}, "e", 1)
	}
	ann.publish("orders", 2)
	ann.ok(nil, "send", "lobby", "e", 3)
	bob.want("live", "e 1", "e 3")
	bob.ok(nil, "subscribe", map[string]any{"topic": "orders", "from": "first"})
	bob.want("kept", "e 1", "e 2")
}
