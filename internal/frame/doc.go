// Package frame reads and writes WebSocket frames (RFC 6455) without owning a connection.
//
// A [Reader] is fed whatever bytes arrived, in pieces of any size, and calls a [Handler] for every complete message and
// control frame. Payloads are unmasked in place. A message that lies complete in the fed bytes is handed over without a
// copy; only what is incomplete is kept, in memory that grows with the bytes that arrived and never with a length that
// the peer declared. While nothing is incomplete a Reader owns no memory besides itself.
//
// The Append functions write frames: unmasked as a server sends them, masked as a client does.
//
// Concurrency: a Reader belongs to one goroutine at a time. The Append functions are pure.
//
// A message may be compressed (RFC 7692) where [Limits].Compressed says so. It is inflated into memory that is bounded by
// the limit of a message and given back after it.
//
// Limitations: compression has no context takeover. Any other reserved bit is an error (RFC 6455 §5.2).
package frame
