package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/holdpost/holdpost/internal/packet"
)

// Config says how a [Client] behaves. In every field 0 means the default; where it says so, a negative value switches the
// thing off. A Config is copied by [New].
type Config struct {
	// Path is the URL path of the server. Default "/socket.io/".
	Path string
	// Transports lists how to connect: "websocket", "polling". The first is tried first, and the others when it fails in a way
	// that they need not. A connection that began with polling moves to a WebSocket if that is listed behind it. Default
	// "websocket", "polling".
	Transports []string

	// MessagePack has packets travel as MessagePack instead of text, which the server has to be set to as well: each packet is one
	// binary message, whatever its arguments are.
	MessagePack bool

	// PerMessageDeflate offers the server to compress WebSocket messages, each by itself (RFC 7692), and if it accepts compresses
	// those of 1,024 bytes and more. What a message inflates to is bounded by MaxPayload. Default off.
	PerMessageDeflate bool

	// Auth is what a server's gates see of a client, in every namespace: a value that encodes to a JSON object. nil: nothing.
	Auth any
	// AuthFunc is asked for it instead, for each namespace and at each connect. An error fails that attempt.
	AuthFunc func(ctx context.Context, namespace string) (any, error)

	// Header is sent with every request.
	Header http.Header
	// TLS is the configuration of TLS connections. nil: certificates are verified against the system's authorities.
	TLS *tls.Config
	// Dial makes TCP connections. Default: those of package net.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Proxy returns the proxy of a request. Default [http.ProxyFromEnvironment].
	Proxy func(*http.Request) (*url.URL, error)
	// MaxRedirects bounds the redirects of one request. Default 3; negative: none is followed.
	MaxRedirects int

	// ConnectTimeout bounds an attempt to connect, and how long a server may take to let a socket in. Default 20 s.
	ConnectTimeout time.Duration
	// WriteTimeout is the time in which a server must take a write. Default 10 s.
	WriteTimeout time.Duration

	// ReconnectDelay is the time before the first attempt to reconnect, ReconnectFactor what it grows by with each that fails,
	// ReconnectMaxDelay its bound. Defaults 1 s, 2, 5 s.
	ReconnectDelay    time.Duration
	ReconnectFactor   float64
	ReconnectMaxDelay time.Duration
	// ReconnectJitter is the part of the delay by which it is made longer or shorter at random, so that many clients do not
	// come back at once. Default 0.5, at most 1; negative: none.
	ReconnectJitter float64
	// ReconnectAttempts bounds the attempts in a row that may fail before the sockets end. Default: no bound; negative: a
	// connection that fails or is lost is not tried again.
	ReconnectAttempts int

	// BufferBytes and BufferPackets bound what waits in one socket for a server to take it, while the client is away and while
	// it is connected. Defaults 4 MiB and 4,096.
	BufferBytes   int
	BufferPackets int
	// WhenFull names what happens to an event that finds the buffer full: "refuse" (default), and its caller gets [ErrFull]; or
	// "drop-oldest", and the events that have waited longest make room, those who wait for their acks getting ErrFull.
	WhenFull string

	// AckTimeout is the time after which [Socket.Retrying] and [Socket.Publish] send again what was not answered. Default 10 s.
	AckTimeout time.Duration
	// MaxPendingAcks bounds the acks that a server owes one socket. Default 4,096.
	MaxPendingAcks int

	// MaxPayload bounds what a server may send at once, in bytes: one message, and twice that for one answer to a poll.
	// Default 4 MiB.
	MaxPayload int
	// MaxAttachments bounds the binary values of one event. Default 10.
	MaxAttachments int
	// AttachmentTimeout is the time in which all attachments of an event must arrive. Default 10 s.
	AttachmentTimeout time.Duration
	// MaxNameBytes bounds the name of an event, in bytes. Default 255.
	MaxNameBytes int
	// MaxDepth bounds the nesting of arguments. Default 64.
	MaxDepth int
	// MaxValues bounds the number of JSON values in one event. Default 100,000.
	MaxValues int
	// MaxInboundEvents and MaxInboundBytes bound what waits for the handlers of one socket. When a server sends more, the
	// connection is closed with [holdpost.ReasonOverrun], and opened again after a delay. Defaults 10,000 and 16 MiB.
	MaxInboundEvents int
	MaxInboundBytes  int

	// Logger takes what no caller sees: panics of handlers, errors of handlers that nobody waits for. Default [slog.Default].
	Logger *slog.Logger
}

const (
	whenFullRefuse     = "refuse"
	whenFullDropOldest = "drop-oldest"
)

func (c *Config) withDefaults() Config {
	var v Config
	if c != nil {
		v = *c
	}
	orDefault(&v.Path, "/socket.io/")
	if len(v.Transports) == 0 {
		v.Transports = []string{webSocketName, pollingName}
	}
	if v.Proxy == nil {
		v.Proxy = http.ProxyFromEnvironment
	}
	orDefault(&v.MaxRedirects, 3)
	orDefault(&v.ConnectTimeout, 20*time.Second)
	orDefault(&v.WriteTimeout, 10*time.Second)
	orDefault(&v.ReconnectDelay, time.Second)
	orDefault(&v.ReconnectFactor, 2)
	orDefault(&v.ReconnectMaxDelay, 5*time.Second)
	orDefault(&v.ReconnectJitter, 0.5)
	v.ReconnectJitter = min(max(v.ReconnectJitter, 0), 1)
	orDefault(&v.BufferBytes, 4<<20)
	orDefault(&v.BufferPackets, 4096)
	orDefault(&v.WhenFull, whenFullRefuse)
	orDefault(&v.AckTimeout, 10*time.Second)
	orDefault(&v.MaxPendingAcks, 4096)
	orDefault(&v.MaxPayload, 4<<20)
	orDefault(&v.MaxAttachments, packet.DefaultLimits.Attachments)
	orDefault(&v.AttachmentTimeout, 10*time.Second)
	orDefault(&v.MaxNameBytes, packet.DefaultLimits.Name)
	orDefault(&v.MaxDepth, packet.DefaultLimits.Depth)
	orDefault(&v.MaxValues, packet.DefaultLimits.Values)
	orDefault(&v.MaxInboundEvents, 10_000)
	orDefault(&v.MaxInboundBytes, 16<<20)
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
		Namespace:   packet.DefaultLimits.Namespace,
		Name:        c.MaxNameBytes,
		Depth:       c.MaxDepth,
		Values:      c.MaxValues,
		AuthBytes:   packet.DefaultLimits.AuthBytes,
		TotalBytes:  2 * c.MaxPayload,
	}
}
