// Package queue keeps events: a program publishes them to topics, and queues hold them for readers that are slow, away, or
// not yet there. It knows nothing of sockets.
//
// A [Broker] joins a log, which an [Engine] stores durably, with an [Index], the node's read model of it. A topic is a named,
// ordered part of the log; it exists once something was published to it, or it was created. A [TopicConfig] says how long and how
// many of its events are kept. A [Queue] is a reader's place in a topic, or in all
// topics that match a pattern: it knows, durably and under a name, what was acknowledged. A [Consumer] is attached to a queue and
// gives a [Sink] what the queue holds, first what was missed, then what comes. An [Offset] names an event's place in the log.
//
// A personal queue gives every event to each of its consumers: they are one reader's devices. A shared queue gives each event
// to one of them: they are workers. Sinks, functions given to [Queue.Consume] and callers of [Queue.Pull] are consumers alike,
// and may work on one queue together.
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
// Each queue gets each event at least once. While a consumer is attached to a personal queue it gets each event once, in order,
// without a gap between what it missed and what is live; a slow one loses nothing, it is served from the index until it has
// caught up. A shared queue hands events out in order for the first time, each to one consumer at a time; what came back comes
// again as soon as it is due, before what is new; of what is given back without a delay that is exact. A consumer that is slow, stuck or gone keeps no other from its events. An
// event's id makes publishing repeatable within the dedupe window, its offset lets a consumer recognise what it has seen.
//
// An acknowledgement is durable within a second, and when the queue's last consumer is closed; until then a crash may take
// it back, and the events come again. That a queue exists is durable when [Broker.Queue] returns. One that is lost all the same, in a
// loss that the operator accepted, begins anew with all that is kept: rather twice than never.
//
// Events that are handed out and not acknowledged come again: when the consumer gives them back or goes away, and when it takes
// longer than the queue allows. After a bounded number of deliveries an event becomes a dead letter, in the topic dead/ followed by
// the queue's name. The count is exact but for a crash, which takes back the deliveries of the last second; an event that
// causes the crash is found out all the same.
//
// What became of an event in a queue is known as long as the event is kept: [Queue.ReceiptsOf]. When, and by whom, is for queues
// that keep receipts.
//
// Where events are lost, because retention took them or the operator accepted the loss of a part of the store, readers are
// told the range as a [Gap]. It says that events may be missing: after the index was rebuilt nobody can tell any more which
// topics an old range of the log belonged to, and every reader behind it is told. An event that has expired, and one that a
// later one with its key has replaced, is not missing.
//
// # Concurrency
//
// All exported methods may be called from any goroutine. One goroutine writes the log: it publishes what has queued up, has
// it made durable, and answers; so commits are shared by everybody who waits. One goroutine, the tail, moves durable events
// into the index and to the readers that have caught up: a consumer of a personal queue is one, a shared queue is one. A few
// workers serve those that have not, in turn. One goroutine deletes from the log what was dropped from the index before the log
// itself would drop it. A consumer costs no goroutine, and no lock is held while a sink is called.
// [Broker.Close] waits for all of them.
//
// # Limits
//
// One event is at most 1 MB by default. A topic costs no memory here, and about 200 bytes in the embedded engine. A queue remembers its unsettled events in memory while it is in use, and hands out nothing
// new with 4,096 of them by default. Ephemeral queues are in memory alone. An event whose acknowledgement was lost comes again:
// effects happen once only if the consumer makes them so. A queue over a pattern that has fallen behind passes over the events
// of all other topics.
package queue
