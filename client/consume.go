package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
)

// Subscription says what to subscribe to, on a server of Holdpost.
type Subscription struct {
	Topic string
	// Queue names a work queue, of which each event goes to one consumer. "": the personal queue of the client's identity, or
	// without an identity one that lasts as long as the socket.
	Queue string
	// From is where a queue made now begins: "new" (default), "first", an offset, or a time as in RFC 3339.
	From string
	// Prefetch bounds the events that the server sends ahead of their acks. 0: the server's default.
	Prefetch int
	// Manual leaves it to the program to call one of [Delivery]'s methods for each event, when and where it likes. Otherwise an
	// event counts as handled when the loop asks for the next one.
	Manual bool
}

// Delivery is one event of a queue. It is to be answered once, by one of its methods; in a loop that is not Manual the default
// is Ack. What is said of an event after its connection was lost does not reach the server, which delivers it again: the
// consumer remembers that it was handled, and acknowledges it instead of yielding it again.
type Delivery struct {
	Topic       string
	Queue       string
	Offset      string // its place in the topic
	ID          string // under which it was published
	Event       string
	Args        holdpost.Args
	Attempt     int // 1: the first
	PublishedAt time.Time

	consumer *Consumer
	link     *link
	ack      int64
	answered sync.Once
}

// Ack says that the event was handled.
func (d *Delivery) Ack() { d.answer(true) }

// Retry has the event delivered again, after a time at the earliest.
func (d *Delivery) Retry(after time.Duration) {
	d.answer(false, map[string]string{"retry": after.String()})
}

// Reject gives the event up: it becomes a dead letter, with the reason.
func (d *Delivery) Reject(reason string) { d.answer(true, map[string]string{"reject": reason}) }

func (d *Delivery) answer(handled bool, reply ...any) {
	d.answered.Do(func() {
		if handled {
			d.consumer.mu.Lock()
			d.consumer.done.handled(d.Offset)
			d.consumer.mu.Unlock()
		}
		args, _ := holdpost.ArgsOf(reply...) // strings always encode
		d.consumer.socket.sendAck(d.link, d.ack, args)
	})
}

// GapError says that events of a topic are gone, because its retention has passed or a loss was accepted: those after From up to
// and with To. A loop over [Consumer.Deliveries] that gets one may go on.
type GapError struct {
	Topic    string `json:"topic"`
	Queue    string `json:"queue"`
	From, To string // offsets
}

func (e *GapError) Error() string {
	return fmt.Sprintf("client: events of topic %q are gone, from %s to %s", e.Topic, e.From, e.To)
}

// Consumer is a subscription of a socket. It ends with the socket, or with [Socket.Unsubscribe]; when the connection is lost it
// subscribes again on the next one.
type Consumer struct {
	// Static after construction.
	socket *Socket
	spec   Subscription

	signal chan struct{} // has room for one: something waits, or err is set

	mu      sync.Mutex  // guards the fields below
	waiting []delivered // what no loop has asked for
	err     error       // why nothing more comes
	done    progress
}

type delivered struct {
	*Delivery
	gap  *GapError
	size int
}

// Subscribe subscribes to a topic and returns once the server has answered. While the client is away it waits. It replaces the
// socket's subscription to the same topic. The error is one of the server's, a [holdpost.Error]; or the context's cause; or why
// the socket has ended.
func (s *Socket) Subscribe(ctx context.Context, sub Subscription) (*Consumer, error) {
	u := &Consumer{socket: s, spec: sub, signal: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.consumers == nil {
		s.consumers = make(map[string]*Consumer)
	}
	old := s.consumers[sub.Topic]
	s.consumers[sub.Topic] = u // before the server knows, so that no event comes too early
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
		return nil, fmt.Errorf("subscribe %q: %w", sub.Topic, err)
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

// Unsubscribe ends the subscription to a topic and has the server delete its queue: nothing is held for it any more. Without a
// subscription it does nothing. The errors are those of [Socket.Subscribe].
func (s *Socket) Unsubscribe(ctx context.Context, topic string) error {
	s.mu.Lock()
	u := s.consumers[topic]
	s.mu.Unlock()
	if u == nil {
		return nil
	}
	answer, err := s.untilAnswered(ctx, "unsubscribe", topic)
	if err == nil {
		err = refusal(answer)
	}
	if err != nil {
		return fmt.Errorf("unsubscribe %q: %w", topic, err)
	}
	s.dropConsumer(u)
	u.end(ErrClosed)
	return nil
}

func (s *Socket) dropConsumer(u *Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.consumers[u.spec.Topic] == u {
		delete(s.consumers, u.spec.Topic)
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
	if u.err == nil {
		u.err = why
		u.notifyLocked()
	}
	u.mu.Unlock()
	u.lost()
}

func (u *Consumer) notifyLocked() {
	select {
	case u.signal <- struct{}{}:
	default:
	}
}

// offer takes an event or a gap from the reader. An event that was handled already is acknowledged instead.
func (u *Consumer) offer(d delivered) {
	u.mu.Lock()
	again := d.gap == nil && !u.done.offered(d.Offset)
	refused := again || u.err != nil
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
			u.mu.Unlock()
			u.socket.taken(next.size)
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
	gap := p.ID < 0 && p.Name == "gap"
	if none || p.ID < 0 && !gap || len(p.Args) < 2 {
		return false
	}
	var meta struct {
		Topic       string    `json:"topic"`
		Queue       string    `json:"queue"`
		Offset      string    `json:"offset"`
		ID          string    `json:"id"`
		Attempt     int       `json:"attempt"`
		PublishedAt time.Time `json:"publishedAt"`
	}
	last := p.Args[len(p.Args)-1]
	if last[0] != '{' || json.Unmarshal(last, &meta) != nil {
		return false
	}
	s.mu.Lock()
	u := s.consumers[meta.Topic]
	s.mu.Unlock()
	if u == nil || !gap && meta.Offset == "" {
		return false
	}
	if gap {
		e := new(GapError)
		if json.Unmarshal(last, e) != nil {
			return false
		}
		u.offer(delivered{gap: e, size: size})
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
