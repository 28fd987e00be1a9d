package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdpost/holdpost/internal/filelock"
)

// Report is what [Verify] finds.
type Report struct {
	Epoch   uint64
	Streams []StreamReport
	Scars   []Damage // what is unreadable, and was deleted before or never acknowledged: a start mends it by itself
	Forgets bool     // a loss of queues was accepted, or it is a backup: a queue that is not on record begins anew, with all that is kept
	Loss    error    // for which a start refuses the store, a [*LossError] or [ErrMark]; nil is nothing
}

// StreamReport is what the files of one stream have.
type StreamReport struct {
	Name        string
	First, Last uint64 // sequences; 0 when there is no message
	Messages    uint64
}

// Verify reads a store that no engine has open, every record of it, and changes nothing. It calls progress, if it is not nil, now and
// then. The error is one of reading; it wraps [ErrInUse] while an engine has the store, and [fs.ErrNotExist] if there is none.
func Verify(dir string, progress func(read, total int64)) (*Report, error) {
	r, err := verify(dir, progress)
	if err != nil {
		return nil, fmt.Errorf("verify store %s: %w", dir, err)
	}
	return r, nil
}

func verify(dir string, progress func(read, total int64)) (*Report, error) {
	held, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if err := filelock.Lock(held); err != nil {
		return nil, err
	}
	file, m, readable, err := openMark(dir)
	if err == nil {
		file.f.Close()
	}
	r := &Report{Epoch: m.epoch, Forgets: m.forgotten.any}
	if errors.Is(err, errNoMark) || err == nil && readable == 0 {
		r.Loss = ErrMark
	} else if err != nil {
		return nil, err
	}
	boot := bootID()
	rebooted := boot != m.boot || boot == [16]byte{}
	var read func(int)
	if progress != nil {
		total, err := size(streamsDir(dir))
		if err != nil {
			return nil, err
		}
		done := int64(0)
		read = func(bytes int) {
			done += int64(bytes)
			progress(done, total)
		}
	}
	all, err := scanStore(dir, read)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		r.Streams = append(r.Streams, StreamReport{s.name, s.first, s.last, s.messages})
		r.Scars = append(r.Scars, s.scars...)
		if s.tail != nil && s.last >= m.must(s.name, rebooted) {
			r.Scars = append(r.Scars, *s.tail)
		}
		if s.meta != "" {
			r.Scars = append(r.Scars, Damage{Stream: s.name, File: filepath.Join(s.dir, "meta.inf"), At: -1, What: s.meta})
		}
	}
	state := found(all)
	if r.Loss != nil || m.unflushed(rebooted) {
		return r, nil
	}
	loss := m.unreadable(all, rebooted)
	if loss == nil {
		loss = m.judge(state, rebooted).loss
	}
	if loss == nil {
		loss = m.judgeOthers(state)
	}
	if loss != nil {
		loss.Dir = dir
		r.Loss = loss
	}
	return r, nil
}

// size adds up the messages' files.
func size(streams string) (total int64, err error) {
	entries, err := os.ReadDir(streams)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		blocks, err := blockFiles(filepath.Join(streams, e.Name()))
		if err != nil {
			return 0, err
		}
		for _, b := range blocks {
			info, err := os.Stat(b.path)
			if err != nil {
				return 0, err
			}
			total += info.Size()
		}
	}
	return total, nil
}

// found is what the server would say of streams.
func found(all []streamScan) (l logState) {
	for _, s := range all {
		switch s.name {
		case cursorStream:
			l.cursors = s.last
		case delayedStream:
			l.delayed = s.last
		case logStream:
			l.exists, l.first, l.last, l.messages = true, s.first, s.last, s.messages
			l.lowestHole, l.highestHole = s.hole.from, s.hole.to
			if s.messages == 0 {
				l.first = s.last + 1
			}
		}
	}
	return l
}

// Repair makes a store usable that [Start] refuses, and returns what [Verify] said of it before. What is lost is lost: a new epoch
// begins, and readers are told. The damaged files are kept beside the store, with "damaged" in their names. progress is that of Verify.
func Repair(ctx context.Context, c Config, progress func(read, total int64)) (*Report, error) {
	r, err := Verify(c.Dir, progress)
	if err != nil {
		return nil, err
	}
	if r.Loss == nil && len(r.Scars) == 0 {
		return r, nil
	}
	c.AcceptLoss, c.ScrubEvery = true, -1
	e, err := Start(ctx, c)
	if err != nil {
		return r, fmt.Errorf("repair: %w", err)
	}
	return r, e.Close()
}
