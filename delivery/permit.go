package delivery

import (
	"context"
	"slices"

	"github.com/holdpost/holdpost"
)

// The actions of Config.Permit.
const (
	permitJoin      = "join"
	permitSend      = "send"
	permitSubscribe = "subscribe"
	permitPublish   = "publish"
	permitWork      = "work"
	permitInbox     = "inbox"
)

// mayRead tells whether a socket may get the events of a topic, as one of those who share a queue if one is named.
func (d *Delivery) mayRead(ctx context.Context, s *holdpost.Socket, topic, queue string) error {
	if err := d.private(s, topic); err != nil {
		return err
	}
	if d.ownInbox(s, topic) {
		return d.config.Permit(ctx, s, permitInbox, d.config.Identity(s))
	}
	if err := d.config.Permit(ctx, s, permitSubscribe, topic); err != nil || queue == "" {
		return err
	}
	return d.config.Permit(ctx, s, permitWork, queue)
}

// ownInbox tells whether a topic is the socket's own inbox.
func (d *Delivery) ownInbox(s *holdpost.Socket, topic string) bool {
	identity := d.config.Identity(s)
	return identity != "" && topic == inboxPrefix+identity
}

func (d *Delivery) maySee(ctx context.Context, s *holdpost.Socket, where place) error {
	if where.topic != "" {
		return d.mayRead(ctx, s, where.topic, "")
	}
	return d.config.Permit(ctx, s, permitJoin, where.room)
}

// Enforce ends what Config.Permit no longer permits to a socket: it leaves rooms, and loses subscriptions, which its client is
// told by an event "unsubscribed" with reason "forbidden", and places that it watches. A personal queue that it loses is
// deleted. Call it when the permissions of a socket have changed. The error is that of deleting a queue.
func (d *Delivery) Enforce(ctx context.Context, s *holdpost.Socket) error {
	for room := range s.Rooms() {
		if d.config.Permit(ctx, s, permitJoin, room) != nil {
			s.Leave(room)
		}
	}
	mine := d.subscriptionsOf(s)
	mine.mu.Lock()
	watched := slices.Clone(mine.watched)
	var lost []*subscription
	for _, sub := range mine.all {
		if d.mayRead(ctx, s, sub.spec.Topic, sub.spec.Queue) != nil {
			lost = append(lost, sub)
		}
	}
	mine.mu.Unlock()
	for _, where := range watched {
		if d.maySee(ctx, s, where) != nil {
			if err := d.watch(s, where, false); err != nil {
				return err
			}
		}
	}
	for _, sub := range lost {
		sub.tellEnd(CodeForbidden)
		if err := d.Unsubscribe(ctx, s, sub.spec.Topic, sub.spec.Queue); err != nil {
			return err
		}
	}
	return nil
}
