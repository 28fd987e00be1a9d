package queue_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
)

// topics is a setup with topics.
func topics(c ...queue.TopicConfig) setup {
	return setup{config: func(b *queue.Config) { b.Topics = c }}
}

// history returns the arguments of all that a topic has.
func (n *node) all(t testing.TB, topic string) (args []string) {
	t.Helper()
	for e, err := range n.Events(t.Context(), topic, queue.StartFirst) {
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, string(e.Args))
	}
	return args
}

// stored returns how many events the log itself has.
func (n *node) stored(t testing.TB) uint64 {
	t.Helper()
	nc, err := n.engine.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "EVT_0")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// withoutIndex opens the store again, and has the index built anew.
func withoutIndex(t testing.TB, dir string, s setup) *node {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	n := openWith(t, dir, s)
	until(t, "the index", func() bool { return n.Ready() == nil })
	return n
}

func TestTopicDropsItsOldest(t *testing.T) {
	for name, c := range map[string]queue.TopicConfig{
		"events": {Pattern: "room/*", MaxEvents: 10},
		"bytes":  {Pattern: "room/*", MaxBytes: int64(10 * len(`e["room/1",30]`))},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := openWith(t, dir, topics(c))
			away := n.personal(t, "room/1", "away", queue.StartFirst)
			over := n.personal(t, "**", "over all", queue.StartFirst)
			other := n.personal(t, "other", "away", queue.StartFirst)
			var offsets []queue.Offset
			for i := 10; i < 50; i++ {
				offsets = append(offsets, n.publish(t, "room/1", i).Offset)
				n.publish(t, "other", i)
				n.publish(t, "room/2", i%5)
			}
			kept := texts("room/1", 40, 50)
			until(t, "the oldest to be dropped", func() bool { return len(n.all(t, "room/1")) == 10 })
			check := func(n *node) {
				t.Helper()
				if got := n.all(t, "room/1"); !slices.Equal(got, kept) {
					t.Errorf("kept %q", got)
				}
				if got := n.all(t, "other"); len(got) != 40 {
					t.Errorf("another topic has %d of 40", len(got))
				}
				i, err := n.Topic(t.Context(), "room/1")
				if err != nil || i.Events != 10 || i.First != offsets[30] || i.Last != offsets[39] || i.MaxEvents != c.MaxEvents || i.Created {
					t.Errorf("%+v, %v", i, err)
				}
				p, err := n.History(t.Context(), "room/1", offsets[3].After(), 0)
				if err != nil || p.Gap == nil || p.Gap.From != offsets[3] || p.Gap.To.Seq < offsets[29].Seq || p.Gap.To.Seq >= offsets[30].Seq {
					t.Errorf("%+v, %v", p.Gap, err)
				}
				for _, q := range []*queue.Queue{away, over} {
					r := &recorder{}
					c := attach(t, q, queue.ConsumerConfig{Sink: r})
					until(t, "the last", func() bool { return slices.Contains(r.args(), `["room/1",49]`) })
					gaps := r.gapsTold()
					if len(gaps) != 1 || gaps[0].Cause != "retention" || gaps[0].To.Seq < offsets[29].Seq {
						t.Errorf("%s: gaps %+v", q.Name(), gaps)
					}
					c.Close()
				}
				r := &recorder{}
				c := attach(t, other, queue.ConsumerConfig{Sink: r})
				r.want(t, texts("other", 10, 50)...)
				if len(r.gapsTold()) > 0 {
					t.Errorf("the other topic has a gap: %+v", r.gapsTold())
				}
				c.Close()
			}
			check(n)
			total := 10 + 40 + len(n.all(t, "room/2"))
			until(t, "the log to lose what was dropped", func() bool { return n.stored(t) == uint64(total) })
			n.stop()
			reopen := func(n *node) {
				t.Helper()
				away = n.personal(t, "room/1", "away", queue.StartNew)
				over = n.personal(t, "**", "over all", queue.StartNew)
				other = n.personal(t, "other", "away", queue.StartNew)
				check(n)
				n.stop()
			}
			reopen(openWith(t, dir, topics(c)))
			reopen(withoutIndex(t, dir, topics(c)))
		})
	}
}

// Many publishers at a time do not get beyond the limit.
func TestTopicRefusesAtItsLimit(t *testing.T) {
	n := openWith(t, t.TempDir(), topics(queue.TopicConfig{Pattern: "full", MaxEvents: 100, Refuse: true}))
	var stored, refused atomic.Int64
	var group sync.WaitGroup
	for p := range 32 {
		group.Go(func() {
			for i := range 10 {
				m := message("full", p*10+i)
				_, err := n.Publish(t.Context(), m)
				switch {
				case err == nil:
					stored.Add(1)
					if again, err := n.Publish(t.Context(), m); err == nil && !again.Duplicate || err != nil && queue.Code(err) != "topic_full" {
						t.Errorf("again: %+v, %v", again, err)
					}
				case queue.Code(err) == "topic_full":
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if stored.Load() != 100 || refused.Load() != 220 || len(n.all(t, "full")) != 100 {
		t.Errorf("%d stored, %d refused, %d there", stored.Load(), refused.Load(), len(n.all(t, "full")))
	}
	n.publish(t, "other", 0)
	if err := n.DeleteTopic(t.Context(), "full"); err != nil {
		t.Fatal(err)
	}
	n.publish(t, "full", 1000)
}

func TestTTL(t *testing.T) {
	dir := t.TempDir()
	const ttl = 300 * time.Millisecond
	config := topics(queue.TopicConfig{Pattern: "short", TTL: ttl})
	n := openWith(t, dir, config)
	q := n.personal(t, "t", "ann", queue.StartFirst)
	manual := n.shared(t, "t", queue.QueueConfig{AckTimeout: ttl, Backoff: []time.Duration{ttl}})
	m := message("t", 0)
	m.TTL = ttl
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	n.publish(t, "t", 1)
	n.publish(t, "short", 0)
	r := &recorder{}
	attach(t, manual, queue.ConsumerConfig{Sink: r})
	r.want(t, texts("t", 0, 2)...)
	e, err := n.Event(t.Context(), "t", "t#0")
	if err != nil || !e.Expires.Equal(e.Time.Add(ttl)) {
		t.Fatalf("%+v, %v", e, err)
	}
	until(t, "the end", func() bool { return time.Now().After(e.Expires) })
	if got := n.all(t, "t"); !slices.Equal(got, texts("t", 1, 2)) {
		t.Errorf("history %q", got)
	}
	if _, err := n.Event(t.Context(), "t", "t#0"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("%v", err)
	}
	late := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: late})
	late.want(t, texts("t", 1, 2)...)
	until(t, "the log to lose it", func() bool { return n.stored(t) == 1 && len(n.all(t, "short")) == 0 })
	until(t, "the other to come again", func() bool { return len(r.deliveries()) > 2 })
	if d := r.deliveries()[2]; string(d.Args) != `["t",1]` {
		t.Errorf("%s came again", d.Args)
	}
	if len(r.gapsTold())+len(late.gapsTold()) > 0 {
		t.Errorf("what expired was told as a gap: %+v %+v", r.gapsTold(), late.gapsTold())
	}
	for _, bad := range []time.Duration{-1, time.Nanosecond, 200 * 365 * 24 * time.Hour} {
		m := message("t", 9)
		m.TTL = bad
		if _, err := n.Publish(t.Context(), m); queue.Code(err) != "invalid_ttl" {
			t.Errorf("ttl %v: %v", bad, err)
		}
	}
	n.stop()
	n = withoutIndex(t, dir, config)
	if got := n.all(t, "t"); !slices.Equal(got, texts("t", 1, 2)) {
		t.Errorf("history %q", got)
	}
}

// Some topics keep their events shorter than others. Who was away is told.
func TestAgeOfATopic(t *testing.T) {
	config := setup{config: func(c *queue.Config) {
		c.MaxAge = time.Second
		c.Topics = []queue.TopicConfig{{Pattern: "state/**", MaxAge: -1}, {Pattern: "log", MaxAge: time.Hour}}
	}}
	dir := t.TempDir()
	n := openWith(t, dir, config)
	away := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 3 {
		n.publish(t, "t", i)
		n.publish(t, "state/1", i)
		n.publish(t, "log", i)
	}
	until(t, "the log to lose the old ones", func() bool { return n.stored(t) == 6 })
	check := func(n *node) {
		t.Helper()
		if got := [3]int{len(n.all(t, "t")), len(n.all(t, "state/1")), len(n.all(t, "log"))}; got != [3]int{0, 3, 3} {
			t.Errorf("%v events", got)
		}
		if i, err := n.Topic(t.Context(), "state/1"); err != nil || i.MaxAge != -1 || i.Pattern != "state/**" {
			t.Errorf("%+v, %v", i, err)
		}
		r := &recorder{}
		attach(t, away, queue.ConsumerConfig{Sink: r})
		until(t, "a gap", func() bool { return len(r.gapsTold()) == 1 })
	}
	check(n)
	n.stop()
	n = withoutIndex(t, dir, config)
	away = n.personal(t, "t", "ann", queue.StartFirst)
	check(n)
	if err := n.CreateTopic(t.Context(), queue.TopicConfig{Pattern: "x", MaxAge: -1}); err != nil {
		t.Errorf("the log keeps events for ever: %v", err)
	}
}

// A compacted topic has of each key the last event. Nobody misses the others.
func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	config := topics(queue.TopicConfig{Pattern: "state", Compact: true})
	n := openWith(t, dir, config)
	away := n.personal(t, "state", "away", queue.StartFirst)
	live := &recorder{}
	attach(t, n.personal(t, "state", "live", queue.StartFirst), queue.ConsumerConfig{Sink: live})
	manual := n.shared(t, "state", queue.QueueConfig{})
	held := &recorder{}
	consumer := attach(t, manual, queue.ConsumerConfig{Sink: held, Prefetch: 5})
	const keys, rounds = 4, 50
	var group sync.WaitGroup
	for i := range keys * rounds { // many in one batch
		m := message("state", i)
		m.Key = fmt.Sprint(i % keys)
		group.Add(1)
		if err := n.PublishAsync(t.Context(), m, func(_ queue.Published, err error) {
			if err != nil {
				t.Error(err)
			}
			group.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	n.publish(t, "state", keys*rounds) // has no key
	live.want(t, texts("state", 0, keys*rounds+1)...)
	want := texts("state", keys*(rounds-1), keys*rounds+1)
	check := func(n *node, away *queue.Queue) {
		t.Helper()
		if got := n.all(t, "state"); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if i, err := n.Topic(t.Context(), "state"); err != nil || i.Events != keys+1 {
			t.Errorf("%+v, %v", i, err)
		}
		r := &recorder{}
		c := attach(t, away, queue.ConsumerConfig{Sink: r})
		r.want(t, want...)
		if len(r.gapsTold()) > 0 {
			t.Errorf("gaps %+v", r.gapsTold())
		}
		c.Close()
		if e, err := n.Event(t.Context(), "state", "state#3"); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	check(n, away)
	consumer.Close() // what it held is gone meanwhile
	again := acks()
	attach(t, manual, queue.ConsumerConfig{Sink: again})
	drained(t, manual)
	if len(again.gapsTold()) > 0 || !slices.Equal(again.args()[len(again.args())-keys-1:], want) {
		t.Errorf("%q, gaps %+v", again.args(), again.gapsTold())
	}
	until(t, "the log to lose the others", func() bool { return n.stored(t) == keys+1 })
	n.stop()
	n = openWith(t, dir, config)
	check(n, n.personal(t, "state", "away", queue.StartNew))
	n.stop()
	n = withoutIndex(t, dir, config)
	check(n, n.personal(t, "state", "away", queue.StartNew))
}

func TestCreateTopic(t *testing.T) {
	dir := t.TempDir()
	config := topics(queue.TopicConfig{Pattern: "free/*"}, queue.TopicConfig{Pattern: "**", MustExist: true})
	n := openWith(t, dir, config)
	n.publish(t, "free/1", 0)
	refused := func(n *node) {
		t.Helper()
		if _, err := n.Publish(t.Context(), message("made", 0)); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("publish to a topic that was not created: %v", err)
		}
	}
	refused(n)
	create := queue.TopicConfig{Pattern: "made", MaxEventBytes: 20}
	if err := n.CreateTopic(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	n.personal(t, "made", "ann", queue.StartFirst)
	check := func(n *node, events int64) {
		t.Helper()
		i, err := n.Topic(t.Context(), "made")
		if err != nil || !i.Created || i.MaxEventBytes != 20 || i.Events != events || i.Last.Seq > 0 != (events > 0) {
			t.Errorf("%+v, %v", i, err)
		}
		if names, err := n.Topics(t.Context(), "", 0); err != nil || !slices.Equal(names, []string{"free/1", "made"}) {
			t.Errorf("%q, %v", names, err)
		}
	}
	check(n, 0)
	first := n.publish(t, "made", 0)
	big := queue.Message{Topic: "made", Event: "e", Args: []byte(`["0123456789abcdef"]`)}
	if _, err := n.Publish(t.Context(), big); queue.Code(err) != "too_large" {
		t.Errorf("%v", err)
	}
	big.Args = []byte(`["0123456789abcde"]`)
	if _, err := n.Publish(t.Context(), big); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	n.stop()
	n = openWith(t, dir, config)
	check(n, 2)
	n.stop()
	n = withoutIndex(t, dir, config)
	check(n, 2)

	if err := n.DeleteTopic(t.Context(), "made"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		refused(n)
		if _, err := n.Topic(t.Context(), "made"); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%v", err)
		}
		if err := n.DeleteTopic(t.Context(), "made"); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%v", err)
		}
		if got := n.stored(t); got != 1 {
			t.Errorf("%d events are on the disk", got)
		}
		r := &recorder{}
		attach(t, n.personal(t, "made", "ann", queue.StartNew), queue.ConsumerConfig{Sink: r})
		until(t, "a gap", func() bool { return len(r.gapsTold()) == 1 })
		if g := r.gapsTold()[0]; g.To.Seq < first.Offset.Seq+1 || g.Cause != "retention" {
			t.Errorf("%+v", g)
		}
		n.stop()
		n = withoutIndex(t, dir, config)
	}
	for _, bad := range []queue.TopicConfig{
		{}, {Pattern: "a*"}, {Pattern: "a", MaxEvents: -1}, {Pattern: "a", MaxEventBytes: 1_000_001}, {Pattern: "a", Refuse: true},
		{Pattern: "a", MaxAge: -1}, {Pattern: "a", MaxAge: 73 * time.Hour},
	} {
		if err := n.CreateTopic(t.Context(), bad); queue.Code(err) != "invalid_topic" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A topic may remember ids for longer than the log does.
func TestDedupeWindowOfATopic(t *testing.T) {
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) {
		c.DedupeWindow = 100 * time.Millisecond
		c.Topics = []queue.TopicConfig{{Pattern: "long", DedupeWindow: time.Hour}}
	}})
	long, short := n.publish(t, "long", 0), n.publish(t, "short", 0)
	until(t, "the log to forget", func() bool {
		p := n.publish(t, "short", 0)
		return !p.Duplicate && p.Offset != short.Offset
	})
	if again := n.publish(t, "long", 0); !again.Duplicate || again.Offset != long.Offset || again.ID != long.ID {
		t.Errorf("%+v, want %+v", again, long)
	}
	m := message("long", 0)
	m.Event = "other"
	_, err := n.Publish(t.Context(), m)
	if e, ok := errors.AsType[*queue.Error](err); !ok || e.Code != "conflict" || e.First.Offset != long.Offset {
		t.Errorf("%v", err)
	}
}

func TestReadBackward(t *testing.T) {
	n := open(t, t.TempDir())
	var offsets []queue.Offset
	for i := range 25 {
		offsets = append(offsets, n.publish(t, "t", i).Offset)
		n.publish(t, "other", i)
	}
	args := func(events []*queue.Event) (s []string) {
		for _, e := range events {
			s = append(s, string(e.Args))
		}
		return s
	}
	from := queue.StartNew
	for _, want := range [][2]int{{15, 25}, {5, 15}, {0, 5}} {
		p, err := n.History(t.Context(), "t", from, -10)
		if err != nil || !slices.Equal(args(p.Events), texts("t", want[0], want[1])) || p.Complete != (want[0] == 0) {
			t.Errorf("%q, %+v, %v", args(p.Events), p, err)
		}
		from = p.Next.After()
	}
	if p, err := n.History(t.Context(), "t", offsets[3].After(), -2); err != nil || !slices.Equal(args(p.Events), texts("t", 2, 4)) {
		t.Errorf("%q, %v", args(p.Events), err)
	}
	if p, err := n.History(t.Context(), "t", queue.StartLast, 0); err != nil || !slices.Equal(args(p.Events), texts("t", 24, 25)) {
		t.Errorf("%q, %v", args(p.Events), err)
	}
	if p, err := n.History(t.Context(), "t", queue.StartFirst, -1); err != nil || len(p.Events) != 0 || !p.Complete {
		t.Errorf("%+v, %v", p, err)
	}
	var got []string
	for e, err := range n.Backward(t.Context(), "t", queue.StartNew) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Args))
	}
	if slices.Reverse(got); !slices.Equal(got, texts("t", 0, 25)) {
		t.Errorf("%q", got)
	}
	for e, err := range n.Events(t.Context(), "t", offsets[9].After()) {
		if err != nil || string(e.Args) != `["t",10]` {
			t.Errorf("%v, %v", e, err)
		}
		break
	}
	last := n.personal(t, "t", "last", queue.StartLast)
	r := &recorder{}
	attach(t, last, queue.ConsumerConfig{Sink: r})
	n.publish(t, "t", 25)
	r.want(t, texts("t", 24, 26)...)
	if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "*", Name: "x", From: queue.StartLast}); queue.Code(err) != "invalid_offset" {
		t.Errorf("%v", err)
	}
	for _, id := range []string{"t#7", offsets[7].String()} {
		if e, err := n.Event(t.Context(), "t", id); err != nil || e.Offset != offsets[7] || e.ID != "t#7" {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if _, err := n.Event(t.Context(), "other", "t#7"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if p, err := n.Publish(t.Context(), queue.Message{Topic: "t", Event: "e"}); err != nil || p.ID != p.Offset.String() {
		t.Errorf("%+v, %v", p, err)
	} else if e, err := n.Event(t.Context(), "t", p.ID); err != nil || e.ID != p.ID {
		t.Errorf("%+v, %v", e, err)
	}
}
