package queue_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// Other rules for topics count from then on, for topics that were used before too; those that can't be had change nothing.
func TestConfigureTopics(t *testing.T) {
	n := openWith(t, t.TempDir(), topics(queue.TopicConfig{Pattern: "ledger", MaxEvents: 3, Refuse: true}, queue.TopicConfig{Pattern: "made/*", MustExist: true}))
	publish := func(topic, key string) error {
		_, err := n.Publish(t.Context(), queue.Message{Topic: topic, Event: "e", Key: key})
		return err
	}
	for range 3 {
		if err := publish("ledger", "a"); err != nil {
			t.Fatal(err)
		}
	}
	before := func(when string) {
		t.Helper()
		if err := publish("ledger", ""); queue.Code(err) != "topic_full" {
			t.Errorf("%s: %v", when, err)
		}
		if err := publish("made/1", ""); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%s: %v", when, err)
		}
	}
	before("at first")
	for what, bad := range map[string][]queue.TopicConfig{
		"no pattern":          {{}},
		"no limit":            {{Pattern: "x", Refuse: true}},
		"too many":            slices.Repeat([]queue.TopicConfig{{Pattern: "x"}}, 257),
		"longer than the log": {{Pattern: "x", MaxAge: 73 * time.Hour}},
		"for ever":            {{Pattern: "x", MaxAge: -1}},
	} {
		if err := n.CheckTopics(bad); err == nil {
			t.Errorf("found good: %+v", bad)
		}
		if err := n.ConfigureTopics(bad); err == nil {
			t.Errorf("%s is taken", what)
		}
		before(what)
	}
	if err := n.CheckTopics([]queue.TopicConfig{{Pattern: "**", MustExist: true}}); err != nil {
		t.Error(err)
	}
	n.publish(t, "not/taken", 0)
	if err := n.ConfigureTopics([]queue.TopicConfig{
		{Pattern: "ledger", MaxEvents: 2}, {Pattern: "prices", Compact: true, MaxAge: 72 * time.Hour}, {Pattern: "chat", MustExist: true},
	}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"ledger", "made/1", "prices", "prices"} {
		if err := publish(topic, "a"); err != nil {
			t.Errorf("%s: %v", topic, err)
		}
	}
	if err := publish("chat", ""); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("chat: %v", err)
	}
	until(t, "the ledger has been shortened", func() bool { return len(n.all(t, "ledger")) == 2 })
	if got := n.all(t, "prices"); len(got) != 1 {
		t.Errorf("prices has %q", got)
	}
	if i, err := n.Topic(t.Context(), "ledger"); err != nil || i.MaxEvents != 2 || i.Refuse {
		t.Errorf("%+v %v", i, err)
	}
}
