// Package webtransport serves Socket.IO clients over WebTransport, which is HTTP/3: they need no other code than for WebSocket,
// and a lost packet holds up only the connection that lost it.
//
// A [Server] stands in front of the same [http.Handler] as the server for HTTPS, and both are on the same port, one for UDP, one
// for TCP. The handler is, or has behind it, a [holdpost.Server] with "webtransport" among its Config.Transports; what stands
// in between, middlewares above all, sees the request for a session as it sees that for a WebSocket, with its headers, query and
// address. Only such requests reach the handler.
//
//	config := &tls.Config{Certificates: ...}
//	go (&http.Server{Handler: handler, TLSConfig: config}).ServeTLS(tcp, "", "")
//	err := webtransport.NewServer(handler, &webtransport.Config{TLS: config}).Serve(udp)
//
// Concurrency: all methods may be called from any goroutine.
//
// An idle session costs over 100 KB of memory, twenty times a WebSocket, and several goroutines, most of them QUIC's.
//
// Limitations: one session a QUIC connection. Neither 0-RTT nor datagrams are used.
package webtransport
