package holdpost

// Reason says why a socket was disconnected. The first group has Socket.IO's own texts; those that end a connection are
// the same on the floor below.
type Reason string

const (
	ReasonTransportError   Reason = "transport error"             // the connection broke
	ReasonTransportClose   Reason = "transport close"             // the client closed the connection
	ReasonForcedClose      Reason = "forced close"                // this side closed the connection
	ReasonPingTimeout      Reason = "ping timeout"                // a heartbeat was not answered
	ReasonParseError       Reason = "parse error"                 // the client sent what is no packet
	ReasonServerShutdown   Reason = "server shutting down"        // [Server.Shutdown] or [Server.Close]
	ReasonForcedServer     Reason = "forced server close"         // a packet in the wrong state, or no namespace joined in time
	ReasonClientDisconnect Reason = "client namespace disconnect" // the client left the namespace
	ReasonServerDisconnect Reason = "server namespace disconnect" // [Socket.Disconnect]

	ReasonSlowPeer Reason = "slow peer"       // the client did not take what was sent to it
	ReasonOverrun  Reason = "inbound overrun" // the client sent more than its handlers could take
	ReasonPanic    Reason = "handler panic"   // a handler panicked
	ReasonReplaced Reason = "replaced"        // its client was recovered on another connection
)
