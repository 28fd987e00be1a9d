package client

import (
	"fmt"
	"sync"
	"time"

	"github.com/holdpost/holdpost"
)

// Delivery is one event of a queue. It is to be answered once, by one of its methods; in a loop that is not Manual the default
// is Ack. After its connection was lost the server delivers an event again, over the next one. It is not yielded again for that: if it
// is still in hand, its answer goes there, and if it was handled meanwhile it is acknowledged there. What was not answered within the
// AckTimeout of its queue is yielded again.
type Delivery struct {
	Topic       string
	Queue       string
	Offset      string // its place in the topic
	ID          string // under which it was published
	Event       string
	Args        holdpost.Args
	Attempt     int // 1: the first
	PublishedAt time.Time

	consumer *Consumer
	answered sync.Once

	link *link // on which it is answered, guarded by the consumer's mu like
	ack  int64
}

// Ack says that the event was handled.
func (d *Delivery) Ack() { d.answer(true) }

// Retry has the event delivered again, after a time at the earliest.
func (d *Delivery) Retry(after time.Duration) {
	d.answer(false, map[string]string{"retry": after.String()})
}

// Reject gives the event up: it becomes a dead letter, with the reason.
func (d *Delivery) Reject(reason string) { d.answer(true, map[string]string{"reject": reason}) }

func (d *Delivery) answer(handled bool, reply ...any) {
	d.answered.Do(func() {
		u := d.consumer
		u.mu.Lock()
		if handled {
			u.done.handled(d.Offset)
		}
		if u.inHand[d.Offset] == d {
			delete(u.inHand, d.Offset)
		}
		l, ack := d.link, d.ack
		u.mu.Unlock()
		args, _ := holdpost.ArgsOf(reply...) // strings always encode
		send := func() { u.socket.sendAck(l, ack, args) }
		if handled && u.handled != nil {
			u.remember(remembered{d.Offset, send})
		} else {
			send()
		}
	})
}

// GapError says that events of a topic are gone, because its retention has passed or a loss was accepted: those after From up to
// and with To. A loop over [Consumer.Deliveries] that gets one may go on.
type GapError struct {
	Topic    string
	Queue    string
	From, To string // offsets
}

func (e *GapError) Error() string {
	return fmt.Sprintf("client: events of topic %q are gone, from %s to %s", e.Topic, e.From, e.To)
}
