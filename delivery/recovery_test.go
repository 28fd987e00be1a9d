package delivery_test

import (
	"fmt"
	"strings"
	"testing"
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
