// Package load is the client side of the benchmarks: a Socket.IO client made for load, the reading of another process's
// CPU time and memory, and the statistics of samples.
//
// The client speaks Engine.IO v4 and Socket.IO v5 on the namespace "/" and nothing beyond what the bench contract needs. A
// [Loop] drives any number of WebSocket connections from one goroutine over epoll, so that the load costs little beside
// the server that it measures: both share the machine. [Poller] is one long-polling session over plain HTTP.
//
// # Concurrency
//
// A Loop and its connections belong to the goroutine that calls its methods. A Poller belongs to one goroutine.
//
// # Limitations
//
// The package works on Linux only. It answers the server's pings, but does not notice a missing one. Fragmented messages
// are refused, as no peer sends any at the sizes used here.
package load
