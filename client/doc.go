// Package client is a Socket.IO client: it talks to Holdpost, or to any server of Socket.IO 3 and later, over WebSocket or
// HTTP long-polling, and comes back by itself when a connection is lost.
//
// # Nouns
//
// A [Client] is one server's address and at most one connection to it. A [Socket] is the client in one namespace; all sockets
// of a Client share its connection. A [Consumer] is a subscription of a socket to a topic of Holdpost, from which a Go worker
// takes each [Delivery]. An [Outbox] is a file of messages that are yet to be published. [holdpost.Event] and [holdpost.Call] give events types, the same on both sides.
//
// # Connecting
//
// A Client connects last: [New] and [Client.Of] do no I/O, then handlers are registered, and [Socket.Connect] connects. So no
// event comes before its handler. A socket that is connected stays so until [Socket.Disconnect], [Client.Close], or until the
// server turns it out; in between it reconnects, with back-off and jitter.
//
// A server that ends a socket on purpose, by a DISCONNECT or by refusing it at a gate, is not asked again: the socket has ended,
// and says so through [Socket.Context] and [Socket.Err]. The exception is a refusal whose data has a member "retry_after", in
// seconds: it is asked again then. A 503 with a Retry-After header moves the next attempt too.
//
// # Order
//
// The events of one socket reach its handlers one at a time, in the order in which they came, connection handlers before the
// events of their connection and disconnect handlers behind them. What a server replays to a recovered socket comes before
// its connection handlers. Two sockets run in parallel. What one goroutine emits leaves in that order, across reconnections too.
//
// # Acks
//
// The reader resolves acks itself, so a handler may wait for an ack of its own socket. A wait never outlives its context; an
// event that was sent when the connection was lost ends it with a [holdpost.DisconnectError]. What a handler returns answers
// the server's ack, an error as it does on the server: see package holdpost.
//
// # Delivery
//
// Emit delivers at most once. While the client is away events wait in a buffer that is bounded in bytes and packets; see
// Config.WhenFull. [Socket.Retrying] sends an event until it is answered, at least once. A server that has connection state
// recovery replays what was missed, or [Socket.Recovered] is false. [Socket.Publish] repeats a message under one id until the
// server has it, and the server stores it once; an [Outbox] keeps messages on disk until then. A [Consumer] yields an event until
// it was handled, and then no more; over the end of its program too, with a Subscription.HandledFile.
//
// # Limits
//
// What a server may send is bounded in size, depth, attachments and number, by fields of [Config]; a server that oversteps one
// loses the connection, and is asked again after a delay. A connection that did not last counts as a failed attempt, so that
// a server that accepts and hangs up is asked ever more seldom.
//
// # Concurrency
//
// All methods may be called from any goroutine, except that [Client.Close] must not be called from a handler, for which it
// waits. An idle client has one goroutine.
//
// # Limitations
//
// WebTransport and revision 3 of Engine.IO (Socket.IO 2) are not spoken.
package client
