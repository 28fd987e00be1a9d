package delivery_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/delivery"
)

func TestLiveOperations(t *testing.T) {
	p := newPost(t, false, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	var room struct{ Room string }
	ann.ok(&room, "join", "lobby")
	if room.Room != "lobby" {
		t.Errorf("joined %q", room.Room)
	}
	bob.ok(nil, "join", "lobby")
	ann.ok(nil, "send", "lobby", "chat", map[string]any{"text": "hi"}, 2)
	bob.want("to the other one", `chat {"text":"hi"} 2`)
	bob.ok(nil, "leave", "lobby")
	ann.ok(nil, "send", "lobby", strings.Repeat("x", 255))
	ann.ok(nil, "send", "lobby", "chat", "gone")
	bob.ok(nil, "join", "lobby")
	ann.ok(nil, "send", "lobby", "chat", "back")
	bob.want("left in between", `chat "back"`)
	if len(ann.events) > 0 {
		t.Errorf("the sender got %v", ann.events)
	}
}

func TestBadOperations(t *testing.T) {
	p := newPost(t, false, func(c *delivery.Config) { c.MaxSubscriptions = 2 })
	ann, bob := p.guest("ann"), p.guest("")
	for _, c := range []struct {
		code      string
		operation string
		args      []any
	}{
		{"invalid_argument", "join", nil},
		{"invalid_argument", "join", []any{7}},
		{"invalid_name", "join", []any{""}},
		{"invalid_name", "join", []any{strings.Repeat("x", 256)}},
		{"invalid_name", "join", []any{"a\x00b"}},
		{"invalid_room", "join", []any{bob.sid}},
		{"invalid_argument", "leave", nil},
		{"invalid_argument", "send", []any{"lobby"}},
		{"invalid_argument", "send", []any{"lobby", nil}},
		{"invalid_name", "send", []any{"lobby", "disconnect"}},
		{"invalid_name", "send", []any{"lobby", strings.Repeat("x", 256)}},
		{"invalid_argument", "subscribe", nil},
		{"invalid_argument", "subscribe", []any{map[string]any{"topic": "t", "qeue": "misspelt"}}},
		{"invalid_argument", "subscribe", []any{map[string]any{"topic": "t", "ack": "never"}}},
		{"invalid_topic", "subscribe", []any{""}},
		{"invalid_topic", "subscribe", []any{strings.Repeat("x", 256)}},
		{"invalid_offset", "subscribe", []any{map[string]any{"topic": "t", "from": "yesterday"}}},
		{"invalid_offset", "subscribe", []any{map[string]any{"topic": "t", "from": "~AAAAAAAAAAAB"}}},
		{"invalid_argument", "unsubscribe", []any{nil}},
		{"invalid_argument", "publish", []any{"t"}},
		{"invalid_topic", "publish", []any{"", "e"}},
		{"invalid_event", "publish", []any{"t", ""}},
		{"invalid_event", "publish", []any{"t", "connect"}},
		{"invalid_id", "publish", []any{map[string]any{"topic": "t", "id": strings.Repeat("x", 129)}, "e"}},
		{"invalid_argument", "publish", []any{map[string]any{"topic": "t", "ttl": "soon"}, "e"}},
		{"invalid_argument", "publish", []any{map[string]any{"topic": "t", "ttl": "-1s"}, "e"}},
		{"invalid_argument", "publish", []any{map[string]any{"topic": "t", "delay": "later"}, "e"}},
		{"invalid_argument", "publish", []any{map[string]any{"topic": "t", "at": "noon"}, "e"}},
		{"invalid_argument", "publish", []any{map[string]any{"topic": "t", "delay": "1h", "room": "r"}, "e"}},
		{"invalid_offset", "publish", []any{map[string]any{"topic": "t", "expectLast": "x"}, "e"}},
		{"invalid_offset", "history", []any{map[string]any{"topic": "t", "from": "!"}}},
		{"invalid_argument", "history", []any{map[string]any{"topic": "t", "limit": "many"}}},
	} {
		ann.refused(c.code, c.operation, c.args...)
	}
	for i := range 2 {
		ann.ok(nil, "subscribe", fmt.Sprint("t", i))
	}
	ann.refused("too_many", "subscribe", "t2")
	ann.ok(nil, "subscribe", "t1") // replaces
	ann.ok(nil, "unsubscribe", "t0")
	ann.ok(nil, "subscribe", "t2")
	ann.ok(nil, "unsubscribe", "never")
}

func TestPublishAndHistory(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	type result struct {
		Topic, Offset, ID string
		Duplicate         bool
	}
	var first, again result
	ann.ok(&first, "publish", map[string]any{"topic": "orders", "id": "o-7"}, "created", map[string]int{"n": 7})
	ann.ok(&again, "publish", map[string]any{"topic": "orders", "id": "o-7"}, "created", map[string]int{"n": 7})
	if first.Topic != "orders" || first.Offset == "" || first.ID != "o-7" || first.Duplicate {
		t.Errorf("published %+v", first)
	}
	if want := (result{"orders", first.Offset, "o-7", true}); again != want {
		t.Errorf("published again %+v, want %+v", again, want)
	}
	ann.refused("conflict", "publish", map[string]any{"topic": "orders", "id": "o-7"}, "created", "something else")
	for i := range 4 {
		ann.publish("orders", i)
	}
	type page struct {
		Events []struct {
			Topic, Offset, ID, Event, PublishedAt string
			Args                                  json.RawMessage
		}
		Next     string
		Complete bool
	}
	var got page
	ann.ok(&got, "history", map[string]any{"topic": "orders", "from": "first", "limit": 3})
	if len(got.Events) != 3 || got.Complete || got.Events[0].Offset != first.Offset || string(got.Events[0].Args) != `[{"n":7}]` ||
		got.Events[0].Event != "created" || got.Events[0].ID != "o-7" || got.Events[0].PublishedAt == "" {
		t.Fatalf("first page %+v", got)
	}
	ann.ok(&got, "history", map[string]any{"topic": "orders", "from": got.Next})
	if len(got.Events) != 2 || !got.Complete || string(got.Events[1].Args) != "[3]" {
		t.Fatalf("second page %+v", got)
	}
}

func TestBinaryThroughATopic(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	ann.ok(nil, "subscribe", "files")
	ann.Send(`451-5["publish","files","file",{"_placeholder":true,"num":0}]`)
	ann.SendBinary([]byte{1, 2, 3})
	saw := make(map[string]bool)
	for len(saw) < 3 {
		packet := ann.take()
		if packet == "2" {
			continue
		}
		if strings.HasPrefix(packet, `451-["file",{"_placeholder":true,"num":0},"~`) {
			packet = "event"
		} else if strings.HasPrefix(packet, `435[{"topic":"files"`) {
			packet = "answer"
		}
		saw[packet] = true
	}
	if !saw["event"] || !saw["answer"] || !saw["binary 010203"] {
		t.Errorf("got %v", saw)
	}
	ann.Send(`426["history","files"]`)
	for _, want := range []string{`461-6[{"complete":true,"events":[{"args":[{"_placeholder":true,"num":0}]`, "binary 010203"} {
		packet := ann.take()
		for packet == "2" { // a heartbeat
			packet = ann.take()
		}
		if !strings.HasPrefix(packet, want) {
			t.Errorf("got %q, want %q", packet, want)
		}
	}
}

// An event that is not worth anything any more is not handed over.
func TestTTL(t *testing.T) {
	p := newPost(t, false, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	ann.ok(nil, "subscribe", "t")
	ann.Close()
	bob.ok(nil, "publish", map[string]any{"topic": "t", "ttl": "1ms"}, "e", 0)
	for published := time.Now(); time.Since(published) <= time.Millisecond; {
		bob.ok(nil, "publish", "other", "e")
	}
	bob.ok(nil, "publish", map[string]any{"topic": "t", "ttl": "1h"}, "e", 1)
	ann.connect()
	ann.ok(nil, "subscribe", "t")
	ann.want("what is still good", "e 1")
}

// An event for later comes when it is due, also after a restart in between.
func TestDelay(t *testing.T) {
	p := newPost(t, false, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	ann.ok(nil, "subscribe", "t")
	var later struct{ Offset, ID string }
	bob.ok(&later, "publish", map[string]any{"topic": "t", "delay": "1s"}, "e", 1)
	if later.Offset != "" || later.ID == "" {
		t.Errorf("published for later: %+v", later)
	}
	p.restart()
	ann.connect()
	ann.ok(nil, "subscribe", "t")
	ann.want("later", "e 1")
}

// Compare and append: who has not seen the last event is refused.
func TestExpectLast(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	var first struct{ Offset string }
	ann.ok(&first, "publish", map[string]any{"topic": "t", "expectLast": ""}, "e", 0)
	ann.refused("wrong_last", "publish", map[string]any{"topic": "t", "expectLast": ""}, "e", 1)
	ann.ok(nil, "publish", map[string]any{"topic": "t", "expectLast": first.Offset}, "e", 1)
}
