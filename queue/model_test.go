package queue_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdpost/holdpost/queue"
)

// modelEvent is what the model knows of a stored event.
type modelEvent struct {
	id, args string
	offset   queue.Offset
}

// model is a broker as simple as it can be: a list for each topic, and for each of two queues what is not acknowledged.
type model struct {
	dir    string
	node   *node
	number int // of events

	topics map[string][]modelEvent

	read     int                       // personal queue: events of the first topic that are acknowledged
	held     map[string]bool           // shared queue: offsets of the second topic that are not settled
	inFlight map[string]queue.Delivery // of those, who has been handed out
	attempts map[string]int            // the least that the next delivery says
	dead     int
}

var modelTopics = []string{"orders", "jobs", "other"}

const modelWait = 10 * time.Second

func (m *model) open(t *rapid.T) {
	var err error
	if m.node, err = start(m.dir, setup{}); err != nil {
		t.Fatal(err)
	}
}

func (m *model) personal(t *rapid.T) *queue.Queue {
	return m.queue(t, queue.QueueConfig{Topic: modelTopics[0], Name: "ann", From: queue.StartFirst})
}

func (m *model) shared(t *rapid.T) *queue.Queue {
	return m.queue(t, queue.QueueConfig{Topic: modelTopics[1], Name: "workers", From: queue.StartFirst, Shared: true, AckTimeout: -1, MaxDeliveries: -1})
}

func (m *model) queue(t *rapid.T, c queue.QueueConfig) *queue.Queue {
	q, err := m.node.Queue(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (m *model) stored(topic string, p queue.Published, e queue.Message) {
	m.topics[topic] = append(m.topics[topic], modelEvent{id: p.ID, args: string(e.Args), offset: p.Offset})
	if topic == modelTopics[1] {
		m.held[p.Offset.String()] = true
	}
}

func (m *model) message(topic string) queue.Message {
	m.number++
	return queue.Message{Topic: topic, Event: "e", ID: fmt.Sprint(m.number), Args: fmt.Appendf(nil, "[%d]", m.number)}
}

func (m *model) last(topic string) queue.Offset {
	if all := m.topics[topic]; len(all) > 0 {
		return all[len(all)-1].offset
	}
	return queue.Offset{}
}

// publish stores an event, perhaps only if the last one is as expected.
func (m *model) publish(t *rapid.T) {
	e := m.message(rapid.SampledFrom(modelTopics).Draw(t, "topic"))
	refused := false
	switch last := m.last(e.Topic); rapid.IntRange(0, 5).Draw(t, "expect") {
	case 0:
		e.ExpectLast = &last
	case 1:
		wrong := queue.Offset{Epoch: m.node.engine.Epoch(), Seq: last.Seq + 1}
		e.ExpectLast, refused = &wrong, true
	}
	p, err := m.node.Publish(t.Context(), e)
	if refused {
		if queue.Code(err) != "wrong_last" {
			t.Fatalf("expected another last event: %+v, %v", p, err)
		}
		return
	}
	if err != nil || p.Duplicate || p.ID != e.ID || p.Offset.Seq <= m.last(e.Topic).Seq {
		t.Fatalf("%+v, %v", p, err)
	}
	m.stored(e.Topic, p, e)
}

// repeat publishes an id again, with the same content or with another one.
func (m *model) repeat(t *rapid.T) {
	topic := rapid.SampledFrom(modelTopics).Draw(t, "topic")
	if len(m.topics[topic]) == 0 {
		t.Skip("nothing to repeat")
	}
	was := rapid.SampledFrom(m.topics[topic]).Draw(t, "event")
	e := queue.Message{Topic: topic, Event: "e", ID: was.id, Args: []byte(was.args)}
	if rapid.Bool().Draw(t, "same") {
		if p, err := m.node.Publish(t.Context(), e); err != nil || !p.Duplicate || p.Offset != was.offset {
			t.Fatalf("%+v again: %+v, %v", was, p, err)
		}
		return
	}
	e.Args = []byte(`["other"]`)
	if p, err := m.node.Publish(t.Context(), e); queue.Code(err) != "conflict" {
		t.Fatalf("%+v otherwise: %+v, %v", was, p, err)
	}
}

func (m *model) batch(t *rapid.T) {
	var batch []queue.Message
	for range rapid.IntRange(1, 5).Draw(t, "events") {
		batch = append(batch, m.message(rapid.SampledFrom(modelTopics).Draw(t, "topic")))
	}
	ps, err := m.node.PublishBatch(t.Context(), batch)
	if err != nil || len(ps) != len(batch) {
		t.Fatalf("%d of %d, %v", len(ps), len(batch), err)
	}
	for i, p := range ps {
		m.stored(batch[i].Topic, p, batch[i])
	}
}

// history reads a page, in either direction.
func (m *model) history(t *rapid.T) {
	topic := rapid.SampledFrom(modelTopics).Draw(t, "topic")
	all := m.topics[topic]
	from := rapid.IntRange(0, len(all)).Draw(t, "from")
	limit := rapid.IntRange(1, 10).Draw(t, "limit")
	where := queue.StartFirst
	if from > 0 {
		where = all[from-1].offset.After()
	}
	want := all[from:min(from+limit, len(all))]
	if back := from > 0 && rapid.Bool().Draw(t, "back"); back {
		limit, want = -limit, all[max(0, from-limit):from]
	}
	p, err := m.node.History(t.Context(), topic, where, limit)
	if err != nil || p.Gap != nil {
		t.Fatalf("%+v, %v", p.Gap, err)
	}
	same := slices.EqualFunc(p.Events, want, func(e *queue.Event, x modelEvent) bool {
		return e.ID == x.id && string(e.Args) == x.args && e.Offset == x.offset
	})
	if !same {
		t.Fatalf("%d events of %q from %d on, %d at most: not those %d", len(p.Events), topic, from, limit, len(want))
	}
}

// consume has the personal queue hand out all that is not acknowledged, and acknowledges some of it.
func (m *model) consume(t *rapid.T) {
	q := m.personal(t)
	all := m.topics[modelTopics[0]]
	if unread, err := q.Unread(t.Context()); err != nil || unread != len(all)-m.read {
		t.Fatalf("%d unread, want %d; %v", unread, len(all)-m.read, err)
	}
	r := &recorder{}
	c, err := q.Attach(queue.ConsumerConfig{Sink: r})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := all[m.read:]
	for deadline := time.Now().Add(modelWait); len(r.deliveries()) < len(want); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d deliveries of %d", len(r.deliveries()), len(want))
		}
	}
	for i, d := range r.deliveries() {
		if i >= len(want) || d.Offset != want[i].offset || string(d.Args) != want[i].args {
			t.Fatalf("delivery %d is %s at %s", i, d.Args, d.Offset)
		}
	}
	if n := rapid.IntRange(0, len(want)).Draw(t, "acknowledged"); n > 0 {
		c.AckThrough(want[n-1].offset)
		m.read += n
	}
}

// pull takes events of the shared queue: those that are held and in nobody's hands, the oldest first.
func (m *model) pull(t *rapid.T) {
	q := m.shared(t)
	if unread, err := q.Unread(t.Context()); err != nil || unread != len(m.held) {
		t.Fatalf("%d unread, want %d; %v", unread, len(m.held), err)
	}
	var want []queue.Offset
	for _, x := range m.topics[modelTopics[1]] {
		if _, flying := m.inFlight[x.offset.String()]; m.held[x.offset.String()] && !flying {
			want = append(want, x.offset)
		}
	}
	most, wait := rapid.IntRange(1, 6).Draw(t, "most"), modelWait
	if len(want) == 0 {
		wait = time.Millisecond
	}
	got, err := q.Pull(t.Context(), most, wait)
	if err != nil || len(got) > min(most, len(want)) || len(want) > 0 && len(got) == 0 {
		t.Fatalf("%d of %d, %d at most; %v", len(got), len(want), most, err)
	}
	for i, d := range got {
		if d.Offset != want[i] || d.Attempt < m.attempts[d.Offset.String()] {
			t.Fatalf("got %s (attempt %d), want %s (attempt %d or more)", d.Offset, d.Attempt, want[i], m.attempts[d.Offset.String()])
		}
		m.inFlight[d.Offset.String()] = d
		m.attempts[d.Offset.String()] = d.Attempt + 1
	}
}

// settle ends what was pulled, in one way or the other.
func (m *model) settle(t *rapid.T) {
	if len(m.inFlight) == 0 {
		t.Skip("nothing is in flight")
	}
	key := rapid.SampledFrom(slices.Sorted(maps.Keys(m.inFlight))).Draw(t, "event")
	d := m.inFlight[key]
	delete(m.inFlight, key)
	var err error
	switch rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		err = d.Retry(0)
	case 1:
		err = d.Reject("no")
		delete(m.held, key)
		m.dead++
	default:
		err = d.Ack()
		delete(m.held, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(); queue.Code(err) != "not_in_flight" {
		t.Fatalf("settled twice: %v", err)
	}
	m.buried(t)
}

// buried waits until all dead letters are there.
func (m *model) buried(t *rapid.T) {
	q := m.shared(t)
	for deadline := time.Now().Add(modelWait); ; <-time.After(time.Millisecond) {
		i, err := q.Info(t.Context())
		if err == nil && i.Dead == m.dead && i.Unread == len(m.held) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %d dead letters; %v", i, m.dead, err)
		}
	}
}

// reopen closes the store and opens it again: what was in somebody's hands is not any more, and how often that was is forgotten if
// nothing else had the queue stored meanwhile.
func (m *model) reopen(t *rapid.T) {
	m.node.stop()
	m.open(t)
	clear(m.inFlight)
	clear(m.attempts)
}

// TestModel holds a broker against a model, over random calls.
func TestModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // a store is not opened a hundred times in a test
		f.Value.Set("10")
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "holdpost-model-")
		if err != nil {
			t.Fatal(err)
		}
		m := &model{dir: dir, topics: map[string][]modelEvent{},
			held: map[string]bool{}, inFlight: map[string]queue.Delivery{}, attempts: map[string]int{}}
		m.open(t)
		defer func() {
			m.node.stop()
			os.RemoveAll(dir)
		}()
		t.Repeat(map[string]func(*rapid.T){
			"publish": m.publish, "repeat": m.repeat, "batch": m.batch, "history": m.history,
			"consume": m.consume, "pull": m.pull, "settle": m.settle, "reopen": m.reopen,
		})
	})
}
