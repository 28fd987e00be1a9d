//go:build unix

package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
)

// The official client on the library, with what the binary has no use for: namespaces, gates that refuse, acks both ways.
func TestLibrary(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			skipShort(t)
			srv := libraryServer()
			h := httptest.NewServer(srv)
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := srv.Shutdown(ctx); err != nil {
					t.Error(err)
				}
				h.Close()
			})
			runScript(t, "library.mjs", nil, "HOLDPOST_URL="+h.URL, "HOLDPOST_TRANSPORT="+transport)
		})
	}
}

type picture struct {
	Name  string `json:"name"`
	Image []byte `json:"image"`
}

const (
	measure  holdpost.Call[picture, map[string]any] = "measure"
	question holdpost.Call[string, int]             = "question"
)

func libraryServer() *holdpost.Server {
	srv := holdpost.NewServer(&holdpost.Config{Logger: slog.New(slog.DiscardHandler)})
	main := srv.Of("/")
	main.On("echo", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		return []any{args}, nil
	})
	main.On("coded", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
		return nil, &holdpost.Error{Code: "too_late", Message: "the kitchen is closed"}
	})
	main.On("uncoded", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
		return nil, errors.New("password of the database")
	})
	main.On("panic", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { panic("at the disco") })
	holdpost.Handle(main, measure, func(_ context.Context, _ *holdpost.Socket, p picture) (map[string]any, error) {
		return map[string]any{"name": p.Name, "bytes": len(p.Image), "again": p.Image}, nil
	})
	main.On("ask me", func(ctx context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		n, err := question.Do(ctx, s, "how many?")
		return []any{n}, err
	})
	main.On("ask all", func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		var room string
		var patience int // ms
		if err := args.Decode(&room, &patience); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Duration(patience)*time.Millisecond)
		defer cancel()
		answered, silent := []string{}, []string{}
		for a, err := range main.To(room).EmitWithAck(ctx, "question", "who is there?") {
			if err != nil {
				silent = append(silent, a.Socket)
			} else {
				answered = append(answered, a.Socket)
			}
		}
		return []any{answered, silent}, nil
	})
	main.On("join", func(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
		var room string
		if err := args.Decode(&room); err != nil {
			return nil, err
		}
		return nil, s.Join(room)
	})
	main.On("leave me alone", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		s.Disconnect(false)
		return nil, nil
	})

	admin := srv.Of("/admin")
	admin.Use(func(_ context.Context, s *holdpost.Socket) error {
		var auth struct{ Token string }
		if json.Unmarshal(s.Handshake().Auth, &auth) != nil || auth.Token != "sesame" {
			return &holdpost.ConnectError{Message: "not you", Data: map[string]any{"code": "forbidden", "retry": false}}
		}
		return nil
	})
	admin.OnConnection(func(ctx context.Context, s *holdpost.Socket) error { return s.Emit(ctx, "welcome", s.ID()) })
	admin.On("everybody", func(ctx context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		return nil, admin.Emit(ctx, "said", args)
	})
	return srv
}
