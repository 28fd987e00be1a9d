package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

// Subscription says what a socket subscribes to.
type Subscription struct {
	Topic    string      `json:"topic"`
	From     queue.Start `json:"from,omitempty"`     // where a queue made now begins; zero: with the next event
	Manual   bool        `json:"manual,omitempty"`   // each event is acknowledged by the client, instead of what it has received
	Prefetch int         `json:"prefetch,omitempty"` // manual: events that may be unacknowledged at a time; 0 means the default of package queue
	Meta     bool        `json:"meta,omitempty"`     // put {topic, queue, offset, id, attempt, publishedAt} before the last argument
}

// Subscribed is the state of a queue at the moment of the subscription.
type Subscribed struct {
	Topic  string `json:"topic"`
	Queue  string `json:"queue"`
	Offset string `json:"offset"` // the queue has been read up to here
	Unread int    `json:"unread"` // events after it, counted up to 10,000
}

// subscriptions are those of one socket, by topic.
type subscriptions struct {
	mu      sync.Mutex
	closed  bool
	byTopic map[string]*subscription
}

// subscription is the sink of one consumer.
type subscription struct {
	// Static after construction.
	delivery *Delivery
	socket   *holdpost.Socket
	spec     Subscription
	queue    *queue.Queue

	consumer atomic.Pointer[queue.Consumer] // nil until Attach has returned it

	mu         sync.Mutex   // guards the fields below
	sent       queue.Offset // automatic: the last event handed to the socket
	confirming bool         // automatic: a heartbeat is on its way that proves what was sent
}

// Subscribe subscribes a socket to a topic: to the personal queue of its identity, which goes on where it stood, or
// without an identity to a queue that lives as long as the socket. A second subscription to a topic replaces the first,
// unless it is the same.
// The errors are those of package queue, and an [holdpost.Error] with code too_many.
func (d *Delivery) Subscribe(ctx context.Context, s *holdpost.Socket, spec Subscription) (Subscribed, error) {
	name := d.config.Identity(s)
	ephemeral := name == ""
	if ephemeral {
		name = "socket/" + s.ID()
	}
	all := d.socketSubscriptions(s)
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.closed {
		return Subscribed{}, &holdpost.DisconnectError{Reason: holdpost.ReasonTransportClose}
	}
	if old := all.byTopic[spec.Topic]; old != nil {
		if old.same(spec) {
			return old.state(ctx)
		}
		old.close()
		delete(all.byTopic, spec.Topic)
	} else if len(all.byTopic) >= d.config.MaxSubscriptions {
		return Subscribed{}, &holdpost.Error{Code: "too_many", Message: fmt.Sprintf("a socket may have %d subscriptions", d.config.MaxSubscriptions)}
	}
	q, err := d.config.Broker.Queue(ctx, queue.QueueConfig{Topic: spec.Topic, Name: name, From: spec.From, Ephemeral: ephemeral})
	if err != nil {
		return Subscribed{}, fmt.Errorf("subscribe %q: %w", spec.Topic, err)
	}
	if !spec.Manual {
		if err := q.Seen(ctx, seenOffset(s)); err != nil {
			return Subscribed{}, fmt.Errorf("subscribe %q: %w", spec.Topic, err)
		}
	}
	sub := &subscription{delivery: d, socket: s, spec: spec, queue: q}
	consumer, err := q.Attach(queue.ConsumerConfig{Manual: spec.Manual, Prefetch: spec.Prefetch, Sink: sub})
	if err != nil {
		return Subscribed{}, fmt.Errorf("subscribe %q: %w", spec.Topic, err)
	}
	result, err := sub.state(ctx)
	if err != nil {
		consumer.Close()
		return Subscribed{}, err
	}
	all.byTopic[spec.Topic] = sub
	d.remember(s, all)
	sub.consumer.Store(consumer)
	consumer.Resume() // whatever was offered before was refused
	return result, nil
}

// same tells whether a subscription would be like this one: clients subscribe again when they come back.
func (u *subscription) same(spec Subscription) bool {
	spec.From = u.spec.From // says only where a new queue begins
	return spec == u.spec
}

func (u *subscription) state(ctx context.Context) (Subscribed, error) {
	unread, err := u.queue.Unread(ctx)
	if err != nil {
		return Subscribed{}, fmt.Errorf("subscribe %q: %w", u.spec.Topic, err)
	}
	return Subscribed{Topic: u.spec.Topic, Queue: u.queue.Name(), Offset: u.queue.Cursor().String(), Unread: unread}, nil
}

// Unsubscribe ends a socket's subscription to a topic and deletes its queue: nothing is held for it any more. Without a
// subscription it does nothing.
func (d *Delivery) Unsubscribe(ctx context.Context, s *holdpost.Socket, topic string) error {
	all := d.socketSubscriptions(s)
	all.mu.Lock()
	sub := all.byTopic[topic]
	delete(all.byTopic, topic)
	if sub != nil {
		d.remember(s, all)
	}
	all.mu.Unlock()
	if sub == nil {
		return nil
	}
	sub.close()
	return sub.queue.Delete(ctx)
}

// remember has the subscriptions recovered with the socket. all.mu is held.
func (d *Delivery) remember(s *holdpost.Socket, all *subscriptions) {
	specs := make([]Subscription, 0, len(all.byTopic))
	for _, sub := range all.byTopic {
		specs = append(specs, sub.spec)
	}
	d.recoverable.Set(s, specs)
}

// reattach subscribes a recovered socket to what it was subscribed to.
func (d *Delivery) reattach(ctx context.Context, s *holdpost.Socket) error {
	if !s.Recovered() {
		return nil
	}
	specs, _ := d.recoverable.Get(s)
	for _, spec := range specs {
		if _, err := d.Subscribe(ctx, s, spec); err != nil {
			return err
		}
	}
	return nil
}

// seenOffset returns the offset that a client brought along: that of the last event which it saw.
func seenOffset(s *holdpost.Socket) queue.Offset {
	var auth struct {
		Offset string `json:"offset"`
	}
	if json.Unmarshal(s.Handshake().Auth, &auth) != nil {
		return queue.Offset{}
	}
	o, err := queue.ParseOffset(auth.Offset)
	if err != nil { // the client takes any event's last string for an offset
		return queue.Offset{}
	}
	return o
}

func (d *Delivery) socketSubscriptions(s *holdpost.Socket) *subscriptions {
	return d.subscriptions.LoadOrSet(s, func() *subscriptions { return &subscriptions{byTopic: make(map[string]*subscription)} })
}

// detach ends the subscriptions of a socket that is gone. What it has not acknowledged goes to its queue's next consumer.
func (d *Delivery) detach(s *holdpost.Socket) {
	all, ok := d.subscriptions.Get(s)
	if !ok {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.closed = true
	for _, sub := range all.byTopic {
		sub.close()
	}
	clear(all.byTopic)
}

func (u *subscription) close() {
	if c := u.consumer.Load(); c != nil {
		c.Close()
	}
}

// Deliver hands one event to the socket, unless enough is waiting for it already.
func (u *subscription) Deliver(d queue.Delivery) bool {
	consumer := u.consumer.Load()
	if consumer == nil {
		return false
	}
	if u.socket.Queued() >= u.delivery.config.Window {
		u.socket.NotifyDrained(consumer.Resume)
		return false
	}
	p, err := u.prepare(d)
	if err != nil {
		u.delivery.config.Logger.Error("stored event can't be sent", "topic", d.Topic, "offset", d.Offset.String(), "error", err)
		u.giveUp(consumer, d, err)
		return true
	}
	if u.spec.Manual {
		err = u.socket.DeliverWithAck(p, false, func(args holdpost.Args, err error) { u.acked(consumer, d, args, err) })
		return err == nil
	}
	if u.socket.Deliver(p, false) != nil {
		return false // the socket is gone, and its consumer about to be closed
	}
	u.mu.Lock()
	u.sent = d.Offset
	u.mu.Unlock()
	return true
}

// Flush writes what a batch of deliveries queued and asks for the proof that it arrived.
func (u *subscription) Flush() {
	u.socket.Flush()
	if !u.spec.Manual {
		u.confirm()
	}
}

// Gap tells the client that events are gone.
func (u *subscription) Gap(g queue.Gap) {
	u.socket.Emit(context.Background(), "gap", map[string]any{ // fails only when the socket is gone
		"topic": u.spec.Topic, "queue": u.queue.Name(), "from": g.From.String(), "to": g.To.String(),
	})
}

// confirm acknowledges what was sent once the client answers a heartbeat that went out behind it.
func (u *subscription) confirm() {
	u.mu.Lock()
	upto := u.sent
	if u.confirming || upto == (queue.Offset{}) {
		u.mu.Unlock()
		return
	}
	u.confirming = true
	u.mu.Unlock()
	u.socket.Confirm(func(received bool) {
		u.mu.Lock()
		u.confirming = false
		more := u.sent != upto
		u.mu.Unlock()
		if !received {
			return
		}
		u.consumer.Load().AckThrough(upto)
		if more {
			u.confirm()
		}
	})
}

// acked takes a client's answer: nothing, {"retry": "5s"} or {"reject": "why"}.
func (u *subscription) acked(consumer *queue.Consumer, d queue.Delivery, args holdpost.Args, err error) {
	if err != nil { // it left without an answer: the next consumer gets the event
		return
	}
	var answer struct {
		Retry  *string `json:"retry"`
		Reject *string `json:"reject"`
	}
	if args.Len() > 0 && args.Decode(&answer) != nil {
		answer.Retry, answer.Reject = nil, nil // any other answer acknowledges, as any answer does in Socket.IO
	}
	switch {
	case answer.Reject != nil:
		d.Reject(*answer.Reject)
	case answer.Retry != nil:
		after, err := time.ParseDuration(*answer.Retry)
		if err != nil || after < 0 {
			after = time.Second
		}
		d.Retry(after)
	default:
		d.Ack()
	}
}

// giveUp moves on behind an event that can't be encoded.
func (u *subscription) giveUp(consumer *queue.Consumer, d queue.Delivery, err error) {
	if u.spec.Manual {
		d.Reject(err.Error())
		return
	}
	u.Gap(queue.Gap{From: d.Offset, To: d.Offset})
}

func (u *subscription) prepare(d queue.Delivery) (*holdpost.Prepared, error) {
	if !u.spec.Meta {
		return u.delivery.prepare(d.Event, !u.spec.Manual)
	}
	args, err := eventArgs(d.Event)
	if err != nil {
		return nil, err
	}
	values := []any{args, meta{
		Topic: d.Topic, Queue: u.queue.Name(), Offset: d.Offset.String(), ID: d.ID, Attempt: d.Attempt, PublishedAt: d.Time.UTC(),
	}}
	if !u.spec.Manual {
		values = append(values, d.Offset.String())
	}
	return holdpost.Prepare(d.Name, values...)
}

type meta struct {
	Topic       string    `json:"topic"`
	Queue       string    `json:"queue"`
	Offset      string    `json:"offset"`
	ID          string    `json:"id"`
	Attempt     int       `json:"attempt"`
	PublishedAt time.Time `json:"publishedAt"`
}
