// Package queue keeps events: a program publishes them to topics, and queues hold them for readers that are slow, away, or
// not yet there. It knows nothing of sockets.
//
// A [Broker] joins a log, which an [Engine] stores durably, with an [Index], the node's read model of it. A topic is a named,
// ordered part of the log; it exists once something was published to it. A [Queue] is a reader's place in a topic: a durable
// cursor under a name. A [Consumer] is attached to a queue and gives a [Sink] every event from the cursor on, first what it
// missed, then what comes. An [Offset] names an event's place in the log.
//
// # Guarantees
//
// Publish returns without an error only after the event is stored at the engine's level, which for the embedded engine
// is on disk, flushed. What it reports is exact: stored, not stored, or, with [ErrUnknown], unknown. Nobody sees an event
// before it is that durable, so nothing that was seen is ever taken back.
//
// Events of a topic have one order, the same for all readers, which is the order of their offsets. Events that one goroutine
// publishes are stored in the order of its calls.
//
// Each queue gets each event at least once. While a consumer is attached it gets each event once, in order, without a gap
// between what it missed and what is live; a slow one loses nothing, it is served from the index until it has caught up.
// Events come again after they were given back, and to the next consumer if they were not acknowledged. An event's id makes
// publishing repeatable within the dedupe window, its offset lets a consumer recognise what it has seen.
//
// An acknowledgement is durable within a second, and when the queue's last consumer is closed; until then a crash may take
// it back, and the events come again. That a queue exists is durable when [Broker.Queue] returns.
//
// Where events are lost, because retention took them or the operator accepted the loss of a part of the store, readers are
// told the range as a [Gap]. It says that events may be missing: after the index was rebuilt nobody can tell any more which
// topics an old range belonged to, and every reader behind it is told.
//
// # Concurrency
//
// All exported methods may be called from any goroutine. One goroutine writes the log: it publishes what has queued up, has
// it made durable, and answers; so commits are shared by everybody who waits. One goroutine, the tail, moves durable events
// into the index and to the consumers that have caught up. A few workers serve those that have not, in turn. A consumer
// costs no goroutine, and no lock is held while a sink is called. [Broker.Close] waits for all of them.
//
// # Limits
//
// One event is at most 1 MB by default. A queue keeps at most 4,096 events that were handed out above its oldest
// unacknowledged one; then its manual consumers get nothing new until that one is settled. Delays of [Consumer.Retry] and the
// attempts counted since the last save are forgotten by a crash. Ephemeral queues are in memory alone. An event whose
// acknowledgement was lost comes again: effects happen once only if the consumer makes them so.
package queue
