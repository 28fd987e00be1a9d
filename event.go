package holdpost

import (
	"context"
	"errors"
)

// Handler handles one event of a socket. It runs on a goroutine of its own socket, one event after the other, with the
// context of the socket. What it returns answers the client's ack, if the client asked for one: reply as the arguments,
// or err (see the package comment). [ErrUnanswered] leaves it unanswered. Without an ack an error is logged.
type Handler func(ctx context.Context, s *Socket, args Args) (reply []any, err error)

// Emitter takes events: a [Socket], a [Namespace], a [Broadcast].
type Emitter interface {
	Emit(ctx context.Context, event string, args ...any) error
}

// AckEmitter takes events and answers them: a [Socket].
type AckEmitter interface {
	EmitWithAck(ctx context.Context, event string, args ...any) (Args, error)
}

// ArgsUnmarshaler is implemented by types that decode all arguments of an event themselves, instead of the first only.
type ArgsUnmarshaler interface {
	UnmarshalArgs(args Args) error
}

// Event is the name of an event together with the type of its argument, declared once and shared by both sides:
//
//	const Chat holdpost.Event[Message] = "chat"
type Event[T any] string

// Emit emits the event to a socket, a namespace or a broadcast.
func (e Event[T]) Emit(ctx context.Context, to Emitter, v T) error {
	return to.Emit(ctx, string(e), v)
}

// Decode decodes the event's arguments. The error is an [Error], with code invalid_argument unless T says otherwise.
func (e Event[T]) Decode(args Args) (T, error) {
	var v T
	err := decode(args, &v)
	return v, err
}

// Call is the name of an event that is answered, together with the types of its argument and of its answer.
type Call[Req, Resp any] string

// Do emits the call and waits for its answer. The error is that of EmitWithAck, an [Error] that the other side answered
// with, or that of decoding the answer.
func (c Call[Req, Resp]) Do(ctx context.Context, to AckEmitter, req Req) (Resp, error) {
	var resp Resp
	args, err := to.EmitWithAck(ctx, string(c), req)
	if err != nil {
		return resp, err
	}
	var failed struct {
		Error *Error `json:"error"`
	}
	if args.Decode(&failed) == nil && failed.Error != nil && failed.Error.Code != "" {
		return resp, failed.Error
	}
	err = decode(args, &resp)
	return resp, err
}

// Decode decodes the call's arguments, as [Event.Decode] does those of an event.
func (c Call[Req, Resp]) Decode(args Args) (Req, error) { return Event[Req](c).Decode(args) }

// On registers a handler for a typed event on a namespace. It panics where [Namespace.On] does. Arguments that do not
// decode are answered with code invalid_argument.
func On[T any](ns *Namespace, e Event[T], h func(ctx context.Context, s *Socket, v T) error) {
	ns.On(string(e), func(ctx context.Context, s *Socket, args Args) ([]any, error) {
		v, err := e.Decode(args)
		if err != nil {
			return nil, err
		}
		return nil, h(ctx, s, v)
	})
}

// Handle registers a handler that answers a typed call. It panics where [Namespace.On] does.
func Handle[Req, Resp any](ns *Namespace, c Call[Req, Resp], h func(ctx context.Context, s *Socket, req Req) (Resp, error)) {
	ns.On(string(c), func(ctx context.Context, s *Socket, args Args) ([]any, error) {
		req, err := c.Decode(args)
		if err != nil {
			return nil, err
		}
		resp, err := h(ctx, s, req)
		if err != nil {
			return nil, err
		}
		return []any{resp}, nil
	})
}

func decode(args Args, dst any) error {
	u, ok := dst.(ArgsUnmarshaler)
	if !ok {
		return args.Decode(dst)
	}
	err := u.UnmarshalArgs(args)
	if _, coded := errors.AsType[*Error](err); err != nil && !coded {
		err = &Error{Code: CodeInvalidArgument, Message: err.Error()}
	}
	return err
}
