// Package api is the HTTP API of the internal listener: publishing and emitting, topics, queues, sockets and rooms, health.
//
// Its routes stand in one table, with what each needs, takes and gives; GET /openapi.json is made from that. A name in a path
// is one segment: a slash in it is written %2F. A queue is known by its name and the parameter topic. An error is a problem
// document (RFC 9457) with a stable member "code".
//
// # Keys
//
// With API keys every request but for health, metrics and the description needs one, "Authorization: Bearer KEY", and what it
// may do is the verdict of package auth. Without keys whoever reaches the listener may do everything.
//
// # Guarantees
//
// A 200 to a publish says that the event is stored. A failed publish says by its code whether the event may be stored:
// only after "unknown_outcome" may it be, and then publishing it again with the same id is safe.
//
// # Safety
//
// The listener is meant for the machine itself. So that a web page can't use a browser to get there, a request must name
// this machine in its Host header (against DNS rebinding), must not come from a foreign page if it changes anything, and
// no answer may be read by one: there is no CORS.
//
// # Concurrency
//
// A handler is safe for concurrent use and owns no goroutine.
package api
