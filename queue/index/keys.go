package index

import (
	"encoding/binary"
	"strings"
)

// The keys, by their first byte. A topic is its escaped name: 0 becomes 0 255, and 0 1 ends it, so that keys sort as
// the names do and no name is a prefix of another one; an id and a key of an event likewise. Sequences are 8 bytes, big endian.
const (
	stateKey   = 'a' // the state, one key
	droppedKey = 'd' // sequence → nothing: dropped here, and the log has it still
	eventKey   = 'e' // topic, sequence → event
	idKey      = 'i' // topic, id → sequence
	keyKey     = 'k' // topic, key → sequence of the last event with it
	seqKey     = 's' // sequence → what is known of the event without its topic
	topicKey   = 't' // topic → what is known of it
	endingKey  = 'x' // time in ns since 1970 (8 bytes), sequence → why it ends then
	endKey     = 'z' // above all others
)

// Why an event ends.
const (
	endsByTTL = 0 // its publisher said so: it is not missed
	endsByAge = 1 // the topic keeps events no longer
)

func appendTopic(b []byte, kind byte, topic string) []byte {
	b = append(b, kind)
	for {
		i := strings.IndexByte(topic, 0)
		if i < 0 {
			break
		}
		b = append(append(b, topic[:i]...), 0, 255)
		topic = topic[i+1:]
	}
	return append(append(b, topic...), 0, 1)
}

// appendName adds a second name to a key.
func appendName(b []byte, name string) []byte {
	kind := len(b)
	b = appendTopic(b, 0, name)
	return append(b[:kind], b[kind+1:]...)
}

// topicOf returns the name in a key that begins as appendTopic's.
func topicOf(key []byte) string {
	name := string(key[1 : len(key)-2])
	if strings.IndexByte(name, 0) < 0 {
		return name
	}
	return strings.ReplaceAll(name, "\x00\xff", "\x00")
}

func appendSeq(b []byte, seq uint64) []byte { return binary.BigEndian.AppendUint64(b, seq) }

// seqOf returns the sequence at the end of a key.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// above returns the key bound that ends a range after seq.
func above(prefix []byte, seq uint64) []byte {
	if seq == ^uint64(0) {
		return append(appendSeq(prefix, seq), 0)
	}
	return appendSeq(prefix, seq+1)
}
