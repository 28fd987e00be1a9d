package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	scrubEvery = 24 * time.Hour
	scrubSpeed = 5 << 20     // bytes a second, on average
	scrubAgain = time.Second // after which what looks damaged is read again: it may have been about to be replaced
)

// Scrub is what reading through the store has found while the engine runs.
type Scrub struct {
	Done    time.Time // when it had been read through last; zero is not yet
	Files   int       // that were read since the start
	Bytes   int64     // likewise
	Damaged []Damage  // what could not be read last time, and, while it goes on, this time
}

// Messages returns how many messages are damaged, at least.
func (s Scrub) Messages() (n uint64) {
	for _, d := range s.Damaged {
		n++
		if d.From > 0 && d.To > d.From {
			n += d.To - d.From
		}
	}
	return n
}

// scrub reads the whole store now and then, slowly, so that damage is known before what it took is asked for.
func (e *Engine) scrub(every time.Duration) {
	for {
		start := time.Now()
		if !e.scrubOnce(scrubSpeed) || !e.sleep(every-time.Since(start)) {
			return
		}
	}
}

// sleep returns false when the engine is closed first.
func (e *Engine) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.stop:
		return false
	}
}

// scrubOnce reads at so many bytes a second. It returns false when the engine is closed.
func (e *Engine) scrubOnce(speed int) bool {
	s := e.Scrub()
	var found []Damage
	entries, err := os.ReadDir(streamsDir(e.dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("can't scrub the store", "error", err)
	}
	for _, entry := range entries {
		stream := entry.Name()
		blocks, err := blockFiles(filepath.Join(streamsDir(e.dir), stream))
		if err != nil {
			e.log.Warn("can't scrub a stream", "stream", stream, "error", err)
			continue
		}
		for i, b := range blocks {
			open := i == len(blocks)-1 // the server is writing to it
			bad, size := e.scrubBlock(stream, b, open)
			if len(bad) > 0 {
				if !e.sleep(scrubAgain) {
					return false
				}
				if again, _ := e.scrubBlock(stream, b, open); slices.Equal(again, bad) {
					found = append(found, bad...)
					s.Damaged = e.tell(s.Damaged, bad)
				}
			}
			s.Files, s.Bytes = s.Files+1, s.Bytes+int64(size)
			e.scrubs.Store(&Scrub{s.Done, s.Files, s.Bytes, s.Damaged})
			if !e.sleep(time.Duration(size) * time.Second / time.Duration(speed)) {
				return false
			}
		}
	}
	e.scrubs.Store(&Scrub{time.Now(), s.Files, s.Bytes, found})
	return true
}

// tell logs what is damaged and was not known yet, and returns all of it.
func (e *Engine) tell(known, bad []Damage) []Damage {
	for _, d := range bad {
		if !slices.Contains(known, d) {
			e.log.Error("the store is damaged; stop the server and verify it", "what", d.String())
			known = append(slices.Clip(known), d)
		}
	}
	return known
}

func (e *Engine) scrubBlock(stream string, b blockFile, open bool) (bad []Damage, size int) {
	data, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0
	}
	if err != nil {
		return []Damage{{Stream: stream, File: b.path, At: -1, What: err.Error()}}, 0
	}
	s := scanBlock(stream, b.number, data, 0, func(record) {})
	for _, d := range s.damage {
		d.Stream, d.File = stream, b.path
		bad = append(bad, d)
	}
	if s.rest >= 0 && !open {
		bad = append(bad, Damage{Stream: stream, File: b.path, At: int64(s.rest), From: s.last + 1, What: s.why.Error()})
	}
	return bad, len(data)
}

// Scrub returns what reading through the store has found so far. After damage was found, and the engine was closed, [Verify] says
// what is lost by it. Nobody may change what Damaged refers to.
func (e *Engine) Scrub() Scrub {
	if p := e.scrubs.Load(); p != nil {
		return *p
	}
	return Scrub{}
}
