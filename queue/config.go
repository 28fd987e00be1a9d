package queue

import (
	"encoding/json"
	"slices"
	"time"
)

const (
	defaultPending    = 4096
	mostPending       = 65_536
	defaultAckTimeout = 30 * time.Second
	defaultDeliveries = 20
	maxEvents         = 64 // names in QueueConfig.Events
	maxBackoff        = 64 // delays in QueueConfig.Backoff
)

// QueueConfig names a queue, and says where a new one begins and how it behaves. Of a queue that exists a field which is not
// zero changes what it has; but for Shared and Ordered, which stay as they were when it was made.
type QueueConfig struct {
	Topic string // a topic, or a pattern: * stands for any characters but /, ** for any characters
	Name  string // of a personal queue: the identity that it belongs to. 1 to 255 bytes; an ephemeral queue needs none
	From  Start  // where a queue that is made now begins; one that exists goes on where it stood

	// MustExist refuses, with [ErrNotFound], to make a queue.
	MustExist bool

	// Ephemeral keeps the queue in memory: it belongs to this one *Queue, lives as long, and is shared with nobody, whatever
	// its name.
	Ephemeral bool

	// Shared gives each event to one of the consumers. Else the queue is personal: each of its consumers gets every event.
	Shared bool

	// Ordered keeps the order of a shared queue's events that have the same key: one is handed out after the one before it was
	// settled. A key that waits long fills up MaxPending.
	Ordered bool

	Events []string // take only events with these names, 64 at most; nil is all

	AckTimeout    time.Duration   // for manual consumers and shared queues; 0 is 30 seconds, negative is for ever
	Backoff       []time.Duration // before an event is handed out again, after its first failure, its second and so on; nil is 1 s, doubling up to 15 minutes
	MaxDeliveries int             // then an event becomes a dead letter; 0 is 20 for a shared queue and no limit for a personal one, negative is no limit
	MaxPending    int             // events handed out or held back, and not settled: with more nothing new is handed out; 0 is 4096, the most is 65,536

	Receipts bool // keep what happens to each event, when, and by whom, for Config.ReceiptAge; once kept it is so for ever

	Expiry time.Duration // a queue without a consumer is deleted after so long; 0 is 30 days for a personal one and never for a shared one, negative is never
}

// settings is what the store keeps of a configuration.
type settings struct {
	Shared        bool            `json:"shared,omitempty"`
	Ordered       bool            `json:"ordered,omitempty"`
	Events        []string        `json:"events,omitempty"`
	AckTimeout    time.Duration   `json:"ackTimeout,omitempty"`
	Backoff       []time.Duration `json:"backoff,omitempty"`
	MaxDeliveries int             `json:"maxDeliveries,omitempty"`
	MaxPending    int             `json:"maxPending,omitempty"`
	Expiry        time.Duration   `json:"expiry,omitempty"`
	Receipts      bool            `json:"receipts,omitempty"`
}

// encode returns nothing for the zero settings, which most personal queues have.
func (s settings) encode() []byte {
	b, _ := json.Marshal(s) // it can't fail
	if string(b) == "{}" {
		return nil
	}
	return b
}

// check validates a configuration.
func (b *Broker) checkQueue(c QueueConfig) error {
	if err := b.checkTopicOrPattern(c.Topic); err != nil {
		return err
	}
	if c.Name != "" || !c.Ephemeral {
		if err := checkName("invalid_queue", "queue name", c.Name, maxName); err != nil {
			return err
		}
	}
	if len(c.Events) > maxEvents {
		return refuse("invalid_queue", "%d event names are more than %d", len(c.Events), maxEvents)
	}
	for _, e := range c.Events {
		if err := checkName("invalid_event", "event name", e, maxName); err != nil {
			return err
		}
	}
	switch {
	case c.Ordered && !c.Shared:
		return refuse("invalid_queue", "a personal queue is in order already")
	case len(c.Backoff) > maxBackoff:
		return refuse("invalid_queue", "%d delays are more than %d", len(c.Backoff), maxBackoff)
	case slices.ContainsFunc(c.Backoff, func(d time.Duration) bool { return d < 0 }):
		return refuse("invalid_queue", "a back-off is negative")
	case c.MaxPending < 0 || c.MaxPending > mostPending:
		return refuse("invalid_queue", "max pending %d is not within 0 and %d", c.MaxPending, mostPending)
	}
	return nil
}

// with returns the settings after a configuration was laid over them.
func (s settings) with(c QueueConfig) settings {
	if c.Events != nil {
		s.Events = slices.Clone(c.Events)
	}
	if c.AckTimeout != 0 {
		s.AckTimeout = c.AckTimeout
	}
	if c.Backoff != nil {
		s.Backoff = slices.Clone(c.Backoff)
	}
	if c.MaxDeliveries != 0 {
		s.MaxDeliveries = c.MaxDeliveries
	}
	if c.MaxPending != 0 {
		s.MaxPending = c.MaxPending
	}
	if c.Expiry != 0 {
		s.Expiry = c.Expiry
	}
	s.Receipts = s.Receipts || c.Receipts
	return s
}

// withDefaults returns what the settings amount to.
func (s settings) withDefaults() settings {
	if s.AckTimeout == 0 {
		s.AckTimeout = defaultAckTimeout
	}
	if s.MaxDeliveries == 0 && s.Shared {
		s.MaxDeliveries = defaultDeliveries
	}
	if s.MaxPending == 0 {
		s.MaxPending = defaultPending
	}
	if s.Expiry == 0 && !s.Shared {
		s.Expiry = defaultExpiry
	}
	return s
}

// config is the configuration that has these settings.
func (s settings) config(topic, name string) QueueConfig {
	return QueueConfig{
		Topic: topic, Name: name, Shared: s.Shared, Ordered: s.Ordered, Events: slices.Clone(s.Events), AckTimeout: s.AckTimeout,
		Backoff: slices.Clone(s.Backoff), MaxDeliveries: s.MaxDeliveries, MaxPending: s.MaxPending, Expiry: s.Expiry, Receipts: s.Receipts,
	}
}
