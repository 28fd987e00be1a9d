package holdpost

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/holdpost/holdpost/internal/engineio"
	"github.com/holdpost/holdpost/internal/packet"
)

// Config says how a [Server] behaves. The zero value and nil mean Socket.IO's own defaults and the limits named here.
// In every field 0 means the default; where it says so, a negative value switches the thing off. A Config is copied by
// [NewServer]; changing it later has no effect.
type Config struct {
	// Path is the URL path that clients connect to. Default "/socket.io/". It matches exactly, with or without its
	// trailing slash.
	Path string
	// Transports lists what is served: "polling", "websocket", "webtransport". Default the first two. The third one needs a server
	// for HTTP/3 around: package webtransport.
	Transports []string
	// NoUpgrades keeps a connection on the transport that it began with.
	NoUpgrades bool
	// PingInterval is the time between two heartbeats. Default 25 s (Engine.IO v4, heartbeat).
	PingInterval time.Duration
	// PingTimeout is the time in which a client must answer a heartbeat. Default 20 s.
	PingTimeout time.Duration
	// UpgradeTimeout bounds the change from polling to another transport. Default 10 s.
	UpgradeTimeout time.Duration
	// ConnectTimeout is the time in which a connection must join its first namespace. Default 45 s; negative: no limit.
	ConnectTimeout time.Duration
	// WriteTimeout is the time that a write to a peer may stand still. Default 10 s.
	WriteTimeout time.Duration

	// Origins lists the web origins that may connect, over every transport: "https://example.com",
	// "https://*.example.com" (exactly one label), "http://localhost:*" (any port), or "*". Default: pages of the host
	// that the request names. Requests without an Origin header (not from a browser) are always let through.
	Origins []string
	// AllowRequest may refuse a handshake; its error's text reaches the client (403, code 4). nil allows all.
	AllowRequest func(r *http.Request) error
	// OnRefused is told of every request that is refused before a connection takes it: a handshake that is malformed or not
	// allowed, a request of a connection that is gone. It must not block. nil: nobody is.
	OnRefused func(r *http.Request, why *RequestError)
	// KeepHeaders names the request headers that a handshake keeps for the lifetime of its connection. Default
	// Authorization, Cookie, Origin, User-Agent and X-Forwarded-For. Each header kept costs memory.
	KeepHeaders []string
	// Recovery switches connection state recovery on. nil: off.
	Recovery *Recovery

	// PerMessageDeflate has WebSocket messages compressed for clients that offer it (RFC 7692), each by itself. It costs
	// processor time for every message. Default off. What a compressed message inflates to is bounded by MaxPayload.
	PerMessageDeflate bool
	// CompressFrom is the size in bytes from which a message or the response to a poll is compressed: responses whenever the
	// client accepts it, messages with PerMessageDeflate. Default 1,024; negative: nothing is.
	CompressFrom int
	// Cookie is set on the response that opens a polling session, for load balancers that route by it: its name ("io" if it
	// has none), path and other attributes, with the session's id for its value. nil: none.
	Cookie *http.Cookie

	// ClientFiles holds the official client's bundles to be served below Path: socket.io.js, socket.io.min.js,
	// socket.io.esm.min.js, socket.io.msgpack.min.js and the .map of each. Those that are missing are not found. nil: none.
	ClientFiles fs.FS

	// MaxConnections bounds the connections of the server; a client beyond it is told to try again later (503, or close code
	// 1013). Default no limit.
	MaxConnections int
	// ShutdownRate is how many connections [Server.Shutdown] closes a second, so that their clients do not all come back at the
	// same moment; more if they would not be through in half the time that its context has. Default all at once.
	ShutdownRate int

	// AllowEIO3 lets clients of Socket.IO v2 in too. The id of such a client's socket in the main namespace is its session's
	// id, which is a secret else: whoever knows it can send in the client's name. Default off.
	AllowEIO3 bool
	// MessagePack has packets travel as MessagePack, which all clients must be set to (socket.io-msgpack-parser). A handler
	// sees the same arguments; a date is its text, and undefined null, or no member at all. MaxAttachments does not apply.
	MessagePack bool

	// MaxPayload bounds what a client may send at once, in bytes: a POST body, a WebSocket message, a packet of WebTransport. Default 1,000,000.
	MaxPayload int
	// MaxAttachments bounds the binary values of one event. Default 10.
	MaxAttachments int
	// MaxNameBytes bounds the names of namespaces, events and rooms, in bytes. Default 255.
	MaxNameBytes int
	// MaxAuthBytes bounds the auth object of a CONNECT, in bytes. Default 65,536.
	MaxAuthBytes int
	// MaxDepth bounds the nesting of arguments. Default 64.
	MaxDepth int
	// MaxValues bounds the number of JSON values in one event. Default 100,000.
	MaxValues int
	// AttachmentTimeout is the time in which all attachments of an event must arrive. Default 10 s.
	AttachmentTimeout time.Duration
	// MaxNamespaces bounds the namespaces of one connection, joined or waiting at a gate. Default 32.
	MaxNamespaces int
	// MaxDynamicNamespaces bounds the namespaces that clients have made; see [Server.OfPattern]. Default 10,000.
	MaxDynamicNamespaces int
	// MaxRooms bounds the rooms of one socket. Default 512.
	MaxRooms int
	// MaxPendingAcks bounds the acks that one socket owes us. Default 1,024.
	MaxPendingAcks int
	// MaxInboundEvents and MaxInboundBytes bound what waits for the handlers of one socket. Defaults 10,000 and 4 MiB.
	MaxInboundEvents int
	MaxInboundBytes  int
	// QueueBytes and QueuePackets bound what waits for one connection to take it. Defaults 4 MiB and 4,096.
	QueueBytes   int
	QueuePackets int

	// Logger takes what the server handled itself: panics, refused handshakes (debug). Default [slog.Default].
	Logger *slog.Logger
}

// Validate returns what is wrong with c, all at once: an origin that no page can have, an unknown transport, a limit below
// zero. nil means a Config that [NewServer] takes; a nil c is one.
func (c *Config) Validate() error {
	if c == nil {
		return nil
	}
	var errs []error
	wrong := func(field, format string, a ...any) {
		errs = append(errs, fmt.Errorf("config: "+field+": "+format, a...))
	}
	if c.Path != "" && !strings.HasPrefix(c.Path, "/") {
		wrong("Path", "%q does not begin with a slash", c.Path)
	}
	for _, t := range c.Transports {
		if t != engineio.Polling && t != engineio.WebSocket && t != engineio.WebTransport {
			wrong("Transports", "%q is unknown; there are %q, %q and %q", t, engineio.Polling, engineio.WebSocket, engineio.WebTransport)
		}
	}
	for _, o := range c.Origins {
		switch _, ok := parseOriginPattern(o); {
		case o == "*" && len(c.Origins) > 1:
			wrong("Origins", "\"*\" lets everybody in, so it stands alone")
		case o != "*" && !ok:
			wrong("Origins", "%q is not like https://example.com, https://*.example.com or http://localhost:*", o)
		}
	}
	if c.Cookie != nil {
		cookie := *c.Cookie
		orDefault(&cookie.Name, "io")
		if err := cookie.Valid(); err != nil {
			wrong("Cookie", "%v", err)
		}
	}
	if c.Recovery != nil && c.Recovery.Journal == nil {
		wrong("Recovery", "no journal")
	}
	limits := []struct {
		field string
		value int64
	}{
		{"MaxConnections", int64(c.MaxConnections)}, {"ShutdownRate", int64(c.ShutdownRate)}, {"MaxPayload", int64(c.MaxPayload)}, {"MaxAttachments", int64(c.MaxAttachments)}, {"MaxNameBytes", int64(c.MaxNameBytes)},
		{"MaxAuthBytes", int64(c.MaxAuthBytes)}, {"MaxDepth", int64(c.MaxDepth)}, {"MaxValues", int64(c.MaxValues)},
		{"MaxNamespaces", int64(c.MaxNamespaces)}, {"MaxDynamicNamespaces", int64(c.MaxDynamicNamespaces)},
		{"MaxRooms", int64(c.MaxRooms)}, {"MaxPendingAcks", int64(c.MaxPendingAcks)},
		{"MaxInboundEvents", int64(c.MaxInboundEvents)}, {"MaxInboundBytes", int64(c.MaxInboundBytes)},
		{"QueueBytes", int64(c.QueueBytes)}, {"QueuePackets", int64(c.QueuePackets)},
		{"PingTimeout", int64(c.PingTimeout)}, {"UpgradeTimeout", int64(c.UpgradeTimeout)},
		{"WriteTimeout", int64(c.WriteTimeout)}, {"AttachmentTimeout", int64(c.AttachmentTimeout)},
	}
	for _, l := range limits {
		if l.value < 0 {
			wrong(l.field, "below zero")
		}
	}
	return errors.Join(errs...)
}

// withDefaults returns a copy of c, or of the zero Config, in which every field has its effective value.
func (c *Config) withDefaults() Config {
	var v Config
	if c != nil {
		v = *c
	}
	orDefault(&v.Path, "/socket.io/")
	if !strings.HasSuffix(v.Path, "/") {
		v.Path += "/"
	}
	orDefault(&v.ConnectTimeout, 45*time.Second)
	orDefault(&v.MaxAttachments, packet.DefaultLimits.Attachments)
	orDefault(&v.MaxNameBytes, packet.DefaultLimits.Name)
	orDefault(&v.MaxAuthBytes, packet.DefaultLimits.AuthBytes)
	orDefault(&v.MaxDepth, packet.DefaultLimits.Depth)
	orDefault(&v.MaxValues, packet.DefaultLimits.Values)
	orDefault(&v.MaxPayload, 1_000_000)
	orDefault(&v.AttachmentTimeout, 10*time.Second)
	orDefault(&v.MaxNamespaces, 32)
	orDefault(&v.MaxDynamicNamespaces, 10_000)
	orDefault(&v.MaxRooms, 512)
	orDefault(&v.MaxPendingAcks, 1024)
	orDefault(&v.MaxInboundEvents, 10_000)
	orDefault(&v.MaxInboundBytes, 4<<20)
	orDefault(&v.QueueBytes, 4<<20)
	orDefault(&v.QueuePackets, 4096)
	if v.Recovery != nil {
		r := *v.Recovery
		orDefault(&r.MaxAway, defaultMaxAway)
		v.Recovery = &r
	}
	if v.Logger == nil {
		v.Logger = slog.Default()
	}
	return v
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) limits() packet.Limits {
	return packet.Limits{
		Attachments: c.MaxAttachments,
		Namespace:   c.MaxNameBytes,
		Name:        c.MaxNameBytes,
		Depth:       c.MaxDepth,
		Values:      c.MaxValues,
		AuthBytes:   c.MaxAuthBytes,
		TotalBytes:  2 * c.MaxPayload,
	}
}

func (c *Config) refused() func(*http.Request, *engineio.Refusal) {
	if c.OnRefused == nil {
		return nil
	}
	return func(r *http.Request, no *engineio.Refusal) { c.OnRefused(r, (*RequestError)(no)) }
}

func (c *Config) engine(origins *originList, open func(*engineio.Session) engineio.Handler) engineio.Config {
	return engineio.Config{
		Path:              c.Path,
		Transports:        c.Transports,
		NoUpgrades:        c.NoUpgrades,
		MaxSessions:       c.MaxConnections,
		ShutdownRate:      c.ShutdownRate,
		PingInterval:      c.PingInterval,
		PingTimeout:       c.PingTimeout,
		UpgradeTimeout:    c.UpgradeTimeout,
		WriteTimeout:      c.WriteTimeout,
		MaxPayload:        c.MaxPayload,
		PerMessageDeflate: c.PerMessageDeflate,
		CompressFrom:      c.CompressFrom,
		AllowEIO3:         c.AllowEIO3,
		Cookie:            c.Cookie,
		QueueBytes:        c.QueueBytes,
		QueuePackets:      c.QueuePackets,
		KeepHeaders:       c.KeepHeaders,
		CheckOrigin:       origins.allow,
		AllowRequest:      c.AllowRequest,
		Refused:           c.refused(),
		Logger:            c.Logger,
		Open:              open,
	}
}
