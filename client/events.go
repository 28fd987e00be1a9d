package client

import (
	"context"
	"iter"

	"github.com/holdpost/holdpost"
)

// On registers a handler for a typed event on a socket, as [Socket.On] does. Arguments that do not decode are answered with code
// invalid_argument.
func On[T any](s *Socket, e holdpost.Event[T], h func(ctx context.Context, v T) error) (stop func()) {
	return s.On(string(e), func(ctx context.Context, args holdpost.Args) ([]any, error) {
		v, err := e.Decode(args)
		if err != nil {
			return nil, err
		}
		return nil, h(ctx, v)
	})
}

// Handle registers a handler that answers a typed call, as [Socket.On] does.
func Handle[Req, Resp any](s *Socket, c holdpost.Call[Req, Resp], h func(ctx context.Context, req Req) (Resp, error)) (stop func()) {
	return s.On(string(c), func(ctx context.Context, args holdpost.Args) ([]any, error) {
		req, err := c.Decode(args)
		if err != nil {
			return nil, err
		}
		resp, err := h(ctx, req)
		if err != nil {
			return nil, err
		}
		return []any{resp}, nil
	})
}

// Events returns the values of a typed event as they come, registered by the call: before [Socket.Connect], so that none is
// missed. They are handed over one by one: as long as one waits for the loop, so does all that the socket's handlers would see
// behind it. An error beside a zero value is that of decoding one event, after which the loop may go on; or the last, the cause
// of ctx or [Socket.Err] once the socket has ended. The end of the loop takes the registration away, so does that of ctx.
func Events[T any](ctx context.Context, s *Socket, e holdpost.Event[T]) iter.Seq2[T, error] {
	events := s.Events(ctx, string(e))
	return func(yield func(T, error) bool) {
		for args, err := range events {
			var v T
			if err == nil {
				v, err = e.Decode(args)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// Events returns the arguments of an event as they come; see the function of the same name. It serves one loop.
func (s *Socket) Events(ctx context.Context, event string) iter.Seq2[holdpost.Args, error] {
	next := make(chan holdpost.Args)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := s.On(event, func(life context.Context, args holdpost.Args) ([]any, error) {
		select {
		case next <- args:
		case <-ctx.Done():
		case <-life.Done():
		}
		return nil, nil
	})
	context.AfterFunc(ctx, stop)
	return func(yield func(holdpost.Args, error) bool) {
		defer cancel(nil)
		life := s.Context()
		for {
			select {
			case args := <-next:
				if !yield(args, nil) {
					return
				}
			case <-ctx.Done():
				yield(holdpost.Args{}, context.Cause(ctx))
				return
			case <-life.Done():
				yield(holdpost.Args{}, context.Cause(life))
				return
			}
		}
	}
}
