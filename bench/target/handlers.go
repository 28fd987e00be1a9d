//go:build unix

package main

import (
	"context"

	"github.com/holdpost/holdpost"
)

// handle registers the bench contract. Payloads are decoded and encoded again, as the peers' servers do it, rather than
// passed on as they came.
func handle(ns *holdpost.Namespace) {
	ns.On("echo", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		payload, err := decoded(args)
		return []any{payload}, err
	})
	ns.On("bcast", func(ctx context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		payload, err := decoded(args)
		if err != nil {
			return nil, err
		}
		return nil, ns.Emit(ctx, "msg", payload)
	})
	ns.On("join", func(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		var room string
		if err := args.Decode(&room); err != nil {
			return nil, err
		}
		return nil, s.Join(room)
	})
	ns.On("room", func(ctx context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		var (
			room    string
			payload any
		)
		if err := args.Decode(&room, &payload); err != nil {
			return nil, err
		}
		return nil, ns.To(room).Emit(ctx, "msg", payload)
	})
}

func decoded(args holdpost.Args) (payload any, err error) {
	err = args.Decode(&payload)
	return payload, err
}
