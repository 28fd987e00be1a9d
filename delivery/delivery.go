package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

// Config says how a [Delivery] works. Broker is required; in the other fields the zero value means the default.
type Config struct {
	Broker *queue.Broker
	// Identity returns who a socket is across connections, "" when that is not known. Default: nobody is known. A
	// socket's identity must not change.
	Identity func(*holdpost.Socket) string
	// Permit returns nil if a socket may do something, and else the error that its client is answered, an [holdpost.Error]. The
	// actions are those that the operations ask for, with what their names are: join and send, a room; subscribe, a topic or a
	// pattern, also for its history and who is subscribed; publish, a topic; work, a shared queue; inbox, one's own identity, which
	// is to be refused only to who may do nothing any more. It is asked at each operation, and for the subscriptions of a socket that is recovered; what goes on ends with
	// [Delivery.Enforce]. nil permits all.
	Permit func(ctx context.Context, s *holdpost.Socket, action, name string) error
	// Window bounds the bytes that wait for one connection because of its subscriptions. Default 65,536.
	Window int
	// MaxSubscriptions bounds the subscriptions of one socket, and the places whose presence it watches. Default 128.
	MaxSubscriptions int
	// Inbox subscribes every socket that has an identity to the topic inbox/ followed by the identity, as it connects. Its
	// first subscription gets everything that is there, also from before the identity was ever seen.
	Inbox bool
	// Device returns which of an identity's devices a socket is on, "" when that is not known: each device has personal queues
	// of its own then. Default: the devices of an identity share them, and what one has acknowledged none gets again.
	Device func(*holdpost.Socket) string
	// Grace is how long an identity stays present after its last socket has gone. Default 10 s.
	Grace time.Duration
	// Logger takes what no caller sees. Default [slog.Default].
	Logger *slog.Logger
}

// Delivery hands queues to sockets. Make one with [New].
type Delivery struct {
	config Config

	subscriptions *holdpost.Key[*subscriptions] // of a socket
	recoverable   *holdpost.Key[[]Subscription] // the same, for when it is recovered
	watching      *holdpost.Key[watches]        // likewise
	presences     *presences
	work          sync.WaitGroup // what goes on beside the sockets
	held          atomic.Bool    // nothing more is handed out

	// The event that was encoded last: one event mostly goes to many sockets in a row.
	plain, withOffset atomic.Pointer[encodedEvent]
}

type encodedEvent struct {
	event    *queue.Event
	prepared *holdpost.Prepared
}

// New returns a Delivery. It does no I/O.
func New(c Config) *Delivery {
	if c.Identity == nil {
		c.Identity = func(*holdpost.Socket) string { return "" }
	}
	if c.Permit == nil {
		c.Permit = func(context.Context, *holdpost.Socket, string, string) error { return nil }
	}
	if c.Device == nil {
		c.Device = func(*holdpost.Socket) string { return "" }
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Window == 0 {
		c.Window = 64 << 10
	}
	if c.MaxSubscriptions == 0 {
		c.MaxSubscriptions = 128
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Delivery{
		config:        c,
		subscriptions: holdpost.NewKey[*subscriptions]("delivery.subscriptions"),
		recoverable:   holdpost.NewRecoverableKey[[]Subscription]("delivery.subscriptions"),
		watching:      holdpost.NewRecoverableKey[watches]("delivery.watches"),
		presences:     newPresences(c.Grace),
	}
}

// Handle registers the client operations join, leave, send, subscribe, unsubscribe, publish, history and presence on a namespace. The
// subscriptions of a socket that is recovered are recovered with it. It panics when one of them is registered already.
func (d *Delivery) Handle(ns *holdpost.Namespace) {
	for event, h := range map[string]holdpost.Handler{
		"join":        d.join,
		"leave":       d.leave,
		"send":        d.send,
		"subscribe":   d.subscribe,
		"unsubscribe": d.unsubscribe,
		"publish":     d.publish,
		"history":     d.history,
		"presence":    d.presence,
	} {
		ns.On(event, func(ctx context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
			reply, err := h(ctx, s, args)
			return reply, coded(err)
		})
	}
	ns.OnConnection(d.connected)
	ns.OnDisconnect(func(s *holdpost.Socket, _ holdpost.Reason) { d.detach(s) })
	ns.OnJoin(func(s *holdpost.Socket, room string, _ bool) {
		d.presences.enter(place{namespace: s.Namespace().Name(), room: room}, d.config.Identity(s))
	})
	ns.OnLeave(func(s *holdpost.Socket, room string, _ bool) {
		d.presences.leave(place{namespace: s.Namespace().Name(), room: room}, d.config.Identity(s))
	})
}

// connected gives a socket what it had, or what every new one has.
func (d *Delivery) connected(ctx context.Context, s *holdpost.Socket) error {
	if s.Recovered() {
		d.rewatch(s)
		return d.reattach(ctx, s)
	}
	identity := d.config.Identity(s)
	if !d.config.Inbox || identity == "" {
		return nil
	}
	return d.attach(ctx, s, Subscription{Topic: inboxPrefix + identity, From: queue.StartFirst}, unasked)
}

// Hold hands out nothing more, to any socket, for good: what comes is held in the queues. Call it before the server is shut
// down, so that no event is given to a client that is about to lose its connection.
func (d *Delivery) Hold() { d.held.Store(true) }

// Close ends what goes on without a socket, such as grace periods. Call it after the server was shut down.
func (d *Delivery) Close() {
	d.work.Wait()
	d.presences.close()
}

// prepare encodes an event with or without its offset as the last argument.
func (d *Delivery) prepare(e *queue.Event, withOffset bool) (*holdpost.Prepared, error) {
	cache := &d.plain
	if withOffset {
		cache = &d.withOffset
	}
	if c := cache.Load(); c != nil && c.event == e {
		return c.prepared, nil
	}
	args, err := eventArgs(e)
	if err != nil {
		return nil, err
	}
	values := []any{args}
	if withOffset {
		values = append(values, e.Offset.String())
	}
	p, err := holdpost.Prepare(e.Name, values...)
	if err == nil {
		cache.Store(&encodedEvent{e, p})
	}
	return p, err
}

// Deliverable returns nil for an event that can be handed to sockets, else a [queue.Error] with code invalid_event or
// invalid_args: Socket.IO reserves some names, and arguments are bounded in depth and number. Whoever publishes for sockets
// asks first, because an event that is stored already can only be told as a gap. args is a JSON array, or empty.
func Deliverable(event string, args json.RawMessage) error {
	if _, err := holdpost.Prepare(event); err != nil {
		return &queue.Error{Code: "invalid_event", Detail: fmt.Sprintf("event name %q is reserved by Socket.IO", event)}
	}
	if len(args) == 0 {
		return nil
	}
	if _, err := holdpost.NewArgs(args, nil); err != nil {
		return &queue.Error{Code: "invalid_args", Detail: err.Error()}
	}
	return nil
}

func eventArgs(e *queue.Event) (holdpost.Args, error) {
	if len(e.Args) == 0 {
		return holdpost.Args{}, nil
	}
	return holdpost.NewArgs(e.Args, e.Attachments)
}
