// Package auth decides who somebody is and what he may do.
//
// # Nouns
//
// An [Authority] knows the keys that tokens are signed with, the API keys, and who was turned out. It makes a [Client] of a
// token or of an API key: an identity, until when that holds, and its permissions. A [Permissions] lists patterns of names
// for each [Action].
//
// # One verdict
//
// [Authority.Verdict] is the one place where it is decided whether a client may do something: for a socket that connects, is
// recovered or calls an operation, and for a request to the API. It fails when the client's time is up, when its identity was
// revoked, or when no pattern allows the name. Whoever keeps a client for long asks each time again.
//
// # Tokens
//
// A token is a JWT (RFC 7519), signed with one of the algorithms HS256 to HS512, RS256 to RS512, ES256 to ES512 and EdDSA.
// Each key has one algorithm, so that no token chooses how it is checked (RFC 8725, 3.1). It needs the claims sub, which is the
// identity, and exp. The claim holdpost may hold permissions; without it those of Config.Default count.
//
// # Patterns
//
// * stands for any characters but /, ** for any characters, {identity} for the client's own identity, whatever characters that
// has. A pattern that a client subscribes to is allowed when a granted one takes in all that it could match.
//
// # Concurrency
//
// All methods may be called from any goroutine. No goroutine belongs to an Authority: a set of keys is fetched by whoever
// needs it.
package auth
