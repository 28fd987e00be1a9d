// Package engineio serves Engine.IO v4 sessions over HTTP long-polling and WebSocket, and moves a session from the one
// to the other; if asked to, revision 3 of the protocol too, that of Socket.IO v2.
//
// A [Server] is an [http.Handler]. Each client has one [Session]; its [Handler] is told of messages, of the end of each
// batch of them, and once of the close. A [Message] is encoded once and may be sent to any number of sessions.
//
// Concurrency: all methods of Server and Session may be called at any time from any goroutine, and none of them waits
// for the peer. A Handler's methods are called one at a time per session. Functions handed to a Session are called on
// goroutines of this package and must not block.
//
// Guarantees: messages of a session arrive in the order sent, also over a change of transport. Messages sent in one call
// have nothing between them. Closed is called exactly once, after everything else. What a session may queue is bounded;
// a session that exceeds it is closed with [ReasonSlowPeer], so that a slow peer costs nobody else anything.
//
// An idle WebSocket costs one goroutine with a small stack, its file descriptor and its Session: no buffers and no timer
// of its own. The timers of all sessions are slots of one wheel.
//
// Limitations: no JSONP, no WebSocket over HTTP/2.
package engineio
