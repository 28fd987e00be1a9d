package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	subjectPrefix  = "evt.0."
	maxAttachments = 255
)

// Message is an event to publish. The zero value is not valid: a topic and an event name are required.
type Message struct {
	Topic string // any UTF-8 without control characters and *, 1 to 255 bytes
	Event string // the event's name, as the topic's

	// ID makes publishing repeatable: a second publish of the same id to the same topic, within the dedupe window, stores
	// nothing and returns the first one's offset. Up to 128 bytes. Empty: the event's id is the text of its offset.
	ID string

	// Key names what the event is about, up to 255 bytes: queues that are ordered by key hand out events with the same one in
	// their order, one at a time.
	Key string

	// TTL is how long the event is worth something: it is not handed out later, and is then deleted. In milliseconds, up to 100
	// years; 0 is the topic's TTL, which is none by default.
	TTL time.Duration

	// Delay has the event published later: its outcome is that it is stored for then, which survives anything that a published
	// event survives, and its offset is not known yet. A request for the same id within the dedupe window is one. At says the
	// time instead; what is in the past is published at once.
	Delay time.Duration
	At    time.Time

	// ExpectLast has the event stored only if the topic's last event, kept or not, is the one with this offset, the zero offset
	// for a topic that never had one. Else nothing is stored, with an [Error] of code "wrong_last". nil: whatever it is.
	ExpectLast *Offset

	// ReplyTo is the topic where the publisher waits for an answer; [Broker.Request] sets it.
	ReplyTo string

	// TraceParent is the trace in which the event is published, as the header of W3C Trace Context has it, 55 bytes; it goes with the
	// event to those who get it. What has another form is left out. Empty: what Config.OnPublish says, or none.
	TraceParent string

	// Args is a JSON array as text, in UTF-8; nil is the empty array. The broker keeps no reference to it, nor to Attachments,
	// after Publish or PublishAsync returned.
	Args        []byte
	Attachments [][]byte // up to 255

	queue string // the one queue that it is for
}

// Published tells where an event is stored.
type Published struct {
	Topic     string
	Offset    Offset // the zero offset for an event that is to be published later
	ID        string // Message.ID, or one that was made for an event that is to be published later, or the text of Offset
	Duplicate bool   // it had been stored before, at Offset
}

// Publish appends an event to its topic, and returns once it is stored as durably as the engine stores.
//
// The outcome is exact. Without an error the event is stored. With an error that is [ErrUnknown] it may be stored: publish
// it again with the same id. With any other error it is not stored: [Error], [ErrFull],
// [ErrUnavailable], [ErrClosed], or the cause of ctx when it ended before the event was on its way to the log. When too
// many bytes wait to be stored already, Publish waits for room. Publishes of one goroutine are stored in their order.
func (b *Broker) Publish(ctx context.Context, m Message) (Published, error) {
	if b.config.OnPublish == nil {
		return b.publishAndWait(ctx, m)
	}
	m, end := b.begin(ctx, m)
	p, err := b.publishAndWait(ctx, m)
	end(err)
	return p, err
}

func (b *Broker) publishAndWait(ctx context.Context, m Message) (Published, error) {
	type outcome struct {
		p   Published
		err error
	}
	c := make(chan outcome, 1)
	r, err := b.publish(ctx, m, func(p Published, err error) { c <- outcome{p, err} })
	if err != nil {
		return Published{}, fmt.Errorf("publish %q: %w", m.Topic, err)
	}
	select {
	case o := <-c:
		return o.p, o.err
	case <-ctx.Done():
	}
	if r.withdraw() {
		r.undo(b)
		return Published{}, fmt.Errorf("publish %q: %w", m.Topic, context.Cause(ctx))
	}
	select {
	case o := <-c: // it was just coming
		return o.p, o.err
	default:
		return Published{}, fmt.Errorf("publish %q: %w: %w", m.Topic, ErrUnknown, context.Cause(ctx))
	}
}

// PublishAsync is [Broker.Publish] for a caller that goes on before the outcome is known: events are stored in the order of
// the calls. It waits only for room. An error means that nothing was stored and done is not called; without one done is
// called once, from a goroutine of the broker that it must not block. Once it has returned ctx no longer matters.
func (b *Broker) PublishAsync(ctx context.Context, m Message, done func(Published, error)) error {
	if b.config.OnPublish == nil {
		return b.publishAsync(ctx, m, done)
	}
	m, end := b.begin(ctx, m)
	err := b.publishAsync(ctx, m, func(p Published, err error) {
		end(err)
		done(p, err)
	})
	if err != nil {
		end(err)
	}
	return err
}

func (b *Broker) publishAsync(ctx context.Context, m Message, done func(Published, error)) error {
	if _, err := b.publish(ctx, m, done); err != nil {
		return fmt.Errorf("publish %q: %w", m.Topic, err)
	}
	return nil
}

// publication is a request with the room that it takes.
type publication struct {
	request
	topic    string
	cost     int
	answered func(Published, error) // not nil: wants to know the outcome before everybody else
}

func (b *Broker) publish(ctx context.Context, m Message, done func(Published, error)) (*publication, error) {
	policy, err := b.check(&m)
	if err != nil {
		return nil, err
	}
	if err := b.refuses(ctx); err != nil {
		return nil, err
	}
	if m.due() {
		return b.delay(ctx, m, done)
	}
	var known uint64
	var last string
	if m.ID != "" && (policy.DedupeWindow > b.config.DedupeWindow || m.ExpectLast != nil || b.engine.Clock() != nil) {
		if known, err = b.publishedBefore(m.Topic, m.ID, policy.DedupeWindow); err != nil {
			return nil, err
		}
	}
	if m.ExpectLast != nil && known == 0 {
		if last, err = b.expect(ctx, m.Topic, *m.ExpectLast); err != nil {
			return nil, err
		}
	}
	size := m.envelopeSize()
	cost, err := b.takeRoom(ctx, size)
	if err != nil {
		return nil, err
	}
	p := b.prepare(&m, size, cost, done)
	p.known, p.last = known, last
	if policy.Refuse && known == 0 {
		err = b.fullness.admit(ctx, b, policy, p, m.size())
	}
	if err == nil {
		err = b.committer.push(&p.request)
	}
	if err != nil {
		p.undo(b)
		return nil, err
	}
	return p, nil
}

// refuses says why nothing can be published now.
func (b *Broker) refuses(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := b.unwell(); err != nil {
		return err
	}
	return b.engine.Room()
}

// takeRoom waits for room for so many bytes, and returns how many were taken.
func (b *Broker) takeRoom(ctx context.Context, size int) (cost int, err error) {
	cost, ok := b.room.take(size, ctx.Done(), b.quit)
	if ok {
		return cost, nil
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return 0, ErrClosed
}

// expect returns what the log has to find as the last sequence of a topic's subject so that the topic's last event is the one
// at o.
func (b *Broker) expect(ctx context.Context, topic string, o Offset) (string, error) {
	if err := b.caughtUp(ctx); err != nil {
		return "", err
	}
	i, _, err := b.index.Topic(topic)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if i.Last != o {
		return "", errWrongLast
	}
	e, err := b.lookup(topic, o.Seq)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if e != nil || o.Seq == 0 {
		return strconv.FormatUint(o.Seq, 10), nil
	}
	m, err := b.events.GetLastMsgForSubject(ctx, subjectPrefix+token(topic)) // it was deleted, and those before it perhaps not yet
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return "0", nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return strconv.FormatUint(m.Sequence, 10), nil
}

// undo gives back what a publication has taken and does not need: its event is not going to be stored.
func (p *publication) undo(b *Broker) {
	b.room.give(p.cost)
	if p.answered != nil {
		p.answered(Published{}, ErrClosed)
	}
}

// publishedBefore returns the sequence of the event that was published with the id within the window, 0 if none was. While the clock
// can't be relied on, no window ends. Of the last of them the index need not know: the log looks after those.
func (b *Broker) publishedBefore(topic, id string, window time.Duration) (uint64, error) {
	seq, err := b.index.FindID(topic, id)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	e, err := b.lookup(topic, seq)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if e == nil || time.Since(e.Time) > window && b.engine.Clock() == nil {
		return 0, nil
	}
	return seq, nil
}

// prepare encodes a message into the request that stores it.
func (b *Broker) prepare(m *Message, size, cost int, done func(Published, error)) *publication {
	p := &publication{topic: m.Topic, cost: cost}
	p.event = true
	p.subject = subjectPrefix + token(m.Topic)
	p.trace = traceParent(m.TraceParent)
	result := Published{Topic: m.Topic, ID: m.ID}
	if m.ID != "" {
		p.msgID = dedupeID(m.Topic, m.ID)
	}
	p.data = m.appendEnvelope(make([]byte, 0, size))
	p.done = func(r *request) {
		b.room.give(p.cost)
		if p.answered != nil {
			p.answered(Published{Offset: Offset{b.epoch, r.seq}, Duplicate: r.duplicate}, r.err)
		}
		if r.err != nil {
			done(result, fmt.Errorf("publish %q: %w", result.Topic, r.err))
			return
		}
		result.Offset = Offset{b.epoch, r.seq}
		if result.ID == "" {
			result.ID = result.Offset.String()
		}
		if !r.duplicate {
			done(result, nil)
			return
		}
		b.background.Go(func() { // reads the log, which the committer must not wait for
			first, err := b.repeated(result, r.data)
			if err != nil {
				err = fmt.Errorf("publish %q: %w", result.Topic, err)
			}
			done(first, err)
		})
	}
	return p
}

// repeated compares a publish with the one that had the same id before.
func (b *Broker) repeated(again Published, envelope []byte) (Published, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ackPatience)
	defer cancel()
	stored, err := b.events.GetMsg(ctx, again.Offset.Seq)
	again.Duplicate = true
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return again, nil // retention was faster: stored it was, and that is all one can say
	case err != nil:
		return Published{}, fmt.Errorf("%w: read the first event with this id: %w", ErrUnknown, err)
	case bytes.Equal(stored.Data, envelope):
		return again, nil
	}
	first := again
	first.Duplicate = false
	e := refuse("conflict", "id %q was published before with another content, at %s", first.ID, first.Offset)
	e.First = first
	return Published{}, e
}

// check validates a message and puts its arguments and its TTL into the one form in which they are stored.
func (b *Broker) check(m *Message) (*policy, error) {
	if b.isClosed() { // the index may be closed too
		return nil, ErrClosed
	}
	if err := b.checkTopic(m.Topic); err != nil {
		return nil, err
	}
	policy, err := b.policies.of(m.Topic)
	if err != nil {
		return nil, err
	}
	if policy.MustExist && !policy.declared {
		return nil, fmt.Errorf("%w: it must be created first", ErrNotFound)
	}
	if m.TTL == 0 {
		m.TTL = policy.TTL
	}
	return policy, b.checkMessage(m, policy.MaxEventBytes)
}

func (b *Broker) checkMessage(m *Message, maxBytes int) error {
	if err := checkName("invalid_event", "event name", m.Event, maxName); err != nil {
		return err
	}
	if m.ID != "" {
		if err := checkName("invalid_id", "id", m.ID, b.config.MaxIDBytes); err != nil {
			return err
		}
	}
	if m.Key != "" {
		if err := checkName("invalid_key", "key", m.Key, maxName); err != nil {
			return err
		}
	}
	if m.Delay < 0 || m.Delay > 0 && !m.At.IsZero() || m.Delay > maxDelay || time.Until(m.At) > maxDelay {
		return refuse("invalid_delay", "the delay is negative, there is a time beside it, or it is more than ten years")
	}
	if m.due() && m.ExpectLast != nil {
		return refuse("invalid_delay", "what is the last event then can't be expected now")
	}
	if m.ReplyTo != "" {
		if err := b.checkTopic(m.ReplyTo); err != nil {
			return err
		}
	}
	if m.TTL < 0 || m.TTL%time.Millisecond != 0 || uint64(m.TTL.Milliseconds()) > maxTTL {
		return refuse("invalid_ttl", "ttl %v is not a number of milliseconds within a hundred years", m.TTL)
	}
	if len(m.Attachments) > maxAttachments {
		return refuse("invalid_args", "%d attachments are more than %d", len(m.Attachments), maxAttachments)
	}
	if size := m.size(); size > maxBytes {
		return refuse("too_large", "event of %d bytes is larger than %d", size, maxBytes)
	}
	if m.Args == nil {
		m.Args = []byte("[]")
		return nil
	}
	m.Args = bytes.Trim(m.Args, " \t\r\n")
	if len(m.Args) == 0 || m.Args[0] != '[' || !utf8.Valid(m.Args) || !json.Valid(m.Args) {
		return refuse("invalid_args", "args are not a JSON array")
	}
	return nil
}

// size is what counts against limits.
func (m *Message) size() int {
	n := len(m.Event) + len(m.Args)
	for _, a := range m.Attachments {
		n += len(a)
	}
	return n
}
