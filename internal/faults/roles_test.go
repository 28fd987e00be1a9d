package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/queue"
)

var topics = []string{"orders", "chat/1", "chat/2"}

const publishers = 6 // each with one topic

// role is a queue and what its consumers are like.
type role struct {
	config    queue.QueueConfig
	manual    bool
	consumers int
	forgetful bool // some events are neither acknowledged nor given back
}

func (r role) name() string { return r.config.Name + "@" + r.config.Topic }

var roles = []role{
	{config: queue.QueueConfig{Topic: "orders", Name: "ann", From: queue.StartFirst, Receipts: true}, consumers: 2},
	{config: queue.QueueConfig{Topic: "chat/1", Name: "bob", From: queue.StartFirst, Receipts: true, AckTimeout: -1}, manual: true, consumers: 1},
	{config: queue.QueueConfig{Topic: "orders", Name: "work", From: queue.StartFirst, Receipts: true, Shared: true, AckTimeout: -1, MaxDeliveries: 20,
		Backoff: []time.Duration{10 * time.Millisecond}}, consumers: 3},
	{config: queue.QueueConfig{Topic: "chat/1", Name: "lease", From: queue.StartFirst, Receipts: true, Shared: true, AckTimeout: 3 * time.Second, MaxDeliveries: 6,
		Backoff: []time.Duration{0, 20 * time.Millisecond}}, consumers: 2, forgetful: true},
	{config: queue.QueueConfig{Topic: "chat/*", Name: "all", From: queue.StartFirst, Receipts: true}, consumers: 1},
	{config: queue.QueueConfig{Topic: "orders", Name: "some", From: queue.StartFirst, Events: []string{"f"}, AckTimeout: -1}, manual: true, consumers: 1},
	{config: queue.QueueConfig{Topic: "orders", Name: "keys", From: queue.StartFirst, Receipts: true, Shared: true, Ordered: true, AckTimeout: -1, MaxDeliveries: 20,
		Backoff: []time.Duration{time.Millisecond}}, consumers: 3},
}

func digest(name string, args []byte, attachments [][]byte) string {
	h := crc32.NewIEEE()
	fmt.Fprintf(h, "%s%s%q", name, args, attachments)
	return fmt.Sprintf("%08x", h.Sum32())
}

// message returns the nth event of a publisher, which is always the same.
func message(seed uint64, p, n int) queue.Message {
	r := rand.New(rand.NewPCG(seed, uint64(p)<<32|uint64(n)))
	m := queue.Message{Topic: topics[p%len(topics)], Event: "e", ID: fmt.Sprintf("%d/%d", p, n)}
	if n%3 == 0 {
		m.Event = "f"
	}
	if n%2 == 0 {
		m.Key = fmt.Sprint("key ", n%5)
	}
	m.Args = fmt.Appendf(nil, `[%d,%q]`, n, strings.Repeat("x", r.IntN(400)))
	switch c := r.IntN(100); {
	case c == 0 || n == 3: // some in every run
		m.Args = []byte("{}") // no array
	case c < 6:
		m.Delay = time.Duration(1+r.IntN(300)) * time.Millisecond
	case c < 10:
		m.TTL = time.Duration(1+r.IntN(500)) * time.Millisecond
	case c == 10:
		m.Attachments = [][]byte{bytes.Repeat([]byte{byte(n)}, r.IntN(20_000))}
	}
	return m
}

// publish publishes one event after the other, each until its outcome is exact.
func (n *node) publish(p int, at progress) {
	again := at.Open >= 0
	if again {
		at.Next--
	}
	r := rand.New(rand.NewPCG(n.Seed, uint64(n.Number)<<32|uint64(p)))
	for ; again || !n.Drain; at.Next++ {
		m := message(n.Seed, p, at.Next)
		for !n.try(m, r, again) {
			again = true
		}
		again = false
		select {
		case <-n.stop:
			return
		case <-time.After(time.Duration(r.IntN(2000)) * time.Microsecond):
		}
	}
}

// try publishes an event once, and returns true when it is known for sure whether it is stored.
func (n *node) try(m queue.Message, r *rand.Rand, again bool) bool {
	ctx, cancel := context.Background(), func() {}
	if r.IntN(20) == 0 && !n.Drain { // an impatient publisher
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(3000))*time.Microsecond)
	}
	defer cancel()
	e := history.Event{Kind: history.Publish, Topic: m.Topic, ID: m.ID, Name: m.Event, Key: m.Key, TTL: m.TTL,
		Content: digest(m.Event, m.Args, m.Attachments)}
	if m.Delay > 0 {
		e.Wall = time.Now().Add(m.Delay).UnixNano()
	}
	n.Record(e)
	stored, err := n.broker.Publish(ctx, m)
	e.Name, e.Key, e.Content, e.TTL, e.Wall = "", "", "", 0, time.Now().UnixNano()
	e.Kind, e.Offset = history.Stored, stored.Offset
	switch {
	case errors.Is(err, queue.ErrUnknown):
		e.Kind = history.Unknown
	case err != nil:
		e.Kind = history.Rejected
	case stored.Offset == queue.Offset{}:
		e.Kind = history.Later
		n.later.Lock()
		n.Later = append(n.Later, [2]string{m.Topic, m.ID})
		n.later.Unlock()
	}
	n.Record(e)
	if err == nil || e.Kind == history.Rejected && (!again || queue.Code(err) == "invalid_args") {
		return true
	}
	select {
	case <-n.stop:
		return true // the next process goes on
	case <-time.After(time.Millisecond):
		return false
	}
}

// taker is a sink whose deliveries wait for a worker.
type taker struct {
	*node
	role     role
	name     string
	todo     chan queue.Delivery
	refusing atomic.Bool
}

func (t *taker) event(kind history.Kind) history.Event {
	return history.Event{Kind: kind, Queue: t.role.name(), Consumer: t.name}
}

func (t *taker) Deliver(d queue.Delivery) bool {
	if len(t.todo) == cap(t.todo) {
		t.refusing.Store(true)
		if len(t.todo) == cap(t.todo) { // else the worker may have looked at refusing already
			return false
		}
	}
	e := t.event(history.Deliver)
	e.Topic, e.ID, e.Content, e.Offset, e.Attempt = d.Topic, d.ID, digest(d.Name, d.Args, d.Attachments), d.Offset, d.Attempt
	e.Wall = time.Now().UnixNano()
	t.Record(e)
	t.todo <- d
	return true
}

func (t *taker) Gap(g queue.Gap) {
	e := t.event(history.Told)
	e.Gap = &g
	t.Record(e)
}

func (t *taker) Flush() {}

// consume attaches one consumer after the other.
func (n *node) consume(role role, q *queue.Queue, number int) {
	r := rand.New(rand.NewPCG(n.Seed, uint64(n.Number)<<32|1<<31|uint64(number)))
	for i := 0; ; i++ {
		t := &taker{node: n, role: role, name: fmt.Sprintf("%s-%d-%d-%d", role.config.Name, number, n.Number, i), todo: make(chan queue.Delivery, 32)}
		e := t.event(history.Attach)
		e.Through = !role.config.Shared && !role.manual
		n.Record(e)
		c, err := q.Attach(queue.ConsumerConfig{Sink: t, Name: t.name, Manual: role.manual, Prefetch: cap(t.todo)})
		if err != nil {
			panic(err) // nothing closes the broker meanwhile
		}
		again := t.work(q, c, r)
		n.Record(t.event(history.Detach))
		c.Close()
		if !again {
			return
		}
	}
}

// work settles what comes, in one way or the other, and returns true to be attached anew.
func (t *taker) work(q *queue.Queue, c *queue.Consumer, r *rand.Rand) bool {
	for {
		var d queue.Delivery
		select {
		case <-t.stop:
			return false
		case d = <-t.todo:
		}
		if t.refusing.Swap(false) {
			c.Resume()
		}
		through := !t.role.config.Shared && !t.role.manual
		what := r.IntN(1000)
		if t.Drain {
			what = 999
		}
		switch {
		case what < 2:
			return true
		case what < 5:
			if q.Resume(context.Background()) == nil { // which stores the queue
				t.Record(t.event(history.Saved))
			}
			t.ack(d, through)
		case through && what < 800 && !t.Drain: // acknowledged with one that comes later
		case through:
			t.ack(d, through)
		case what < 100:
			e := t.event(history.GiveUp)
			e.Offset, e.Attempt, e.Reject = d.Offset, d.Attempt, what < 20
			t.Record(e)
			if e.Reject {
				d.Reject("as it was told")
			} else {
				d.Retry(time.Duration(r.IntN(30)-1) * time.Millisecond)
			}
		case what < 110 && t.role.forgetful:
		default:
			t.ack(d, through)
		}
	}
}

func (t *taker) ack(d queue.Delivery, through bool) {
	e := t.event(history.Acking)
	e.Offset, e.Attempt, e.Through = d.Offset, d.Attempt, through
	t.Record(e)
	e.Kind = history.Acked
	if d.Ack() != nil {
		e.Kind = history.Refused
	}
	e.Wall = time.Now().UnixNano()
	t.Record(e)
}
