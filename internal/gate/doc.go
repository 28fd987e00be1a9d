// Package gate stands between the sockets of a namespace and everything else: it lets clients in by their tokens, keeps what
// they may do and until when, and bounds how many there are and how much they send.
//
// A [Gate] is put before a namespace by [Gate.Guard]. From then on [Gate.Identity] and [Gate.Permit] tell of every socket who
// it is and what it may do; both are what package delivery asks for. A socket whose token is about to expire is told by an
// event "token_expiring", may bring a new one with the operation "refresh", and is disconnected when its time is up: whether
// it is busy, idle, polling or was just recovered.
//
// In dev mode there are no tokens: everyone is who he says in auth.client, and may do everything.
//
// All methods may be called from any goroutine.
package gate
