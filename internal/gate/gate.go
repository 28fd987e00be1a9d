package gate

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
)

// warning is how long before its end a client is told.
const warning = time.Minute

// Config says how a [Gate] works. Authority is required.
type Config struct {
	Authority *auth.Authority
	Dev       bool
	Limits    Limits
	// Decide is asked about each client whose token holds: it returns the client, or another, or an error to refuse it. nil:
	// nobody is.
	Decide func(context.Context, *holdpost.Socket, *auth.Client) (*auth.Client, error)
	// Enforce is called when the permissions of a socket have changed, to end what it may not do any more. nil: nobody is.
	Enforce func(context.Context, *holdpost.Socket) error
	// Refused is called for each socket that is not let in. nil: nobody is.
	Refused func()
	// Logger takes who was refused, at level debug. Default [slog.Default].
	Logger *slog.Logger
}

// Gate lets sockets in. Make one with [New].
type Gate struct {
	config Config
	limits atomic.Pointer[Limits]

	visitors   *holdpost.Key[*visitor]
	addresses  tally
	identities tally
}

// New returns a gate. It does no I/O.
func New(c Config) *Gate {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	g := &Gate{config: c, visitors: holdpost.NewKey[*visitor]("gate.visitor")}
	g.limits.Store(&c.Limits)
	return g
}

// SetLimits changes the limits, for those who are there too. A lower one turns nobody out.
func (g *Gate) SetLimits(l Limits) { g.limits.Store(&l) }

// Guard puts the gate before a namespace, and registers the operation refresh there.
func (g *Gate) Guard(ns *holdpost.Namespace) {
	ns.Use(g.enter)
	ns.OnConnection(func(_ context.Context, s *holdpost.Socket) error {
		if v, ok := g.visitors.Get(s); ok {
			v.watch()
		}
		return nil
	})
	ns.OnDisconnect(func(s *holdpost.Socket, _ holdpost.Reason) {
		if v, ok := g.visitors.Get(s); ok {
			v.leave()
		}
	})
	ns.Wrap(g.bound)
	ns.On("refresh", g.refresh)
}

// enter is the gate: who has no token that holds is refused with a connect_error, its data having the code.
func (g *Gate) enter(ctx context.Context, s *holdpost.Socket) error {
	client, err := g.client(ctx, s)
	if err == nil && g.config.Decide != nil {
		client, err = g.config.Decide(ctx, s, client)
	}
	if err != nil {
		return g.refuse(s, err)
	}
	limits := g.limits.Load()
	address := countedAs(s.Handshake().Address)
	if !g.addresses.take(address, limits.PerAddress) {
		return g.refuse(s, &auth.Error{Code: "too_many", Detail: "too many connections come from this address"})
	}
	context.AfterFunc(s.Context(), func() { g.addresses.release(address) })
	if client.Identity != "" {
		if !g.identities.take(client.Identity, limits.PerIdentity) {
			return g.refuse(s, &auth.Error{Code: "too_many", Detail: "too many connections have this identity"})
		}
		context.AfterFunc(s.Context(), func() { g.identities.release(client.Identity) })
	}
	if err := g.config.Authority.Use(client); err != nil { // last: who is refused for another reason may try again
		return g.refuse(s, err)
	}
	g.visitors.Set(s, &visitor{gate: g, socket: s, client: client})
	return nil
}

func (g *Gate) refuse(s *holdpost.Socket, err error) error {
	refused, ok := errors.AsType[*auth.Error](err)
	if !ok {
		g.config.Logger.Error("client not let in", "socket", s.ID(), "err", err)
		refused = &auth.Error{Code: holdpost.CodeInternal, Detail: "the reason is in the server's log"}
	}
	if g.config.Refused != nil {
		g.config.Refused()
	}
	g.config.Logger.Debug("client refused", "address", s.Handshake().Address, "code", refused.Code, "err", refused.Detail)
	return &holdpost.ConnectError{Message: refused.Detail, Data: map[string]string{"code": refused.Code}}
}

// client returns whom the socket's handshake stands for.
func (g *Gate) client(ctx context.Context, s *holdpost.Socket) (*auth.Client, error) {
	h := s.Handshake()
	if g.config.Dev {
		return devClient(h.Auth)
	}
	token, err := tokenOf(h)
	if err != nil {
		return nil, err
	}
	return g.config.Authority.Client(ctx, token)
}

// tokenOf takes a token from auth.token, or from the Authorization header. Never from the URL, which logs have.
func tokenOf(h holdpost.Handshake) (string, error) {
	var said struct {
		Token *string `json:"token"`
	}
	if len(h.Auth) > 0 && json.Unmarshal(h.Auth, &said) != nil {
		return "", &auth.Error{Code: "unauthorized", Detail: "auth.token is not a text"}
	}
	if said.Token != nil {
		return *said.Token, nil
	}
	if scheme, token, ok := strings.Cut(h.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), nil
	}
	return "", nil
}

// Online tells whether somebody with this identity is connected.
func (g *Gate) Online(identity string) bool { return g.identities.count(identity) > 0 }

// Identity returns who a socket is, "" if that is not known.
func (g *Gate) Identity(s *holdpost.Socket) string {
	if v, ok := g.visitors.Get(s); ok {
		return v.current().Identity
	}
	return ""
}

// RecoveryIdentity returns to whom a socket's session belongs: it is given to nobody else, and not to the same one with
// other permissions, who might get to see what is not for him any more.
func (g *Gate) RecoveryIdentity(s *holdpost.Socket) string {
	v, ok := g.visitors.Get(s)
	if !ok {
		return ""
	}
	c := v.current()
	return c.Identity + "\n" + g.config.Authority.Fingerprint(c) // no identity has a line break
}

// Permit returns nil if a socket may do something, and else an [holdpost.Error] for its client. A client whose time is up is
// disconnected as well.
func (g *Gate) Permit(_ context.Context, s *holdpost.Socket, action, name string) error {
	v, ok := g.visitors.Get(s)
	if !ok {
		return &holdpost.Error{Code: "unauthorized", Message: "this socket has passed no gate"}
	}
	err := g.config.Authority.Verdict(v.current(), auth.Action(action), name)
	if err == nil {
		return nil
	}
	return coded(err)
}

func coded(err error) error {
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		return &holdpost.Error{Code: refused.Code, Message: refused.Detail}
	}
	return err
}

// Enforce looks at all sockets of a namespace again, after the rules have changed or an identity was revoked: who is not let
// in any more is disconnected, and who is loses what he may not do.
func (g *Gate) Enforce(ctx context.Context, ns *holdpost.Namespace) {
	for s := range ns.Sockets() {
		v, ok := g.visitors.Get(s)
		if !ok {
			continue
		}
		if g.config.Authority.Valid(v.current()) != nil {
			s.Disconnect(true)
			continue
		}
		if err := g.enforce(ctx, s); err != nil {
			g.config.Logger.Warn("permissions not enforced", "socket", s.ID(), "err", err)
		}
	}
}

func (g *Gate) enforce(ctx context.Context, s *holdpost.Socket) error {
	if g.config.Enforce == nil {
		return nil
	}
	return g.config.Enforce(ctx, s)
}
