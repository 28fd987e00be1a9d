package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/holdpost/holdpost/internal/filelock"
)

// The file of an outbox: a line that names its format, and records, each synced before the next is written. A record is the length
// and the CRC-32C of what follows, four bytes each, little-endian; and entries: a kind, and for a message its length, four bytes, and
// the message as JSON. An entry of the other kind says that the oldest message is done with.
const (
	outboxHeader = "holdpost outbox 1\n"
	recordHead   = 8
	entryHead    = 5
	kindMessage  = 'm'
	kindDone     = 'd'
	shrinkFrom   = 1 << 20 // bytes of what is done with, from which the file is written anew
)

var (
	errNoOutbox = errors.New("the file is none of an outbox")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// place is where a message lies.
type place struct {
	file *os.File
	at   int64
	size int64
	sum  uint32
}

// read reads a message.
func (p place) read() ([]byte, error) {
	b := make([]byte, p.size)
	if _, err := p.file.ReadAt(b, p.at); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != p.sum {
		return nil, fmt.Errorf("damaged at byte %d", p.at)
	}
	return b, nil
}

type outboxFile struct {
	path string
	file *os.File
	end  int64  // of what was committed
	buf  []byte // entries that are to be committed
	err  error  // why nothing can be written any more
}

// openOutboxFile opens the file and finds the messages that are held.
func openOutboxFile(path string) (*outboxFile, []place, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	f := &outboxFile{path: path, file: file}
	held, err := f.load()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return f, held, nil
}

func (f *outboxFile) load() ([]place, error) {
	if err := filelock.Lock(f.file); err != nil {
		return nil, err
	}
	info, err := f.file.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size < int64(len(outboxHeader)) { // new, or its making was interrupted
		return nil, f.create()
	}
	head := make([]byte, len(outboxHeader))
	if _, err := f.file.ReadAt(head, 0); err != nil || string(head) != outboxHeader {
		return nil, errors.Join(errNoOutbox, err)
	}
	text := make([]byte, size)
	if _, err := f.file.ReadAt(text, 0); err != nil {
		return nil, err
	}
	at := len(outboxHeader)
	var held []place
	for at < len(text) {
		body := record(text[at:])
		if body == nil {
			if recordIn(text[at+1:]) { // the last one may be torn by the end of a program, no other
				return nil, fmt.Errorf("damaged at byte %d", at)
			}
			break
		}
		if held, err = f.entries(held, body, int64(at+recordHead)); err != nil {
			return nil, err
		}
		at += recordHead + len(body)
	}
	f.end = int64(at)
	return held, f.file.Truncate(f.end)
}

// record returns the entries of the record that b begins with, nil if it is none.
func record(b []byte) []byte {
	if len(b) <= recordHead {
		return nil
	}
	n := binary.LittleEndian.Uint32(b)
	if n == 0 || int64(n) > int64(len(b)-recordHead) {
		return nil
	}
	body := b[recordHead : recordHead+int(n)]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil
	}
	return body
}

// recordIn tells whether there is a record anywhere in b.
func recordIn(b []byte) bool {
	for ; len(b) > recordHead; b = b[1:] {
		if kind := b[recordHead]; (kind == kindMessage || kind == kindDone) && record(b) != nil {
			return true
		}
	}
	return false
}

// entries applies those of a record that begins at a place of the file.
func (f *outboxFile) entries(held []place, body []byte, at int64) ([]place, error) {
	for i := 0; i < len(body); {
		switch left := len(body) - i - entryHead; {
		case body[i] == kindDone && len(held) > 0:
			held = held[1:]
			i++
		case body[i] == kindMessage && left >= 0 && int64(binary.LittleEndian.Uint32(body[i+1:])) <= int64(left):
			i += entryHead
			n := int(binary.LittleEndian.Uint32(body[i-4:]))
			held = append(held, place{f.file, at + int64(i), int64(n), crc32.Checksum(body[i:i+n], castagnoli)})
			i += n
		default:
			return nil, fmt.Errorf("damaged at byte %d", at+int64(i))
		}
	}
	return held, nil
}

func (f *outboxFile) create() error {
	if err := f.file.Truncate(0); err != nil {
		return err
	}
	if _, err := f.file.WriteAt([]byte(outboxHeader), 0); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	f.end = int64(len(outboxHeader))
	return syncDir(f.path)
}

func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (f *outboxFile) appendDone() { f.buf = append(f.head(), kindDone) }

// appendMessage returns where the message will lie.
func (f *outboxFile) appendMessage(message []byte) place {
	f.buf = append(f.head(), kindMessage)
	f.buf = binary.LittleEndian.AppendUint32(f.buf, uint32(len(message)))
	p := place{f.file, f.end + int64(len(f.buf)), int64(len(message)), crc32.Checksum(message, castagnoli)}
	f.buf = append(f.buf, message...)
	return p
}

// head returns buf with room for the head of a record.
func (f *outboxFile) head() []byte {
	if len(f.buf) == 0 {
		return make([]byte, recordHead)
	}
	return f.buf
}

// commit writes what was appended, as one record.
func (f *outboxFile) commit() error {
	buf := f.buf
	f.buf = nil
	if f.err != nil || len(buf) == 0 {
		return f.err
	}
	body := buf[recordHead:]
	binary.LittleEndian.PutUint32(buf, uint32(len(body)))
	binary.LittleEndian.PutUint32(buf[4:], crc32.Checksum(body, castagnoli))
	_, err := f.file.WriteAt(buf, f.end)
	if err == nil {
		if err = f.file.Sync(); err != nil { // what a second one says can't be trusted
			f.err = err
		}
	}
	if err != nil {
		if e := f.file.Truncate(f.end); e != nil {
			f.err = errors.Join(err, e)
		}
		return err
	}
	f.end += int64(len(buf))
	return nil
}

// shrink writes the file anew once most of it is done with. It returns where the messages lie then, and the file before, to be
// closed; nil if nothing has changed.
func (f *outboxFile) shrink(held []place, live int64) (moved []place, before *os.File, err error) {
	dead := f.end - int64(len(outboxHeader)) - live
	if f.err != nil || dead < max(live, shrinkFrom) {
		return nil, nil, nil
	}
	file, err := os.OpenFile(f.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	next := &outboxFile{path: f.path, file: file}
	if moved, err = next.fill(held); err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	before = f.file
	*f = *next
	f.err = syncDir(f.path)
	return moved, before, nil
}

// fill makes a new file with these messages.
func (f *outboxFile) fill(held []place) ([]place, error) {
	if err := filelock.Lock(f.file); err != nil {
		return nil, err
	}
	if err := f.create(); err != nil {
		return nil, err
	}
	moved := make([]place, 0, len(held))
	for _, p := range held {
		message, err := p.read()
		if err != nil {
			return nil, err
		}
		moved = append(moved, f.appendMessage(message))
	}
	return moved, f.commit()
}

func (f *outboxFile) close() error { return f.file.Close() }
