package faults

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdpost/holdpost/internal/history"
)

// TestDamage damages a store that was stopped in good order. What costs nothing is mended without a word to readers; a store that
// lost something is refused, and once the loss is accepted everybody who misses something is told.
func TestDamage(t *testing.T) {
	flip := func(part float64) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[int(part*float64(len(b)-1))] ^= 4
			return b
		}
	}
	zero := func(from, to float64) func(b []byte) []byte {
		return func(b []byte) []byte {
			clear(b[int(from*float64(len(b))):int(to*float64(len(b)))])
			return b
		}
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	const (
		mended    = iota
		refused   // and then accepted, with an epoch that ends
		forgotten // refused, and what it takes with it once that is accepted is nothing that has an offset
		unknown   // refused, and nobody knows what it takes with it
	)
	for _, c := range []struct {
		name, stream, file string
		damage             func(b []byte) []byte // nil: the file is gone
		outcome            int
	}{
		{"a bit at the head of the log", "EVT_0", "msgs/1.blk", flip(0.001), refused},
		{"a bit in the middle of the log", "EVT_0", "msgs/1.blk", flip(0.5), refused},
		{"a bit at the end of the log", "EVT_0", "msgs/1.blk", flip(1), refused},
		{"half of the log", "EVT_0", "msgs/1.blk", half, refused},
		{"37 bytes of the log", "EVT_0", "msgs/1.blk", func(b []byte) []byte { return b[:len(b)-37] }, refused},
		{"a page of the log", "EVT_0", "msgs/1.blk", func(b []byte) []byte { copy(b[len(b)/3:][:4096], bytes.Repeat([]byte{7}, 4096)); return b }, refused},
		{"zeros in the log", "EVT_0", "msgs/1.blk", zero(0.6, 0.7), refused},
		{"the file of the log", "EVT_0", "msgs/1.blk", nil, refused},
		{"half a record too many", "EVT_0", "msgs/1.blk", func(b []byte) []byte { return append(b, b[:37]...) }, mended},
		{"a bit of meta.inf", "EVT_0", "meta.inf", flip(0.5), mended},
		{"no meta.inf", "EVT_0", "meta.inf", nil, mended},
		{"a bit of meta.sum", "EVT_0", "meta.sum", flip(0.5), mended},
		{"a bit of index.db", "EVT_0", "msgs/index.db", flip(0.5), mended},
		{"no index.db", "EVT_0", "msgs/index.db", nil, mended},
		{"no meta.sum", "EVT_0", "meta.sum", nil, mended},
		{"a bit at the head of the cursors", "CUR", "msgs/1.blk", flip(0.001), forgotten},
		{"a bit in the middle of the cursors", "CUR", "msgs/1.blk", flip(0.5), forgotten},
		{"a bit at the end of the cursors", "CUR", "msgs/1.blk", flip(0.99), forgotten},
		{"half of the cursors", "CUR", "msgs/1.blk", half, forgotten},
		{"zeros in the cursors", "CUR", "msgs/1.blk", zero(0.3, 0.9), forgotten},
		{"the file of the cursors", "CUR", "msgs/1.blk", nil, forgotten},
		{"a bit of the cursors' meta.inf", "CUR", "meta.inf", flip(0.5), mended},
		{"a bit of the receipts", "RCP", "msgs/1.blk", flip(0.5), mended},
		{"the file of the receipts", "RCP", "msgs/1.blk", nil, mended},
		{"a slot of the mark", "", "highwater", func(b []byte) []byte { clear(b[:4096]); return b }, mended},
		{"the mark", "", "highwater", func(b []byte) []byte { clear(b); return b }, unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRun(t, t.TempDir())
			r.stopAt(1500)
			file := filepath.Join(r.Dir, c.file)
			if c.stream != "" {
				file = filepath.Join(r.Dir, "js", "jetstream", "$G", "streams", c.stream, filepath.FromSlash(c.file))
			}
			damage(t, file, c.damage)
			if c.stream == "RCP" {
				r.events = append(r.events, history.Event{Kind: history.Forgot, Content: history.Receipts})
			}
			if c.outcome != mended {
				if !r.refused() {
					t.Fatal("the store was opened")
				}
				r.accepts(c.stream, c.outcome == unknown)
				r.stopAt(500)
				r.AcceptLoss = false
			}
			r.drain()
			r.check()
			if accepted := r.accepted(); accepted != (c.outcome == refused || c.outcome == unknown) {
				t.Errorf("a loss was accepted: %v", accepted)
			}
		})
	}
}

func damage(t *testing.T, file string, how func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if how == nil {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, how(b), fs.FileMode(0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// refused runs a child, and says whether it would not open the store.
func (r *run) refused() bool {
	opened := false
	err := r.process(func(_ int, e history.Event, v victim) {
		if e.Kind == history.Start {
			opened = true
			v.kill()
		}
	})
	return err != nil && !opened
}

// accepts has the next process go on with what is left, and notes what may be missing that the process itself does not tell.
func (r *run) accepts(stream string, everything bool) {
	r.AcceptLoss = true
	r.Lossy = true
	there := map[[2]string]bool{} // published, and perhaps lost
	for _, e := range r.events {
		there[[2]string{e.Topic, e.ID}] = there[[2]string{e.Topic, e.ID}] || e.Kind == history.Deliver
	}
	r.Later = slices.DeleteFunc(r.Later, func(x [2]string) bool { return there[x] })
	for _, what := range []struct{ stream, content string }{{"CUR", history.Cursors}, {"DLY", history.Delayed}} {
		if everything || what.stream == stream {
			r.events = append(r.events, history.Event{Kind: history.Forgot, Content: what.content})
		}
	}
}

// accepted says whether a process went on without something that was lost.
func (r *run) accepted() bool {
	for _, e := range r.events {
		if e.Kind == history.Accept {
			return true
		}
	}
	return false
}
