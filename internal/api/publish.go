package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/packet"
	"github.com/holdpost/holdpost/queue"
)

type published struct {
	Topic     string `json:"topic"`
	Offset    string `json:"offset"`
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

// publish takes one message as JSON, or many as NDJSON.
func (a *api) publish(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && kind == ndjson {
		a.publishAll(w, r)
		return
	}
	body, ok := readBody(w, r, "application/json", maxBody)
	if !ok {
		return
	}
	m, err := decodeMessage(body)
	if err != nil {
		badRequest(w, "%v", err)
		return
	}
	if err := a.mayPublish(r, m); err != nil {
		a.refuse(w, r, err)
		return
	}
	p, err := a.Broker.Publish(r.Context(), m)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, newPublished(p))
}

func newPublished(p queue.Published) published {
	return published{p.Topic, p.Offset.String(), p.ID, p.Duplicate}
}

// mayPublish looks at what must be right before an event is stored.
func (a *api) mayPublish(r *http.Request, m queue.Message) error {
	if err := a.verdict(r, auth.Publish, m.Topic); err != nil {
		return err
	}
	return deliverable(m.Event, m.Args, m.Attachments)
}

// deliverable tells whether clients can take an event: those of Socket.IO end a connection that brings them more attachments,
// or a placeholder for one that is not there.
func deliverable(name string, args json.RawMessage, attachments [][]byte) error {
	if err := delivery.Deliverable(name, args); err != nil || len(attachments) == 0 {
		return err
	}
	if most := packet.DefaultLimits.Attachments; len(attachments) > most {
		return &queue.Error{Code: "invalid_args", Detail: fmt.Sprintf("%d attachments are more than %d", len(attachments), most)}
	}
	if _, ok := packet.MarkAttachments(nil, orEmpty(args), len(attachments)); !ok {
		return &queue.Error{Code: "invalid_args", Detail: "a placeholder in args names no attachment"}
	}
	return nil
}

// decodeMessage reads a publish strictly: a member twice, or one that nobody knows, is more likely a mistake than meant.
func decodeMessage(body []byte) (queue.Message, error) {
	var m queue.Message
	if !utf8.Valid(body) {
		return m, errors.New("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return m, errors.New("the body is not a JSON object")
	}
	seen := make(map[string]bool, 4)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return m, fmt.Errorf("invalid JSON: %w", err)
		}
		name, _ := t.(string)
		if seen[name] {
			return m, fmt.Errorf("member %q stands there twice", name)
		}
		seen[name] = true
		if err := decodeMember(d, name, &m); err != nil {
			return m, err
		}
	}
	if _, err := d.Token(); err != nil {
		return m, errors.New("invalid JSON: the object has no end")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, errors.New("there is something after the object")
	}
	for _, name := range []string{"topic", "event"} {
		if !seen[name] {
			return m, fmt.Errorf("member %q is missing", name)
		}
	}
	return m, nil
}

func decodeMember(d *json.Decoder, name string, m *queue.Message) error {
	text := func(into *string) error {
		var v any
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("member %q: %w", name, err)
		}
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("member %q is not a string", name)
		}
		*into = s
		return nil
	}
	duration := func(into *time.Duration) error {
		var s string
		if err := text(&s); err != nil {
			return err
		}
		var err error
		if *into, err = time.ParseDuration(s); err != nil || *into <= 0 {
			return fmt.Errorf("member %q is not a duration as in 30s", name)
		}
		return nil
	}
	switch name {
	case "topic":
		return text(&m.Topic)
	case "event":
		return text(&m.Event)
	case "id":
		return text(&m.ID)
	case "key":
		return text(&m.Key)
	case "ttl":
		return duration(&m.TTL)
	case "delay":
		return duration(&m.Delay)
	case "at":
		var s string
		if err := text(&s); err != nil {
			return err
		}
		var err error
		if m.At, err = time.Parse(time.RFC3339, s); err != nil {
			return fmt.Errorf("member %q is not an RFC 3339 time", name)
		}
		return nil
	case "expectLast":
		var s string
		if err := text(&s); err != nil {
			return err
		}
		last, err := queue.ParseOffset(s)
		if err != nil {
			return fmt.Errorf("member %q is not an offset", name)
		}
		m.ExpectLast = &last
		return nil
	case "attachments":
		if err := d.Decode(&m.Attachments); err != nil {
			return fmt.Errorf("member %q is not an array of base64 texts", name)
		}
		return nil
	case "args":
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("member %q: %w", name, err)
		}
		if raw[0] != '[' {
			return fmt.Errorf("member %q is not an array", name)
		}
		m.Args = raw
		return nil
	}
	return fmt.Errorf("member %q is unknown: there are topic, event, args, attachments, id, key, ttl, delay, at and expectLast", name)
}
