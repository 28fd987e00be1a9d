package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/console"
	"github.com/holdpost/holdpost/internal/gate"
	"github.com/holdpost/holdpost/internal/hooks"
	"github.com/holdpost/holdpost/internal/metrics"
	"github.com/holdpost/holdpost/internal/outbound"
	"github.com/holdpost/holdpost/queue/local"
)

// settings are what a server is started with, besides its configuration.
type settings struct {
	acceptLoss bool
	load       func() (*config.Config, error) // reads the configuration again
	level      *slog.LevelVar                 // of log
	log        *slog.Logger
}

// server is everything that runs behind serve.
type server struct {
	// static after construction
	settings
	config     *config.Config // that it was started with
	outbound   *outbound.Networks
	fetch      *http.Client // of the keys of issuers
	asking     *http.Client // of hooks
	authority  *auth.Authority
	gate       *gate.Gate
	hooks      *hooks.Hooks
	admission  *gate.Admission
	handshakes handshakeGuard
	tls        *tls.Config       // nil without
	files      *certificate      // behind tls, or nil
	acme       *acmeCertificates // behind tls, or nil
	tracing    *tracing          // nil without
	post       *delivery.Delivery
	probe      *probe
	metrics    *metrics.Metrics
	store      *local.Store
	sockets    *holdpost.Server
	public     net.Listener
	internal   net.Listener
	plain      net.Listener   // redirects to public, nil without
	udp        net.PacketConn // for WebTransport, nil without
	resetKey   *[32]byte      // of udp
	closers    []closer       // in the order of their start

	now atomic.Pointer[config.Config] // what is in effect

	leaving context.Context // ends when the server begins to drain
	leave   context.CancelFunc
}

// closer ends what was started.
type closer struct {
	name  string
	close func() error
}

// startServer starts the store and opens both listeners; [server.run] serves them. On an error nothing is left running.
func startServer(ctx context.Context, c *config.Config, given settings) (*server, error) {
	s := &server{settings: given, config: c, outbound: allowed(c)}
	s.fetch, s.asking = fetcher(s.outbound), outbound.Client(s.outbound, hooks.Timeout)
	s.now.Store(c)
	s.handshakes.refused = func() { s.refused("tls") }
	s.handshakes.limit(c.Limits.TLSHandshakes)
	s.leaving, s.leave = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(ctx); err != nil {
		s.close() // logs its own errors
		return nil, err
	}
	return s, nil
}

func (s *server) start(ctx context.Context) (err error) {
	c := s.config
	rules, err := authConfig(c, s.fetch)
	if err != nil {
		return err
	}
	if s.tracing, err = startTracing(ctx, func(err error) { s.log.Warn("spans not sent", "err", err) }); err != nil {
		return &exitError{code: exitConfig, err: fmt.Errorf("tracing: %w", err)}
	}
	if s.tracing != nil {
		s.closers = append(s.closers, closer{"tracing", s.tracing.close})
	}
	switch {
	case len(c.TLS.ACME.Domains) > 0:
		if s.acme, err = newACME(c, s.log); err != nil {
			return &exitError{code: exitConfig, err: err}
		}
		s.tls = s.acme.config()
	case c.TLS.CertFile != "":
		if s.files, err = openCertificate(c.TLS.CertFile, c.TLS.KeyFile); err != nil {
			return &exitError{code: exitConfig, err: err}
		}
		s.tls = s.files.config()
	}
	if err := s.startStore(ctx); err != nil {
		return explainStore(err, c.DataDir)
	}
	if s.authority, err = auth.New(rules); err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	if err := s.authority.Remember(ctx, s.store.Broker); err != nil {
		return err
	}
	if s.acceptLoss && s.store.Forgets() && authConfigured(c) {
		s.log.Warn("who was revoked may be lost, and is let in again by a token that has not expired: revoke again")
	}
	if s.public, err = s.listen(ctx, "--listen", c.Listen); err != nil {
		return err
	}
	if c.TLS.HTTPListen != "" {
		if s.plain, err = s.listen(ctx, "tls.http_listen:", c.TLS.HTTPListen); err != nil {
			return err
		}
	}
	if c.WebTransport {
		if s.udp, err = new(net.ListenConfig).ListenPacket(ctx, "udp", s.public.Addr().String()); err != nil {
			return fmt.Errorf("webtransport: %w", err)
		}
		s.closers = append(s.closers, closer{"webtransport", s.udp.Close})
		if s.resetKey, err = resetKey(c.DataDir); err != nil {
			return fmt.Errorf("webtransport: %w", err)
		}
	}
	if s.internal, err = s.listen(ctx, "--internal-listen", c.Internal.Listen); err != nil {
		return err
	}
	journal, err := s.startJournal(ctx)
	if err != nil {
		return err
	}
	s.probe = &probe{broker: s.store.Broker}
	endpoints, err := readHooks(c)
	if err != nil {
		return err
	}
	s.startSockets(journal, endpoints)
	return nil
}

// startSockets puts together what clients meet: the gate, then the operations.
func (s *server) startSockets(journal *delivery.Journal, endpoints []hooks.Hook) {
	c := s.config
	sources := metrics.Sources{
		Sockets: func() int { return s.sockets.Of("/").Len() }, Connections: func() int { return s.sockets.Connections() },
		Queued: s.queued, Healthy: func() bool { return s.store.Ready() == nil }, Scrub: s.store.Scrub,
	}
	switch {
	case s.acme != nil:
		sources.Certificate = s.acme.ends
	case s.files != nil:
		sources.Certificate = s.files.ends
	}
	s.metrics = metrics.New(sources)
	s.countOpen(c)
	s.gate = gate.New(gate.Config{
		Authority: s.authority, Dev: c.Dev, Limits: gateLimits(c), Logger: s.log,
		Refused: func() { s.refused("gate") },
		Decide: func(ctx context.Context, of *holdpost.Socket, c *auth.Client) (*auth.Client, error) {
			return s.hooks.Decide(ctx, of, c)
		},
		Enforce: func(ctx context.Context, to *holdpost.Socket) error { return s.post.Enforce(ctx, to) },
	})
	if s.tracing != nil {
		s.asking.Transport = s.tracing.outgoing(s.asking.Transport)
	}
	s.closers = append(s.closers, closer{"outgoing", func() error { s.closeIdle(); return nil }})
	s.hooks = hooks.New(hooks.Config{
		Hooks: endpoints, Broker: s.store.Broker, HTTP: s.asking, Identity: s.gate.Identity, Online: s.gate.Online, Logger: s.log, Done: s.metrics.Hook,
	})
	s.admission = gate.NewAdmission(s.leaving, handshakesPerSecond(c), c.Limits.HandshakesBurst, c.Limits.HandshakesWait, s.refused)
	origins := c.Origins
	if c.Dev {
		origins = append(devOrigins(s.public.Addr()), origins...)
	}
	transports := []string{"polling", "websocket"}
	if s.udp != nil {
		transports = append(transports, "webtransport")
	}
	s.sockets = holdpost.NewServer(&holdpost.Config{
		Origins: origins, Transports: transports, Logger: s.log,
		OnRefused:      func(*http.Request, *holdpost.RequestError) { s.refused("request") },
		Recovery:       &holdpost.Recovery{Journal: journal, Identity: s.gate.RecoveryIdentity},
		ClientFiles:    console.ClientFiles(),
		MaxConnections: maxConnections(c),
		ShutdownRate:   c.Drain.Rate,
		MaxPayload:     c.Limits.Payload,
		QueueBytes:     c.Limits.QueueBytes,
		MaxRooms:       c.Limits.Rooms,
	})
	main := s.sockets.Of("/")
	if s.tracing != nil {
		s.tracing.operations(main)
	}
	s.metrics.Watch(main)
	s.gate.Guard(main)
	s.post = delivery.New(delivery.Config{
		Broker: s.store.Broker, Identity: s.gate.Identity, Permit: s.gate.Permit, Inbox: true,
		MaxSubscriptions: c.Limits.Subscriptions, Logger: s.log,
	})
	s.post.Handle(main)
	main.Wrap(answerUnhandled)
	s.hooks.Watch(main, func(event string) bool { return slices.Contains(metrics.Operations, event) })
	s.closers = append(s.closers, closer{"delivery", func() error { s.post.Close(); return nil }})
}

// closeIdle closes the connections of requests to others.
func (s *server) closeIdle() {
	s.asking.CloseIdleConnections()
	s.fetch.CloseIdleConnections()
}

// refused counts a connection that was not let in.
func (s *server) refused(by string) { s.metrics.Refused.WithLabelValues(by).Inc() }

// answerUnhandled tells a client that it has called an operation which does not exist.
func answerUnhandled(ctx context.Context, s *holdpost.Socket, _ string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
	reply, err := next(ctx, s, args)
	if errors.Is(err, holdpost.ErrUnhandled) {
		err = &holdpost.Error{Code: holdpost.CodeUnknownEvent, Message: "there is no such operation, and no hook for events"}
	}
	return reply, err
}

func (s *server) listen(ctx context.Context, flag, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		s.closers = append(s.closers, closer{"listener", func() error {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) { // its http.Server has mostly closed it already
				return err
			}
			return nil
		}})
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &exitError{exitTaken, fmt.Errorf("%s is in use by another program", address),
			fmt.Sprintf("stop that one, or take another port: %s HOST:PORT; port 0 takes any free one", flag)}
	case errors.Is(err, syscall.EACCES):
		return nil, &exitError{exitFailed, fmt.Errorf("not allowed to listen on %s", address), "take a port above 1023: " + flag + " HOST:PORT"}
	}
	return nil, fmt.Errorf("listen: %w", err)
}
