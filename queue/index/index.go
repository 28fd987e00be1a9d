package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdpost/holdpost/queue"
)

const (
	memtableSize = 16 << 20
	cacheSize    = 64 << 20
	maxOpenFiles = 256

	// damagedName is a file that says that the index has to be built anew.
	damagedName = "DAMAGED"
	lockName    = "LOCK"
)

// state is what the index knows of itself. Every batch writes it.
type state struct {
	epoch   uint64
	applied uint64
	floor   uint64 // everything below was trimmed
	blind   uint64 // what was trimmed up to here was partly never seen, so it may have been of any topic
	cut     uint64 // the last sequence that the log's own retention took, or may have
	noted   uint64 // up to here in the stream of notes about topics

	declared uint64 // topics that are
}

const stateVersion = 2

func (s *state) append(b []byte) []byte {
	b = append(b, stateVersion)
	for _, v := range []uint64{s.epoch, s.applied, s.floor, s.blind, s.cut, s.noted, s.declared} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeState(b []byte) (s state, ok bool) {
	if len(b) != 57 || b[0] != stateVersion {
		return s, false
	}
	for i, p := range []*uint64{&s.epoch, &s.applied, &s.floor, &s.blind, &s.cut, &s.noted, &s.declared} {
		*p = binary.LittleEndian.Uint64(b[1+8*i:])
	}
	return s, true
}

// Index implements queue.Index.
type Index struct {
	// Static after Open.
	dir  string
	log  *slog.Logger
	db   *pebble.DB
	lock *pebble.Lock

	state atomic.Pointer[state] // replaced by the writer after its batch is in

	// Owned by the writer.
	key     []byte
	value   []byte
	topics  map[string]*topicState // of those written lately
	changed map[string]struct{}    // since the last commit
}

var _ queue.Index = (*Index)(nil)

// Open opens the index in dir, or makes an empty one. An index that can't be read is removed and begins empty, with a
// line in the log: Epoch 0 and Applied 0 say that the log is to be taken in again. nil is slog.Default().
func Open(dir string, logger *slog.Logger) (*Index, error) {
	if logger == nil {
		logger = slog.Default()
	}
	x := &Index{dir: dir, log: logger.With("component", "index"), topics: map[string]*topicState{}, changed: map[string]struct{}{}}
	if err := x.open(); err != nil {
		return nil, fmt.Errorf("open index %s: %w", dir, err)
	}
	return x, nil
}

func (x *Index) open() (err error) {
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return err
	}
	if x.lock, err = pebble.LockDirectory(x.dir, vfs.Default); err != nil {
		return fmt.Errorf("in use: %w", err)
	}
	defer func() {
		if err != nil {
			x.lock.Close()
		}
	}()
	damage := errors.New("damage was found while it was in use")
	if _, err := os.Stat(filepath.Join(x.dir, damagedName)); errors.Is(err, os.ErrNotExist) {
		damage = x.openDB()
	}
	if damage == nil {
		return nil
	}
	for _, e := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(damage, e) { // not the index's fault
			return damage
		}
	}
	x.log.Warn("the index can't be used and is built anew from the log", "dir", x.dir, "error", damage)
	if err := x.wipe(); err != nil {
		return err
	}
	return x.openDB()
}

func (x *Index) openDB() error {
	opts := &pebble.Options{
		DisableWAL: true, MemTableSize: memtableSize, CacheSize: cacheSize, MaxOpenFiles: maxOpenFiles,
		FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLog{x.log}, Lock: x.lock,
		FS: vfs.Default, // without the health checks of the default, which a failed Open leaves running
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { x.log.Warn("index", "error", err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { x.damaged(info.Details) },
		},
	}
	opts.Levels[0].FilterPolicy = bloom.FilterPolicy(10) // a new topic, id or key is looked for in vain
	db, err := pebble.Open(x.dir, opts)
	if err != nil {
		return err
	}
	s, err := readState(db)
	if err != nil {
		db.Close()
		return err
	}
	x.db = db
	x.state.Store(&s)
	return nil
}

// readState returns the zero state for an empty store.
func readState(db *pebble.DB) (state, error) {
	v, c, err := db.Get([]byte{stateKey})
	if errors.Is(err, pebble.ErrNotFound) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	defer c.Close()
	s, ok := decodeState(v)
	if !ok {
		return state{}, errors.New("state unreadable or of another version")
	}
	return s, nil
}

// wipe empties the directory but for the lock, which is held.
func (x *Index) wipe() error {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockName && e.Name() != damagedName {
			if err := os.RemoveAll(filepath.Join(x.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	err = os.Remove(filepath.Join(x.dir, damagedName)) // last, so that a wipe that is cut short is done again
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// damaged makes the next Open start over. Calls that need what is damaged return errors until then.
func (x *Index) damaged(err error) {
	x.log.Error("the index is damaged and will be built anew at the next start", "dir", x.dir, "error", err)
	if err := os.WriteFile(filepath.Join(x.dir, damagedName), nil, 0o600); err != nil {
		x.log.Error("can't mark the index as damaged", "error", err)
	}
}

// Epoch returns the epoch whose events the index holds, 0 when it is new.
func (x *Index) Epoch() uint64 { return x.state.Load().epoch }

// Applied returns the sequence up to which the log has been taken in.
func (x *Index) Applied() uint64 { return x.state.Load().applied }

// Cut returns the last sequence that Trim dropped an event at, or may have.
func (x *Index) Cut() uint64 { return x.state.Load().cut }

// Declared returns how many topics are declared.
func (x *Index) Declared() int { return int(x.state.Load().declared) }

// Noted returns the position up to which notes about topics have been taken in.
func (x *Index) Noted() uint64 { return x.state.Load().noted }

// Close flushes, so that the next Open begins where this one stood. No other call may be running or follow.
func (x *Index) Close() error {
	err := x.db.Flush()
	if e := x.db.Close(); err == nil {
		err = e
	}
	if e := x.lock.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close index: %w", err)
	}
	return nil
}

// pebbleLog keeps Pebble quiet but for errors.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }

// Fatalf must not return: Pebble goes on under the assumption that it doesn't.
func (l pebbleLog) Fatalf(format string, v ...any) {
	panic("index: " + fmt.Sprintf(format, v...))
}
