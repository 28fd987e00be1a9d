package history_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/queue"
)

// TestLater is about an event that is to be published later.
func TestLater(t *testing.T) {
	at := queue.Offset{Epoch: 7, Seq: 1}
	event := func(kind history.Kind, o queue.Offset, wall int64) history.Event {
		return history.Event{Kind: kind, Topic: "t", ID: "1", Queue: "q", Consumer: "c", Attempt: 1, Offset: o, Wall: wall}
	}
	check := func(came bool, wall int64) history.Report {
		es := []history.Event{{Kind: history.Start, Offset: queue.Offset{Epoch: 7}}, {Kind: history.Queue, Queue: "q", Topic: "t"}, {Kind: history.Attach, Queue: "q", Consumer: "c"},
			event(history.Publish, queue.Offset{}, 1000), event(history.Later, queue.Offset{}, 0)}
		if came {
			es = append(es, event(history.Deliver, at, wall), event(history.Acking, at, 0), event(history.Acked, at, 0), event(history.Read, at, 0))
		}
		return history.Check(append(es, history.Event{Kind: history.Drained, Queue: "q"}, history.Event{Kind: history.End, Topic: "t"}))
	}
	if r := check(true, 1000); len(r.Violations) > 0 {
		t.Error(r)
	}
	if r := check(true, 999); !slices.Contains(r.Broken(), history.Early) {
		t.Error("too early: ", r)
	}
	if r := check(false, 0); !slices.Contains(r.Broken(), history.Lost) {
		t.Error("never: ", r)
	}
}

// TestExpiry is about an event that has a time to live.
func TestExpiry(t *testing.T) {
	event := func(kind history.Kind, seq uint64, wall int64) history.Event {
		return history.Event{Kind: kind, Topic: "t", ID: fmt.Sprint(seq), Queue: "q", Consumer: "c", Attempt: 1, Offset: queue.Offset{Epoch: 7, Seq: seq}, Wall: wall}
	}
	short := event(history.Publish, 1, 0)
	short.TTL = time.Second
	check := func(came bool, wall int64) history.Report {
		es := []history.Event{{Kind: history.Start, Offset: queue.Offset{Epoch: 7}}, {Kind: history.Queue, Queue: "q", Topic: "t"}, {Kind: history.Attach, Queue: "q", Consumer: "c"},
			short, event(history.Stored, 1, 1e9), event(history.Publish, 2, 0), event(history.Stored, 2, 1e9)}
		if came {
			es = append(es, event(history.Deliver, 1, wall), event(history.Acking, 1, 0), event(history.Acked, 1, 0))
		}
		es = append(es, event(history.Deliver, 2, wall), event(history.Acking, 2, 0), event(history.Acked, 2, 0), event(history.Read, 2, 0))
		return history.Check(append(es, history.Event{Kind: history.Drained, Queue: "q"}, history.Event{Kind: history.End, Topic: "t"}))
	}
	for _, r := range []history.Report{check(true, 2e9), check(false, 5e9)} {
		if len(r.Violations) > 0 {
			t.Error(r)
		}
	}
	if r := check(true, 5e9); !slices.Contains(r.Broken(), history.Expired) {
		t.Error("too late: ", r)
	}
}

// TestWhatAQueueWants is about queues that do not take each event of one topic in its order: those of a pattern, those that want some
// names, and those that are ordered by key.
func TestWhatAQueueWants(t *testing.T) {
	// The events, each with the sequence of its place here.
	log := []history.Event{
		{Topic: "chat/1", Name: "e", Key: "a"},
		{Topic: "chat/2", Name: "f", Key: "b"},
		{Topic: "orders", Name: "f", Key: "a"},
		{Topic: "chat/1", Name: "f", Key: "a"},
		{Topic: "chat/1/x", Name: "e"},
		{Topic: "chat/1", Name: "e", Key: "b"},
	}
	pattern := history.Event{Topic: "chat/*"}
	names := history.Event{Topic: "chat/1", Names: "e g"}
	keys := history.Event{Topic: "chat/*", Shared: true, Ordered: true}
	for _, c := range []struct {
		name  string
		queue history.Event
		steps []int // sequences that are delivered, and, negative, acknowledged
		rule  history.Rule
	}{
		{"a pattern", pattern, []int{1, -1, 2, -2, 4, -4, 6, -6}, ""},
		{"a topic that the pattern does not match", pattern, []int{1, -1, 2, -2, 3, -3, 4, -4, 6, -6}, history.Phantom},
		{"a topic below", pattern, []int{1, -1, 2, -2, 4, -4, 5, -5, 6, -6}, history.Phantom},
		{"one of the topics is passed over", pattern, []int{1, -1, 4, -4, 6, -6}, history.Hole},
		{"two topics are swapped", pattern, []int{2, -2, 1, -1, 4, -4, 6, -6}, history.Disorder},
		{"names", names, []int{1, -1, 6, -6}, ""},
		{"a name that it does not want", names, []int{1, -1, 4, -4, 6, -6}, history.Phantom},
		{"a name is passed over", names, []int{6, -6}, history.Hole},
		{"keys", keys, []int{1, 2, -1, 4, -2, 6, -4, -6}, ""},
		{"a key waits and another goes on", keys, []int{1, 2, -2, 6, -6, -1, 4, -4}, ""},
		{"two with a key at a time", keys, []int{1, 2, 4, -1, -2, -4, 6, -6}, history.Disorder},
		{"a key is swapped", keys, []int{1, 4, -4, -1, 2, -2, 6, -6}, history.Disorder},
		{"the last one never comes", keys, []int{1, -1, 2, -2, 4, -4}, history.Lost},
	} {
		t.Run(c.name, func(t *testing.T) {
			offset := func(seq int) queue.Offset { return queue.Offset{Epoch: 7, Seq: uint64(seq)} }
			es := []history.Event{{Kind: history.Start, Offset: offset(0)}}
			add := func(e history.Event, kind history.Kind) {
				e.Kind = kind
				es = append(es, e)
			}
			q := c.queue
			q.Queue = "q"
			add(q, history.Queue)
			about := history.Event{Queue: "q", Consumer: "c"}
			add(about, history.Attach)
			for i, e := range log {
				e.ID = fmt.Sprint(i + 1)
				add(e, history.Publish)
				e.Offset = offset(i + 1)
				add(e, history.Stored)
			}
			for _, step := range c.steps {
				e := about
				e.Attempt = 1
				if step > 0 {
					e.Topic, e.ID, e.Offset = log[step-1].Topic, fmt.Sprint(step), offset(step)
					add(e, history.Deliver)
					continue
				}
				e.Offset = offset(-step)
				add(e, history.Acking)
				add(e, history.Acked)
			}
			add(about, history.Drained)
			for i, e := range log {
				e.ID, e.Offset = fmt.Sprint(i+1), offset(i+1)
				add(e, history.Read)
			}
			for _, topic := range []string{"chat/1", "chat/2", "chat/1/x", "orders"} {
				add(history.Event{Topic: topic}, history.End)
			}
			r := history.Check(es)
			switch {
			case c.rule == "" && len(r.Violations) > 0:
				t.Error(r)
			case c.rule != "" && !slices.Contains(r.Broken(), c.rule):
				t.Errorf("want %s, got %s", c.rule, r)
			}
		})
	}
}

// TestForgotten is about a loss of what queues had acknowledged: that may come again, and what was not acknowledged has to.
func TestForgotten(t *testing.T) {
	event := func(kind history.Kind, seq uint64) history.Event {
		return history.Event{Kind: kind, Topic: "t", ID: fmt.Sprint(seq), Queue: "q", Consumer: "c", Attempt: 1, Offset: queue.Offset{Epoch: 7, Seq: seq}}
	}
	start := []history.Event{{Kind: history.Start, Offset: queue.Offset{Epoch: 7}}, {Kind: history.Queue, Queue: "q", Topic: "t", Shared: true}, {Kind: history.Attach, Queue: "q", Consumer: "c"}}
	check := func(forgot string, again ...uint64) history.Report {
		es := slices.Clone(start)
		for seq := range uint64(2) {
			es = append(es, event(history.Publish, seq+1), event(history.Stored, seq+1), event(history.Deliver, seq+1))
		}
		es = append(es, event(history.Acking, 1), event(history.Acked, 1), history.Event{Kind: history.Saved, Queue: "q", Consumer: "c"}, history.Event{Kind: history.Stop})
		if forgot != "" {
			es = append(es, history.Event{Kind: history.Forgot, Content: forgot})
		}
		es = append(es, start...)
		for _, seq := range again {
			es = append(es, event(history.Deliver, seq), event(history.Acking, seq), event(history.Acked, seq))
		}
		return history.Check(append(es, history.Event{Kind: history.Drained, Queue: "q"}, event(history.Read, 1), event(history.Read, 2), history.Event{Kind: history.End, Topic: "t"}))
	}
	for name, r := range map[string]history.Report{"all again": check(history.Cursors, 1, 2), "what was not acknowledged": check(history.Cursors, 2)} {
		if len(r.Violations) > 0 {
			t.Errorf("%s: %s", name, r)
		}
	}
	if r := check("", 1, 2); !slices.Contains(r.Broken(), history.Again) {
		t.Error("nothing was forgotten: ", r)
	}
	if r := check(history.Cursors); !slices.Contains(r.Broken(), history.Lost) {
		t.Error("what was not acknowledged is gone: ", r)
	}

	later := func(forgot string) history.Report {
		es := append(slices.Clone(start), event(history.Publish, 1), event(history.Later, 1), history.Event{Kind: history.Forgot, Content: forgot})
		return history.Check(append(es, history.Event{Kind: history.Drained, Queue: "q"}, history.Event{Kind: history.End, Topic: "t"}))
	}
	if r := later(history.Delayed); len(r.Violations) > 0 {
		t.Error(r)
	}
	if r := later(history.Cursors); !slices.Contains(r.Broken(), history.Lost) {
		t.Error("an event for later is gone: ", r)
	}
}
