// Package packet is the Socket.IO v5 codec: what follows the type digit of an Engine.IO message packet, and the binary
// messages that belong to it.
//
// A [Decoder] turns the text of one packet into a [Packet] and collects the attachments of a binary one. The Append
// functions write packets. [Marshal] and [Unmarshal] convert between Go values and the JSON of one argument, with
// byte slices pulled out as attachments.
//
// # Grammar
//
//	<type digit> [<attachments> "-"] [<namespace> ","] [<ack id>] [<JSON>]
//
// The grammar is that of the Socket.IO protocol, revision 5, read strictly. Where the JavaScript parser accepts by
// accident (blanks and exponents in numbers, ids that a double can't hold, events without a payload, an attachment
// count of zero) this package refuses. JSON is checked in full (RFC 8259, valid UTF-8, bounded depth and number of
// values) in the same pass that splits the arguments, so whatever [Packet.Args] holds can be sent on as it stands.
// Escapes of lone surrogates are accepted, as JSON.parse does.
//
// # Memory
//
// A decoded packet aliases the text it came from; the decoder copies nothing but the event name and a namespace other
// than "/". Time and memory of a decode are linear in the length of the text, whatever it says about itself.
//
// # Concurrency
//
// A Decoder belongs to one reader. All functions may be called from any goroutine.
package packet
