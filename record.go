package holdpost

import (
	"encoding/binary"
	"errors"
)

// record is an event in the journal:
//
//	version (1 byte, 1) · flags (1 byte) · sender · rooms · except · name · arguments · attachments
//
// where text is a uvarint length and that many bytes, and a list is a uvarint number and its elements.
type record struct {
	ack         bool
	sender      string   // the socket that was left out, or ""
	rooms       []string // under whose keys it is stored, in this order; none: everyone
	except      []string
	name        string
	args        [][]byte
	attachments [][]byte
}

const (
	recordVersion = 1
	recordAck     = 1
)

var errRecord = errors.New("malformed record")

func (r *record) encode() []byte {
	n := 16 + len(r.sender) + len(r.name)
	for _, list := range [][][]byte{r.args, r.attachments} {
		for _, b := range list {
			n += binary.MaxVarintLen32 + len(b)
		}
	}
	b := append(make([]byte, 0, n), recordVersion, 0)
	if r.ack {
		b[1] = recordAck
	}
	b = appendText(b, r.sender)
	b = appendList(b, r.rooms)
	b = appendList(b, r.except)
	b = appendText(b, r.name)
	b = appendList(b, r.args)
	return appendList(b, r.attachments)
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendList[T string | []byte](b []byte, list []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, text := range list {
		b = appendText(b, text)
	}
	return b
}

// decodeRecord returns a record that refers to b.
func decodeRecord(b []byte) (*record, error) {
	if len(b) < 2 || b[0] != recordVersion {
		return nil, errRecord
	}
	d := recordReader{rest: b[2:]}
	r := &record{ack: b[1]&recordAck != 0}
	r.sender = string(d.text())
	r.rooms = readStrings(&d)
	r.except = readStrings(&d)
	r.name = string(d.text())
	r.args = d.list()
	r.attachments = d.list()
	if d.bad || len(d.rest) > 0 {
		return nil, errRecord
	}
	return r, nil
}

// recordReader takes fields off a byte slice; once bad, everything reads as empty.
type recordReader struct {
	rest []byte
	bad  bool
}

func (d *recordReader) number() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > uint64(len(d.rest)) { // a length or a number of elements, each of a byte at least
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *recordReader) text() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	text := d.rest[:n:n]
	d.rest = d.rest[n:]
	return text
}

func (d *recordReader) list() [][]byte {
	n := d.number()
	if n == 0 {
		return nil
	}
	list := make([][]byte, n)
	for i := range list {
		list[i] = d.text()
	}
	return list
}

func readStrings(d *recordReader) []string {
	list := d.list()
	if list == nil {
		return nil
	}
	texts := make([]string, len(list))
	for i, b := range list {
		texts[i] = string(b)
	}
	return texts
}
