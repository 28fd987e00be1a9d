package gate

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
)

// visitor is a socket that was let in.
type visitor struct {
	// Static after construction.
	gate   *Gate
	socket *holdpost.Socket

	// Owned by the socket's handlers, which run one at a time.
	events  *rate.Limiter // nil before the first event
	refused int           // events that came too fast, since last was long enough ago
	last    time.Time     // when one was refused

	mu     sync.Mutex // guards the fields below
	client *auth.Client
	timer  *time.Timer // until the next thing to do about the client's end; nil if it has none
	gone   bool
}

func (v *visitor) current() *auth.Client {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.client
}

// watch sees to it that the client is warned before its end, and disconnected then.
func (v *visitor) watch() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer != nil {
		v.timer.Stop()
		v.timer = nil
	}
	client := v.client
	if client.Expires.IsZero() || v.gone {
		return
	}
	v.timer = time.AfterFunc(time.Until(client.Expires)-warning, func() { v.warn(client) })
}

func (v *visitor) warn(client *auth.Client) {
	v.mu.Lock()
	if v.client != client || v.gone {
		v.mu.Unlock()
		return
	}
	v.timer = time.AfterFunc(time.Until(v.gate.config.Authority.Ends(client)), func() { v.expire(client) })
	v.mu.Unlock()
	v.socket.Emit(context.Background(), "token_expiring", map[string]any{"expiresAt": client.Expires.UTC()}) // it may just have left
}

func (v *visitor) expire(client *auth.Client) {
	if v.current() == client {
		v.socket.Disconnect(true)
	}
}

// leave ends the watch.
func (v *visitor) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = true
	if v.timer != nil {
		v.timer.Stop()
	}
}

// refresh: token → {expiresAt}. The client goes on with the permissions of the new token, which must be of the same identity.
func (g *Gate) refresh(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
	var token string
	if raw := args.Raw(0); len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &token) != nil {
		return nil, &holdpost.Error{Code: holdpost.CodeInvalidArgument, Message: "argument 0: a token is expected, a string"}
	}
	v, ok := g.visitors.Get(s)
	if !ok || g.config.Dev {
		return nil, &holdpost.Error{Code: "unauthorized", Message: "this socket was let in without a token"}
	}
	client, err := g.config.Authority.Client(ctx, token)
	if err != nil {
		return nil, coded(err)
	}
	if client.Identity != v.current().Identity || token == "" {
		return nil, &holdpost.Error{Code: "unauthorized", Message: "the token is of another identity"}
	}
	if err := g.config.Authority.Use(client); err != nil {
		return nil, coded(err)
	}
	v.mu.Lock()
	v.client = client
	v.mu.Unlock()
	v.watch()
	if err := g.enforce(ctx, s); err != nil {
		return nil, err
	}
	return []any{map[string]any{"expiresAt": client.Expires.UTC()}}, nil
}
