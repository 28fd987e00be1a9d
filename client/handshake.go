package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/packet"
)

func (c *Client) newLink() *link {
	l := &link{client: c, web: c.web(), decoder: packet.NewDecoder(&c.limits)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// dial opens a session over the first transport that lets it.
func (c *Client) dial(ctx context.Context) (*link, error) {
	var first *DialError
	for i, name := range c.config.Transports {
		l := c.newLink()
		err := l.open(ctx, name)
		if err == nil {
			later := c.config.Transports[i+1:]
			if name == pollingName && slices.Contains(later, webSocketName) && slices.Contains(l.handshake.Upgrades, webSocketName) {
				l.switching = newSwitching()
			}
			return l, nil
		}
		l.end(holdpost.ReasonTransportError, err)
		l.web.CloseIdleConnections()
		err.Transport, err.URL = name, c.address()
		if first == nil {
			first = err
		}
		if !err.elsewhere() || ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func (l *link) open(ctx context.Context, transport string) *DialError {
	ctx, cancel := context.WithTimeout(ctx, l.client.config.ConnectTimeout)
	defer cancel()
	var err error
	if transport == webSocketName {
		err = l.openWebSocket(ctx)
	} else {
		err = l.openPolling(ctx)
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*DialError](err); ok {
		return e
	}
	if _, ok := errors.AsType[*frame.CloseError](err); ok || errors.Is(err, errTooLarge) {
		return &DialError{Code: codeNotSocketIO, Err: err}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &DialError{Code: codeUnreachable, Err: err}
}

func (l *link) openWebSocket(ctx context.Context) error {
	ws, refused := l.dialWebSocket(ctx, "")
	if refused != nil {
		return refused
	}
	l.ws.Store(ws)
	l.to = ws
	stop := context.AfterFunc(ctx, ws.close)
	for !l.isOpen() {
		if err := ws.read(l); err != nil {
			stop()
			return err
		}
	}
	if !stop() {
		return context.Cause(ctx)
	}
	l.web = nil
	return nil
}

// earlier matches what a server of Engine.IO 3 begins a payload with.
var earlier = regexp.MustCompile(`^[0-9]+:0\{`)

func (l *link) openPolling(ctx context.Context) error {
	body, err := l.get(ctx, "")
	if err != nil {
		return err
	}
	if earlier.Match(body) {
		return &DialError{Code: codeVersion}
	}
	l.to = &poller{link: l}
	return l.payload(body)
}

func (l *link) isOpen() bool { return l.handshake.SID != "" }

// The bounds of what a server may say of its heartbeat and of the size of a request.
const (
	minHeartbeat = time.Millisecond
	maxHeartbeat = 24 * time.Hour
)

// start reads the open packet (Engine.IO v4, "Handshake").
func (l *link) start(p wire.Packet) error {
	malformed := func(format string, a ...any) error {
		return &DialError{Code: codeMalformed, Err: fmt.Errorf("open packet: "+format, a...)}
	}
	var h struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval float64  `json:"pingInterval"`
		PingTimeout  float64  `json:"pingTimeout"`
		MaxPayload   float64  `json:"maxPayload"`
	}
	if p.Type != wire.Open || p.Binary {
		return malformed("another one came first")
	}
	if err := json.Unmarshal(p.Data, &h); err != nil {
		return malformed("%w", err)
	}
	if h.SID == "" || len(h.SID) > 256 {
		return malformed("sid missing or too long")
	}
	for name, value := range map[string]float64{"pingInterval": h.PingInterval, "pingTimeout": h.PingTimeout} {
		if d := milliseconds(value); d < minHeartbeat || d > maxHeartbeat {
			return malformed("%s of %v ms", name, value)
		}
	}
	if h.MaxPayload <= 0 { // a server may leave it out
		h.MaxPayload = 1_000_000
	}
	l.handshake = wire.Handshake{
		SID: h.SID, Upgrades: h.Upgrades, PingInterval: milliseconds(h.PingInterval), PingTimeout: milliseconds(h.PingTimeout),
		MaxPayload: int(min(h.MaxPayload, 1<<30)),
	}
	l.opened = time.Now()
	l.alive = time.AfterFunc(l.patience(), func() { l.end(holdpost.ReasonPingTimeout, nil) })
	return nil
}

func milliseconds(n float64) time.Duration {
	return time.Duration(min(max(n, -1), 1e12) * float64(time.Millisecond))
}

// patience is the time within which a heartbeat has to come (Engine.IO v4, "Heartbeat").
func (l *link) patience() time.Duration { return l.handshake.PingInterval + l.handshake.PingTimeout }
