package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

// The high-water file holds two slots that are written in turn, so that a torn write leaves the one before it. A slot is
// a page: disks write it whole or not much at all, and the checksum tells.
const (
	lockName  = "lock"
	markName  = "highwater"
	slotSize  = 4096
	markMagic = "HPMARK\x00\x02"
)

var (
	errNoMark  = errors.New("no high-water file")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// mark is one slot of the high-water file.
type mark struct {
	generation uint64 // counts the writes; the higher one is the newer slot
	epoch      uint64
	last       uint64 // the sequence that the write's own commit covers
	confirmed  uint64 // the sequence whose commit was over when this was written
	first      uint64 // the first sequence, as last seen
	messages   uint64
	holes      uint64 // sequences from first on that may be missing: deleted, being deleted, or accepted as lost
	cursors    uint64 // the last sequence of the stream of cursors, as last seen before a commit
	delayed    uint64 // and of that of delayed events
	wall       int64  // ns since 1970
	boottime   int64  // ns since boot, including sleep; 0 = not known
	boot       [16]byte
	clean      bool // written by an orderly stop, after everything was flushed
	memory     bool // the level: true = nothing was flushed
	losses     []queue.Loss
	forgotten  forgotten
}

// forgotten says that queues may be missing that were there when the log ended at end. Up to begin they had acknowledged everything.
type forgotten struct {
	any               bool
	epoch, begin, end uint64
}

func (m *mark) encode(slot *[slotSize]byte) {
	clear(slot[:])
	b := slot[:0]
	le := binary.LittleEndian
	b = append(b, markMagic...)
	for _, v := range []uint64{m.generation, m.epoch, m.last, m.confirmed, m.first, m.messages, m.holes, m.cursors, m.delayed, uint64(m.wall), uint64(m.boottime)} {
		b = le.AppendUint64(b, v)
	}
	b = append(b, m.boot[:]...)
	b = append(b, flag(m.clean), flag(m.memory), byte(len(m.losses)))
	for _, l := range m.losses {
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, l.Epoch), l.From), l.To)
	}
	b = append(b, flag(m.forgotten.any))
	for _, v := range []uint64{m.forgotten.epoch, m.forgotten.begin, m.forgotten.end} {
		b = le.AppendUint64(b, v)
	}
	le.PutUint32(slot[slotSize-4:], crc32.Checksum(slot[:slotSize-4], castagnoli))
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// decodeMark returns false for a slot that was never written, or not to the end, or changed since.
func decodeMark(b []byte) (m mark, ok bool) {
	le := binary.LittleEndian
	if len(b) != slotSize || string(b[:8]) != markMagic || le.Uint32(b[slotSize-4:]) != crc32.Checksum(b[:slotSize-4], castagnoli) {
		return mark{}, false
	}
	u64 := func() uint64 { v := le.Uint64(b); b = b[8:]; return v }
	b = b[8:]
	for _, p := range []*uint64{&m.generation, &m.epoch, &m.last, &m.confirmed, &m.first, &m.messages, &m.holes, &m.cursors, &m.delayed} {
		*p = u64()
	}
	m.wall, m.boottime = int64(u64()), int64(u64())
	b = b[copy(m.boot[:], b):]
	m.clean, m.memory = b[0] == 1, b[1] == 1
	losses := int(b[2])
	b = b[3:]
	if losses > guard.MaxLosses || m.epoch == 0 {
		return mark{}, false
	}
	for range losses {
		m.losses = append(m.losses, queue.Loss{Epoch: u64(), From: u64(), To: u64()})
	}
	m.forgotten.any = b[0] == 1
	b = b[1:]
	m.forgotten.epoch, m.forgotten.begin, m.forgotten.end = u64(), u64(), u64()
	return m, true
}

// addLoss records the end of an epoch.
func (m *mark) addLoss(l queue.Loss) { m.losses = guard.AddLoss(m.losses, l) }

// markFile is the open high-water file.
type markFile struct {
	f    *os.File
	slot [slotSize]byte // what write encodes into
}

// openMark opens the high-water file and returns its newest readable slot, and how many slots are readable. The error is
// errNoMark when there is no file.
func openMark(dir string) (*markFile, mark, int, error) {
	f, err := os.OpenFile(filepath.Join(dir, markName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, mark{}, 0, errNoMark
	}
	if err != nil {
		return nil, mark{}, 0, err
	}
	var newest mark
	readable := 0
	for i := range 2 {
		b := make([]byte, slotSize)
		if n, err := f.ReadAt(b, int64(i)*slotSize); n < slotSize && err == nil {
			continue
		}
		if m, ok := decodeMark(b); ok {
			readable++
			if m.generation > newest.generation {
				newest = m
			}
		}
	}
	return &markFile{f: f}, newest, readable, nil
}

// createMark makes a high-water file whose slots both hold m, and makes the file and its name durable.
func createMark(dir string, m *mark) (*markFile, error) {
	tmp := filepath.Join(dir, markName+".new")
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	mf := &markFile{f: f}
	for range 2 { // one generation each
		if err = mf.write(m); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, markName))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("create high-water file: %w", err)
	}
	return mf, nil
}

// write puts m into the slot that holds the older generation, and does not flush it.
func (f *markFile) write(m *mark) error {
	m.generation++
	m.encode(&f.slot)
	_, err := f.f.WriteAt(f.slot[:], int64(m.generation%2)*slotSize)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !canNotSyncDirs {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
