package webtransport

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	wt "github.com/quic-go/webtransport-go"
	"golang.org/x/time/rate"
)

const (
	maxHeaderBytes   = 16 << 10
	handshakeTimeout = 10 * time.Second
	idleTimeout      = time.Minute
	keepAlive        = 25 * time.Second
	maxStreams       = 4 // a connection: the request, the one stream that counts, and nothing comes of the others
	maxUniStreams    = 8 // HTTP/3 itself needs three
	streamWindow     = 1 << 20
	connWindow       = 3 << 19

	// unverified is how many clients a second may begin a handshake without having shown first that their address is theirs.
	unverified = 200
)

// Config says how a [Server] behaves.
type Config struct {
	// TLS has the certificate. It is required, since QUIC has no other form; NextProtos need not be set.
	TLS *tls.Config
	// ResetKey, if it is the one that a process before had, has that one's clients told that their connections are gone as soon as
	// they send something; they would wait for a time-out else. It is a secret. nil: they wait.
	ResetKey *[32]byte
	// Logger takes what goes wrong with single connections, at level debug. Default [slog.Default].
	Logger *slog.Logger
}

// Server lets a handler accept WebTransport sessions.
type Server struct {
	tls      *tls.Config
	quic     *quic.Config
	reset    *quic.StatelessResetKey
	log      *slog.Logger
	sessions wt.Server
	limiter  *rate.Limiter
	group    sync.WaitGroup // of Serve, connections, and sessions that are being closed

	mu     sync.Mutex // guards the fields below
	closed bool
	ends   []func() error // listeners
}

// NewServer returns a server in front of the handler. It panics without a Config.TLS.
func NewServer(handler http.Handler, c *Config) *Server {
	if c == nil || c.TLS == nil {
		panic("webtransport: no Config.TLS")
	}
	s := &Server{
		tls:   http3.ConfigureTLSConfig(c.TLS),
		reset: (*quic.StatelessResetKey)(c.ResetKey),
		log:   c.Logger,
		quic: &quic.Config{
			HandshakeIdleTimeout: handshakeTimeout, MaxIdleTimeout: idleTimeout, KeepAlivePeriod: keepAlive,
			MaxIncomingStreams: maxStreams, MaxIncomingUniStreams: maxUniStreams,
			MaxStreamReceiveWindow: streamWindow, MaxConnectionReceiveWindow: connWindow,
			EnableDatagrams: true, EnableStreamResetPartialDelivery: true, // which WebTransport asks for
		},
		limiter: rate.NewLimiter(unverified, unverified),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.sessions.CheckOrigin = func(*http.Request) bool { return true } // it is the handler's to do
	s.sessions.H3 = &http3.Server{
		MaxHeaderBytes: maxHeaderBytes,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect {
				http.NotFound(w, r)
				return
			}
			handler.ServeHTTP(&writer{ResponseWriter: w, server: s, request: r}, r)
		}),
	}
	return s
}

// Serve serves QUIC on conn until [Server.Close] is called, and returns [http.ErrServerClosed] then, or why it could not. It may
// be called for several at a time. conn stays the caller's to close.
func (s *Server) Serve(conn net.PacketConn) error {
	transport := &quic.Transport{
		Conn: conn, StatelessResetKey: s.reset, VerifySourceAddress: func(net.Addr) bool { return !s.limiter.Allow() },
	}
	listener, err := transport.Listen(s.tls, s.quic)
	if err != nil {
		return err
	}
	if !s.begin(func() error { listener.Close(); return transport.Close() }) {
		transport.Close()
		return http.ErrServerClosed
	}
	defer s.group.Done()
	for {
		c, err := listener.Accept(context.Background())
		if err != nil {
			if s.isClosed() {
				return http.ErrServerClosed
			}
			return err
		}
		if !s.begin(nil) {
			return http.ErrServerClosed
		}
		go func() {
			defer s.group.Done()
			if err := s.sessions.ServeQUICConn(c); err != nil {
				s.log.Debug("quic connection closed", "remote", c.RemoteAddr(), "error", err)
			}
		}()
	}
}

// begin counts one of the group. It returns false once the server is closed.
func (s *Server) begin(end func() error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if end != nil {
		s.ends = append(s.ends, end)
	}
	s.group.Add(1)
	return true
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close ends all connections at once and waits for the server's goroutines. Shut the [holdpost.Server] down first: that tells its
// clients.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	ends := s.ends
	s.ends = nil
	s.mu.Unlock()
	err := s.sessions.Close() // while its goodbyes can still be sent
	for _, end := range ends {
		if e := end(); err == nil {
			err = e
		}
	}
	s.group.Wait()
	return err
}
