package app

import (
	"context"
	"os"
	"slices"
	"time"
)

const (
	fewFiles  = 4096
	slowFlush = 20 * time.Millisecond
	flushes   = 9
	lowRoom   = 512 << 20 // bytes
)

// checkFiles looks at how many files a process may open, which is how many clients it may have.
func (d *doctor) checkFiles(context.Context) finding {
	files := maxFiles()
	switch {
	case files == 0:
		return fine("there is no limit that matters")
	case files < fewFiles:
		return doubtful("raise it: LimitNOFILE= in the systemd unit, or ulimit -n", "a process may open %d files, so a server takes %d clients at most", files, forConnections())
	}
	return fine("a process may open %d: enough for %d clients", files, forConnections())
}

// checkDisk writes to the data directory and looks how long a flush takes: each publish waits for one.
func (d *doctor) checkDisk(context.Context) finding {
	c, err := d.config()
	if err != nil {
		return skipped("the configuration does not say where the data is")
	}
	if _, err := os.Stat(c.DataDir); err != nil {
		return skipped("there is no data directory %s on this machine", c.DataDir)
	}
	f, err := os.CreateTemp(c.DataDir, "doctor-*")
	if err != nil {
		return broken("the server's user must own it", "%v", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	for range flushes {
		start := time.Now()
		if _, err = f.Write(make([]byte, 4096)); err == nil {
			err = f.Sync()
		}
		if err != nil {
			return broken("the disk is full, or failing", "%v", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	middle := took[flushes/2].Round(10 * time.Microsecond)
	free, err := freeBytes(c.DataDir)
	switch {
	case err == nil && free < lowRoom:
		return doubtful("make room: below store.reserve publishing is refused", "%d MB are free in %s", free>>20, c.DataDir)
	case middle > slowFlush:
		return doubtful("use a local disk, and not one that others write to all the time", "a flush takes %v in %s, and each publish waits for one", middle, c.DataDir)
	case err != nil: // not told on this system
		return fine("a flush takes %v in %s", middle, c.DataDir)
	}
	return fine("a flush takes %v in %s, %d MB are free", middle, c.DataDir, free>>20)
}
