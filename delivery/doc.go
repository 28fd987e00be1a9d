// Package delivery joins sockets and queues: it hands what a queue holds to sockets, and offers the operations with which
// a client joins rooms, subscribes to topics and publishes. It is the only package that knows both [holdpost] and
// [queue].
//
// # Nouns
//
// A [Delivery] serves the sockets of one or more namespaces from one [queue.Broker]. A subscription is one socket's
// consumer of one queue.
//
// # Guarantees
//
// A subscribed socket is sent every event of its queue in topic order, at least once. With automatic acknowledgement an
// event counts as seen when the client has answered a heartbeat that was sent after it, or when it brings the event's
// offset back as it reconnects; what it was sent but did not confirm is sent again to the next connection of the same
// identity. The event's offset is its last argument, so that a client can drop what it saw already. With manual
// acknowledgement an event counts as seen when the client acknowledges it.
//
// A gap in the topic, because its retention passed or a loss was accepted, is told by an event "gap" with
// {topic, queue, from, to} before what comes after it.
//
// # Backpressure
//
// Not more than Config.Window bytes wait for one connection because of its subscriptions. The rest stays in the log and
// is read when the client has taken what it was sent. A slow client delays nobody else.
//
// # Concurrency
//
// All methods may be called from any goroutine. No goroutine belongs to a subscription.
package delivery
