package holdpost

import (
	"context"
	"time"
)

// Recovery switches connection state recovery on: a client whose connection broke, or whose server was restarted, comes
// back as the same socket, with its id, its rooms and its recoverable values, gets every event that it missed, in order, and
// goes on live (Socket.IO, "Connection state recovery").
//
// What is emitted is stored before it is sent, and so is what a socket joined before the client hears of it: a crash takes
// nothing back that anybody saw. Events with an ack are stored too and asked for again; volatile ones are not. A client that
// can't be recovered though it asks for it is let in as a new socket and told with an event "gap", {"from", "reason"}.
//
// A Recovery is copied by [NewServer].
type Recovery struct {
	// Journal stores events and sessions. Required.
	Journal Journal
	// Identity returns who a socket is across connections, "" when that is not known: a session is given to nobody else. It
	// is asked behind the gates and must not change. nil: nobody is known, and who has the private id has the session.
	Identity func(*Socket) string
	// MaxAway is how long a session is kept after its connection was lost, or after the server was started again. Default 2
	// minutes.
	MaxAway time.Duration
	// NeedOffset makes a client that has received no event yet a new socket, as the reference server does. Otherwise it is
	// recovered from where it connected.
	NeedOffset bool
}

// Journal stores what recovery needs to outlive a connection and a server. Package delivery makes one. Positions grow with
// every Append; 0 is before all of them. All methods may be called from any goroutine.
type Journal interface {
	// Append stores a record under each of the keys, behind all that was appended before. It does not wait. stored is called
	// once, on another goroutine, which it must not block, with the record's position; with 0 when it was not stored.
	Append(keys []string, record []byte, stored func(position uint64))

	// Save stores the state of a session in place of the one before; nil forgets it. It does not wait. stored is called like
	// that of Append. What is not stored again for 20 minutes and Recovery.MaxAway may be forgotten.
	Save(session string, state []byte, stored func(ok bool))

	// Load returns the state of a session, nil when there is none.
	Load(ctx context.Context, session string) ([]byte, error)

	// Read calls f for the records under any of the keys with positions in (after, upto], in ascending order, until f returns
	// an error, which it returns. A record that is stored under several of the keys comes once for each. complete is false
	// when the journal has dropped records after the position; f was not called then.
	Read(ctx context.Context, keys []string, after, upto uint64, f func(position uint64, key string, record []byte) error) (complete bool, err error)

	// Last returns a position at or after that of every record whose stored was called.
	Last() uint64

	// Offset returns a position as clients see it, Position what a client brings back. ok is false for what is no position
	// of this journal, or of one whose end was lost.
	Offset(position uint64) string
	Position(offset string) (position uint64, ok bool)
}

const (
	defaultMaxAway = 2 * time.Minute
	everyone       = "" // the key of events to a whole namespace; rooms and socket ids are never empty
)

// journalKey returns the key under which events to a room of a namespace are stored. Names of namespaces have no comma.
func journalKey(namespace, room string) string { return namespace + "," + room }
