package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

const (
	// inboxPrefix begins the topics of what is published to a person.
	inboxPrefix = "inbox/"

	// socketQueue begins the names of the queues of sockets without an identity, deviceQueue of those of one device. No identity may
	// begin like that.
	socketQueue = "socket/"
	deviceQueue = "device/"

	// socketExpiry is how long such a queue waits for its socket to be recovered, should the server end without a word.
	socketExpiry = time.Hour
	deleteTime   = 10 * time.Second
)

// Subscription says what a socket subscribes to.
type Subscription struct {
	Topic string `json:"topic"` // or a pattern: * stands for any characters but /, ** for any characters
	// Queue is the shared queue to work on. "" is the personal queue of the socket's identity.
	Queue      string        `json:"queue,omitempty"`
	From       queue.Start   `json:"from,omitempty"`       // where a queue made now begins; zero: with the next event
	Events     []string      `json:"events,omitempty"`     // only events with these names; none: all
	Manual     bool          `json:"manual,omitempty"`     // each event is acknowledged by the client, instead of what it has received
	Prefetch   int           `json:"prefetch,omitempty"`   // events that may be unacknowledged at a time; 0 means the default of package queue
	AckTimeout time.Duration `json:"ackTimeout,omitempty"` // of the queue, after which an unacknowledged event is handed out again; 0: as it is
	Exclusive  bool          `json:"exclusive,omitempty"`  // take the queue over: its other consumers are closed
	Meta       bool          `json:"meta,omitempty"`       // put {topic, queue, offset, id, attempt, publishedAt, traceparent} before the last argument
}

// Subscribed is the state of a queue at the moment of the subscription.
type Subscribed struct {
	Topic  string `json:"topic"`
	Queue  string `json:"queue"`
	Offset string `json:"offset"` // everything up to here is acknowledged
	Unread int    `json:"unread"` // events that are not, counted up to 10,000
}

// subscriptions are those of one socket.
type subscriptions struct {
	mu      sync.Mutex // guards the fields below
	closed  bool
	partial bool // those that are to be recovered are not all there yet
	all     map[subscriptionKey]*subscription
	watched []place
}

type subscriptionKey struct{ topic, queue string }

func (spec *Subscription) key() subscriptionKey { return subscriptionKey{spec.Topic, spec.Queue} }

// Subscribe subscribes a socket to a topic: to a shared queue, or to the personal queue of its identity, which goes on where it
// stood. Without an identity the personal queue lives as long as the socket, through recoveries. A second subscription to the same
// topic and queue replaces the first, unless it is the same. The errors are those of package queue, and an [holdpost.Error] with
// code too_many.
func (d *Delivery) Subscribe(ctx context.Context, s *holdpost.Socket, spec Subscription) (state Subscribed, err error) {
	err = d.attach(ctx, s, spec, func(sub *subscription) error {
		state, err = sub.state(ctx)
		return err
	})
	return state, err
}

// attach is Subscribe for those who need not know how the queue stands, which takes counting. ready is called before the queue hands
// anything to the socket; its error undoes the subscription.
func (d *Delivery) attach(ctx context.Context, s *holdpost.Socket, spec Subscription, ready func(*subscription) error) error {
	fail := func(err error) error { return fmt.Errorf("subscribe %q: %w", spec.Topic, err) }
	mine := d.subscriptionsOf(s)
	mine.mu.Lock()
	defer mine.mu.Unlock()
	if mine.closed {
		return fail(&holdpost.DisconnectError{Reason: holdpost.ReasonTransportClose})
	}
	if old := mine.all[spec.key()]; old != nil {
		if old.same(spec) {
			return ready(old)
		}
		d.end(old)
		delete(mine.all, spec.key())
	} else if len(mine.all) >= d.config.MaxSubscriptions {
		return &holdpost.Error{Code: CodeTooMany, Message: fmt.Sprintf("a socket may have %d subscriptions", d.config.MaxSubscriptions)}
	}
	if identity := d.config.Identity(s); strings.HasPrefix(identity, socketQueue) || strings.HasPrefix(identity, deviceQueue) {
		return &holdpost.Error{Code: "invalid_queue", Message: fmt.Sprintf("identity %q begins like a name of Holdpost's own", identity)}
	}
	q, err := d.config.Broker.Queue(ctx, d.queueConfig(s, spec))
	if err != nil {
		return fail(err)
	}
	if !spec.Manual {
		if err := q.Seen(ctx, seenOffset(s)); err != nil {
			return fail(err)
		}
	}
	sub := &subscription{delivery: d, socket: s, spec: spec, queue: q}
	consumer, err := q.Attach(queue.ConsumerConfig{
		Context: s.Context(), Name: s.ID(), Manual: spec.Manual, Prefetch: spec.Prefetch, Exclusive: spec.Exclusive, Sink: sub,
		Closed: func(err error) { d.work.Go(func() { sub.taken(err) }) }, // who takes over holds the lock of its own subscriptions
	})
	if err != nil {
		return fail(err)
	}
	if err := ready(sub); err != nil {
		consumer.Close()
		return err
	}
	mine.all[spec.key()] = sub
	d.presences.enter(place{topic: spec.Topic}, d.config.Identity(s))
	d.remember(s, mine)
	sub.consumer.Store(consumer)
	consumer.Resume() // whatever was offered before was refused
	return nil
}

// unasked is for attach.
func unasked(*subscription) error { return nil }

func (d *Delivery) queueConfig(s *holdpost.Socket, spec Subscription) queue.QueueConfig {
	c := queue.QueueConfig{
		Topic: spec.Topic, Name: spec.Queue, Shared: spec.Queue != "", From: spec.From, Events: spec.Events, AckTimeout: spec.AckTimeout,
	}
	if c.Shared {
		return c
	}
	identity, device := d.config.Identity(s), d.config.Device(s)
	switch {
	case identity == "":
		c.Name, c.Expiry, c.Ephemeral = socketQueue+s.ID(), socketExpiry, !s.Recoverable()
	case device == "":
		c.Name = identity
	default: // the length keeps two identities from having one name
		c.Name = fmt.Sprintf("%s%d/%s/%s", deviceQueue, len(identity), identity, device)
	}
	return c
}

// same tells whether a subscription would be like this one: clients subscribe again when they come back.
func (u *subscription) same(spec Subscription) bool {
	old := u.spec
	return old.Manual == spec.Manual && old.Prefetch == spec.Prefetch && old.Meta == spec.Meta && old.Exclusive == spec.Exclusive &&
		old.AckTimeout == spec.AckTimeout && slices.Equal(old.Events, spec.Events) // From says only where a new queue begins
}

func (u *subscription) state(ctx context.Context) (Subscribed, error) {
	unread, err := u.queue.Unread(ctx)
	if err != nil {
		return Subscribed{}, fmt.Errorf("subscribe %q: %w", u.spec.Topic, err)
	}
	return Subscribed{Topic: u.spec.Topic, Queue: u.queue.Name(), Offset: u.queue.Cursor().String(), Unread: unread}, nil
}

// Unsubscribe ends a socket's subscription. A personal queue is deleted with it: nothing is held for the client any more. A shared
// queue, named by queue, stays for its other consumers. Without a subscription it does nothing.
func (d *Delivery) Unsubscribe(ctx context.Context, s *holdpost.Socket, topic, queue string) error {
	mine := d.subscriptionsOf(s)
	key := subscriptionKey{topic, queue}
	mine.mu.Lock()
	sub := mine.all[key]
	delete(mine.all, key)
	if sub != nil {
		d.remember(s, mine)
	}
	mine.mu.Unlock()
	if sub == nil {
		return nil
	}
	d.end(sub)
	if queue != "" {
		return nil
	}
	return sub.queue.Delete(ctx)
}

// end closes a subscription's consumer. The subscription is in no list any more.
func (d *Delivery) end(sub *subscription) {
	sub.close()
	d.presences.leave(place{topic: sub.spec.Topic}, d.config.Identity(sub.socket))
}

// remember has the subscriptions recovered with the socket. mine.mu is held.
func (d *Delivery) remember(s *holdpost.Socket, mine *subscriptions) {
	if mine.partial { // the session has them all
		return
	}
	specs := make([]Subscription, 0, len(mine.all))
	for _, sub := range mine.all {
		specs = append(specs, sub.spec)
	}
	slices.SortFunc(specs, func(a, b Subscription) int { // so that the same ones need not be stored again
		return cmp.Or(strings.Compare(a.Topic, b.Topic), strings.Compare(a.Queue, b.Queue))
	})
	d.recoverable.Set(s, specs)
}

// reattach subscribes a recovered socket to what it was subscribed to. What can't be had any more the client is told by a gap.
func (d *Delivery) reattach(ctx context.Context, s *holdpost.Socket) error {
	specs, _ := d.recoverable.Get(s)
	mine := d.subscriptionsOf(s)
	mine.mu.Lock()
	mine.partial = true
	mine.mu.Unlock()
	for _, spec := range specs {
		if d.mayRead(ctx, s, spec.Topic, spec.Queue) != nil {
			continue
		}
		if err := d.attach(ctx, s, spec, unasked); err != nil {
			d.config.Logger.Warn("subscription not recovered", "topic", spec.Topic, "queue", spec.Queue, "error", err)
			if err := s.Emit(ctx, "gap", map[string]string{"topic": spec.Topic, "queue": spec.Queue, "reason": queue.Code(err)}); err != nil {
				return err
			}
		}
	}
	mine.mu.Lock()
	defer mine.mu.Unlock()
	mine.partial = false
	if !mine.closed {
		d.remember(s, mine)
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

func (d *Delivery) subscriptionsOf(s *holdpost.Socket) *subscriptions {
	return d.subscriptions.LoadOrSet(s, func() *subscriptions { return &subscriptions{all: make(map[subscriptionKey]*subscription)} })
}

// detach ends the subscriptions of a socket that is gone. What it has not acknowledged goes to its queues' next consumers.
func (d *Delivery) detach(s *holdpost.Socket) {
	mine, ok := d.subscriptions.Get(s)
	if !ok {
		return
	}
	mine.mu.Lock()
	mine.closed = true
	all, watched := mine.all, mine.watched
	mine.all, mine.watched = nil, nil
	mine.mu.Unlock()
	for _, where := range watched {
		d.presences.unwatch(where, s)
	}
	for _, sub := range all {
		d.end(sub)
		if sub.spec.Queue == "" && d.config.Identity(s) == "" && !s.Recoverable() {
			d.forget(sub.queue)
		}
	}
}

// forget deletes the queue of a socket that does not come back.
func (d *Delivery) forget(q *queue.Queue) {
	ctx, cancel := context.WithTimeout(context.Background(), deleteTime)
	defer cancel()
	if err := q.Delete(ctx); err != nil { // it expires
		d.config.Logger.Debug("queue not deleted", "topic", q.Topic(), "queue", q.Name(), "error", err)
	}
}

// taken is called when the consumer is closed from outside: by an exclusive one, or because its queue was deleted.
func (u *subscription) taken(err error) {
	mine := u.delivery.subscriptionsOf(u.socket)
	mine.mu.Lock()
	was := mine.all[u.spec.key()] == u
	if was {
		delete(mine.all, u.spec.key())
		u.delivery.remember(u.socket, mine)
	}
	mine.mu.Unlock()
	if !was {
		return
	}
	u.delivery.end(u)
	u.tellEnd(queue.Code(err))
}

// tellEnd tells the client that it has lost a subscription.
func (u *subscription) tellEnd(reason string) {
	p, err := holdpost.Prepare("unsubscribed", map[string]string{"topic": u.spec.Topic, "queue": u.queue.Name(), "reason": reason})
	if err == nil { // strings can always be sent
		u.socket.Deliver(p, true)
	}
}
