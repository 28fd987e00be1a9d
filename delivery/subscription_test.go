package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/queue"
)

type subscribed struct {
	Topic, Queue, Offset string
	Unread               int
}

func TestWhatIsMissedIsHeld(t *testing.T) {
	for _, recovery := range []bool{false, true} {
		t.Run(fmt.Sprintf("recovery_%v", recovery), func(t *testing.T) {
			p := newPost(t, recovery, nil)
			ann, bob := p.guest("ann"), p.guest("bob")
			var s subscribed
			ann.ok(&s, "subscribe", "orders")
			if s.Topic != "orders" || s.Queue != "ann" || s.Unread != 0 {
				t.Errorf("subscribed %+v", s)
			}
			bob.publish("orders", 0)
			ann.want("live", "e 0")
			ann.heartbeat()
			ann.Close()
			for i := 1; i <= 3; i++ {
				bob.publish("orders", i)
			}
			p.restart()
			ann.pid, ann.offset = "", "" // the page was loaded again
			ann.connect()
			ann.ok(&s, "subscribe", "orders")
			if s.Unread != 3 {
				t.Errorf("subscribed %+v", s)
			}
			ann.want("missed", "e 1", "e 2", "e 3")
			ann.publish("orders", 4)
			ann.want("live", "e 4")
		})
	}
}

// The offset that a client brings back acknowledges what no heartbeat has: and only in its own topic.
func TestOffsetAcknowledges(t *testing.T) {
	p := newPost(t, true, nil)
	ann := p.guest("ann")
	ann.ok(nil, "subscribe", "a")
	ann.ok(nil, "subscribe", "b")
	ann.publish("a", 0)
	ann.want("a", "e 0")
	ann.publish("b", 1)
	ann.want("b", "e 1")
	ann.Close()
	p.restart()
	ann.connect()
	var a, b subscribed
	ann.ok(&b, "subscribe", "b")
	ann.ok(&a, "subscribe", "a")
	if b.Unread != 0 {
		t.Errorf("b, whose event was seen: %+v", b)
	}
	if a.Unread > 1 {
		t.Errorf("a: %+v", a)
	}
}

func TestManualAcknowledgement(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	manual := map[string]any{"topic": "jobs", "ack": "manual", "prefetch": 2}
	ann.ok(nil, "subscribe", manual)
	for i := range 4 {
		ann.publish("jobs", i)
	}
	es := ann.want("not more than prefetched", "e 0", "e 1")
	ann.Send("43" + es[0].ack + "[]")
	es = append(es, ann.want("the next one", "e 2")...)
	ann.Send("43" + es[1].ack + `[{"reject":"broken"}]`)
	es = append(es, ann.want("the one after the rejected one", "e 3")...)
	ann.Send("43" + es[2].ack + `[{"retry":"0s"}]`)
	again := ann.want("again at once", "e 2")
	ann.Send("43" + again[0].ack + "[]")
	ann.publish("jobs", 4)
	ann.want("the last one", "e 4")
	ann.Close() // with 3 and 4 in flight
	ann.connect()
	ann.ok(nil, "subscribe", manual)
	ann.want("unacknowledged", "e 3", "e 4")

	bob := p.guest("bob")
	bob.ok(nil, "subscribe", map[string]any{"topic": "dead/ann", "from": "first"})
	for len(bob.events) == 0 {
		bob.take()
	}
	var why struct {
		Reason, Topic, Queue, Offset string
		Attempts                     int
	}
	dead := bob.events[0]
	if len(dead.args) != 3 || string(dead.args[0]) != "1" || json.Unmarshal(dead.args[1], &why) != nil ||
		why.Reason != "broken" || why.Topic != "jobs" || why.Queue != "ann" || why.Offset == "" || why.Attempts != 1 {
		t.Errorf("dead letter %v", dead)
	}
}

func TestMeta(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	ann.ok(nil, "subscribe", map[string]any{"topic": "orders", "meta": true})
	ann.ok(nil, "publish", map[string]any{"topic": "orders", "id": "o-1"}, "created", 1)
	for len(ann.events) == 0 {
		ann.take()
	}
	e := ann.events[0]
	var meta struct {
		Topic, Queue, Offset, ID, PublishedAt string
		Attempt                               int
	}
	if len(e.args) != 3 || json.Unmarshal(e.args[1], &meta) != nil {
		t.Fatalf("got %v", e)
	}
	if meta.Topic != "orders" || meta.Queue != "ann" || `"`+meta.Offset+`"` != string(e.args[2]) || meta.ID != "o-1" || meta.Attempt != 1 || meta.PublishedAt == "" {
		t.Errorf("meta %+v, offset %s", meta, e.args[2])
	}
}

func TestUnsubscribedHoldsNothing(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	ann.ok(nil, "subscribe", "orders")
	ann.ok(nil, "unsubscribe", "orders")
	ann.publish("orders", 0)
	var s subscribed
	ann.ok(&s, "subscribe", "orders")
	if s.Unread != 0 {
		t.Errorf("subscribed %+v", s)
	}
	ann.publish("orders", 1)
	ann.want("from now on", "e 1")
}

func TestWithoutIdentityAQueueLivesAsLongAsTheSocket(t *testing.T) {
	p := newPost(t, false, nil)
	anon := p.guest("")
	anon.ok(nil, "subscribe", "orders")
	anon.publish("orders", 0)
	anon.want("live", "e 0")
	anon.Close()
	anon.connect()
	anon.publish("orders", 1)
	var s subscribed
	anon.ok(&s, "subscribe", "orders")
	if s.Unread != 0 {
		t.Errorf("subscribed %+v", s)
	}
}

// A client that does not read is sent a window, and the rest when it reads; others are not delayed.
func TestSlowClient(t *testing.T) {
	const events = 2000
	p := newPost(t, false, func(c *delivery.Config) { c.Window = 1000 })
	slow, bob := p.guest("slow"), p.guest("bob")
	slow.ok(nil, "subscribe", "t")
	bob.ok(nil, "subscribe", "t")
	for i := range events {
		bob.publish("t", i) // its own events come in between
	}
	for i := range events {
		bob.want("to the fast one", fmt.Sprint("e ", i))
	}
	for i := range events {
		slow.want("to the slow one", fmt.Sprint("e ", i))
	}
}

// The events of a shared queue are divided among those who work on it; what one leaves undone another does.
func TestSharedQueue(t *testing.T) {
	p := newPost(t, false, nil)
	ann, bob, boss := p.guest("ann"), p.guest("bob"), p.guest("boss")
	jobs := map[string]any{"topic": "jobs", "queue": "workers", "ack": "manual", "prefetch": 1}
	var s subscribed
	ann.ok(&s, "subscribe", jobs)
	if s.Queue != "workers" {
		t.Errorf("subscribed %+v", s)
	}
	bob.ok(nil, "subscribe", jobs)
	for i := range 4 {
		boss.publish("jobs", i)
	}
	first := func(g *guest) event {
		for len(g.events) == 0 {
			g.take()
		}
		e := g.events[0]
		g.events = g.events[1:]
		return e
	}
	a, b := first(ann), first(bob)
	if a.String() == b.String() {
		t.Fatalf("both got %v", a)
	}
	ann.Close() // with its job undone
	bob.Send("43" + b.ack + "[]")
	done := map[string]bool{b.String(): true}
	for len(done) < 4 {
		e := first(bob)
		done[e.String()] = true
		bob.Send("43" + e.ack + "[]")
	}
	bob.ok(nil, "unsubscribe", map[string]any{"topic": "jobs", "queue": "workers"})
	boss.publish("jobs", 4)
	ann.connect()
	ann.ok(&s, "subscribe", jobs)
	if s.Unread != 1 {
		t.Errorf("the queue went with its last worker: %+v", s)
	}
	ann.want("left for later", "e 4")
}

// Before a server ends it hands out nothing more: no job is given to a worker that is about to go.
func TestHeldQueuesHandOutNothing(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	jobs := map[string]any{"topic": "jobs", "queue": "workers", "ack": "manual"}
	ann.ok(nil, "subscribe", jobs)
	ann.ok(nil, "subscribe", "news")
	p.delivery.Hold()
	ann.publish("jobs", 1)
	ann.publish("news", 2)
	p.restart()
	if len(ann.events) > 0 {
		t.Errorf("handed out: %v", ann.events)
	}
	ann.connect()
	ann.ok(nil, "subscribe", jobs)
	for len(ann.events) == 0 {
		ann.take()
	}
	if e := ann.events[0]; e.String() != "e 1" {
		t.Errorf("the next server hands out %v", e)
	}
}

func TestExclusiveConsumer(t *testing.T) {
	p := newPost(t, false, nil)
	ann, bob := p.guest("ann"), p.guest("bob")
	jobs := map[string]any{"topic": "jobs", "queue": "workers", "exclusive": true}
	ann.ok(nil, "subscribe", jobs)
	bob.ok(nil, "subscribe", jobs)
	ann.want("told", `unsubscribed {"queue":"workers","reason":"taken_over","topic":"jobs"}`)
	ann.refused("queue_exclusive", "subscribe", map[string]any{"topic": "jobs", "queue": "workers"})
	bob.publish("jobs", 0)
	bob.want("to the one that has it", "e 0")
}

// Two that take the same queues over from each other again and again are both answered.
func TestTakeOverByTurns(t *testing.T) {
	p := newPost(t, false, nil)
	var both sync.WaitGroup
	for _, name := range []string{"ann", "bob"} {
		g := p.guest(name)
		both.Go(func() {
			for i := range 100 {
				for _, topic := range []string{"a", "b"} {
					g.ok(nil, "subscribe", map[string]any{"topic": topic, "queue": "workers", "exclusive": true, "prefetch": 1 + i%2})
				}
			}
		})
	}
	both.Wait()
}

// What a client has asked for on a connection that it has given up takes nothing over from the next one.
func TestTheGoneTakeNothingOver(t *testing.T) {
	asked, answer, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var slow atomic.Bool
	p := newPost(t, true, func(c *delivery.Config) {
		c.Permit = func(context.Context, *holdpost.Socket, string, string) error {
			if slow.CompareAndSwap(true, false) {
				close(asked)
				<-answer
			}
			return nil
		}
	})
	p.srv.Of("/").OnDisconnect(func(*holdpost.Socket, holdpost.Reason) { close(gone) }) // behind what it has asked for
	orders := map[string]any{"topic": "orders", "exclusive": true}
	ann, bob := p.guest("ann"), p.guest("bob")
	ann.ok(nil, "subscribe", orders)
	slow.Store(true)
	orders["prefetch"] = 10
	b, _ := json.Marshal(orders)
	ann.Send(`4299["subscribe",` + string(b) + `]`)
	<-asked
	if !ann.connect() { // on another connection, while the first one stands
		t.Fatal("not recovered")
	}
	ann.ok(nil, "subscribe", orders)
	close(answer)
	<-gone
	bob.publish("orders", 1)
	ann.want("to who is there", "e 1")
}

func TestSubscriptionToAPattern(t *testing.T) {
	p := newPost(t, false, nil)
	ann := p.guest("ann")
	ann.ok(nil, "subscribe", map[string]any{"topic": "chat/*", "events": []string{"e"}})
	ann.publish("chat/1", 0)
	ann.publish("news/1", 1)
	ann.ok(nil, "publish", "chat/1", "typing", 2)
	ann.publish("chat/2", 3)
	ann.want("what matches", "e 0", "e 3")
}

// A socket without an identity keeps its queue through a recovery, and loses it when it leaves.
func TestSubscriptionWithoutIdentityIsRecovered(t *testing.T) {
	p := newPost(t, true, nil)
	anon, bob := p.guest(""), p.guest("bob")
	anon.ok(nil, "subscribe", "t")
	bob.publish("t", 0)
	anon.want("live", "e 0")
	anon.Close()
	bob.publish("t", 1)
	p.restart()
	bob.connect()
	bob.publish("t", 2)
	if !anon.connect() {
		t.Fatal("not recovered")
	}
	anon.want("missed", "e 1", "e 2")
	held := func() bool {
		_, err := p.store.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "socket/" + anon.sid, MustExist: true})
		if err != nil && !errors.Is(err, queue.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	if !held() {
		t.Error("there is no queue to come back to")
	}
	anon.Send("41")
	for deadline := time.Now().Add(10 * time.Second); held(); {
		if time.Now().After(deadline) {
			t.Fatal("the queue outlives its socket")
		}
	}
}
