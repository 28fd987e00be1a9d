// Package holdpost is a Socket.IO server: an [http.Handler] that the official Socket.IO clients connect to unmodified,
// over WebSocket and HTTP long-polling.
//
// # Nouns
//
// A [Server] speaks the protocol. It has namespaces; a [Namespace] has gates, handlers and sockets, and may be the parent
// of others that clients make by connecting to them; a [Socket] is one client in one namespace and may be in rooms; a
// [Broadcast] is a value that says which sockets an event goes to. Events are names with arguments; [Event] and [Call]
// give them types.
//
// # Order
//
// The events of one socket reach its handlers one at a time, in the order in which the client sent them. The handlers of
// two sockets run in parallel. A handler that is slow delays only its own socket: the connection is still read, its
// heartbeat answered and its acks resolved. The connection handlers of a socket run before its first event and the
// disconnect handlers after its last. What one goroutine emits to one socket arrives in that order.
//
// What a client sent before it left or got lost is handled; what it sent before this side ended its socket is dropped.
//
// # Acks
//
// The reader of a connection resolves acks itself, so a handler may wait for an ack of its own socket. An ack that can no
// longer come ends with a [DisconnectError]; a wait never outlives its context.
//
// A handler answers an ack with what it returns. An error is answered as an object {"error": {"code", "message"}}: an
// [Error] with its own code and message, any other error with code "internal", its text going to the log and not to the
// peer. An event that nobody handles is not answered, which a [Wrapper] can change; see [ErrUnhandled].
//
// # Delivery
//
// Emit delivers at most once: who is not there misses the event. With [Recovery] a client whose connection was lost gets
// what it missed, or is told that it can't. Package queue keeps events for those who are away, and package delivery hands
// them to sockets; this package imports neither.
//
// # Backpressure
//
// Nothing that is emitted ever blocks its sender. What a peer has not taken yet waits in a queue of the connection that
// is bounded in bytes and packets; a connection whose queue is full is closed with [ReasonSlowPeer]. A volatile event is
// dropped instead when it would have to wait behind others. What a client sends faster than its handlers run waits in a
// bounded queue too; a connection that overruns it is closed with [ReasonOverrun]. Every limit is a field of [Config].
//
// # Cancellation
//
// A call that can wait takes a context first and returns its cause when it ends. A call that need not wait succeeds with
// a context that is done already. The context given to handlers ends when the socket is disconnected;
// [context.Cause] is then a [DisconnectError].
//
// # Arguments
//
// Emit encodes its arguments before it returns: the caller may reuse them. [Args] own their memory and stay valid. A
// []byte travels as binary when it is an argument, or in []any and map[string]any; a field of a struct is base64 text
// when it is sent, but takes binary that comes.
//
// # Panics
//
// A handler that panics is recovered and logged with its stack; its ack is answered with code "internal" and its socket
// is disconnected. Registering an event twice or a reserved name panics: it is a mistake of the program, as is a [Config]
// that is not valid.
//
// # Middleware
//
// HTTP middleware stands around the Server as around any handler: it may refuse a request and set headers of the response,
// also of a WebSocket's handshake. It must let the connection be hijacked; [http.ResponseController] has to find its way
// to it.
//
// # Shutdown
//
// Connections taken over from net/http are invisible to it, so call [Server.Shutdown] before [http.Server.Shutdown]. It
// refuses new connections, closes the present ones so that their clients come back elsewhere, and waits for handlers.
//
// # Limitations
//
// WebTransport needs a server for HTTP/3 around the handler, which package webtransport has. JSONP is not served.
package holdpost
