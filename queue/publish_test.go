package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// gate is an engine whose commits, health and room a test decides.
type gate struct {
	queue.Engine
	commit func(last uint64, next func(uint64) error) error
	full   atomic.Bool
}

func (g *gate) Commit(last uint64) error {
	if g.commit == nil {
		return g.Engine.Commit(last)
	}
	return g.commit(last, g.Engine.Commit)
}

func (g *gate) Room() error {
	if g.full.Load() {
		return fmt.Errorf("%w: for the test", queue.ErrFull)
	}
	return g.Engine.Room()
}

func TestPublishRefusesWhatIsInvalid(t *testing.T) {
	n := open(t, t.TempDir())
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		m    queue.Message
		code string
	}{
		{queue.Message{Event: "e"}, "invalid_topic"},
		{queue.Message{Topic: long, Event: "e"}, "invalid_topic"},
		{queue.Message{Topic: "a\x00", Event: "e"}, "invalid_topic"},
		{queue.Message{Topic: "a\u0085", Event: "e"}, "invalid_topic"},
		{queue.Message{Topic: "\xff", Event: "e"}, "invalid_topic"},
		{queue.Message{Topic: "t"}, "invalid_event"},
		{queue.Message{Topic: "t", Event: "a\nb"}, "invalid_event"},
		{queue.Message{Topic: "t", Event: long}, "invalid_event"},
		{queue.Message{Topic: "t", Event: "e", ID: long[:129]}, "invalid_id"},
		{queue.Message{Topic: "t", Event: "e", ID: "\t"}, "invalid_id"},
		{queue.Message{Topic: "t", Event: "e", Args: []byte(`{}`)}, "invalid_args"},
		{queue.Message{Topic: "t", Event: "e", Args: []byte(`[1`)}, "invalid_args"},
		{queue.Message{Topic: "t", Event: "e", Args: []byte(`[1] []`)}, "invalid_args"},
		{queue.Message{Topic: "t", Event: "e", Args: []byte{}}, "invalid_args"},
		{queue.Message{Topic: "t", Event: "e", Args: []byte("[\"\xff\"]")}, "invalid_args"},
		{queue.Message{Topic: "t", Event: "e", Attachments: make([][]byte, 256)}, "invalid_args"},
		{queue.Message{Topic: "t", Event: "e", Args: []byte(`["` + strings.Repeat("x", 1_000_000) + `"]`)}, "too_large"},
		{queue.Message{Topic: "t", Event: "e", Attachments: [][]byte{make([]byte, 1_000_000)}}, "too_large"},
	} {
		_, err := n.Publish(t.Context(), c.m)
		if _, ok := errors.AsType[*queue.Error](err); !ok || queue.Code(err) != c.code {
			t.Errorf("%.40q %.40q: %v, want %s", c.m.Topic, c.m.Args, err, c.code)
		}
	}
	if last, err := n.Last("t"); err != nil || last != (queue.Offset{}) {
		t.Errorf("something was stored: %v, %v", last, err)
	}
}

// Names may have any character that is not a control character, and stay apart.
func TestNamesAreTakenAsTheyAre(t *testing.T) {
	n := open(t, t.TempDir())
	names := []string{
		"a.b", "a/b", "a b", "a>", ">", ".", "~2E", "=", "=A", "a~b", "Ä", "日本", "a", "A", "$SYS.x",
		strings.Repeat("é", 127), strings.Repeat("x", 255), strings.Repeat("x", 254) + "y", strings.Repeat("x", 120), strings.Repeat("x", 121),
	}
	for i, topic := range names {
		if _, err := n.Publish(t.Context(), queue.Message{Topic: topic, Event: topic, Args: fmt.Appendf(nil, "[0,%d]", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, topic := range names {
		p, err := n.History(t.Context(), topic, queue.StartFirst, 0)
		if err != nil || len(p.Events) != 1 || p.Events[0].Topic != topic || !strings.HasSuffix(string(p.Events[0].Args), fmt.Sprintf(",%d]", i)) {
			t.Fatalf("%q: %+v, %v", topic, p, err)
		}
		q := n.personal(t, topic, names[len(names)-1-i], queue.StartFirst)
		if q.Topic() != topic || q.Name() != names[len(names)-1-i] {
			t.Errorf("queue %q of %q", q.Name(), q.Topic())
		}
	}
	if got, err := n.Topics(t.Context(), "", 0); err != nil || len(got) != len(names) {
		t.Errorf("%d topics, %v, want %d", len(got), err, len(names))
	}
}

func TestWholeEventComesBack(t *testing.T) {
	n := open(t, t.TempDir())
	m := queue.Message{
		Topic: "t", Event: "created", Args: []byte(" [1, {\"a\":\"é\"}, {\"_placeholder\":true,\"num\":0}]\n"),
		Attachments: [][]byte{{0, 1, 255}, {}},
	}
	p, err := n.Publish(t.Context(), m)
	if err != nil || p.ID == "" || p.Duplicate || p.Offset.Seq != 1 || p.Topic != "t" {
		t.Fatalf("%+v, %v", p, err)
	}
	page, err := n.History(t.Context(), "t", queue.StartFirst, 1)
	if err != nil || len(page.Events) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	e := page.Events[0]
	if e.Name != "created" || e.ID != p.ID || e.Offset != p.Offset || e.Time.IsZero() ||
		string(e.Args) != `[1, {"a":"é"}, {"_placeholder":true,"num":0}]` ||
		len(e.Attachments) != 2 || string(e.Attachments[0]) != "\x00\x01\xff" || len(e.Attachments[1]) != 0 {
		t.Errorf("%+v", e)
	}
	if _, err := n.Publish(t.Context(), queue.Message{Topic: "u", Event: "e"}); err != nil {
		t.Fatal(err)
	}
	if page, err = n.History(t.Context(), "u", queue.StartFirst, 1); err != nil || string(page.Events[0].Args) != "[]" {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestRepeatedID(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	first := n.publish(t, "t", 1)
	again := n.publish(t, "t", 1)
	if !again.Duplicate || again.Offset != first.Offset || again.ID != first.ID {
		t.Errorf("%+v after %+v", again, first)
	}
	conflict := func(n *node) {
		t.Helper()
		m := message("t", 1)
		m.Args = []byte("[]")
		_, err := n.Publish(t.Context(), m)
		c, ok := errors.AsType[*queue.Error](err)
		if !ok || c.First != first || queue.Code(err) != "conflict" {
			t.Errorf("%v, want a conflict with %+v", err, first)
		}
	}
	conflict(n)
	other := message("t", 1)
	other.Topic = "u"
	if p, err := n.Publish(t.Context(), other); err != nil || p.Duplicate {
		t.Errorf("an id is its topic's own: %+v, %v", p, err)
	}
	n.stop()
	n = open(t, dir)
	if again := n.publish(t, "t", 1); !again.Duplicate || again.Offset != first.Offset {
		t.Errorf("after a restart: %+v, want %+v", again, first)
	}
	conflict(n)
}

func TestSameIDAtTheSameTime(t *testing.T) {
	n := open(t, t.TempDir())
	const rounds, publishers = 50, 8
	for i := range rounds {
		var group sync.WaitGroup
		results := make([]queue.Published, publishers)
		for p := range publishers {
			group.Go(func() { results[p] = n.publish(t, "t", i) })
		}
		group.Wait()
		fresh := 0
		for _, r := range results {
			if !r.Duplicate {
				fresh++
			}
			if r.Offset != results[0].Offset {
				t.Fatalf("offsets %v and %v", r.Offset, results[0].Offset)
			}
		}
		if fresh != 1 {
			t.Fatalf("%d were the first", fresh)
		}
	}
	if p, err := n.History(t.Context(), "t", queue.StartFirst, 1000); err != nil || len(p.Events) != rounds {
		t.Errorf("%d events, %v", len(p.Events), err)
	}
}

func TestAsyncPublishesKeepTheirOrder(t *testing.T) {
	n := open(t, t.TempDir())
	const count = 3000
	var group sync.WaitGroup
	for i := range count {
		group.Add(1)
		if err := n.PublishAsync(t.Context(), message("t", i), func(_ queue.Published, err error) {
			if err != nil {
				t.Error(err)
			}
			group.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	r := &recorder{}
	attach(t, n.personal(t, "t", "ann", queue.StartFirst), queue.ConsumerConfig{Sink: r})
	r.want(t, texts("t", 0, count)...)
}

// The failpoint: between the log's answer and the end of the commit nobody may learn anything.
func TestNothingIsKnownBeforeTheCommit(t *testing.T) {
	hold := make(chan chan struct{})
	var armed atomic.Bool
	g := &gate{commit: func(last uint64, next func(uint64) error) error {
		if armed.Load() {
			release := make(chan struct{})
			hold <- release
			<-release
		}
		return next(last)
	}}
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { g.Engine, c.Engine = c.Engine, g }})
	r := &recorder{}
	attach(t, n.personal(t, "t", "ann", queue.StartFirst), queue.ConsumerConfig{Sink: r})
	armed.Store(true)
	for i := range 5 {
		acked := make(chan queue.Published, 2)
		go func() { acked <- n.publish(t, "t", i) }()
		release := <-hold
		select { // the event is in the log now, and the tail knows it
		case p := <-acked:
			t.Fatalf("acknowledged before the commit: %+v", p)
		default:
		}
		if e, err := n.Last("t"); err != nil || e.Seq >= uint64(i+1) || len(r.deliveries()) > i {
			t.Fatalf("seen before the commit: index %v, %d delivered, %v", e, len(r.deliveries()), err)
		}
		go func() { acked <- n.publish(t, "t", i) }() // a duplicate waits for its own commit
		close(release)
		<-acked
		release = <-hold
		select {
		case p := <-acked:
			t.Fatalf("duplicate acknowledged before the commit: %+v", p)
		default:
		}
		close(release)
		if p := <-acked; !p.Duplicate {
			t.Fatalf("%+v", p)
		}
	}
	armed.Store(false)
	r.want(t, texts("t", 0, 5)...)
}

func TestFailedCommit(t *testing.T) {
	broken := errors.New("disk broken")
	var fail atomic.Bool
	g := &gate{commit: func(last uint64, next func(uint64) error) error {
		if fail.Load() {
			return broken
		}
		return next(last)
	}}
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { g.Engine, c.Engine = c.Engine, g }})
	q := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 10 {
		n.publish(t, "t", i)
	}
	fail.Store(true)
	_, err := n.Publish(t.Context(), message("t", 10))
	if !errors.Is(err, queue.ErrUnknown) || !errors.Is(err, broken) || queue.Code(err) != "unknown_outcome" {
		t.Errorf("%v", err)
	}
	for range 3 {
		if _, err := n.Publish(t.Context(), message("t", 11)); !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, broken) || queue.Code(err) != "unavailable" {
			t.Errorf("%v", err)
		}
	}
	if err := n.Health(); !errors.Is(err, broken) {
		t.Errorf("health: %v", err)
	}
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, texts("t", 0, 10)...)
}

func TestFullStore(t *testing.T) {
	g := &gate{}
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { g.Engine, c.Engine = c.Engine, g }})
	g.full.Store(true)
	if _, err := n.Publish(t.Context(), message("t", 0)); !errors.Is(err, queue.ErrFull) || queue.Code(err) != "storage_full" {
		t.Errorf("%v", err)
	}
	g.full.Store(false)
	n.publish(t, "t", 0)
}

func TestPublishWithAContextThatEnds(t *testing.T) {
	hold := make(chan struct{})
	var armed atomic.Bool
	entered := make(chan struct{}, 100)
	g := &gate{commit: func(last uint64, next func(uint64) error) error {
		if armed.Load() {
			entered <- struct{}{}
			<-hold
		}
		return next(last)
	}}
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { g.Engine, c.Engine, c.MaxWaiting = c.Engine, g, 1000 }})
	gone := errors.New("caller gone")

	dead, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := n.Publish(dead, message("t", 0)); !errors.Is(err, gone) || errors.Is(err, queue.ErrUnknown) {
		t.Errorf("dead from the start: %v", err)
	}

	armed.Store(true)
	publish := func(i int) (context.CancelCauseFunc, chan error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		c := make(chan error, 1)
		go func() {
			_, err := n.Publish(ctx, message("t", i))
			c <- err
		}()
		return cancel, c
	}
	cancel1, c1 := publish(1)
	<-entered // 1 is in the log
	cancel2, c2 := publish(2)
	large := message("t", 3)
	large.Args = []byte(`["` + strings.Repeat("x", 2000) + `"]`)
	ctx3, cancel3 := context.WithCancelCause(t.Context())
	c3 := make(chan error, 1)
	go func() { // larger than the room: waits until all is free
		_, err := n.Publish(ctx3, large)
		c3 <- err
	}()
	cancel1(gone)
	if err := <-c1; !errors.Is(err, queue.ErrUnknown) || !errors.Is(err, gone) {
		t.Errorf("cancelled in the log: %v", err)
	}
	cancel3(gone)
	if err := <-c3; !errors.Is(err, gone) || errors.Is(err, queue.ErrUnknown) {
		t.Errorf("cancelled while waiting for room: %v", err)
	}
	cancel2(gone)
	if err := <-c2; !errors.Is(err, gone) || errors.Is(err, queue.ErrUnknown) {
		t.Errorf("cancelled in the queue: %v", err)
	}
	armed.Store(false)
	close(hold)
	if p := n.publish(t, "t", 1); !p.Duplicate {
		t.Errorf("the unknown one was stored, its repeat is no duplicate: %+v", p)
	}
	if p := n.publish(t, "t", 2); p.Duplicate {
		t.Errorf("the withdrawn one was stored")
	}
	if p, err := n.Publish(t.Context(), large); err != nil || p.Duplicate {
		t.Errorf("larger than the room, alone: %+v, %v", p, err)
	}
}

func TestClosedBroker(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	n.Close()
	n.Close()
	ctx := t.Context()
	_, err := n.Publish(ctx, message("t", 0))
	_, err2 := n.History(ctx, "t", queue.StartFirst, 1)
	_, err3 := n.Queue(ctx, queue.QueueConfig{Topic: "t", Name: "bob"})
	_, err4 := q.Attach(queue.ConsumerConfig{Sink: &recorder{}})
	_, err5 := n.Topics(ctx, "", 1)
	err6 := q.Consume(ctx, queue.ConsumerConfig{}, nil)
	for i, err := range []error{err, err2, err3, err4, err5, err6, n.Ready(), n.Health()} {
		if !errors.Is(err, queue.ErrClosed) || queue.Code(err) != "closed" {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// A disk that hangs gives nobody an answer that is not true, and holds up nobody who does not need it.
func TestDiskHangs(t *testing.T) {
	hang := make(chan struct{})
	g := &gate{}
	var hanging atomic.Bool
	g.commit = func(last uint64, next func(uint64) error) error {
		if hanging.Load() {
			<-hang
		}
		return next(last)
	}
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) { g.Engine, c.Engine = c.Engine, g }})
	for i := range 5 {
		n.publish(t, "t", i)
	}
	hanging.Store(true)
	if _, err := n.Publish(context.Background(), message("t", 5)); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if _, err := n.Publish(context.Background(), message("t", 6)); !errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if err := n.Health(); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("healthy: %v", err)
	}
	if got := n.all(t, "t"); len(got) != 5 { // reading goes on
		t.Errorf("%q", got)
	}
	hanging.Store(false)
	close(hang)
	until(t, "it to recover", func() bool { return n.Health() == nil })
	if p := n.publish(t, "t", 5); !p.Duplicate {
		t.Errorf("%+v was stored", p)
	}
	n.publish(t, "t", 6)
	if got := n.all(t, "t"); len(got) != 7 {
		t.Errorf("%q", got)
	}
}

// ailing is an engine that may not be written to while a test says so.
type ailing struct {
	queue.Engine
	ill atomic.Bool
}

func (a *ailing) Health() error {
	if a.ill.Load() {
		return errors.New("somebody else has it")
	}
	return a.Engine.Health()
}

// From the moment on that an engine is not well nothing is written to it, whatever is waiting, and it can become well again.
func TestNothingIsWrittenToAnEngineThatIsNotWell(t *testing.T) {
	var a *ailing
	n := openWith(t, t.TempDir(), setup{config: func(c *queue.Config) {
		a = &ailing{Engine: c.Engine}
		c.Engine = a
	}})
	n.publish(t, "t", 0)
	a.ill.Store(true)
	if _, err := n.Publish(t.Context(), message("t", 1)); !errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrUnknown) {
		t.Errorf("%v", err)
	}
	a.ill.Store(false)
	until(t, "it to recover", func() bool { return n.Health() == nil })
	n.publish(t, "t", 2)
	if got, want := n.all(t, "t"), append(texts("t", 0, 1), texts("t", 2, 3)...); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What the log refuses is refused for sure, but where a copy of it may say otherwise.
func TestRefusals(t *testing.T) {
	for code, want := range map[int][2]string{ // with one replica, with three
		10002: {"storage_full", "storage_full"}, 10023: {"storage_full", "storage_full"}, 10047: {"storage_full", "storage_full"},
		10077: {"storage_full", "unknown_outcome"}, 10158: {"unknown_outcome", "unknown_outcome"}, 10071: {"wrong_last", "wrong_last"},
		10164: {"wrong_last", "wrong_last"}, 10201: {"conflict", "conflict"}, 10054: {"too_large", "too_large"}, 10008: {"unavailable", "unavailable"},
	} {
		answer := fmt.Appendf(nil, `{"error":{"code":500,"err_code":%d,"description":"no"}}`, code)
		if got := [2]string{queue.Code(queue.Refused(answer, 1)), queue.Code(queue.Refused(answer, 3))}; got != want {
			t.Errorf("%d: %q, want %q", code, got, want)
		}
	}
}
