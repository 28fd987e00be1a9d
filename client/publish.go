package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/holdpost/holdpost"
)

// Message is one event to be published to a topic.
type Message struct {
	Topic string
	// ID is under which the server knows the message: it stores one that it has stored already no second time, as long as its
	// window for duplicates lasts. "": a random one.
	ID string
	// Key names what the event is about: queues that are ordered by key deliver events with the same one in their order.
	Key   string
	Event string
	Args  []any
}

// Published says where a message was stored.
type Published struct {
	Topic     string `json:"topic"`
	Offset    string `json:"offset"`
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"` // it was stored before, by an earlier call or an earlier try of this one
}

// Publish publishes a message to a server of Holdpost and returns once it is stored. Under one id it is sent again until the
// server answers, on the next connection too, and stored once. The error is the server's, a [holdpost.Error]: the message is not
// stored; the context's cause: it may be stored, and can be published again under the same id; or why the socket has ended.
// Messages of concurrent calls are stored in any order.
func (s *Socket) Publish(ctx context.Context, m Message) (Published, error) {
	if m.ID == "" {
		m.ID = rand.Text()
	}
	p, err := s.publish(ctx, m)
	if err != nil {
		return Published{}, fmt.Errorf("publish %q: %w", m.Topic, err)
	}
	return p, nil
}

func (s *Socket) publish(ctx context.Context, m Message) (Published, error) {
	to := map[string]string{"topic": m.Topic, "id": m.ID}
	if m.Key != "" {
		to["key"] = m.Key
	}
	args, err := holdpost.ArgsOf(append([]any{to, m.Event}, m.Args...)...)
	if err != nil {
		return Published{}, err
	}
	for failed := 1; ; failed++ {
		answer, err := s.untilAnswered(ctx, "publish", args)
		if err != nil {
			return Published{}, err
		}
		err = refusal(answer)
		if err == nil {
			var p Published
			err = answer.Decode(&p)
			return p, err
		}
		if !undecided(err) {
			return Published{}, err
		}
		if !sleep(ctx, s.client.config.delay(failed)) {
			return Published{}, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// undecided tells whether a refusal says nothing about the message itself, so that the server may well take it in a moment. See
// the codes of package queue.
func undecided(err error) bool {
	e, ok := errors.AsType[*holdpost.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "unavailable", "closed", "cancelled", "timeout", "unknown_outcome":
		return true
	}
	return false
}
