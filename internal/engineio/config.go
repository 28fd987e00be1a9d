package engineio

import (
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
)

// The transports, by the names that requests use.
const (
	Polling      = "polling"
	WebSocket    = "websocket"
	WebTransport = "webtransport"
)

// A Config says how a [Server] works. Zero fields mean the defaults.
type Config struct {
	Path string // matched exactly, and without its trailing slash; default "/socket.io/"

	PingInterval   time.Duration // from one pong to the next ping; default 25 s, negative sends no pings
	PingTimeout    time.Duration // from a ping to its pong; default 20 s
	UpgradeTimeout time.Duration // for a client to finish a change of transport; default 10 s
	WriteTimeout   time.Duration // for a peer to take any more bytes; default 10 s
	BodyTimeout    time.Duration // for a whole request body; default 30 s

	MaxPayload           int // bytes of a request body, a WebSocket message or a packet of WebTransport; default 1,000,000
	MaxPacketsPerPayload int // packets in one request body; default 10,000
	QueueBytes           int // bytes that may wait for one peer; default 4 MiB
	QueuePackets         int // messages that may wait for one peer; default 4096
	MaxSessions          int // more are answered 503; default no limit
	ShutdownRate         int // sessions that Shutdown closes a second; default all at once

	// PerMessageDeflate has WebSocket messages compressed if the client offers it (RFC 7692): each by itself, so that
	// nothing is held between them.
	PerMessageDeflate bool
	CompressFrom      int // bytes from which a message or a polling response is compressed; default 1024, negative: none is

	Transports []string // which are served; default polling and WebSocket
	NoUpgrades bool     // a session stays on the transport that it began with
	AllowEIO3  bool     // serves clients of revision 3 of the protocol too

	// Cookie is set on the response that opens a polling session, with the session's id for its value. Its name is "io" if
	// it has none. nil sets none.
	Cookie *http.Cookie

	// KeepHeaders names the request headers that a session keeps. Default Authorization, Cookie, Origin, User-Agent and
	// X-Forwarded-For; an empty slice that is not nil keeps none.
	KeepHeaders []string

	// CheckOrigin says whether a request may come from its Origin. It is asked about every request; nil allows all.
	CheckOrigin func(r *http.Request) bool

	// AllowRequest may refuse to open a session; the client is told the error's text. nil allows all.
	AllowRequest func(r *http.Request) error

	// Refused is told of every request that is refused, before it is answered. nil: nobody is.
	Refused func(r *http.Request, why *Refusal)

	Logger *slog.Logger // default discards

	// Open is called for every session before anything is read from it, and returns the one that its messages go to.
	// It may send. Required.
	Open func(s *Session) Handler
}

// A Handler takes what happens to one [Session]. One method runs at a time. None may block: a method that waits holds up
// its own connection, and the server's Close.
type Handler interface {
	// Message takes one message; data is valid until the call returns. An error closes the session with
	// [ReasonParseError].
	Message(data []byte, binary bool) error

	// Batch follows the last message of what was read in one piece: the time to flush what was sent meanwhile. What it
	// returns, unless nil, is run next, on a goroutine that the session does not need, so that it may block. Nothing waits
	// for it.
	Batch() Runner

	// Closed is the last call. The cause adds detail where there is any.
	Closed(r Reason, cause error)
}

// A Runner is work that messages gave rise to.
type Runner interface {
	Run()
}

// A Reason says why a session closed. Apart from the last two, applications know them from other servers.
type Reason string

// The reasons for which a session closes.
const (
	ReasonTransportError Reason = "transport error"
	ReasonTransportClose Reason = "transport close"
	ReasonForcedClose    Reason = "forced close"
	ReasonPingTimeout    Reason = "ping timeout"
	ReasonParseError     Reason = "parse error"
	ReasonSlowPeer       Reason = "slow peer"
	ReasonShutdown       Reason = "server shutting down"
)

const (
	maxPollPackets = 16                     // some clients refuse a longer payload
	closeTimeout   = 30 * time.Second       // for a polling client to fetch its close packet
	lingerTimeout  = 2 * time.Second        // for a WebSocket's peer to hang up once it was told to, and for the former at a shutdown
	streamLinger   = 300 * time.Millisecond // for the last bytes of a WebTransport stream to arrive, before the session's end tells of it
	frameTimeout   = 30 * time.Second       // for a message to be complete once it was begun
	confirmEvery   = time.Second            // between pings for Confirm
	corkTimeout    = 5 * time.Millisecond   // what comes by itself is read by itself, also by a client that is a little late
	maxLate        = 20 * time.Millisecond  // of a ping; a server that stood still longer gives its clients the whole time
	overtakeTime   = 10 * time.Millisecond  // by which a request may come behind what its client sent later on another connection
	shutdownBeats  = 50                     // a second, in which sessions are closed at the rate of a shutdown
	maxTurns       = 16                     // batches that a sender writes for others before a goroutine takes over
)

func (c Config) withDefaults() Config {
	if c.Open == nil {
		panic("engineio: Config.Open is nil")
	}
	defaultTo(&c.Path, "/socket.io/")
	if c.PingInterval == 0 {
		c.PingInterval = 25 * time.Second
	}
	defaultTo(&c.PingTimeout, 20*time.Second)
	defaultTo(&c.UpgradeTimeout, 10*time.Second)
	defaultTo(&c.WriteTimeout, 10*time.Second)
	defaultTo(&c.BodyTimeout, 30*time.Second)
	defaultTo(&c.MaxPayload, 1_000_000)
	defaultTo(&c.MaxPacketsPerPayload, 10_000)
	defaultTo(&c.QueueBytes, 4<<20)
	defaultTo(&c.QueuePackets, 4096)
	if c.CompressFrom == 0 {
		c.CompressFrom = 1024
	}
	c.PerMessageDeflate = c.PerMessageDeflate && c.CompressFrom > 0
	if c.Transports == nil {
		c.Transports = []string{Polling, WebSocket}
	}
	if c.KeepHeaders == nil {
		c.KeepHeaders = []string{"Authorization", "Cookie", "Origin", "User-Agent", "X-Forwarded-For"}
	}
	if c.Cookie != nil {
		cookie := *c.Cookie
		defaultTo(&cookie.Name, "io")
		if err := cookie.Valid(); err != nil {
			panic("engineio: Config.Cookie: " + err.Error())
		}
		c.Cookie = &cookie
	}
	c.KeepHeaders = slices.Clone(c.KeepHeaders)
	for i, name := range c.KeepHeaders {
		c.KeepHeaders[i] = http.CanonicalHeaderKey(name)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func defaultTo[T ~int | ~int64 | ~string](v *T, d T) {
	var zero T
	if *v <= zero { // no field that comes here has a use for negative values
		*v = d
	}
}

// frameLimits returns the limits of a WebSocket without compression, and with.
func (c *Config) frameLimits() (plain, compressed *frame.Limits) {
	plain, compressed = frame.DefaultLimits(c.MaxPayload), frame.DefaultLimits(c.MaxPayload)
	compressed.Compressed = true
	return plain, compressed
}
