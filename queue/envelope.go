package queue

import (
	"encoding/binary"
	"errors"
	"time"
)

// An event is stored as an envelope:
//
//	version (1 byte, 2) · topic · id · name · key · queue · reply · ttl in ms (uvarint) · args
//	· number of attachments (uvarint) · attachments
//
// where every other field is a uvarint length and that many bytes. Its encoding is unique, so two publishes of the same event have
// the same bytes. The time of publishing is the log's.

const (
	envelopeVersion = 2

	maxTTL = uint64(100 * 365 * 24 * time.Hour / time.Millisecond)
)

var errEnvelope = errors.New("malformed envelope")

func (m *Message) envelopeSize() int {
	n := 1 + 9*binary.MaxVarintLen64 + len(m.Topic) + len(m.ID) + len(m.Event) + len(m.Key) + len(m.queue) + len(m.ReplyTo) + len(m.Args)
	for _, a := range m.Attachments {
		n += binary.MaxVarintLen32 + len(a)
	}
	return n
}

func (m *Message) appendEnvelope(b []byte) []byte {
	b = append(b, envelopeVersion)
	b = appendField(b, m.Topic)
	b = appendField(b, m.ID)
	b = appendField(b, m.Event)
	b = appendField(b, m.Key)
	b = appendField(b, m.queue)
	b = appendField(b, m.ReplyTo)
	b = binary.AppendUvarint(b, uint64(m.TTL.Milliseconds()))
	b = appendField(b, m.Args)
	b = binary.AppendUvarint(b, uint64(len(m.Attachments)))
	for _, a := range m.Attachments {
		b = appendField(b, a)
	}
	return b
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

// decodeEnvelope returns an event that refers to b.
func decodeEnvelope(b []byte) (*Event, error) {
	if len(b) == 0 || b[0] != envelopeVersion {
		return nil, errEnvelope
	}
	r := fields{rest: b[1:]}
	e := &Event{Topic: string(r.field()), ID: string(r.field()), Name: string(r.field()),
		Key: string(r.field()), Queue: string(r.field()), ReplyTo: string(r.field())}
	ttl := r.uvarint()
	e.ttl = time.Duration(min(ttl, maxTTL)) * time.Millisecond
	e.Args = r.field()
	if n := r.uvarint(); n > 0 && n <= uint64(len(r.rest)) { // an attachment takes a byte at least
		e.Attachments = make([][]byte, n)
		for i := range e.Attachments {
			e.Attachments[i] = r.field()
		}
	} else if n > 0 {
		r.bad = true
	}
	if r.bad || len(r.rest) > 0 {
		return nil, errEnvelope
	}
	return e, nil
}

// fields takes values off a byte slice; once bad, everything reads as zero.
type fields struct {
	rest []byte
	bad  bool
}

func (r *fields) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *fields) uint64() uint64 {
	if len(r.rest) < 8 {
		r.bad, r.rest = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

func (r *fields) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *fields) field() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	f := r.rest[:n:n]
	r.rest = r.rest[n:]
	return f
}
