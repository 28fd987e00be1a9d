package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
)

// Subscription says what to subscribe to, on a server of Holdpost.
type Subscription struct {
	Topic string // or a pattern: * stands for any characters but /, ** for any characters
	// Queue names a work queue, of which each event goes to one consumer. "": the personal queue of the client's identity, or
	// without an identity one that lasts as long as the socket.
	Queue string
	// From is where a queue made now begins: "new" (default), "first", an offset, or a time as in RFC 3339.
	From string
	// Events are the names of the events to be delivered, the others counting as handled. nil: all.
	Events []string
	// Prefetch bounds the events that the server sends ahead of their acks. 0: the server's default.
	Prefetch int
	// AckTimeout is the time after which the server delivers an event that was not answered to another consumer. 0: the
	// server's default.
	AckTimeout time.Duration
	// Exclusive takes the queue over: its other consumers end. It is what keeps events in order when a connection is lost: without
	// it those that the server still holds for the connection that it does not know to be lost come behind others.
	Exclusive bool
	// HandledFile is the path of a file in which the consumer remembers the last 4,096 events that it has handled, so that one is not
	// yielded again by the next run of the program if the server had not heard of its ack when this one ended, however it did. An ack is
	// sent once the file is synced. What is left is an end between what the program does for an event and its ack: a program that must
	// not do that twice stores [Delivery.Offset] together with it. "": events are remembered as long as the consumer lasts.
	HandledFile string
	// Manual leaves it to the program to call one of [Delivery]'s methods for each event, when and where it likes. Otherwise an
	// event counts as handled when the loop asks for the next one.
	Manual bool
}

// Consumer is a subscription of a socket. It ends with the socket, or with [Consumer.Unsubscribe]; when the connection is lost it
// subscribes again on the next one.
type Consumer struct {
	// Static after construction.
	socket  *Socket
	spec    Subscription
	pattern *regexp.Regexp // of its topics; nil for one
	handled *handledFile   // nil without

	signal chan struct{} // has room for one: something waits, or err is set

	mu      sync.Mutex           // guards the fields below
	waiting []delivered          // what no loop has asked for
	inHand  map[string]*Delivery // what was yielded and is not answered, by offset; at most maxRemembered
	err     error                // why nothing more comes
	done    progress
}

type delivered struct {
	*Delivery
	gap  *GapError
	size int
}

// Subscribe subscribes to a topic and returns once the server has answered. While the client is away it waits. It replaces the
// socket's subscription to the same topic and queue. The error is one of the server's, a [holdpost.Error]; or the context's cause; or why
// the socket has ended; or what is wrong with HandledFile.
func (s *Socket) Subscribe(ctx context.Context, sub Subscription) (*Consumer, error) {
	u := &Consumer{socket: s, spec: sub, pattern: topicPattern(sub.Topic), signal: make(chan struct{}, 1)}
	if sub.HandledFile != "" {
		var err error
		if u.handled, err = openHandledFile(sub.HandledFile); err != nil {
			return nil, fmt.Errorf("subscribe %q: %w", sub.Topic, err)
		}
		for _, offset := range u.handled.lines {
			u.done.handled(offset)
		}
	}
	s.mu.Lock()
	if s.consumers == nil {
		s.consumers = make(map[source]*Consumer)
	}
	old := s.consumers[u.source()]
	s.consumers[u.source()] = u // before the server knows, so that no event comes too early
	s.mu.Unlock()
	if old != nil {
		old.end(errReplaced)
	}
	answer, err := s.untilAnswered(ctx, "subscribe", u.request())
	if err == nil {
		err = refusal(answer)
	}
	if err != nil {
		s.dropConsumer(u)
		err = fmt.Errorf("subscribe %q: %w", sub.Topic, err)
		u.end(err)
		return nil, err
	}
	var state struct {
		Offset string `json:"offset"`
	}
	if answer.Decode(&state) == nil {
		u.mu.Lock()
		u.done.begin(state.Offset)
		u.mu.Unlock()
	}
	return u, nil
}

var errReplaced = errors.New("client: replaced by another subscription to the topic")

// Unsubscribe ends the subscription: nothing is held for it any more. The server deletes a personal queue, while a work queue
// holds events for its other consumers. The errors are those of [Socket.Subscribe].
func (u *Consumer) Unsubscribe(ctx context.Context) error {
	o := map[string]string{"topic": u.spec.Topic}
	if u.spec.Queue != "" {
		o["queue"] = u.spec.Queue
	}
	answer, err := u.socket.untilAnswered(ctx, "unsubscribe", o)
	if err == nil {
		err = refusal(answer)
	}
	if err != nil {
		return fmt.Errorf("unsubscribe %q: %w", u.spec.Topic, err)
	}
	u.socket.dropConsumer(u)
	u.end(ErrClosed)
	if u.handled != nil {
		<-u.handled.closed
	}
	return nil
}

// source is where a consumer's events come from.
type source struct {
	topic string // or pattern
	queue string // "" for the personal one
}

func (u *Consumer) source() source { return source{u.spec.Topic, u.spec.Queue} }

// topicPattern returns what matches the topics of a pattern, nil for a topic.
func topicPattern(topic string) *regexp.Regexp {
	if !strings.Contains(topic, "*") {
		return nil
	}
	text := strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`).Replace(regexp.QuoteMeta(topic))
	return regexp.MustCompile("(?s)^" + text + "$")
}

// consumer returns the one that an event of a topic is for, as it came from a queue.
func (s *Socket) consumer(topic, queue string) *Consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.consumers[source{topic, queue}]; u != nil {
		return u
	}
	if u := s.consumers[source{topic, ""}]; u != nil { // whose queue has the name of the client
		return u
	}
	for from, u := range s.consumers {
		if u.pattern != nil && (from.queue == "" || from.queue == queue) && u.pattern.MatchString(topic) {
			return u
		}
	}
	return nil
}

func (s *Socket) dropConsumer(u *Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.consumers[u.source()] == u {
		delete(s.consumers, u.source())
	}
}

// refusal returns the error that an operation was answered with.
func refusal(answer holdpost.Args) error {
	var failed struct {
		Error *holdpost.Error `json:"error"`
	}
	if answer.Decode(&failed) == nil && failed.Error != nil && failed.Error.Code != "" {
		return failed.Error
	}
	return nil
}

func (u *Consumer) request() any {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := map[string]any{"topic": u.spec.Topic, "ack": "manual", "meta": true}
	from := u.spec.From
	if u.done.upto != "" { // a queue that lasts only as long as the socket begins where this consumer stands
		from = u.done.upto
	}
	if from != "" {
		o["from"] = from
	}
	if u.spec.Queue != "" {
		o["queue"] = u.spec.Queue
	}
	if u.spec.Events != nil {
		o["events"] = u.spec.Events
	}
	if u.spec.AckTimeout > 0 {
		o["ackTimeout"] = u.spec.AckTimeout.String()
	}
	if u.spec.Exclusive {
		o["exclusive"] = true
	}
	if u.spec.Prefetch > 0 {
		o["prefetch"] = u.spec.Prefetch
	}
	return o
}

// attach subscribes again, on a new session.
func (u *Consumer) attach() {
	_, err := u.socket.ask("subscribe", []any{u.request()}, true, func(answer holdpost.Args, err error) {
		if err == nil {
			err = refusal(answer)
		}
		if _, coded := errors.AsType[*holdpost.Error](err); coded {
			u.socket.dropConsumer(u)
			u.end(fmt.Errorf("subscribe %q: %w", u.spec.Topic, err))
		} // otherwise the session has ended, and the next one follows
	})
	if err != nil {
		u.end(fmt.Errorf("subscribe %q: %w", u.spec.Topic, err))
	}
}

// lost drops what no loop has seen: the server delivers it again.
func (u *Consumer) lost() {
	u.mu.Lock()
	dropped := u.waiting
	u.waiting = nil
	u.mu.Unlock()
	for _, d := range dropped {
		u.socket.taken(d.size)
	}
}

func (u *Consumer) end(why error) {
	u.mu.Lock()
	first := u.err == nil
	if first {
		u.err = why
		u.notifyLocked()
	}
	u.mu.Unlock()
	if first && u.handled != nil {
		u.remember(remembered{})
	}
	u.lost()
}

func (u *Consumer) notifyLocked() {
	select {
	case u.signal <- struct{}{}:
	default:
	}
}

// offer takes an event or a gap from the reader. An event that was handled already is acknowledged instead; one that a loop still has in
// hand from another session will be answered on this one.
func (u *Consumer) offer(d delivered) {
	u.mu.Lock()
	again := d.gap == nil && !u.done.offered(d.Offset)
	held := d.gap == nil && u.holdsLocked(d.Delivery)
	refused := again || held || u.err != nil
	if !refused {
		u.waiting = append(u.waiting, d)
		u.notifyLocked()
	}
	u.mu.Unlock()
	if refused {
		u.socket.taken(d.size)
	}
	if again {
		u.socket.sendAck(d.link, d.ack, holdpost.Args{})
	}
}

// holdsLocked tells whether a loop has the event in hand, from another session. If so that one is answered on this session. The same
// session delivers again what was not answered in time, by a loop that may have dropped it.
func (u *Consumer) holdsLocked(d *Delivery) bool {
	old := u.inHand[d.Offset]
	if old == nil || old.link == d.link {
		return false
	}
	old.link, old.ack = d.link, d.ack
	return true
}

// Deliveries yields the events of the queue, as they come. When the loop asks for the next one, the last is acknowledged, unless
// it was answered or the subscription is Manual. Beside a nil delivery comes a [GapError], after which the loop may go on; or
// the last error: ctx's cause, or why the subscription has ended. Events that the loop has not asked for when it ends are
// held for the next loop. Several loops may run at a time, and share the events.
func (u *Consumer) Deliveries(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for {
			next, err := u.next(ctx)
			switch {
			case err != nil:
				yield(nil, err)
				return
			case next.gap != nil:
				if !yield(nil, next.gap) {
					return
				}
				continue
			}
			if !yield(next.Delivery, nil) {
				return // whether it was handled is for the program to say
			}
			if !u.spec.Manual {
				next.Ack()
			}
		}
	}
}

func (u *Consumer) next(ctx context.Context) (delivered, error) {
	for {
		u.mu.Lock()
		if len(u.waiting) > 0 {
			next := u.waiting[0]
			u.waiting = u.waiting[1:]
			if len(u.waiting) > 0 {
				u.notifyLocked()
			}
			late := next.gap == nil && u.done.has(next.Offset) // handled while it waited
			if next.gap == nil && !late && len(u.inHand) < maxRemembered {
				if u.inHand == nil {
					u.inHand = make(map[string]*Delivery)
				}
				u.inHand[next.Offset] = next.Delivery
			}
			u.mu.Unlock()
			u.socket.taken(next.size)
			if late {
				u.socket.sendAck(next.link, next.ack, holdpost.Args{})
				continue
			}
			return next, nil
		}
		err := u.err
		if err != nil {
			u.notifyLocked() // for other loops
		}
		u.mu.Unlock()
		if err != nil {
			return delivered{}, err
		}
		select {
		case <-u.signal:
		case <-ctx.Done():
			return delivered{}, context.Cause(ctx)
		}
	}
}

// toConsumer hands an event to the consumer that it is for, if it is for one: the server asks for an ack and says last where the
// event comes from.
func (s *Socket) toConsumer(l *link, p *packet.Packet, size int) bool {
	s.mu.Lock()
	none := len(s.consumers) == 0
	s.mu.Unlock()
	notice := p.ID < 0 && (p.Name == "gap" || p.Name == "unsubscribed")
	if none || p.ID < 0 && !notice || len(p.Args) < 2 {
		return false
	}
	var meta struct {
		Topic       string    `json:"topic"`
		Queue       string    `json:"queue"`
		Offset      string    `json:"offset"`
		ID          string    `json:"id"`
		Attempt     int       `json:"attempt"`
		PublishedAt time.Time `json:"publishedAt"`

		From, To string // of a gap
		Reason   string // why the subscription has ended
	}
	last := p.Args[len(p.Args)-1]
	if last[0] != '{' || json.Unmarshal(last, &meta) != nil {
		return false
	}
	u := s.consumer(meta.Topic, meta.Queue)
	switch {
	case u == nil || !notice && meta.Offset == "":
		return false
	case p.Name == "gap" && notice:
		u.offer(delivered{size: size, gap: &GapError{Topic: meta.Topic, Queue: meta.Queue, From: meta.From, To: meta.To}})
		return true
	case notice:
		s.taken(size)
		s.dropConsumer(u)
		u.end(&holdpost.Error{Code: meta.Reason, Message: "the server has ended the subscription"})
		return true
	}
	args, err := holdpost.NewArgs(p.Data, p.Attachments)
	if err != nil { // of what was decoded before
		panic(err)
	}
	u.offer(delivered{size: size, Delivery: &Delivery{
		Topic: meta.Topic, Queue: meta.Queue, Offset: meta.Offset, ID: meta.ID, Event: p.Name, Args: args.From(1),
		Attempt: meta.Attempt, PublishedAt: meta.PublishedAt, consumer: u, link: l, ack: p.ID,
	}})
	return true
}
