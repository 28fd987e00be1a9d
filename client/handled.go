package client

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/holdpost/holdpost/internal/filelock"
	"github.com/holdpost/holdpost/internal/serial"
)

// handledFile remembers on disk which events a consumer has handled: an offset a line, in the order in which they were. A line
// that the end of a program has left without its end is dropped.
type handledFile struct {
	in     serial.Queue[remembered] // what is to be written
	closed chan struct{}            // once the file is

	// Owned by who runs in.
	path  string
	file  *os.File
	lines []string // in the file
}

// remembered is an event that was handled, and what is sent for it once that is on disk.
type remembered struct {
	offset string // "": close the file
	then   func()
}

// openHandledFile opens a file or makes one.
func openHandledFile(path string) (*handledFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f := &handledFile{path: path, file: file, closed: make(chan struct{})}
	if err = filelock.Lock(file); err == nil {
		err = f.load()
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func (f *handledFile) load() error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	for line := range strings.Lines(string(whole)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "~") || len(line) > 64 {
			return fmt.Errorf("%q is no offset", line)
		}
		f.lines = append(f.lines, line)
	}
	if err := f.file.Truncate(int64(len(whole))); err != nil {
		return err
	}
	_, err = f.file.Seek(0, 2)
	return err
}

// write adds offsets, and syncs. A file of many is written anew with the last of them.
func (f *handledFile) write(offsets []string) error {
	if _, err := f.file.WriteString(strings.Join(offsets, "\n") + "\n"); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	if f.lines = append(f.lines, offsets...); len(f.lines) > 2*maxRemembered {
		f.lines = slices.Clone(f.lines[len(f.lines)-maxRemembered:])
		_ = f.shrink() // on an error the file is as it was, and goes on growing
	}
	return nil
}

// shrink writes the file anew.
func (f *handledFile) shrink() error {
	file, err := os.OpenFile(f.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = filelock.Lock(file); err == nil {
		_, err = file.WriteString(strings.Join(f.lines, "\n") + "\n")
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		file.Close()
		return err
	}
	f.file.Close() // everything that counts is in the new one
	f.file = file
	return syncDir(f.path)
}

// remember has an event remembered that was handled, and then sends the ack.
func (u *Consumer) remember(r remembered) {
	if u.handled.in.Push(r) {
		run := func() { u.handled.in.Run(u.writeHandled) }
		if !u.socket.client.spawn(run) {
			run() // of a closed client
		}
	}
}

// writeHandled writes a batch, with one sync. What can't be remembered is not acknowledged, and ends the subscription: the queue
// holds it.
func (u *Consumer) writeHandled(batch []remembered) {
	var offsets []string
	for _, r := range batch {
		if r.offset != "" {
			offsets = append(offsets, r.offset)
		}
	}
	f := u.handled
	if f.file == nil {
		return
	}
	if len(offsets) > 0 {
		if err := f.write(offsets); err != nil {
			u.socket.dropConsumer(u)
			u.end(fmt.Errorf("remember what was handled: %w", err))
			f.close()
			return
		}
	}
	for _, r := range batch {
		if r.offset == "" {
			f.close()
			return
		}
		r.then()
	}
}

func (f *handledFile) close() {
	f.file.Close()
	f.file = nil
	close(f.closed)
}
