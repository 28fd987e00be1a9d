package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

// Codes of the errors that operations answer, besides those of packages holdpost and queue.
const (
	CodeInvalidRoom = "invalid_room"
	CodeForbidden   = "forbidden" // it is somebody else's
	CodeTooMany     = "too_many"  // a limit on one socket is reached
)

// coded gives an error of a lower package the code under which its client sees it.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*holdpost.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, holdpost.ErrTooMany):
		return &holdpost.Error{Code: CodeTooMany, Message: err.Error()}
	case errors.Is(err, holdpost.ErrInvalidName):
		return &holdpost.Error{Code: "invalid_name", Message: err.Error()}
	}
	if code := queue.Code(err); code != "" && code != holdpost.CodeInternal {
		return &holdpost.Error{Code: code, Message: err.Error()}
	}
	return err
}

func invalidArgument(format string, a ...any) error {
	return &holdpost.Error{Code: holdpost.CodeInvalidArgument, Message: fmt.Sprintf(format, a...)}
}

// join: room → {room}.
func (d *Delivery) join(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	room, err := roomArg(args)
	if err != nil {
		return nil, err
	}
	if err := d.config.Permit(ctx, s, permitJoin, room); err != nil {
		return nil, err
	}
	if other, ok := s.Namespace().Socket(room); ok && other != s { // it would listen in on what is sent to that socket alone
		return nil, &holdpost.Error{Code: CodeInvalidRoom, Message: "the room belongs to another socket"}
	}
	if err := s.Join(room); err != nil {
		return nil, err
	}
	return []any{roomResult{room}}, nil
}

// leave: room → {room}.
func (d *Delivery) leave(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	room, err := roomArg(args)
	if err != nil {
		return nil, err
	}
	s.Leave(room)
	return []any{roomResult{room}}, nil
}

// maxSentName bounds the name of an event that a client has sent to others, as [holdpost.Config] bounds one that it sends
// itself.
const maxSentName = 255

// send: room, event, args… → {room}. The event goes to the others in the room, live.
func (d *Delivery) send(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	room, err := roomArg(args)
	if err != nil {
		return nil, err
	}
	if err := d.config.Permit(ctx, s, permitSend, room); err != nil {
		return nil, err
	}
	event, err := eventArg(args, 1)
	if err != nil {
		return nil, err
	}
	if len(event) > maxSentName {
		return nil, &holdpost.Error{Code: "invalid_name", Message: fmt.Sprintf("the name of an event has at most %d bytes", maxSentName)}
	}
	if err := s.To(room).Emit(ctx, event, args.From(2)); err != nil {
		return nil, err
	}
	return []any{roomResult{room}}, nil
}

type roomResult struct {
	Room string `json:"room"`
}

func roomArg(args holdpost.Args) (string, error) {
	room, ok := textArg(args, 0)
	if !ok {
		return "", invalidArgument("argument 0: the name of a room is expected, a string")
	}
	return room, nil
}

// eventArg takes the name of an event from argument i. Reserved names are refused by whoever emits or publishes it.
func eventArg(args holdpost.Args, i int) (string, error) {
	event, ok := textArg(args, i)
	if !ok {
		return "", invalidArgument("argument %d: the name of an event is expected, a string", i)
	}
	return event, nil
}

// textArg takes a string, which null is not.
func textArg(args holdpost.Args, i int) (text string, ok bool) {
	raw := args.Raw(i)
	ok = len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil
	return text, ok
}

// topicArg decodes argument 0: the name of a topic, or an object with it and more.
func topicArg(args holdpost.Args, name *string, object any) error {
	text, ok := textArg(args, 0)
	if ok {
		*name = text
		return nil
	}
	if raw := args.Raw(0); len(raw) == 0 || raw[0] != '{' || strict(raw, object) != nil {
		return invalidArgument("argument 0: the name of a topic or an object with known options is expected")
	}
	return nil
}

// strict decodes an object and refuses members that it does not know: a misspelt option must not be ignored.
func strict(raw json.RawMessage, object any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(object)
}

// subscribe: topic, or {topic, queue, from, events, ack, ackTimeout, prefetch, exclusive, meta} → {topic, queue, offset, unread}.
func (d *Delivery) subscribe(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	var o struct {
		Topic      string   `json:"topic"`
		Queue      string   `json:"queue"`
		From       string   `json:"from"`
		Events     []string `json:"events"`
		Ack        string   `json:"ack"`
		AckTimeout string   `json:"ackTimeout"`
		Prefetch   int      `json:"prefetch"`
		Exclusive  bool     `json:"exclusive"`
		Meta       bool     `json:"meta"`
	}
	if err := topicArg(args, &o.Topic, &o); err != nil {
		return nil, err
	}
	if err := d.mayRead(ctx, s, o.Topic, o.Queue); err != nil {
		return nil, err
	}
	spec := Subscription{Topic: o.Topic, Queue: o.Queue, Events: o.Events, Prefetch: o.Prefetch, Exclusive: o.Exclusive, Meta: o.Meta}
	switch o.Ack {
	case "", "auto":
	case "manual":
		spec.Manual = true
	default:
		return nil, invalidArgument("ack: auto or manual is expected")
	}
	var err error
	if spec.AckTimeout, err = durationOption("ackTimeout", o.AckTimeout); err != nil {
		return nil, err
	}
	if spec.From, err = startOption(o.From); err != nil {
		return nil, err
	}
	result, err := d.Subscribe(ctx, s, spec)
	if err != nil {
		return nil, err
	}
	return []any{result}, nil
}

// durationOption reads an option like "90s"; "" is 0.
func durationOption(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, invalidArgument("%s: a duration as in 90s or 1h30m is expected", name)
	}
	return d, nil
}

func startOption(from string) (queue.Start, error) {
	start, err := queue.ParseStart(from)
	if err != nil {
		return "", fmt.Errorf("from: %w", err)
	}
	return start, nil
}

// private refuses to let a client read somebody else's inbox, or all inboxes by a pattern.
func (d *Delivery) private(s *holdpost.Socket, topic string) error {
	literal, _, pattern := strings.Cut(topic, "*")
	if !strings.HasPrefix(literal, inboxPrefix) && !(pattern && strings.HasPrefix(inboxPrefix, literal)) {
		return nil
	}
	if identity := d.config.Identity(s); !pattern && identity != "" && topic == inboxPrefix+identity {
		return nil
	}
	return &holdpost.Error{Code: CodeForbidden, Message: "an inbox is read by its owner alone"}
}

// unsubscribe: topic, or {topic, queue} → {topic, queue}.
func (d *Delivery) unsubscribe(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	var o struct {
		Topic string `json:"topic"`
		Queue string `json:"queue,omitempty"`
	}
	if err := topicArg(args, &o.Topic, &o); err != nil {
		return nil, err
	}
	if err := d.Unsubscribe(ctx, s, o.Topic, o.Queue); err != nil {
		return nil, err
	}
	return []any{o}, nil
}

// publish: topic or {topic, id, key, ttl, delay, at, expectLast, room}, event, args… → {topic, offset, id, duplicate}. The event goes to the others in the room
// too, live, once it is stored.
func (d *Delivery) publish(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	var o struct {
		Topic string    `json:"topic"`
		ID    string    `json:"id"`
		Key   string    `json:"key"`
		Room  string    `json:"room"`
		TTL   string    `json:"ttl"`
		Delay string    `json:"delay"`
		At    time.Time `json:"at"`
		Last  *string   `json:"expectLast"`
	}
	if err := topicArg(args, &o.Topic, &o); err != nil {
		return nil, err
	}
	ttl, err := durationOption("ttl", o.TTL)
	if err != nil {
		return nil, err
	}
	delay, err := durationOption("delay", o.Delay)
	if err != nil {
		return nil, err
	}
	if o.Room != "" && (delay > 0 || !o.At.IsZero()) {
		return nil, invalidArgument("room: an event that is published later can't be emitted now")
	}
	var last *queue.Offset
	if o.Last != nil {
		offset, err := queue.ParseOffset(*o.Last)
		if err != nil {
			return nil, fmt.Errorf("expectLast: %w", err)
		}
		last = &offset
	}
	if err := d.config.Permit(ctx, s, permitPublish, o.Topic); err != nil {
		return nil, err
	}
	if o.Room != "" {
		if err := d.config.Permit(ctx, s, permitSend, o.Room); err != nil {
			return nil, err
		}
	}
	event, err := eventArg(args, 1)
	if err != nil {
		return nil, err
	}
	rest := args.From(2)
	array := []byte{'['}
	for i := range rest.Len() {
		if i > 0 {
			array = append(array, ',')
		}
		array = append(array, rest.Raw(i)...)
	}
	array = append(array, ']')
	if err := Deliverable(event, array); err != nil {
		return nil, err
	}
	p, err := d.config.Broker.Publish(ctx, queue.Message{
		Topic: o.Topic, ID: o.ID, Key: o.Key, TTL: ttl, Delay: delay, At: o.At, ExpectLast: last, Event: event, Args: array, Attachments: rest.Attachments(),
	})
	if err != nil {
		return nil, err
	}
	if o.Room != "" && !p.Duplicate {
		if err := s.To(o.Room).Emit(ctx, event, rest, p.Offset.String()); err != nil {
			return nil, err
		}
	}
	return []any{published{p.Topic, p.Offset.String(), p.ID, p.Duplicate}}, nil
}

type published struct {
	Topic     string `json:"topic"`
	Offset    string `json:"offset"`
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

// history: topic, or {topic, from, limit} → {events, next, complete}.
func (d *Delivery) history(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	o := struct {
		Topic string `json:"topic"`
		From  string `json:"from"`
		Limit int    `json:"limit"`
	}{From: "first", Limit: 100}
	if err := topicArg(args, &o.Topic, &o); err != nil {
		return nil, err
	}
	if err := d.mayRead(ctx, s, o.Topic, ""); err != nil {
		return nil, err
	}
	start, err := startOption(o.From)
	if err != nil {
		return nil, err
	}
	page, err := d.config.Broker.History(ctx, o.Topic, start, o.Limit)
	if err != nil {
		return nil, err
	}
	events := make([]any, len(page.Events))
	for i, e := range page.Events {
		if events[i], err = historyEvent(e); err != nil {
			return nil, err
		}
	}
	result := map[string]any{"events": events, "next": page.Next.String(), "complete": page.Complete}
	if page.Gap != nil {
		result["gap"] = map[string]any{"from": page.Gap.From.String(), "to": page.Gap.To.String()}
	}
	return []any{result}, nil
}

// historyEvent is a map because binary arguments are found in maps, and sent as attachments of the answer.
func historyEvent(e *queue.Event) (map[string]any, error) {
	m := map[string]any{
		"topic": e.Topic, "offset": e.Offset.String(), "id": e.ID, "event": e.Name, "publishedAt": e.Time.UTC(),
	}
	if len(e.Attachments) == 0 {
		m["args"] = json.RawMessage("[]")
		if len(e.Args) > 0 {
			m["args"] = json.RawMessage(e.Args)
		}
		return m, nil
	}
	args, err := eventArgs(e)
	if err != nil {
		return nil, err
	}
	values := make([]any, args.Len())
	for i := range values {
		if err := args.From(i).Decode(&values[i]); err != nil {
			return nil, err
		}
	}
	m["args"] = values
	return m, nil
}
