package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdpost/holdpost/queue/internal/guard"
)

// The other streams that package queue makes. Of receipts nothing was promised: they say what happened, not what is.
const (
	cursorStream  = guard.Cursors
	delayedStream = guard.Delayed
	receiptStream = "RCP"
)

// streamScan is what the files of a stream have, read without the server.
type streamScan struct {
	name, dir string
	meta      string // what is wrong with the stream's own description; empty is nothing
	first     uint64 // 0 when there is no message
	last      uint64 // the highest one that was used, deleted or not
	messages  uint64
	hole      span     // from the first missing sequence to the last one, of those between messages
	damage    []Damage // messages are lost by it
	scars     []Damage // messages were lost by it that nobody wants any more
	tail      *Damage  // the newest file ends in something unreadable, as it may after a power cut
}

func streamsDir(dir string) string {
	return filepath.Join(dir, storeName, "jetstream", "$G", "streams")
}

// scanStore reads all streams of a store that no server has open. It calls read, if it is not nil, with the size of each file that it
// has read.
func scanStore(dir string, read func(bytes int)) ([]streamScan, error) {
	if read == nil {
		read = func(int) {}
	}
	entries, err := os.ReadDir(streamsDir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []streamScan
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		s, err := scanStream(e.Name(), filepath.Join(streamsDir(dir), e.Name()), read)
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", e.Name(), err)
		}
		all = append(all, s)
	}
	return all, nil
}

// span is a run of sequences, both included.
type span struct{ from, to uint64 }

// contents are the messages of a stream.
type contents struct {
	there []span // ascending
	gone  map[uint64]bool
	noted uint64 // the highest of gone: the message itself may have gone with its file
}

func (c *contents) add(r record) {
	switch r.kind {
	case deleted:
		c.gone[r.seq] = true
		c.noted = max(c.noted, r.seq)
	case message:
		if n := len(c.there); n > 0 && r.seq == c.there[n-1].to+1 {
			c.there[n-1].to++
		} else {
			c.there = append(c.there, span{r.seq, r.seq})
		}
	}
}

func (c *contents) has(seq uint64) bool {
	_, ok := slices.BinarySearchFunc(c.there, seq, func(x span, seq uint64) int {
		switch {
		case x.to < seq:
			return -1
		case x.from > seq:
			return 1
		}
		return 0
	})
	return ok
}

// after returns the first sequence above one, 0 if there is none.
func (c *contents) after(seq uint64) uint64 {
	for _, x := range c.there {
		if x.to > seq {
			return max(x.from, seq+1)
		}
	}
	return 0
}

// unwanted says whether all messages in a damaged part had been deleted.
func (c *contents) unwanted(d Damage) bool {
	if d.From == 0 || d.To < d.From || d.To-d.From > maxSkip {
		return false
	}
	for seq := d.From; seq <= d.To; seq++ {
		if !c.gone[seq] {
			return false
		}
	}
	return true
}

func scanStream(name, dir string, read func(bytes int)) (streamScan, error) {
	s := streamScan{name: name, dir: dir, meta: checkMeta(name, dir)}
	files, err := blockFiles(dir)
	if err != nil {
		return s, err
	}
	c := contents{gone: map[uint64]bool{}}
	var found []Damage
	for i, f := range files {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return s, err
		}
		read(len(data))
		b := scanBlock(name, f.number, data, s.last, c.add)
		s.last = b.last
		for _, d := range b.damage {
			d.Stream, d.File = name, f.path
			found = append(found, d)
		}
		if b.rest < 0 {
			continue
		}
		d := Damage{Stream: name, File: f.path, At: int64(b.rest), From: b.last + 1, What: b.why.Error()}
		if i == len(files)-1 {
			s.tail = &d
		} else {
			found = append(found, d)
		}
	}
	for _, x := range c.there {
		if s.first == 0 {
			s.first = x.from
		}
		s.messages += x.to - x.from + 1
	}
	if n := len(c.there); n > 1 {
		s.hole = span{c.there[0].to + 1, c.there[n-1].from - 1}
	}
	for seq := range c.gone {
		if c.has(seq) {
			s.messages--
		}
	}
	s.last = max(s.last, c.noted)
	for _, d := range found {
		if next := c.after(d.From - 1); d.To == 0 && next > 0 { // it was unreadable to the end of its file
			d.To = next - 1
		}
		if c.unwanted(d) || name == receiptStream {
			s.scars = append(s.scars, d)
		} else {
			s.damage = append(s.damage, d)
		}
	}
	return s, nil
}

// must returns the sequence up to which a stream has to be whole.
func (m *mark) must(stream string, rebooted bool) uint64 {
	switch stream {
	case logStream:
		if rebooted && !m.clean {
			return m.confirmed // the commit of the rest may not have been over, and then none of it was acknowledged
		}
		return m.last
	case cursorStream:
		return m.cursors
	case delayedStream:
		return m.delayed
	}
	return 0
}

// preflight reads the store before the server opens it, which would drop without a word what it can't read. What can be mended without
// a loss it mends. With accept, or when nothing had been promised, it mends the rest too, and what it could not read is set aside.
func (e *Engine) preflight(rebooted, accept bool) error {
	began, bytes, messages := time.Now(), 0, uint64(0)
	all, err := scanStore(e.dir, func(n int) { bytes += n })
	if err != nil {
		return err
	}
	for _, s := range all {
		messages += s.messages
	}
	if len(all) > 0 {
		e.log.Info("store read through", "dir", e.dir, "messages", messages, "bytes", bytes, "took", time.Since(began).Round(time.Millisecond))
	}
	if !accept && !e.mark.unflushed(rebooted) {
		loss := e.mark.unreadable(all, rebooted)
		if loss == nil { // the server would believe its summary of a file that is gone
			loss = e.mark.judgeOthers(found(all))
		}
		if loss != nil {
			loss.Dir = e.dir
			return loss
		}
	}
	if err := e.beforeMending(all); err != nil {
		return err
	}
	for _, s := range all {
		if err := e.mend(s); err != nil {
			return fmt.Errorf("mend stream %s: %w", s.name, err)
		}
	}
	return nil
}

// beforeMending has it on record that queues may be missing, while the damage still shows it: unlike events, nobody counts them.
func (e *Engine) beforeMending(all []streamScan) error {
	state := found(all)
	lost := state.cursors < e.mark.cursors
	for _, s := range all {
		lost = lost || s.name == cursorStream && len(s.damage) > 0
	}
	if !lost || e.file == nil { // without a mark guard does it in any case
		return nil
	}
	e.forgetQueues(state.last)
	if err := e.file.write(&e.mark); err != nil {
		return err
	}
	return e.flush(e.dirFile, e.file.f)
}

// unreadable says what of the store is lost because it can't be read.
func (m *mark) unreadable(all []streamScan, rebooted bool) *LossError {
	var l *LossError
	for _, s := range all {
		must := m.must(s.name, rebooted)
		lost := s.damage
		if s.tail != nil && s.last < must {
			d := *s.tail
			d.To = must
			lost = append(slices.Clip(lost), d)
		}
		for _, d := range lost {
			if l == nil {
				l = &LossError{Stream: s.name, Epoch: m.epoch, Have: s.last, Want: must}
			}
			l.add(d)
		}
	}
	return l
}

func (l *LossError) add(d Damage) {
	l.Damage = append(l.Damage, d)
	if d.Stream != l.Stream {
		return
	}
	if l.From == 0 || d.From < l.From {
		l.From = d.From
	}
	l.To = max(l.To, d.To)
	if d.To >= d.From {
		l.Missing += d.To - d.From + 1
	}
}
