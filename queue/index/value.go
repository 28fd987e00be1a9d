package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// An event's value: version, time in ns since 1970 (8 bytes), flags (1 byte; so Find and Count need not decode the rest), the time
// when it expires in ns since 1970 (uvarint, 0 is never), the trace if the flags say so, then id, name, key, queue, reply, args,
// the number of attachments and each of them, with lengths as uvarints. Topic and sequence are in the key.
const (
	valueVersion = 2
	valueHeader  = 10

	forOne = 1 << 0 // for one queue alone
	traced = 1 << 1
)

var errValue = errors.New("index entry damaged")

func appendEvent(b []byte, e *queue.Event) []byte {
	b = append(b, valueVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time.UnixNano()))
	flags := byte(0)
	if e.Queue != "" {
		flags |= forOne
	}
	if e.TraceParent != "" {
		flags |= traced
	}
	b = append(b, flags)
	expires := uint64(0)
	if !e.Expires.IsZero() {
		expires = uint64(max(1, e.Expires.UnixNano()))
	}
	b = binary.AppendUvarint(b, expires)
	if e.TraceParent != "" {
		b = append(binary.AppendUvarint(b, uint64(len(e.TraceParent))), e.TraceParent...)
	}
	for _, s := range []string{e.ID, e.Name, e.Key, e.Queue, e.ReplyTo} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = append(binary.AppendUvarint(b, uint64(len(e.Args))), e.Args...)
	b = binary.AppendUvarint(b, uint64(len(e.Attachments)))
	for _, a := range e.Attachments {
		b = append(binary.AppendUvarint(b, uint64(len(a))), a...)
	}
	return b
}

func timeOf(v []byte) (int64, error) {
	if len(v) < valueHeader || v[0] != valueVersion {
		return 0, errValue
	}
	return int64(binary.LittleEndian.Uint64(v[1:])), nil
}

// decoder turns values into events. Neighbours mostly have the same name, so it keeps the last one.
type decoder struct {
	name string
}

// whole returns an event with what its key says.
func (d *decoder) whole(v []byte, topic string, o queue.Offset) (*queue.Event, error) {
	e, err := d.event(v)
	if err != nil {
		return nil, fmt.Errorf("read topic %q, event %d: %w", topic, o.Seq, err)
	}
	e.Topic, e.Offset = topic, o
	if e.ID == "" {
		e.ID = o.String()
	}
	return e, nil
}

// event copies v once; args and attachments lie in the copy.
func (d *decoder) event(v []byte) (*queue.Event, error) {
	ns, err := timeOf(v)
	if err != nil {
		return nil, err
	}
	rest := v[valueHeader:]
	field := func() []byte {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) {
			err = errValue
			return nil
		}
		f := rest[size : size+int(n) : size+int(n)]
		rest = rest[size+int(n):]
		return f
	}
	expires, size := binary.Uvarint(rest)
	if size <= 0 {
		return nil, errValue
	}
	rest = rest[size:]
	e := &queue.Event{Time: time.Unix(0, ns)}
	if v[valueHeader-1]&traced != 0 {
		e.TraceParent = string(field())
	}
	e.ID = string(field())
	if expires > 0 {
		e.Expires = time.Unix(0, int64(expires))
	}
	if name := field(); string(name) != d.name {
		d.name = string(name)
	}
	e.Name = d.name
	e.Key, e.Queue, e.ReplyTo = string(field()), string(field()), string(field())
	rest = slices.Clone(rest)
	if args := field(); len(args) > 0 {
		e.Args = args
	}
	n, size := binary.Uvarint(rest)
	if size <= 0 || n > uint64(len(rest)-size) || err != nil {
		return nil, errValue
	}
	rest = rest[size:]
	if n > 0 {
		e.Attachments = make([][]byte, n)
		for i := range e.Attachments {
			e.Attachments[i] = field()
		}
	}
	if err != nil || len(rest) != 0 {
		return nil, errValue
	}
	return e, nil
}

// A place is what is known of an event by its sequence alone. Its value: time in ns since 1970 (8 bytes), size, id and key,
// with lengths as uvarints, and the topic.
type place struct {
	size    uint64
	id, key string
	topic   string
}

func appendPlace(b []byte, e *queue.Event) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time.UnixNano()))
	b = binary.AppendUvarint(b, uint64(size(e)))
	b = append(binary.AppendUvarint(b, uint64(len(e.ID))), e.ID...)
	b = append(binary.AppendUvarint(b, uint64(len(e.Key))), e.Key...)
	return append(b, e.Topic...)
}

func size(e *queue.Event) int {
	n := len(e.Name) + len(e.Args)
	for _, a := range e.Attachments {
		n += len(a)
	}
	return n
}

func timeOfPlace(v []byte) (int64, error) {
	if len(v) < 8 {
		return 0, errValue
	}
	return int64(binary.LittleEndian.Uint64(v)), nil
}

func decodePlace(v []byte) (p place, err error) {
	if _, err = timeOfPlace(v); err != nil {
		return p, err
	}
	v = v[8:]
	number := func() uint64 {
		n, size := binary.Uvarint(v)
		if size <= 0 {
			err = errValue
			return 0
		}
		v = v[size:]
		return n
	}
	text := func() string {
		n := number()
		if n > uint64(len(v)) {
			err = errValue
			return ""
		}
		s := string(v[:n])
		v = v[n:]
		return s
	}
	p.size, p.id, p.key = number(), text(), text()
	p.topic = string(v)
	return p, err
}

// A topicState is the value of a topic: four numbers of 8 bytes, big endian, and what it was declared with, if it was.
type topicState struct {
	last    uint64 // sequence of its last event, kept or not
	trimmed uint64 // sequence of the last event that retention took
	events  uint64
	bytes   uint64

	declared []byte
}

func (s *topicState) append(b []byte) []byte {
	for _, n := range []uint64{s.last, s.trimmed, s.events, s.bytes} {
		b = appendSeq(b, n)
	}
	return append(b, s.declared...)
}

// decodeTopicState returns a state that has nothing of v.
func decodeTopicState(v []byte) (s topicState, err error) {
	const numbers = 32
	if len(v) < numbers {
		return s, errValue
	}
	for i, p := range []*uint64{&s.last, &s.trimmed, &s.events, &s.bytes} {
		*p = seqOf(v[:8*(i+1)])
	}
	if len(v) > numbers {
		s.declared = slices.Clone(v[numbers:])
	}
	return s, nil
}
