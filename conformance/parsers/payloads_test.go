package parsers

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdpost/holdpost/internal/engineio/wire"
)

var typeNames = map[wire.Type]string{
	wire.Open: "open", wire.Close: "close", wire.Ping: "ping", wire.Pong: "pong", wire.Message: "message", wire.Upgrade: "upgrade", wire.Noop: "noop",
}

// packetsOf is what a payload holds, as the reference's decoder shows it.
func packetsOf(p wire.Payload) (v verdict) {
	for {
		packet, ok, err := p.Next()
		if err != nil {
			v.Error = err.Error()
			return v
		}
		if !ok {
			return v
		}
		m := map[string]any{"type": typeNames[packet.Type]}
		if packet.Binary {
			m["data"] = bytes.Clone(packet.Data)
		} else if len(packet.Data) > 0 {
			m["data"] = string(packet.Data)
		}
		v.Packets = append(v.Packets, m)
	}
}

const manyPackets = 10_000

func decodePayload(t testing.TB, in string) (ours, theirs verdict) {
	return packetsOf(wire.NewPayload([]byte(in), manyPackets)), reference.ask(t, "payload", in)
}

func decodePayloadV3(t testing.TB, in string) (ours, theirs verdict) {
	return packetsOf(wire.NewPayloadV3([]byte(in), false, manyPackets)), reference.ask(t, "payload3", in)
}

func decodeBinaryV3(t testing.TB, in string) (ours, theirs verdict) {
	return packetsOf(wire.NewPayloadV3([]byte(in), true, manyPackets)), reference.ask(t, "binary3", base64.StdEncoding.EncodeToString([]byte(in)))
}

func malformed(err error) func(string, verdict) bool {
	return func(_ string, ours verdict) bool { return ours.Error == err.Error() }
}

var payloadDifferences = []difference{
	{"base64", "Node skips what is no base64, and so would hand over something that nobody has sent", "bAAA",
		malformed(wire.ErrBase64)},
}

// leniently is a length as JavaScript reads one.
var leniently = regexp.MustCompile(`(^|\D)\s*[+-]?(0x|0b|0o|\d*\.|\d+e)?\d*\s*:`)

var payloadV3Differences = []difference{
	{"base64", "as in revision 4", "4:b4AA",
		malformed(wire.ErrBase64)},
	{"binary packets of other types", "there is no other binary packet than a message", "6:b2AQID",
		func(in string, ours verdict) bool {
			return strings.Contains(in, ":b") && ours.Error == wire.ErrType.Error()
		}},
	{"lengths that are no digits", "the reference takes what JavaScript takes for a number", "0x1:4",
		func(in string, ours verdict) bool {
			return ours.Error == wire.ErrLength.Error() && leniently.MatchString(in)
		}},
	{"empty packets", "the reference skips them", "0:1:4",
		malformed(wire.ErrEmpty)},
	{"half of a surrogate pair", "a length that ends within a character is wrong", "2:4😀",
		func(in string, ours verdict) bool {
			return ours.Error == wire.ErrLength.Error() && strings.ContainsFunc(in, func(r rune) bool { return r > 0xffff })
		}},
}

func TestPayloads(t *testing.T) {
	reference.need(t)
	decode := func(in string) {
		ours, theirs := decodePayload(t, in)
		compare(t, in, ours, theirs, payloadDifferences)
	}
	for _, in := range payloadSeeds {
		decode(in)
	}
	stillDifferent(t, payloadDifferences, func(in string) (ours, theirs verdict) { return decodePayload(t, in) })
	mutate(t, payloadSeeds, []string{"\x1e", "4", "b", "=", "AA", "2", "7", "é", "\n", "0{}"}, utf8.ValidString, decode)
}

func TestPayloadsV3(t *testing.T) {
	reference.need(t)
	decode := func(in string) {
		ours, theirs := decodePayloadV3(t, in)
		compare(t, in, ours, theirs, payloadV3Differences)
	}
	for _, in := range payloadV3Seeds {
		decode(in)
	}
	stillDifferent(t, payloadV3Differences, func(in string) (ours, theirs verdict) { return decodePayloadV3(t, in) })
	mutate(t, payloadV3Seeds, []string{":", "1", "2", "4", "b4", "=", "AA==", "€", "😀", "e", "."}, utf8.ValidString, decode)
}

var binaryV3Differences = []difference{
	{"an empty body", "a request without a packet means nothing", "",
		func(in string, _ verdict) bool { return in == "" }},
	{"lengths", "the reference takes what is there for as much as was announced", "\x00\x05\xff4a",
		malformed(wire.ErrLength)},
	{"unknown kinds", "the reference takes every packet that is not marked with 0 for a binary one", "\x02\x01\xff\x04",
		func(_ string, ours verdict) bool { return ours.Error == wire.ErrType.Error() }},
	{"base64", "as in revision 4, and where it is not even a text", "\x00\x04\xffb4AA",
		func(_ string, ours verdict) bool {
			return ours.Error == wire.ErrBase64.Error() || ours.Error == wire.ErrUTF8.Error()
		}},
	{"binary packets of other types", "their data is bytes to the reference, and to nobody else", "\x01\x02\xff\x02a",
		func(in string, ours verdict) bool { return ours.Error == "" && strings.Contains(in, "\x01") }},
	{"empty binary packets", "there is no packet without a type", "\x01\x00\xff",
		malformed(wire.ErrEmpty)},
}

func TestBinaryPayloadsV3(t *testing.T) {
	reference.need(t)
	decode := func(in string) {
		ours, theirs := decodeBinaryV3(t, in)
		compare(t, in, ours, theirs, binaryV3Differences)
	}
	for _, in := range binaryV3Seeds {
		decode(in)
	}
	stillDifferent(t, binaryV3Differences, func(in string) (ours, theirs verdict) { return decodeBinaryV3(t, in) })
	mutate(t, binaryV3Seeds, []string{"\x00", "\x01", "\x02", "\x05", "\xff", "4", "é", "b4"}, func(string) bool { return true }, decode)
}

var (
	payloadSeeds = []string{
		"4hello", "4hello\x1e4€", "bAQIDBA==\x1e2\x1e4", "4a\x1e1\x1e4b", "2probe", "0{\"sid\":\"x\"}", "", "7", "4a\x1e", "\x1e4a", "b", "b=", "bAA=\x1e4",
	}
	payloadV3Seeds = []string{
		"6:4hello2:4€", "1:1", "3:4😀", "10:b4AQIDBA==2:4a", "6:2probe1:6", "", "4hello", "3:4ab1:7", "2:b4",
	}
	binaryV3Seeds = []string{
		"\x00\x05\xff4\xe2\x82\xaca\x01\x05\xff\x04\x01\x02\x03\x04", "\x01\x01\xff\x04", "\x00\x01\xff2", "\x00\x01\x00\xff4123456789",
	}
)

func FuzzPayload(f *testing.F) {
	reference.need(f)
	for _, in := range append(payloadSeeds, payloadV3Seeds...) {
		f.Add(in, false)
		f.Add(in, true)
	}
	f.Fuzz(func(t *testing.T, in string, v3 bool) {
		if !utf8.ValidString(in) {
			return
		}
		if v3 {
			ours, theirs := decodePayloadV3(t, in)
			compare(t, in, ours, theirs, payloadV3Differences)
			return
		}
		ours, theirs := decodePayload(t, in)
		compare(t, in, ours, theirs, payloadDifferences)
	})
}
