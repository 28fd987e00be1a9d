// Package history records what publishers and consumers of package queue saw, over any number of processes and faults, and
// checks it against the delivery contract.
//
// Whoever takes part gives a [Recorder] an [Event] for what it is about to do and for what came out of it; the order of the
// events is the history. [Check] reads a history and names every rule that it breaks. A recorder writes an event before it
// returns, so of a process that is killed nothing is missing that it had seen: an effect may lack its outcome, never its beginning.
//
// Checking takes time and memory in proportion to the events, times the queues that read a topic, and one sort of the offsets.
//
// Limits: the topic of a queue may end in a *, and be no other pattern; a publisher repeats an id within the
// dedupe window only.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// Kind says what an [Event] tells. The comments name the fields that count.
type Kind string

const (
	Publish  Kind = "publish"  // about to publish: Topic, ID, Content, Name, Key, TTL, Wall if it is for later
	Stored   Kind = "stored"   // without an error: Topic, ID, Offset, Wall
	Later    Kind = "later"    // without an error, to be published later: Topic, ID
	Rejected Kind = "rejected" // with an error that says that it is not stored: Topic, ID
	Unknown  Kind = "unknown"  // with queue.ErrUnknown: Topic, ID

	Queue   Kind = "queue"   // the queue exists from now on, or goes on: Queue, Topic, Names, Shared, Ordered, Timeout, Limit, Receipts; Offset after which it begins
	Attach  Kind = "attach"  // about to attach: Queue, Consumer, Through
	Detach  Kind = "detach"  // about to close the consumer: Queue, Consumer
	Deliver Kind = "deliver" // handed to the consumer: Queue, Consumer, Topic, ID, Content, Offset, Attempt, Wall
	Told    Kind = "told"    // a gap was told: Queue, Consumer, Gap
	Acking  Kind = "acking"  // about to acknowledge: Queue, Consumer, Offset, Attempt, Through
	Acked   Kind = "acked"   // without an error, in memory at least: as Acking, and Wall
	Refused Kind = "refused" // with an error: as Acking
	Saved   Kind = "saved"   // what the consumer acknowledged so far is durable: Queue, Consumer
	GiveUp  Kind = "giveup"  // about to give an event back, or to reject it: Queue, Consumer, Offset, Attempt, Reject

	Start  Kind = "start"  // the store was opened: Offset.Epoch
	Stop   Kind = "stop"   // it was closed without an error
	Crash  Kind = "crash"  // its process was killed, or the power cut: Content says what; Unflushed
	Accept Kind = "accept" // the operator accepted a loss: Loss; before the Start that tells its new epoch
	Forgot Kind = "forgot" // and of something else than events of the log: Content is Cursors, Delayed or Receipts
	Trim   Kind = "trim"   // retention took everything up to Offset

	// At the end: each queue was seen to hold nothing, each topic was read to its end, and all dead letters.
	Drained Kind = "drained" // Queue
	Read    Kind = "read"    // Topic, ID, Content, Offset
	Receipt Kind = "receipt" // Queue; Content says what happened, Offset to which event; Consumer, Attempt, Wall. In the order in which they were stored
	Dead    Kind = "dead"    // Queue; Offset of the event; Attempt is how many deliveries it had
	End     Kind = "end"     // Topic: all of it was read
)

// What a Forgot is about.
const (
	Cursors  = "cursors" // what queues had acknowledged
	Delayed  = "delayed" // events for later
	Receipts = "receipts"
)

// Event is one line of a history.
type Event struct {
	Kind Kind          `json:"kind"`
	At   time.Duration `json:"at,omitempty"` // since the process began to record; of different processes not to be compared

	Topic    string       `json:"topic,omitempty"`
	ID       string       `json:"id,omitempty"`      // unique in its topic
	Content  string       `json:"content,omitempty"` // everything else that must arrive as it was published, or a digest of it
	Offset   queue.Offset `json:"offset,omitzero"`
	Queue    string       `json:"queue,omitempty"`    // unique
	Consumer string       `json:"consumer,omitempty"` // unique for each attachment
	Attempt  int          `json:"attempt,omitempty"`
	Through  bool         `json:"through,omitempty"` // acknowledges everything up to Offset, not it alone
	Reject   bool         `json:"reject,omitempty"`

	// Wall is ns since 1970: when it happened, or, of an event for later, before when it must not be there.
	Wall int64 `json:"wall,omitempty"`

	// Unflushed says that nothing which happened since the Start is on the disk for sure.
	Unflushed bool `json:"unflushed,omitempty"`

	Name string        `json:"name,omitempty"`
	Key  string        `json:"key,omitempty"`
	TTL  time.Duration `json:"ttl,omitempty"`

	Names   string        `json:"names,omitempty"` // the only ones that a queue takes, with spaces between
	Shared  bool          `json:"shared,omitempty"`
	Ordered bool          `json:"ordered,omitempty"` // by key
	Timeout time.Duration `json:"timeout,omitempty"` // the queue's AckTimeout; 0 is none
	Limit   int           `json:"limit,omitempty"`   // the queue's MaxDeliveries; 0 is none

	Receipts bool `json:"receipts,omitempty"` // the queue keeps them

	Gap  *queue.Gap  `json:"gap,omitempty"`
	Loss *queue.Loss `json:"loss,omitempty"`
}

// Recorder writes events to a stream, a line of JSON each. Its methods may be called from any goroutine.
type Recorder struct {
	began time.Time

	mu  sync.Mutex // guards the fields below; the order in which it is taken is the order of the history
	out io.Writer
	err error
}

// NewRecorder returns a recorder that writes to out, unbuffered.
func NewRecorder(out io.Writer) *Recorder { return &Recorder{began: time.Now(), out: out} }

// Record writes an event, dated now: before it waits for others, or for its reader.
func (r *Recorder) Record(e Event) {
	e.At = time.Since(r.began)
	r.mu.Lock()
	defer r.mu.Unlock()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.out.Write(append(line, '\n'))
	}
	if r.err == nil {
		r.err = err
	}
}

// Err returns the first error of writing.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Decode calls f for each event of a stream until the stream ends. A last line without its end is left out: its writer was
// killed.
func Decode(from io.Reader, f func(Event)) error {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("history: %q: %w", line, err)
		}
		f(e)
	}
}
