// Package peertest is the other side for tests of the protocol: a [Host] that serves a handler, in memory or on a
// listener, and a [Peer], a scripted Engine.IO client over each of the transports.
//
// Everything works inside a [testing/synctest] bubble when the host was made by [New]. All waits are bounded, and what
// does not come fails the test.
package peertest
