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
	"strings"
	"time"

	"github.com/oklog/run"

	"github.com/holdpost/holdpost/internal/api"
	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/console"
	"github.com/holdpost/holdpost/internal/gate"
	"github.com/holdpost/holdpost/webtransport"
)

// readyLook is how often a server that starts looks whether the log has been read in.
const readyLook = 10 * time.Millisecond

// warnEvery is how often the log says that the server is open to everybody.
const warnEvery = time.Minute

var errDraining = errors.New("draining")

// run serves until ctx ends or something fails, then drains and closes everything. It calls ready once, when the server is.
func (s *server) run(ctx context.Context, ready func()) error {
	var g run.Group
	// The interrupts run one after the other in this order: first clients leave, then the API stops answering.
	g.Add(s.untilDone(ctx, ready))
	g.Add(s.reloadActor())
	g.Add(s.memoryActor())
	g.Add(s.warnActor())
	if s.acme != nil {
		g.Add(s.acmeActor())
	}
	public := s.publicHandler()
	files := &fileGuard{most: forConnections(), sessions: s.sockets.Connections, refused: func() { s.refused("files") }}
	g.Add(s.publicActor(public, files))
	if s.plain != nil {
		g.Add(s.redirectActor(files))
	}
	if s.udp != nil {
		g.Add(s.webTransportActor(public))
	}
	g.Add(s.hooksActor())
	g.Add(s.internalActor())
	err := g.Run()
	s.leave()
	if cerr := s.close(); err == nil {
		err = cerr
	}
	return err
}

// untilDone tells when the server is ready, and ends with ctx.
func (s *server) untilDone(ctx context.Context, ready func()) (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	return func() error {
			look := time.NewTicker(readyLook)
			defer look.Stop()
			for s.ready() != nil {
				select {
				case <-look.C:
				case <-ctx.Done():
					return nil
				}
			}
			look.Stop()
			ready()
			<-ctx.Done()
			return nil
		}, func(error) {
			s.leave()
			s.post.Hold()
			s.log.Info("draining", "connections", s.sockets.Connections())
			cancel()
		}
}

func (s *server) publicHandler() http.Handler {
	var pages http.Handler = http.NotFoundHandler()
	if s.config.Dev {
		pages = console.Handler()
	}
	proxies, _ := config.Networks(s.config.Proxies) // which were checked
	sockets := gate.Forwarded(s.admission.Around(s.sockets), proxies)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/socket.io" || strings.HasPrefix(r.URL.Path, "/socket.io/") {
			sockets.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

func (s *server) publicActor(handler http.Handler, files *fileGuard) (execute func() error, interrupt func(error)) {
	h := newPublicHTTP(handler, s.log)
	h.ConnState = files.watch
	listener := s.reserved(s.public, s.tls == nil)
	if s.tls != nil {
		listener = tls.NewListener(listener, s.tls)
		h.ConnState = func(c net.Conn, state http.ConnState) {
			files.watch(c, state)
			s.handshakes.watch(c, state)
		}
	}
	return func() error { return serve(h, listener) }, func(error) {
		ctx, cancel := context.WithTimeout(context.Background(), s.now.Load().Drain.Patience)
		defer cancel()
		if err := s.sockets.Shutdown(ctx); err != nil {
			s.log.Warn("clients cut off", "err", err)
			s.sockets.Close()
		}
		s.stop(ctx, "public", h)
	}
}

// reserved returns a listener that is answered for when there are no files; who speaks TLS is not.
func (s *server) reserved(l net.Listener, plain bool) net.Listener {
	return newReservedListener(l, func(c net.Conn) {
		s.refused("files")
		if plain {
			turnAway(c)
		} else {
			c.Close()
		}
	})
}

// webTransportActor serves WebTransport until the sockets have been shut down.
func (s *server) webTransportActor(handler http.Handler) (execute func() error, interrupt func(error)) {
	t := webtransport.NewServer(handler, &webtransport.Config{
		TLS: &tls.Config{GetCertificate: s.tls.GetCertificate, MinVersion: tls.VersionTLS13}, ResetKey: s.resetKey, Logger: s.log,
	})
	return func() error {
			if err := t.Serve(s.udp); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve webtransport: %w", err)
			}
			return nil
		}, func(error) {
			if err := t.Close(); err != nil {
				s.log.Warn("webtransport", "err", err)
			}
		}
}

func (s *server) internalActor() (execute func() error, interrupt func(error)) {
	host, _, _ := net.SplitHostPort(s.internal.Addr().String())
	handler := s.counted(api.Handler(s.apiConfig(host)))
	if s.tracing != nil {
		handler = s.tracing.requests(handler)
	}
	h := newHTTP(handler, s.log)
	files := &fileGuard{most: forOperators(), sessions: func() int { return 0 }, refused: func() { s.refused("files") }}
	h.ConnState = files.watch
	listener := s.reserved(s.internal, true)
	return func() error { return serve(h, listener) }, func(error) {
		ctx, cancel := context.WithTimeout(context.Background(), s.now.Load().Drain.Patience)
		defer cancel()
		s.stop(ctx, "internal", h)
	}
}

// acmeActor gets certificates and sees that they are renewed.
func (s *server) acmeActor() (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	return func() error { s.acme.run(ctx); return nil }, func(error) { cancel() }
}

// countOpen has the metrics tell what a configuration opens.
func (s *server) countOpen(c *config.Config) {
	for option, on := range map[string]bool{"dev": c.Dev, "anonymous": c.Auth.Anonymous, "any_origin": slices.Contains(s.config.Origins, "*")} {
		value := 0.0
		if on {
			value = 1
		}
		s.metrics.Open.WithLabelValues(option).Set(value)
	}
}

// warnActor says every minute that everybody is let in from everywhere.
func (s *server) warnActor() (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	return func() error {
		if isOpen(s.config) {
			again := time.NewTicker(warnEvery)
			defer again.Stop()
			for ctx.Err() == nil {
				s.log.Warn("dev mode: everybody who reaches this server is let in, and may do everything", "listen", s.public.Addr(), "internal", s.internal.Addr())
				select {
				case <-again.C:
				case <-ctx.Done():
				}
			}
		}
		<-ctx.Done()
		return nil
	}, func(error) { cancel() }
}

// isOpen tells whether everybody is let in from other machines too.
func isOpen(c *config.Config) bool {
	return c.Dev && !(isLoopback(c.Listen) && isLoopback(c.Internal.Listen))
}

// memoryActor keeps the server within its memory.
func (s *server) memoryActor() (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	return func() error {
		limit := memoryLimit(s.config)
		if limit == 0 {
			<-ctx.Done()
			return nil
		}
		g := memoryGuard{limit: limit, used: memoryInUse, hold: s.hold, shed: func(bytes int) {
			if n := s.sockets.Shed(bytes); n > 0 {
				s.metrics.Shed.Add(float64(n))
				s.log.Warn("connections closed for want of memory", "connections", n)
			}
		}}
		g.look()
		s.log.Info("memory is limited", "bytes", limit)
		g.run(ctx)
		return nil
	}, func(error) { cancel() }
}

// hold lets nobody in and compresses nothing, or ends that, for want of memory.
func (s *server) hold(held bool) {
	s.admission.Hold(held)
	s.sockets.SetCompression(!held)
}

// hooksActor tells endpoints what happens, until clients have left.
func (s *server) hooksActor() (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	return func() error {
		if err := s.hooks.Run(ctx); ctx.Err() == nil {
			return fmt.Errorf("hooks: %w", err)
		}
		return nil
	}, func(error) { cancel() }
}

// counted counts the requests of the API.
func (s *server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		status := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(status, r)
		s.metrics.Request(r.Pattern, status.status, time.Since(start))
	})
}

func (s *server) apiConfig(host string) api.Config {
	main := s.sockets.Of("/")
	return api.Config{
		Broker: s.store.Broker, Namespace: main, Post: s.post, Identity: s.gate.Identity,
		Authority: s.authority, Revoked: func() { s.gate.Enforce(context.Background(), main) },
		Ready: func(ctx context.Context) error {
			if err := s.ready(); err != nil {
				return err
			}
			return s.probe.run(ctx)
		},
		Leaving: s.leaving, More: s.operations(), Host: host, Logger: s.log,
	}
}

// newHTTP returns a server that a client can't hold up before it has sent its request. A response has no such limit: a poll
// and a stream last as long as they should, and bound their own writes.
func newHTTP(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       75 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// newPublicHTTP returns a server that anybody may ask: a request and its body have to be there in time, also what of it nobody reads. Who
// answers later than that, or reads for longer, sets a deadline of its own.
func newPublicHTTP(h http.Handler, log *slog.Logger) *http.Server {
	s := newHTTP(h, log)
	s.ReadTimeout = requestTimeout
	return s
}

const requestTimeout = 30 * time.Second

func serve(h *http.Server, l net.Listener) error {
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

func (s *server) stop(ctx context.Context, name string, h *http.Server) {
	if err := h.Shutdown(ctx); err != nil {
		s.log.Warn("requests cut off", "listener", name, "err", err)
		h.Close()
	}
}

// ready returns nil while clients should be sent here.
func (s *server) ready() error {
	if s.leaving.Err() != nil {
		return errDraining
	}
	return s.store.Ready()
}

// close ends what was started, last first, and returns the first error.
func (s *server) close() error {
	var first error
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i].close(); err != nil {
			s.log.Error("close", "what", s.closers[i].name, "err", err)
			if first == nil {
				first = fmt.Errorf("close %s: %w", s.closers[i].name, err)
			}
		}
	}
	return first
}
