package queue

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrFull reports that the store has used up its room: nothing was stored, and publishing works again once there is room.
var ErrFull = errors.New("store full")

// Offset is a position in the log. The zero value is no position.
//
// Seq starts at 1 and grows over all topics, so within a topic offsets have holes. Epoch names the life of the log: it
// changes whenever acknowledged events were lost, because sequence numbers are used again after a loss. Offsets of
// different epochs can't be compared.
type Offset struct {
	Epoch uint64
	Seq   uint64
}

// Event is one stored event of a topic. All consumers of a node share it: nobody may change it or what it refers to.
type Event struct {
	Topic       string
	ID          string   // the publisher's message id, or empty
	Name        string   // the event's name
	Key         string   // what it is about, or empty
	Queue       string   // for one queue of the topic alone, which gave it up before; empty is for all
	Args        []byte   // a JSON array as text; nil is the empty array
	Attachments [][]byte // the binary parts that placeholders in Args refer to
	Offset      Offset
	Time        time.Time // when the log stored it
}

// Loss tells how an epoch ended. Offsets of that epoch below From go on to mean the same event in the next one; those
// from From on are void, because their numbers are used again. The events From..To, both included, were acknowledged and
// are gone; From > To says that none is known to be missing. Epoch 0 is an epoch whose name is lost.
type Loss struct {
	Epoch    uint64
	From, To uint64
}

// Engine is the log below a [Broker]: a JetStream server in the process, or a cluster outside. All methods may be called
// from any goroutine.
type Engine interface {
	// Connect opens a client connection to the engine; name shows up in its logs. The caller closes it.
	Connect(name string) (*nats.Conn, error)

	// Epoch returns the log's epoch, never 0. It does not change while the engine runs.
	Epoch() uint64

	// Losses returns the ends of earlier epochs, oldest first.
	Losses() []Loss

	// Replicas returns how many copies of a stream to ask for.
	Replicas() int

	// Commit returns nil once everything that the engine acknowledged before the call is durable, and last, the highest
	// sequence of the log among it, is on record. An error means that the outcome is unknown and the engine has failed for
	// good: every later Commit returns an error too.
	Commit(last uint64) error

	// Room returns nil, or an error that wraps [ErrFull] while too little room is left to accept events. It is cheap.
	Room() error

	// Health returns nil while the engine can store.
	Health() error
}

// Index is a node's read model of the log: it is derived from the log and can be thrown away. One goroutine writes
// (Reset, Apply, Skip, Trim), any number read at the same time. Topics are given by their real names.
type Index interface {
	// Epoch returns the epoch whose events the index holds, 0 when it is new.
	Epoch() uint64

	// Applied returns the sequence up to which the log has been taken in.
	Applied() uint64

	// Reset empties the index for the epoch.
	Reset(epoch uint64) error

	// Apply takes in events in ascending order and moves Applied to the last one, all or nothing.
	Apply(batch []*Event) error

	// Skip moves Applied to seq, where the log holds nothing of ours.
	Skip(seq uint64) error

	// Range calls f for the topic's events with sequences in (after, upto], ascending, until f returns false or limit
	// events were handed out; limit <= 0 is no limit. f may keep the events.
	Range(topic string, after, upto uint64, limit int, f func(*Event) bool) error

	// Find returns the sequence after which the topic's events at or after t begin.
	Find(topic string, t time.Time) (after uint64, err error)

	// Scan calls f for the events of all topics that match, as Range does for one.
	Scan(match func(topic string) bool, after, upto uint64, limit int, f func(*Event) bool) error

	// Last returns the sequence of the topic's last event, kept or trimmed, 0 when there was none.
	Last(topic string) (uint64, error)

	// Count returns how many events the topic has after the sequence, without those for another queue than the one given; it
	// stops counting at max.
	Count(topic, queue string, after uint64, max int) (int, error)

	// Topics returns the names of up to limit topics that have events and come after the given name, in ascending order.
	Topics(after string, limit int) ([]string, error)

	// TopicAt returns the topic of the event with this sequence, false when there is none.
	TopicAt(seq uint64) (topic string, ok bool, err error)

	// Trim drops all events below first, and remembers for each topic what it lost.
	Trim(first uint64) error

	// Trimmed returns the sequence of the topic's last trimmed event, 0 when it lost none.
	Trimmed(topic string) (uint64, error)

	// TrimmedOf returns the highest of Trimmed over all topics that begin with the prefix and match.
	TrimmedOf(prefix string, match func(topic string) bool) (uint64, error)

	Close() error
}
