package embedded

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/holdpost/holdpost/queue"
)

// A backup is a tar file. Its entries, in this order:
//
//	backup.json        a manifest
//	STREAM/stream.json the stream's configuration and state, as the server gives them
//	STREAM/000001 ...  the server's snapshot of the stream, in parts
//	end.json           the SHA-256 over the contents of all other entries, which tells a whole backup from the beginning of one
//
// The stream of cursors comes before the log, so that no cursor is ahead of it.
const (
	backupVersion = 1
	manifestName  = "backup.json"
	streamFile    = "stream.json"
	endName       = "end.json"
	backupChunk   = 512 << 10
	backupStall   = 30 * time.Second // for which the server may be silent
	maxEntry      = 64 << 20         // of a backup that is read
)

var backupStreams = []string{cursorStream, delayedStream, receiptStream, logStream}

// ErrBackup reports that what was to be restored is not a whole backup.
var ErrBackup = errors.New("not a whole backup")

type manifest struct {
	Version int          `json:"version"`
	Time    time.Time    `json:"time"`
	Epoch   uint64       `json:"epoch"`
	Last    uint64       `json:"last"` // sequence of the log when it began
	Losses  []queue.Loss `json:"losses,omitempty"`
}

type backupEnd struct {
	SHA256 string `json:"sha256"`
}

// Backup writes the store, as it is at some moment of the call, to w while it is in use. It can be restored by [Restore].
func (e *Engine) Backup(ctx context.Context, w io.Writer) error {
	if err := e.backup(ctx, w); err != nil {
		return fmt.Errorf("back up store %s: %w", e.dir, err)
	}
	return nil
}

func (e *Engine) backup(ctx context.Context, w io.Writer) error {
	nc, err := e.Connect("backup")
	if err != nil {
		return err
	}
	defer nc.Close()
	b := &backupWriter{tar: tar.NewWriter(w)}
	e.mu.Lock()
	about := manifest{Version: backupVersion, Time: time.Now().UTC(), Epoch: e.epoch, Last: e.mark.confirmed, Losses: e.losses}
	e.mu.Unlock()
	if err := b.json(manifestName, about); err != nil {
		return err
	}
	for _, name := range backupStreams {
		if err := snapshot(ctx, nc, name, b); err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
	}
	sum := hex.EncodeToString(b.sum[:])
	if err := b.json(endName, backupEnd{sum}); err != nil {
		return err
	}
	return b.tar.Close()
}

// backupWriter writes entries.
type backupWriter struct {
	tar *tar.Writer
	sum [sha256.Size]byte // over the sum before and the entry
}

func (b *backupWriter) entry(name string, data []byte) error {
	b.sum = chain(b.sum, data)
	if err := b.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := b.tar.Write(data)
	return err
}

func chain(sum [sha256.Size]byte, data []byte) [sha256.Size]byte {
	return sha256.Sum256(append(sum[:], data...))
}

func (b *backupWriter) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.entry(name, data)
}

// snapshot writes one stream. One that does not exist is left out.
func snapshot(ctx context.Context, nc *nats.Conn, stream string, b *backupWriter) error {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	sub.SetPendingLimits(-1, -1)
	ask, err := json.Marshal(server.JSApiStreamSnapshotRequest{DeliverSubject: inbox, NoConsumers: true, ChunkSize: backupChunk, CheckMsgs: true})
	if err != nil {
		return err
	}
	answer, err := nc.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamSnapshotT, stream), ask)
	if err != nil {
		return err
	}
	var about server.JSApiStreamSnapshotResponse
	if err := json.Unmarshal(answer.Data, &about); err != nil {
		return err
	}
	switch {
	case about.Error != nil && about.Error.ErrCode == uint16(server.JSStreamNotFoundErr):
		return nil
	case about.Error != nil:
		return about.Error
	}
	if err := b.entry(stream+"/"+streamFile, answer.Data); err != nil {
		return err
	}
	for part := 1; ; part++ {
		m, err := nextChunk(ctx, sub)
		if err != nil {
			return err
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the server's snapshot ended with %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if err := b.entry(fmt.Sprintf("%s/%06d", stream, part), m.Data); err != nil {
			return err
		}
		if m.Reply != "" { // the server sends no more than so many without it
			if err := m.Respond(nil); err != nil {
				return err
			}
		}
	}
}

func nextChunk(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, backupStall)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// Restore makes a store in c.Dir, which must have none, from a backup. Offsets and cursors go on to mean what they meant when it was
// made; what was stored later is lost: the store begins a new epoch, and whoever has seen more is told. The error wraps
// [ErrBackup] if r is not a whole backup; then, as after any other error, nothing is left in c.Dir.
func Restore(ctx context.Context, c Config, r io.Reader) (err error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("restore: %s is not empty", dir)
	}
	made := c
	made.Dir, made.ScrubEvery = dir, -1
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
			err = fmt.Errorf("restore %s: %w", dir, err)
		}
	}()
	e, err := Start(ctx, made)
	if err != nil {
		return err
	}
	if err = e.restore(ctx, r); err != nil {
		e.Close()
		return err
	}
	return e.Close()
}

// restore fills a new store.
func (e *Engine) restore(ctx context.Context, r io.Reader) error {
	nc, err := e.Connect("restore")
	if err != nil {
		return err
	}
	defer nc.Close()
	in := &backupReader{tar: tar.NewReader(r)}
	var about manifest
	if err := in.next(); err != nil {
		return err
	}
	if in.name != manifestName || json.Unmarshal(in.data, &about) != nil || about.Version != backupVersion || about.Epoch == 0 {
		return fmt.Errorf("%w: it does not begin as one of version %d does", ErrBackup, backupVersion)
	}
	if err := in.next(); err != nil {
		return err
	}
	for in.name != endName {
		if err := restoreStream(ctx, nc, in); err != nil {
			return err
		}
	}
	var end backupEnd
	if json.Unmarshal(in.data, &end) != nil || end.SHA256 != hex.EncodeToString(in.before[:]) {
		return fmt.Errorf("%w: its checksum is wrong", ErrBackup)
	}
	state, err := e.look(ctx, false)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mark.losses = nil
	for _, l := range append(about.Losses, queue.Loss{Epoch: about.Epoch, From: state.last + 1, To: math.MaxUint64}) {
		e.mark.addLoss(l)
	}
	e.mark.forgotten = forgotten{any: true, epoch: about.Epoch, begin: min(about.Last, state.last), end: state.last}
	e.mark.last = state.last
	e.mark.see(state)
	return e.commit(state.last)
}

// backupReader reads entries.
type backupReader struct {
	tar         *tar.Reader
	name        string
	data        []byte
	sum, before [sha256.Size]byte // with and without the entry
}

func (b *backupReader) next() error {
	h, err := b.tar.Next()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if h.Size > maxEntry {
		return fmt.Errorf("%w: entry %q has %d bytes", ErrBackup, h.Name, h.Size)
	}
	b.name = h.Name
	b.data = make([]byte, h.Size)
	if _, err := io.ReadFull(b.tar, b.data); err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	b.before, b.sum = b.sum, chain(b.sum, b.data)
	return nil
}

// streamName is what a stream may be called: its name becomes a part of a subject, and of one that is malformed nobody hears.
var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// restoreStream takes a stream off in, up to the entry behind it.
func restoreStream(ctx context.Context, nc *nats.Conn, in *backupReader) error {
	stream, file := filepath.Split(filepath.FromSlash(in.name))
	stream = filepath.Clean(stream)
	var about server.JSApiStreamSnapshotResponse
	if file != streamFile || !streamName.MatchString(stream) || json.Unmarshal(in.data, &about) != nil || about.Config == nil || about.State == nil || about.Config.Name != stream {
		return fmt.Errorf("%w: entry %q is not the beginning of a stream", ErrBackup, in.name)
	}
	ask, err := json.Marshal(server.JSApiStreamRestoreRequest{Config: *about.Config, State: *about.State})
	if err != nil {
		return err
	}
	answer, err := nc.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamRestoreT, stream), ask)
	if err != nil {
		return err
	}
	var to server.JSApiStreamRestoreResponse
	if err := json.Unmarshal(answer.Data, &to); err != nil {
		return err
	}
	if to.Error != nil {
		return to.Error
	}
	for {
		if err := in.next(); err != nil {
			return err
		}
		if part, _ := filepath.Split(filepath.FromSlash(in.name)); filepath.Clean(part) != stream {
			break
		}
		if err := sendChunk(ctx, nc, to.DeliverSubject, in.data); err != nil {
			return err
		}
	}
	return sendChunk(ctx, nc, to.DeliverSubject, nil)
}

// sendChunk sends a part of a snapshot and waits for the answer; nothing ends it.
func sendChunk(ctx context.Context, nc *nats.Conn, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, backupStall)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil || len(m.Data) == 0 {
		return err
	}
	var made server.JSApiStreamCreateResponse
	if err := json.Unmarshal(m.Data, &made); err != nil {
		return err
	}
	if made.Error != nil {
		return fmt.Errorf("%w: %w", ErrBackup, made.Error)
	}
	return nil
}
