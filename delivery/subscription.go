package delivery

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

// subscription is the sink of one consumer.
type subscription struct {
	// Static after construction.
	delivery *Delivery
	socket   *holdpost.Socket
	spec     Subscription
	queue    *queue.Queue

	consumer atomic.Pointer[queue.Consumer] // nil until Attach has returned it

	mu         sync.Mutex   // guards the fields below
	sent       queue.Offset // automatic: the last event handed to the socket
	confirming bool         // automatic: a heartbeat is on its way that proves what was sent
}

func (u *subscription) close() {
	if c := u.consumer.Load(); c != nil {
		c.Close()
	}
}

// Deliver hands one event to the socket, unless enough is waiting for it already.
func (u *subscription) Deliver(d queue.Delivery) bool {
	consumer := u.consumer.Load()
	if consumer == nil || u.delivery.held.Load() {
		return false
	}
	if u.socket.Queued() >= u.delivery.config.Window {
		u.socket.NotifyDrained(consumer.Resume)
		return false
	}
	p, err := u.prepare(d)
	if err != nil {
		u.delivery.config.Logger.Error("stored event can't be sent", "topic", d.Topic, "offset", d.Offset.String(), "error", err)
		u.giveUp(d, err)
		return true
	}
	if d.TraceParent == "" {
		err = u.send(p, d)
	} else {
		_, end := d.Begin(u.socket.Context())
		err = u.send(p, d)
		end(err)
	}
	return err == nil // else the socket is gone, and its consumer about to be closed
}

func (u *subscription) send(p *holdpost.Prepared, d queue.Delivery) error {
	if u.spec.Manual {
		return u.socket.DeliverWithAck(p, false, func(args holdpost.Args, err error) { acked(d, args, err) })
	}
	if err := u.socket.Deliver(p, false); err != nil {
		return err
	}
	u.mu.Lock()
	u.sent = d.Offset
	u.mu.Unlock()
	return nil
}

// Flush writes what a batch of deliveries queued and asks for the proof that it arrived.
func (u *subscription) Flush() {
	u.socket.Flush()
	if !u.spec.Manual {
		u.confirm()
	}
}

// Gap tells the client that events are gone.
func (u *subscription) Gap(g queue.Gap) {
	p, err := holdpost.Prepare("gap", map[string]string{
		"topic": g.Topic, "queue": u.queue.Name(), "from": g.From.String(), "to": g.To.String(), "reason": g.Cause,
	})
	if err != nil {
		return // strings can always be sent
	}
	u.socket.Deliver(p, false) // the next consumer is told again
}

// confirm acknowledges what was sent once the client answers a heartbeat that went out behind it.
func (u *subscription) confirm() {
	u.mu.Lock()
	upto := u.sent
	if u.confirming || upto == (queue.Offset{}) {
		u.mu.Unlock()
		return
	}
	u.confirming = true
	u.mu.Unlock()
	u.socket.Confirm(func(received bool) {
		u.mu.Lock()
		u.confirming = false
		more := u.sent != upto
		u.mu.Unlock()
		if !received {
			return
		}
		u.consumer.Load().AckThrough(upto)
		if more {
			u.confirm()
		}
	})
}

// acked takes a client's answer: nothing, {"retry": "5s"} or {"reject": "why"}. One that comes too late changes nothing.
func acked(d queue.Delivery, args holdpost.Args, err error) {
	if err != nil { // it left without an answer: the next consumer gets the event
		return
	}
	var answer struct {
		Retry  *string `json:"retry"`
		Reject *string `json:"reject"`
	}
	if args.Len() > 0 && args.Decode(&answer) != nil {
		answer.Retry, answer.Reject = nil, nil // any other answer acknowledges, as any answer does in Socket.IO
	}
	switch {
	case answer.Reject != nil:
		d.Reject(*answer.Reject)
	case answer.Retry != nil:
		after, err := time.ParseDuration(*answer.Retry)
		if err != nil {
			after = -1 // the queue's own
		}
		d.Retry(after)
	default:
		d.Ack()
	}
}

// giveUp moves on behind an event that can't be encoded.
func (u *subscription) giveUp(d queue.Delivery, err error) {
	if u.spec.Manual {
		d.Reject(err.Error())
		return
	}
	u.Gap(queue.Gap{Topic: d.Topic, From: d.Offset, To: d.Offset, Cause: "unsendable"})
}

func (u *subscription) prepare(d queue.Delivery) (*holdpost.Prepared, error) {
	if !u.spec.Meta {
		return u.delivery.prepare(d.Event, !u.spec.Manual)
	}
	args, err := eventArgs(d.Event)
	if err != nil {
		return nil, err
	}
	values := []any{args, meta{
		Topic: d.Topic, Queue: u.queue.Name(), Offset: d.Offset.String(), ID: d.ID, Attempt: d.Attempt, PublishedAt: d.Time.UTC(), TraceParent: d.TraceParent,
	}}
	if !u.spec.Manual {
		values = append(values, d.Offset.String())
	}
	return holdpost.Prepare(d.Name, values...)
}

type meta struct {
	Topic       string    `json:"topic"`
	Queue       string    `json:"queue"`
	Offset      string    `json:"offset"`
	ID          string    `json:"id"`
	Attempt     int       `json:"attempt"`
	PublishedAt time.Time `json:"publishedAt"`
	TraceParent string    `json:"traceparent,omitempty"`
}
