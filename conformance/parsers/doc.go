// Package parsers compares our codecs with those of the reference: the npm packages socket.io-parser, engine.io-parser (of
// today and of Socket.IO v2) and socket.io-msgpack-parser get the same bytes, and must come to the same verdict and the
// same value. Where we differ on purpose the tables of the tests say so, and why. It has no code of its own.
//
// One Node child per test process answers over its standard input and output. The packages are those of the lock file of
// package conformance; without Node or without them everything is skipped, with a message.
package parsers
