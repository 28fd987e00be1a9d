// Package msgpack is the other codec of Socket.IO v5, that of the parser socket.io-msgpack-parser: each packet is one
// binary Engine.IO message, a MessagePack map with the members type, nsp, data and id.
//
// Packets have the same form in memory as those of package packet, whose arguments are JSON with placeholders for binary
// values. So [Decode] turns MessagePack into JSON, and the Append functions turn JSON into MessagePack.
//
// What JSON lacks is turned into what a JavaScript client would make of it: the parser's extension for a date into the
// text of the date, that for undefined into null, or into nothing for a member of an object; NaN and the infinities into
// null; the keys of a map that are integers into text. The extension for an ArrayBuffer is a binary value like others.
//
// # Memory
//
// No length in a message is believed: memory grows with the bytes that are there, to at most six times their number (a
// control character of a string is an escape of six), and with the number of values, which is limited. Nesting is limited
// too.
//
// Concurrency: the functions are pure.
//
// Limitations: no other extensions, no keys but texts and integers.
package msgpack
