// Package wire is the encoding of Engine.IO v4: packets, the payloads that long-polling packs them into, and the
// handshake.
//
// A packet is one digit, its [Type], and data; a binary message has no digit. A payload joins packets with the record
// separator and writes a binary message as the letter b and base64 (Engine.IO v4, "Packet encoding").
//
// On a WebTransport stream each packet has a header with its length; a [StreamReader] cuts them apart.
//
// Revision 3, that of Socket.IO v2, is here too, as far as it differs.
//
// Concurrency: the functions are pure; a [Payload] and a [StreamReader] belong to one goroutine each.
package wire
