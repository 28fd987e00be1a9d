package hooks

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
)

// Decide asks whether a client that has passed the gate is let in. Of an anonymous one the answer may say who it is, and what
// it may do. The error is an [auth.Error] with code forbidden or unavailable.
//
//	{"allow": false, "message": "why"}
//	{"identity": "ann", "permissions": {"join": ["lobby"]}}
func (h *Hooks) Decide(ctx context.Context, s *holdpost.Socket, c *auth.Client) (*auth.Client, error) {
	e := h.asked("connect")
	if e == nil {
		return c, nil
	}
	n := newNote("connect", c.Identity, s)
	n.Auth = withoutToken(s.Handshake().Auth)
	var answer struct {
		Allow       *bool             `json:"allow"`
		Message     string            `json:"message"`
		Identity    string            `json:"identity"`
		Permissions *auth.Permissions `json:"permissions"`
	}
	if err := e.ask(ctx, n, &answer); err != nil {
		h.config.Logger.Warn("hook failed", "type", n.Type, "err", err)
		return nil, &auth.Error{Code: "unavailable", Detail: "whoever decides about clients can't be asked"}
	}
	if answer.Allow != nil && !*answer.Allow {
		if answer.Message == "" {
			answer.Message = "not let in"
		}
		return nil, &auth.Error{Code: "forbidden", Detail: answer.Message}
	}
	if c.Identity != "" || answer.Identity == "" {
		return c, nil
	}
	told, err := auth.Told(answer.Identity, answer.Permissions)
	if err != nil {
		h.config.Logger.Warn("hook failed", "type", n.Type, "err", err)
		return nil, &auth.Error{Code: "unavailable", Detail: "whoever decides about clients has answered what makes no sense"}
	}
	return told, nil
}

// withoutToken returns what a client says of itself but for its token, which is nobody else's business.
func withoutToken(said json.RawMessage) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(said, &members) != nil {
		return nil
	}
	delete(members, "token")
	b, err := json.Marshal(members)
	if err != nil {
		return nil
	}
	return b
}

// Watch hears of a namespace what hooks are for. handled are the events that somebody here handles; of the others the hook does.
func (h *Hooks) Watch(ns *holdpost.Namespace, handled func(event string) bool) {
	ns.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
		if handled(event) {
			return next(ctx, s, args)
		}
		if e := h.asked("event"); e != nil {
			return h.event(ctx, e, s, event, args)
		}
		return next(ctx, s, args)
	})
	ns.OnDisconnect(func(s *holdpost.Socket, reason holdpost.Reason) {
		if h.asked("disconnect") == nil {
			return
		}
		n := newNote("disconnect", h.config.Identity(s), s)
		n.Reason = string(reason)
		h.tell(context.Background(), n, 0)
	})
}

// event asks an endpoint what to answer to an event: {"args": [...]}, or {"error": {"code", "message"}}.
func (h *Hooks) event(ctx context.Context, e *endpoint, s *holdpost.Socket, event string, args holdpost.Args) ([]any, error) {
	n := newNote("event", h.config.Identity(s), s)
	n.Event, n.Binary = event, args.Attachments()
	values := make([]json.RawMessage, args.Len())
	for i := range values {
		values[i] = args.Raw(i)
	}
	var err error
	if n.Args, err = json.Marshal(values); err != nil {
		return nil, err
	}
	var answer struct {
		Args  []any           `json:"args"`
		Error *holdpost.Error `json:"error"`
	}
	if err := e.ask(ctx, n, &answer); err != nil {
		if !errors.Is(err, context.Canceled) {
			h.config.Logger.Warn("hook failed", "type", n.Type, "err", err)
		}
		return nil, &holdpost.Error{Code: "unavailable", Message: "whoever handles this event can't be asked"}
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return answer.Args, nil
}
