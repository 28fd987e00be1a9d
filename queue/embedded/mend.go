package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
)

const indexFile = "index.db" // in which the server keeps what its files have

// mend makes a stream readable. The files as they were are set aside.
func (e *Engine) mend(s streamScan) error {
	if s.meta != "" {
		e.log.Warn("the description of a stream was damaged and is written anew", "stream", s.name, "cause", s.meta)
		if err := e.aside(s.name, filepath.Join(s.dir, server.JetStreamMetaFile)); err != nil {
			return err
		}
		if err := mendMeta(s.name, s.dir); err != nil {
			return err
		}
	}
	files := map[string]bool{}
	for _, list := range [][]Damage{s.damage, s.scars} {
		for _, d := range list {
			e.log.Warn("a part of the store is unreadable and is left out", "what", d.String())
			files[d.File] = true
		}
	}
	if s.tail != nil {
		e.log.Warn("the store ends in something that was not written to the end", "what", s.tail.String())
		files[s.tail.File] = true
	}
	if len(files) == 0 {
		return nil
	}
	for file := range files {
		if err := e.aside(s.name, file); err != nil {
			return err
		}
		if err := mendBlock(s.name, file); err != nil {
			return err
		}
	}
	err := os.Remove(filepath.Join(s.dir, "msgs", indexFile)) // it tells of what is not there any more
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// aside copies a file to where an operator finds it.
func (e *Engine) aside(stream, file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := filepath.Join(e.dir, fmt.Sprintf("%s-%s.damaged-%d", stream, filepath.Base(file), time.Now().Unix()))
	e.log.Warn("a damaged file is kept", "path", name)
	return writeFile(name, data)
}

// mendBlock leaves out of a file what is not a whole record.
func mendBlock(stream, file string) error {
	var number int
	if _, err := fmt.Sscanf(filepath.Base(file), "%d.blk", &number); err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var whole []byte
	scanBlock(stream, number, data, 0, func(r record) { whole = append(whole, data[r.at:r.at+r.length]...) })
	return writeFile(file, whole)
}

// checkMeta says what is wrong with a stream's own description, which the server would take for a reason not to have the stream.
func checkMeta(name, dir string) string {
	meta, err := os.ReadFile(filepath.Join(dir, server.JetStreamMetaFile))
	if err != nil {
		return err.Error()
	}
	sum, err := os.ReadFile(filepath.Join(dir, server.JetStreamMetaFileSum))
	if err != nil {
		return err.Error()
	}
	if string(sum) != metaSum(name, meta) {
		return "its checksum is wrong"
	}
	return ""
}

func metaSum(name string, meta []byte) string {
	key := sha256.Sum256([]byte(name))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key's length is wrong
	}
	h.Write(meta)
	return hex.EncodeToString(h.Sum(nil))
}

// mendMeta writes a stream's description anew: the least that the server needs, which package queue completes. What can still be read
// of the damaged one is not worth it: one wrong letter, and the server has no such stream.
func mendMeta(name, dir string) error {
	meta, err := json.Marshal(server.FileStreamInfo{Created: time.Now().UTC(), StreamConfig: server.StreamConfig{
		Name: name, Subjects: []string{name}, Storage: server.FileStorage, Retention: server.LimitsPolicy, Discard: server.DiscardOld,
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPer: -1, MaxMsgSize: -1, Replicas: 1,
	}})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, server.JetStreamMetaFile), meta); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, server.JetStreamMetaFileSum), []byte(metaSum(name, meta)))
}

// writeFile replaces a file, durably.
func writeFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(name))
}
