package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"
)

// The server keeps a stream's messages in numbered files. A file is a sequence of records, little endian:
//
//	length (4 bytes, the highest bit says that there are headers) · sequence (8) · time (8) · length of the subject (2)
//	· subject · [length of the headers (4) · headers] · message · checksum (8)
//
// The checksum is HighwayHash-64 over all between the two lengths and itself but for the length of the headers, keyed by the
// stream's name and the file's number. The highest bit of the sequence says that the message was erased, the next one that the
// record is a note that the message with the sequence was deleted.
const (
	blockHeader   = 22
	blockChecksum = 8
	headersBit    = 1 << 31
	erasedBit     = 1 << 63
	deletedBit    = 1 << 62
	maxRecord     = 32 << 20
	maxSkip       = 1 << 20 // sequences between two neighbours, when something unreadable lies between them
)

// Damage is a part of the store that can't be read.
type Damage struct {
	Stream string
	File   string
	At     int64  // in the file; negative is the whole file
	From   uint64 // the messages in it have sequences From..To, both included; some of them may have been deleted before
	To     uint64 // 0 is not known
	What   string
}

func (d Damage) String() string {
	s := fmt.Sprintf("%s of stream %s: %s", d.File, d.Stream, d.What)
	if d.At >= 0 {
		s += fmt.Sprintf(" at %d", d.At)
	}
	if d.From > 0 && d.From <= d.To {
		s += fmt.Sprintf(", messages %d to %d", d.From, d.To)
	}
	return s
}

// record is one record of a block.
type record struct {
	at, length int
	seq        uint64
	kind       recordKind
}

type recordKind int

const (
	message recordKind = iota
	erased
	deleted
)

// blockReader takes records off a block.
type blockReader struct {
	data []byte
	hash func(r []byte, subject, headers int) bool // whether the checksum is right
}

func newBlockReader(stream string, number int, data []byte) *blockReader {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, number))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key's length is wrong
	}
	return &blockReader{data: data, hash: func(r []byte, subject, headers int) bool {
		h.Reset()
		h.Write(r[4:20])
		h.Write(r[blockHeader : blockHeader+subject])
		h.Write(r[blockHeader+subject+headers : len(r)-blockChecksum])
		var sum [blockChecksum]byte
		return bytes.Equal(h.Sum(sum[:0]), r[len(r)-blockChecksum:])
	}}
}

var (
	errTorn     = errors.New("the file ends within a record")
	errLength   = errors.New("a record's length is impossible")
	errChecksum = errors.New("a record's checksum is wrong")
)

// next returns the record at an offset. With errChecksum the record's length is still what it says.
func (b *blockReader) next(at int) (record, error) {
	rest := b.data[at:]
	if len(rest) < blockHeader {
		return record{}, errTorn
	}
	le := binary.LittleEndian
	length, subject := int(le.Uint32(rest)&^headersBit), int(le.Uint16(rest[20:]))
	headers := 0
	if le.Uint32(rest)&headersBit != 0 {
		headers = 4 // of which only the length is not summed up
	}
	if length < blockHeader+subject+headers+blockChecksum || length > maxRecord {
		return record{}, errLength
	}
	if length > len(rest) {
		return record{}, errTorn
	}
	r := record{at: at, length: length, seq: le.Uint64(rest[4:])}
	switch {
	case r.seq&deletedBit != 0:
		r.kind = deleted
	case r.seq&erasedBit != 0 || r.seq == 0:
		r.kind = erased
	}
	r.seq &^= erasedBit | deletedBit
	if !b.hash(rest[:length], subject, headers) {
		return r, errChecksum
	}
	return r, nil
}

// resume looks for the next whole record after an offset whose message comes soon after a sequence; -1 if there is none.
func (b *blockReader) resume(at int, after uint64) int {
	for ; at+blockHeader+blockChecksum <= len(b.data); at++ {
		seq := binary.LittleEndian.Uint64(b.data[at+4:]) &^ (erasedBit | deletedBit)
		if seq > after+maxSkip {
			continue
		}
		if _, err := b.next(at); err == nil {
			return at
		}
	}
	return -1
}

// blockScan is what a block has.
type blockScan struct {
	last   uint64   // the highest sequence of a message, erased or not; 0 when there is none
	damage []Damage // File and Stream are the caller's to set
	rest   int      // from here on nothing is readable, -1 if all is
	why    error    // for rest
}

// scanBlock reads a whole block, whose messages come after a sequence.
func scanBlock(stream string, number int, data []byte, after uint64, each func(record)) blockScan {
	b := newBlockReader(stream, number, data)
	s := blockScan{last: after, rest: -1}
	for at := 0; at < len(data); {
		r, err := b.next(at)
		if err == nil {
			each(r)
			if r.kind != deleted {
				s.last = max(s.last, r.seq)
			}
			at += r.length
			continue
		}
		next := b.resume(at+1, s.last)
		if next < 0 {
			s.rest, s.why = at, err
			return s
		}
		d := Damage{At: int64(at), From: s.last + 1, To: s.last + 1, What: err.Error()}
		if r, _ := b.next(next); r.kind != deleted {
			d.To = r.seq - 1
		}
		s.damage = append(s.damage, d)
		at = next
	}
	return s
}

// blockFile is one of a stream's files.
type blockFile struct {
	path   string
	number int
}

// blockFiles returns a stream's files in order.
func blockFiles(streamDir string) ([]blockFile, error) {
	entries, err := os.ReadDir(filepath.Join(streamDir, "msgs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []blockFile
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), ".blk")
		if number, err := strconv.Atoi(text); ok && err == nil {
			files = append(files, blockFile{filepath.Join(streamDir, "msgs", e.Name()), number})
		}
	}
	slices.SortFunc(files, func(a, b blockFile) int { return a.number - b.number })
	return files, nil
}
