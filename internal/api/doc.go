// Package api is the HTTP API of the internal listener: publishing, reading and following topics, and health.
//
//	POST /v1/publish                      {"topic","event","args":[…],"id"?} → {"topic","offset","id","duplicate"}
//	GET  /v1/topics/{topic}/events        ?from=first|new|OFFSET|TIME&limit=N → {"events":[…],"next","complete"}
//	GET  /v1/topics/{topic}/events        ?follow=true → one event a line (NDJSON), until the client goes
//	GET  /livez, /readyz                  200, or 503 and why
//
// {topic} is one path segment: a slash in a topic is written %2F. An error is a problem document (RFC 9457) with a
// stable member "code".
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
