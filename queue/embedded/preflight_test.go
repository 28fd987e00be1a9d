package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
)

// edit changes a file.
func edit(t *testing.T, file string, f func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	noError(t, err)
	noError(t, os.WriteFile(file, f(b), 0o600))
}

// recordsOf returns the records of a block, as they lie in it.
func recordsOf(t *testing.T, file string) []record {
	t.Helper()
	data, err := os.ReadFile(file)
	noError(t, err)
	var number int
	fmt.Sscanf(filepath.Base(file), "%d.blk", &number)
	var rs []record
	if s := scanBlock(logStream, number, data, 0, func(r record) { rs = append(rs, r) }); s.rest >= 0 || len(s.damage) > 0 {
		t.Fatalf("%s is damaged before it was: %+v", file, s)
	}
	return rs
}

// crash makes the store look as if the process had been killed.
func crash(t *testing.T, dir string) {
	t.Helper()
	file, m, _, err := openMark(dir)
	noError(t, err)
	m.clean = false
	for range 2 {
		noError(t, file.write(&m))
	}
	noError(t, file.f.Close())
	noError(t, os.Remove(filepath.Join(streamDir(dir), "msgs", indexFile)))
}

// TestUnreadableRecords: whatever is wrong with a file, it is told before the server touches it, and when it is accepted nothing
// else is lost.
func TestUnreadableRecords(t *testing.T) {
	const n, size = 3000, 8000 // three blocks and a bit
	flip := func(file, at int, where func(r record) int) func(t *testing.T, dir string) []uint64 {
		return func(t *testing.T, dir string) []uint64 {
			rs := recordsOf(t, block(t, dir, file))
			if at < 0 {
				at += len(rs)
			}
			edit(t, block(t, dir, file), func(b []byte) []byte { b[rs[at].at+where(rs[at])] ^= 4; return b })
			return []uint64{rs[at].seq}
		}
	}
	length := func(record) int { return 2 }
	seq := func(record) int { return 6 }
	body := func(record) int { return 500 }
	sum := func(r record) int { return r.length - 1 }
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string) []uint64
	}{
		{"first record, body", flip(0, 0, body)},
		{"first record, length", flip(0, 0, length)},
		{"middle, body", flip(1, 300, body)},
		{"middle, length", flip(1, 300, length)},
		{"middle, sequence", flip(1, 300, seq)},
		{"middle, checksum", flip(1, 300, sum)},
		{"end of a file, body", flip(1, -1, body)},
		{"end of a file, length", flip(1, -1, length)},
		{"last record, body", flip(2, -1, body)},
		{"zeroed in the middle", func(t *testing.T, dir string) (lost []uint64) {
			rs := recordsOf(t, block(t, dir, 1))
			edit(t, block(t, dir, 1), func(b []byte) []byte { clear(b[rs[100].at+30 : rs[105].at+30]); return b })
			for _, r := range rs[100:106] {
				lost = append(lost, r.seq)
			}
			return lost
		}},
		{"a middle file cut off", func(t *testing.T, dir string) (lost []uint64) {
			rs := recordsOf(t, block(t, dir, 1))
			noError(t, os.Truncate(block(t, dir, 1), int64(rs[700].at+40)))
			for _, r := range rs[700:] {
				lost = append(lost, r.seq)
			}
			return lost
		}},
		{"a middle file emptied", func(t *testing.T, dir string) (lost []uint64) {
			for _, r := range recordsOf(t, block(t, dir, 1)) {
				lost = append(lost, r.seq)
			}
			noError(t, os.Truncate(block(t, dir, 1), 0))
			return lost
		}},
	}
	for _, killed := range []bool{false, true} {
		if killed && testing.Short() {
			break
		}
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s/killed=%v", test.name, killed), func(t *testing.T) {
				dir, epoch := store(t, n, size)
				if killed {
					crash(t, dir)
				}
				lost := test.damage(t, dir)
				before := files(t, dir)
				var loss *LossError
				for range 2 {
					if _, err := tryStart(t, Config{Dir: dir}); !errors.As(err, &loss) {
						t.Fatalf("start: %v, want a LossError", err)
					}
				}
				t.Log(loss)
				if loss.From != lost[0] || loss.To != lost[len(lost)-1] || loss.Missing != uint64(len(lost)) {
					t.Errorf("from %d to %d, %d missing; want %v", loss.From, loss.To, loss.Missing, lost)
				}
				r, err := Verify(dir, nil)
				noError(t, err)
				if told, ok := errors.AsType[*LossError](r.Loss); !ok || told.From != loss.From || told.To != loss.To {
					t.Errorf("verify: %v", r.Loss)
				}
				if len(loss.Damage) > 0 { // else the server had to be asked
					if after := files(t, dir); !slices.Equal(before, after) {
						t.Errorf("it was touched:\n%v\n%v", before, after)
					}
				}
				e := start(t, Config{Dir: dir, AcceptLoss: true})
				if want := []queue.Loss{{Epoch: epoch, From: lost[0], To: lost[len(lost)-1]}}; !slices.Equal(e.Losses(), want) {
					t.Errorf("losses %v, want %v", e.Losses(), want)
				}
				l, closeLog, err := openLog(e)
				noError(t, err)
				if left := l.state(t).Msgs; left != n-uint64(len(lost)) {
					t.Errorf("%d events left of %d, %d were lost", left, n, len(lost))
				}
				l.publish(t, e, 10, size)
				closeLog()
				noError(t, e.Close())
				if len(loss.Damage) > 0 {
					if aside, _ := filepath.Glob(filepath.Join(dir, "EVT_0-*.blk.damaged-*")); len(aside) == 0 {
						t.Error("the damaged file was not kept")
					}
				}
				if r, err = Verify(dir, nil); err != nil || r.Loss != nil || len(r.Scars) > 0 {
					t.Errorf("verify: %+v, %v", r, err)
				}
			})
		}
	}
}

// files returns the names and sizes of a stream's files.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	blocks, err := blockFiles(streamDir(dir))
	noError(t, err)
	for _, b := range blocks {
		info, err := os.Stat(b.path)
		noError(t, err)
		names = append(names, fmt.Sprint(b.number, " ", info.Size()))
	}
	return names
}

// What a power cut leaves at the end of the newest file was never acknowledged.
func TestTornEnd(t *testing.T) {
	for name, tail := range map[string][]byte{
		"37 bytes of a record": {},
		"zeros":                make([]byte, 5000),
		"half a header":        {1, 2, 3},
		"rubbish":              bytes.Repeat([]byte{0xA5}, 9000),
	} {
		t.Run(name, func(t *testing.T) {
			dir, epoch := store(t, 100, 200)
			crash(t, dir)
			f := block(t, dir, 0)
			if len(tail) == 0 {
				rs := recordsOf(t, f)
				data, err := os.ReadFile(f)
				noError(t, err)
				tail = bytes.Clone(data[rs[5].at : rs[5].at+37])
				binary.LittleEndian.PutUint64(tail[4:], 101)
			}
			edit(t, f, func(b []byte) []byte { return append(b, tail...) })
			if r, err := Verify(dir, nil); err != nil || r.Loss != nil || len(r.Scars) != 1 {
				t.Errorf("verify: %+v, %v", r, err)
			}
			e := start(t, Config{Dir: dir})
			if e.Epoch() != epoch || len(e.Losses()) > 0 {
				t.Errorf("epoch %x, want %x; losses %v", e.Epoch(), epoch, e.Losses())
			}
			l, closeLog, err := openLog(e)
			noError(t, err)
			if last := l.publish(t, e, 1, 10); last != 101 {
				t.Errorf("the next event is %d", last)
			}
			closeLog()
		})
	}
}

// The description of a stream can be written anew: nothing is lost by it.
func TestDescriptionIsMended(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"zeroed": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "meta.inf"), func(b []byte) []byte { clear(b); return b })
		},
		"one bit": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "meta.inf"), func(b []byte) []byte { b[40] ^= 1; return b })
		},
		"removed": func(t *testing.T, dir string) { noError(t, os.Remove(filepath.Join(dir, "meta.inf"))) },
		"sum": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "meta.sum"), func(b []byte) []byte { b[3] ^= 1; return b })
		},
		"sum removed": func(t *testing.T, dir string) { noError(t, os.Remove(filepath.Join(dir, "meta.sum"))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, epoch := store(t, 100, 200)
			damage(t, streamDir(dir))
			if r, err := Verify(dir, nil); err != nil || r.Loss != nil || len(r.Scars) != 1 {
				t.Errorf("verify: %+v, %v", r, err)
			}
			e := start(t, Config{Dir: dir})
			l, closeLog, err := openLog(e)
			noError(t, err)
			if last := l.publish(t, e, 10, 100); last != 110 || e.Epoch() != epoch || l.state(t).Msgs != 110 {
				t.Errorf("last %d, epoch %x, want %x; %d events", last, e.Epoch(), epoch, l.state(t).Msgs)
			}
			closeLog()
			noError(t, e.Close())
			noError(t, start(t, Config{Dir: dir}).Close())
		})
	}
}

// Verify and the server agree on what is there, also after much was deleted.
func TestVerifyCountsAsTheServerDoes(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	e := start(t, Config{Dir: dir})
	l, closeLog, err := openLog(e)
	noError(t, err)
	l.publish(t, e, 3000, 8000)
	over, err := e.Deleting(2000)
	noError(t, err)
	for range 1000 {
		if err := l.stream.DeleteMsg(t.Context(), 1+r.Uint64N(3000)); err != nil && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
			t.Fatal(err)
		}
	}
	noError(t, l.stream.Purge(t.Context(), jetstream.WithPurgeSequence(900)))
	over()
	state := l.state(t)
	closeLog()
	noError(t, e.Close())
	report, err := Verify(dir, nil)
	noError(t, err)
	if report.Loss != nil || len(report.Streams) != 1 {
		t.Fatalf("%+v", report)
	}
	if got, want := report.Streams[0], (StreamReport{logStream, state.FirstSeq, state.LastSeq, state.Msgs}); got != want {
		t.Errorf("verify says %+v, the server %+v", got, want)
	}
	e = start(t, Config{Dir: dir})
	if _, err := Verify(dir, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("verify of a store in use: %v", err)
	}
	noError(t, e.Close())
}

func TestRepair(t *testing.T) {
	dir, epoch := store(t, 100, 200)
	if r, err := Repair(t.Context(), Config{Dir: dir, Reserve: -1, Logger: quiet(t)}, nil); err != nil || r.Loss != nil || len(r.Scars) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	rs := recordsOf(t, block(t, dir, 0))
	edit(t, block(t, dir, 0), func(b []byte) []byte { b[rs[30].at+50] ^= 1; return b })
	r, err := Repair(t.Context(), Config{Dir: dir, Reserve: -1, Logger: slog.New(slog.DiscardHandler)}, nil)
	if loss, ok := errors.AsType[*LossError](r.Loss); err != nil || !ok || loss.From != 31 || loss.To != 31 || r.Epoch != epoch {
		t.Errorf("%+v, %v", r, err)
	}
	e := start(t, Config{Dir: dir})
	if e.Epoch() == epoch || len(e.Losses()) != 1 {
		t.Errorf("epoch %x, was %x; losses %v", e.Epoch(), epoch, e.Losses())
	}
	noError(t, e.Close())
}

func FuzzBlock(f *testing.F) {
	dir := f.TempDir()
	e, err := Start(f.Context(), Config{Dir: dir, Reserve: -1, Logger: quiet(f)})
	if err != nil {
		f.Fatal(err)
	}
	l, closeLog, err := openLog(e)
	if err != nil {
		f.Fatal(err)
	}
	for i := range 4 {
		if _, err := l.js.Publish(f.Context(), "evt.0.x", make([]byte, i*10), jetstream.WithMsgID(fmt.Sprint(i))); err != nil {
			f.Fatal(err)
		}
	}
	if err := l.stream.DeleteMsg(f.Context(), 2); err != nil {
		f.Fatal(err)
	}
	closeLog()
	if err := e.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(streamDir(dir), "msgs", "1.blk"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(whole[:50:50], whole...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 {
			return
		}
		end := 0
		s := scanBlock(logStream, 1, data, 0, func(r record) {
			if r.at < end || r.length <= 0 || r.at+r.length > len(data) {
				t.Fatalf("%+v after %d, in %d bytes", r, end, len(data))
			}
			end = r.at + r.length
		})
		if s.rest > len(data) || s.rest >= 0 && s.rest < end {
			t.Errorf("%+v after %d", s, end)
		}
	})
}

// The scrub finds what happens to the files while the server runs, and nothing while it does what it always does.
func TestScrub(t *testing.T) {
	dir, _ := store(t, 3000, 8000)
	e := start(t, Config{Dir: dir, ScrubEvery: -1, Logger: slog.New(slog.DiscardHandler)})
	l, closeLog, err := openLog(e)
	noError(t, err)
	defer closeLog()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for seq := uint64(1); ; seq++ {
			select {
			case <-stop:
				return
			default:
				l.publish(t, e, 10, 5000)
				l.stream.DeleteMsg(t.Context(), seq) // has files compacted
			}
		}
	}()
	const fast = 1 << 30
	for range 3 {
		e.scrubOnce(fast)
	}
	close(stop)
	<-done
	if s := e.Scrub(); len(s.Damaged) > 0 || s.Messages() > 0 || s.Done.IsZero() || s.Files < 9 || s.Bytes < 3*3000*8000 {
		t.Errorf("damage where there is none: %+v", s)
	}
	f := block(t, dir, 1)
	rs := recordsOf(t, f)
	r := rs[len(rs)-10]
	edit(t, f, func(b []byte) []byte { b[r.at+100] ^= 1; return b })
	e.scrubOnce(fast)
	s := e.Scrub()
	if len(s.Damaged) != 1 || s.Messages() != 1 {
		t.Fatalf("found %v", s)
	}
	if d := s.Damaged[0]; d.File != f || d.From != r.seq || d.To != r.seq {
		t.Errorf("%+v, want event %d", d, r.seq)
	}
	edit(t, f, func(b []byte) []byte { b[r.at+100] ^= 1; return b }) // a disk may think better of it
	if e.scrubOnce(fast); len(e.Scrub().Damaged) > 0 {
		t.Errorf("it is whole again: %v", e.Scrub().Damaged)
	}
}

// otherStream makes a store whose stream of cursors had n messages, all of which but the last few were deleted.
func otherStream(t *testing.T, n, left int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	e := start(t, Config{Dir: dir})
	l, closeLog, err := openLog(e)
	noError(t, err)
	l.publish(t, e, 10, 100)
	s, err := l.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: cursorStream, Subjects: []string{"cur.>"}, MaxMsgsPerSubject: 1})
	noError(t, err)
	for i := range n {
		_, err := l.js.Publish(t.Context(), fmt.Sprintf("cur.%d", i), make([]byte, 40_000))
		noError(t, err)
	}
	for seq := range uint64(n - left) {
		noError(t, s.DeleteMsg(t.Context(), seq+1))
	}
	closeLog()
	noError(t, e.Close())
	return dir
}

// A stream whose messages were all deleted, with their files, has lost nothing.
func TestEmptiedStreamIsWhole(t *testing.T) {
	dir := otherStream(t, 300, 0)
	for range 2 {
		r, err := Verify(dir, nil)
		if err != nil || r.Loss != nil || r.Streams[0] != (StreamReport{cursorStream, 0, 300, 0}) {
			t.Errorf("%+v, %v", r, err)
		}
		noError(t, start(t, Config{Dir: dir}).Close())
	}
}

// Messages of the stream of cursors that are lost are told, and then that queues may be missing: also when the start that accepted it
// came no further than mending.
func TestQueuesAreForgotten(t *testing.T) {
	file := func(dir string) string {
		return filepath.Join(streamsDir(dir), cursorStream, "msgs", "1.blk")
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"a bit":    func(t *testing.T, dir string) { edit(t, file(dir), func(b []byte) []byte { return flipped(b, 1000) }) },
		"the end":  func(t *testing.T, dir string) { edit(t, file(dir), func(b []byte) []byte { return b[:len(b)-100] }) },
		"the file": func(t *testing.T, dir string) { noError(t, os.Remove(file(dir))) },
		"all":      func(t *testing.T, dir string) { noError(t, os.RemoveAll(filepath.Join(streamsDir(dir), cursorStream))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := otherStream(t, 5, 5)
			damage(t, dir)
			var loss *LossError
			if _, err := tryStart(t, Config{Dir: dir}); !errors.As(err, &loss) || loss.Stream != cursorStream || !strings.Contains(err.Error(), "revoke again") {
				t.Fatalf("start: %v", err)
			}
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := Start(cancelled, Config{Dir: dir, AcceptLoss: true, Reserve: -1, Logger: slog.New(slog.DiscardHandler)}); err == nil {
				t.Fatal("it came through")
			}
			e := start(t, Config{Dir: dir, AcceptLoss: true})
			want := queue.Offset{Epoch: e.Epoch(), Seq: 10}
			if begin, end, ok := e.Forgotten(); !ok || end != want || begin.Seq != 0 || len(e.Losses()) > 0 {
				t.Errorf("forgotten %v to %v, %v; losses %v", begin, end, ok, e.Losses())
			}
			noError(t, e.Close())
			if r, err := Verify(dir, nil); err != nil || r.Loss != nil || !r.Forgets {
				t.Errorf("verify: %+v, %v", r, err)
			}
		})
	}
}
