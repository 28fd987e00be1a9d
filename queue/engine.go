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
	ID          string   // the publisher's message id; without one the text of Offset
	Name        string   // the event's name
	Key         string   // what it is about, or empty
	Queue       string   // for one queue of the topic alone, which gave it up before; empty is for all
	ReplyTo     string   // the topic where its publisher waits for an answer, or empty
	TraceParent string   // the trace that it was published in, as the header of W3C Trace Context, or empty
	Args        []byte   // a JSON array as text; nil is the empty array
	Attachments [][]byte // the binary parts that placeholders in Args refer to
	Offset      Offset
	Time        time.Time // when the log stored it
	Expires     time.Time // not handed out from then on; zero is never

	ttl time.Duration // only while it is on its way to the index
}

// Loss tells how an epoch ended. Offsets of that epoch below From go on to mean the same event in the next one; those
// from From on are void, because their numbers are used again. The events From..To, both included, were acknowledged and
// are gone; From > To says that none is missing, and the highest To that nobody knows how many are. Epoch 0 is an epoch whose name
// is lost.
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

	// Forgotten tells that queues may be missing that were there when the log ended at end: a part of what was stored of them is
	// lost. What each had acknowledged up to begin, which is of the same epoch, it had; of all behind that nobody knows. ok is false
	// if no queue can be missing.
	Forgotten() (begin, end Offset, ok bool)

	// Replicas returns how many copies of a stream to ask for. With more than one a reader may meet a copy that is behind.
	Replicas() int

	// Commit returns nil once everything that the engine acknowledged before the call is as durable as it gets, and last, the highest
	// sequence of the log among it, is on record, or within a second where the log outlives this machine. An error means that the
	// outcome is unknown and the engine has failed for good: every later Commit returns an error too. What passes is told by Health.
	Commit(last uint64) error

	// Deleting tells that up to n events of the log are about to be deleted on purpose, so that they are not taken for lost. The
	// caller calls over when they are, or are not going to be. An error is as one of Commit.
	Deleting(n uint64) (over func(), err error)

	// Room returns nil, or an error that wraps [ErrFull] while too little room is left to accept events. It is cheap.
	Room() error

	// Health returns nil while the engine can store, and the log is this node's to write to. It is cheap.
	Health() error

	// Clock returns nil while the clock can be relied on, and else why not: then nothing expires.
	Clock() error
}

// Index is a node's read model of the log: it is derived from the log and can be thrown away. One goroutine writes
// (the methods in the second part), any number read at the same time. Topics are given by their real names.
type Index interface {
	// Epoch returns the epoch whose events the index holds, 0 when it is new.
	Epoch() uint64

	// Applied returns the sequence up to which the log has been taken in.
	Applied() uint64

	// Range calls f for the topic's events with sequences in (after, upto], ascending, until f returns false or limit
	// events were handed out; limit <= 0 is no limit. f may keep the events.
	Range(topic string, after, upto uint64, limit int, f func(*Event) bool) error

	// Back is Range from the last event to the first.
	Back(topic string, after, upto uint64, limit int, f func(*Event) bool) error

	// Scan calls f for the events of all topics that match, as Range does for one.
	Scan(match func(topic string) bool, after, upto uint64, limit int, f func(*Event) bool) error

	// Find returns the sequence after which the topic's events at or after t begin.
	Find(topic string, t time.Time) (after uint64, err error)

	// FindAll is Find over all topics.
	FindAll(t time.Time) (after uint64, err error)

	// FindID returns the sequence of the event that was published to the topic last with the id, 0 when there was none. When
	// it is gone that is 0, or an earlier one.
	FindID(topic, id string) (uint64, error)

	// Topic returns what the index knows of a topic: Last, kept or trimmed, Events and Bytes; and what it was declared with,
	// nil if it was not.
	Topic(topic string) (i TopicInfo, declared []byte, err error)

	// Count returns how many events the topic has after the sequence, without those for another queue than the one given; it
	// stops counting at max.
	Count(topic, queue string, after uint64, max int) (int, error)

	// Declared returns how many topics are declared.
	Declared() int

	// Topics returns the names of up to limit topics that have events or were declared and come after the given name, in
	// ascending order.
	Topics(after string, limit int) ([]string, error)

	// TopicAt returns the topic of the event with this sequence, false when there is none.
	TopicAt(seq uint64) (topic string, ok bool, err error)

	// Trimmed returns the sequence of the topic's last event that retention took, 0 when it took none.
	Trimmed(topic string) (uint64, error)

	// TrimmedOf returns the highest of Trimmed over all topics that begin with the prefix and match.
	TrimmedOf(prefix string, match func(topic string) bool) (uint64, error)

	// Dropped returns up to limit sequences, ascending, of events that were dropped and that the log has still, and the topics
	// that were trimmed by that.
	Dropped(limit int) (seqs []uint64, trimmed []string, err error)

	// Cut returns the last sequence that Trim dropped an event at, or may have.
	Cut() uint64

	// Noted returns the position up to which notes about topics have been taken in.
	Noted() uint64

	// Reset empties the index for the epoch.
	Reset(epoch uint64) error

	// Begin moves an empty index to where the log begins. Up to cut the log's own retention took events, or may have, of any
	// topic.
	Begin(first, cut uint64) error

	// Apply takes in events in ascending order and moves Applied to the last one, all or nothing. rule says for how long a
	// topic keeps events, 0 for as long as the log does, and whether it keeps only the last event with each key. nil is
	// neither.
	Apply(batch []*Event, rule func(topic string) (keep time.Duration, compact bool)) error

	// Skip moves Applied to seq, where the log holds nothing of ours.
	Skip(seq uint64) error

	// Trim drops all events below first, which the log has no more, and remembers for each topic what it lost.
	Trim(first uint64) error

	// Expire drops up to limit events whose time is over at now, by their own or because their topic keeps them no longer;
	// these count as trimmed. It returns how many there were, and whether any was trimmed.
	Expire(now time.Time, limit int) (n int, trimmed bool, err error)

	// Shorten drops the oldest events of a topic, which count as trimmed, until no more than so many, and so many bytes of
	// them, are left; 0 is no limit. It returns how many it dropped.
	Shorten(topic string, events, bytes int64) (int, error)

	// Clear drops all events of a topic up to a sequence. They count as trimmed. The log has them no more if erased says so.
	Clear(topic string, upto uint64, erased bool) error

	// Declare notes what a topic was declared with; nil is that it is not any more. noted is the position of that note.
	Declare(topic string, with []byte, noted uint64) error

	// Note moves Noted to a position, back too.
	Note(noted uint64) error

	// Erased tells that the log does not have these dropped events any more.
	Erased(seqs []uint64) error

	Close() error
}
