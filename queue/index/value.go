package index

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// An event's value: version, time in ns since 1970 (8 bytes), whether it is for one queue alone (1 byte; so Find and Count need
// not decode the rest), then id, name, key, queue, args, the number of attachments and each of them, with lengths as uvarints.
// Topic and sequence are in the key.
const (
	valueVersion = 2
	valueHeader  = 10

	forAll = 0
	forOne = 1
)

var errValue = errors.New("index entry damaged")

func appendEvent(b []byte, e *queue.Event) []byte {
	b = append(b, valueVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time.UnixNano()))
	if e.Queue == "" {
		b = append(b, forAll)
	} else {
		b = append(b, forOne)
	}
	for _, s := range []string{e.ID, e.Name, e.Key, e.Queue} {
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
	e := &queue.Event{ID: string(field()), Time: time.Unix(0, ns)}
	if name := field(); string(name) != d.name {
		d.name = string(name)
	}
	e.Name = d.name
	e.Key, e.Queue = string(field()), string(field())
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
