package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

// store makes a cleanly closed store of n events and returns its directory and epoch.
func store(t *testing.T, n, size int) (dir string, epoch uint64) {
	t.Helper()
	dir = t.TempDir()
	e := start(t, Config{Dir: dir})
	l, closeLog, err := openLog(e)
	if err != nil {
		t.Fatal(err)
	}
	l.publish(t, e, n, size)
	closeLog()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, e.Epoch()
}

func streamDir(dir string) string {
	return filepath.Join(dir, storeName, "jetstream", "$G", "streams", logStream)
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// block returns the path of the i-th block file of the log, and what NATS keeps about it is made to be read anew.
func block(t *testing.T, dir string, i int) string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(streamDir(dir), "msgs", "*.blk"))
	noError(t, err)
	if len(blocks) <= i {
		t.Fatalf("only %d blocks", len(blocks))
	}
	slices.SortFunc(blocks, func(a, b string) int { return len(a) - len(b) })
	return blocks[i]
}

func TestDamageIsNoticed(t *testing.T) {
	const n, size = 3000, 8000 // three blocks and a bit
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		gone   bool // the whole log
	}{
		{"stream removed", func(t *testing.T, dir string) { noError(t, os.RemoveAll(streamDir(dir))) }, true},
		{"store removed", func(t *testing.T, dir string) { noError(t, os.RemoveAll(filepath.Join(dir, storeName))) }, true},
		{"last block truncated", func(t *testing.T, dir string) {
			f := block(t, dir, 2)
			info, err := os.Stat(f)
			noError(t, err)
			noError(t, os.Truncate(f, info.Size()/2))
		}, false},
		{"last block truncated, no index", func(t *testing.T, dir string) {
			noError(t, os.Truncate(block(t, dir, 2), 1_000_003))
			noError(t, os.Remove(filepath.Join(streamDir(dir), "msgs", "index.db")))
		}, false},
		{"last block removed", func(t *testing.T, dir string) { noError(t, os.Remove(block(t, dir, 2))) }, false},
		{"middle block removed", func(t *testing.T, dir string) { noError(t, os.Remove(block(t, dir, 1))) }, false},
		{"first block removed", func(t *testing.T, dir string) { noError(t, os.Remove(block(t, dir, 0))) }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, epoch := store(t, n, size)
			test.damage(t, dir)
			var loss *LossError
			for range 2 { // looking at it does not make it go away
				_, err := tryStart(t, Config{Dir: dir})
				if !errors.As(err, &loss) {
					t.Fatalf("start: %v, want a LossError", err)
				}
			}
			t.Log(loss)
			if loss.Epoch != epoch || loss.Want != n || loss.Missing == 0 || loss.Missing > n || loss.From == 0 || loss.To > n ||
				loss.To-loss.From+1 != loss.Missing || test.gone != (loss.Have == 0) || test.gone && loss.Missing != n {
				t.Errorf("loss: %+v", *loss)
			}

			e := start(t, Config{Dir: dir, AcceptLoss: true})
			if e.Epoch() == epoch || !reflect.DeepEqual(e.Losses(), []queue.Loss{{Epoch: epoch, From: loss.From, To: loss.To}}) {
				t.Errorf("accepted: epoch %x, was %x, losses %v", e.Epoch(), epoch, e.Losses())
			}
			l, closeLog, err := openLog(e)
			noError(t, err)
			if left := l.state(t).Msgs; left != n-loss.Missing {
				t.Errorf("%d events left, but %d of %d were said to be missing", left, loss.Missing, n)
			}
			if got, want := l.publish(t, e, 10, size), loss.Have+10; got != want {
				t.Errorf("first events after the loss end at %d, want %d", got, want)
			}
			closeLog()
			noError(t, e.Close())
			again := start(t, Config{Dir: dir})
			if again.Epoch() != e.Epoch() || len(again.Losses()) != 1 {
				t.Errorf("reopened: epoch %x, want %x; losses %v", again.Epoch(), e.Epoch(), again.Losses())
			}
			noError(t, again.Close())
		})
	}
}

func TestHighWaterFile(t *testing.T) {
	edit := func(t *testing.T, dir string, f func(b []byte) []byte) {
		t.Helper()
		name := filepath.Join(dir, markName)
		b, err := os.ReadFile(name)
		noError(t, err)
		noError(t, os.WriteFile(name, f(b), 0o600))
	}
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		refuse bool
	}{
		{"none", func(*testing.T, string) {}, false},
		{"first slot zeroed", func(t *testing.T, dir string) { edit(t, dir, func(b []byte) []byte { clear(b[:slotSize]); return b }) }, false},
		{"second slot zeroed", func(t *testing.T, dir string) { edit(t, dir, func(b []byte) []byte { clear(b[slotSize:]); return b }) }, false},
		{"second slot cut off", func(t *testing.T, dir string) { edit(t, dir, func(b []byte) []byte { return b[:slotSize+9] }) }, false},
		{"first slot torn", func(t *testing.T, dir string) {
			edit(t, dir, func(b []byte) []byte { clear(b[512:slotSize]); return b })
		}, false},
		{"one bit of each", func(t *testing.T, dir string) {
			edit(t, dir, func(b []byte) []byte { b[20] ^= 1; b[slotSize+4000] ^= 0x80; return b })
		}, true},
		{"both zeroed", func(t *testing.T, dir string) { edit(t, dir, func(b []byte) []byte { clear(b); return b }) }, true},
		{"empty", func(t *testing.T, dir string) { edit(t, dir, func([]byte) []byte { return nil }) }, true},
		{"removed", func(t *testing.T, dir string) { noError(t, os.Remove(filepath.Join(dir, markName))) }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, epoch := store(t, 100, 100)
			test.damage(t, dir)
			e, err := tryStart(t, Config{Dir: dir})
			if !test.refuse {
				noError(t, err)
				if e.Epoch() != epoch || len(e.Losses()) > 0 || e.mark.last != 100 {
					t.Errorf("epoch %x, want %x; losses %v; last %d", e.Epoch(), epoch, e.Losses(), e.mark.last)
				}
				noError(t, e.Close())
				return
			}
			if !errors.Is(err, ErrMark) {
				t.Fatalf("start: %v, want ErrMark", err)
			}
			t.Log(err)
			e = start(t, Config{Dir: dir, AcceptLoss: true})
			if e.Epoch() == epoch || len(e.Losses()) != 1 || e.mark.last != 100 {
				t.Errorf("accepted: epoch %x, was %x; losses %v; last %d", e.Epoch(), epoch, e.Losses(), e.mark.last)
			}
			noError(t, e.Close())
			again := start(t, Config{Dir: dir})
			if again.Epoch() != e.Epoch() {
				t.Errorf("reopened: epoch %x, want %x", again.Epoch(), e.Epoch())
			}
			noError(t, again.Close())
		})
	}
}

// reboot makes the mark look as if another kernel had written it, and changes what else edit says.
func reboot(t *testing.T, dir string, edit func(*mark)) {
	t.Helper()
	file, m, readable, err := openMark(dir)
	noError(t, err)
	if readable == 0 {
		t.Fatal("no slot is readable")
	}
	m.boot[0] ^= 1
	edit(&m)
	noError(t, file.write(&m))
	noError(t, file.f.Close())
}

func TestRebootAtLevelMemory(t *testing.T) {
	for _, test := range []struct {
		name          string
		clean, memory bool
		renewed       bool
	}{
		{"killed, level memory", false, true, true}, {"stopped, level memory", true, true, false}, {"killed, level disk", false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, epoch := store(t, 100, 100)
			reboot(t, dir, func(m *mark) { m.clean, m.memory = test.clean, test.memory })
			e := start(t, Config{Dir: dir, Level: LevelMemory})
			if (e.Epoch() != epoch) != test.renewed || (len(e.Losses()) == 1) != test.renewed {
				t.Errorf("epoch %x, was %x; losses %v", e.Epoch(), epoch, e.Losses())
			}
			noError(t, e.Close())
		})
	}
}

// The slots that a start flushes say that nothing after it will be.
func TestStartAtLevelMemory(t *testing.T) {
	dir, _ := store(t, 100, 100)
	e := start(t, Config{Dir: dir, Level: LevelMemory})
	for i := range 2 {
		slot := make([]byte, slotSize)
		_, err := e.file.f.ReadAt(slot, int64(i)*slotSize)
		noError(t, err)
		if m, ok := decodeMark(slot); !ok || !m.memory || m.clean {
			t.Errorf("slot %d: readable %v, memory %v, clean %v", i, ok, m.memory, m.clean)
		}
	}
	noError(t, e.Close())
}

func TestJudge(t *testing.T) {
	whole := logState{exists: true, first: 1, last: 100, messages: 100}
	with := func(s logState, f func(*logState)) logState { f(&s); return s }
	for _, test := range []struct {
		name     string
		state    logState
		clean    bool
		rebooted bool
		allowed  uint64
		missing  uint64
		newEpoch bool
		from     uint64
	}{
		{"whole", whole, true, false, 0, 0, false, 101},
		{"longer", with(whole, func(s *logState) { s.last, s.messages = 105, 105 }), false, false, 0, 0, false, 106},
		{"short", with(whole, func(s *logState) { s.last, s.messages = 95, 95 }), false, false, 0, 5, true, 96},
		{"short after a reboot: never acknowledged", with(whole, func(s *logState) { s.last, s.messages = 95, 95 }), false, true, 0, 0, true, 96},
		{"short after an orderly stop and a reboot", with(whole, func(s *logState) { s.last, s.messages = 95, 95 }), true, true, 0, 5, true, 96},
		{"shorter after a reboot", with(whole, func(s *logState) { s.last, s.messages = 85, 85 }), false, true, 0, 5, true, 86},
		{"gone", logState{}, false, false, 0, 100, true, 1},
		{"a hole", with(whole, func(s *logState) { s.messages, s.lowestHole, s.highestHole = 98, 40, 60 }), true, false, 0, 2, true, 40},
		{"deleted", with(whole, func(s *logState) { s.messages, s.lowestHole, s.highestHole = 98, 40, 60 }), true, false, 2, 0, false, 101},
		{"one more than was deleted", with(whole, func(s *logState) { s.messages, s.lowestHole, s.highestHole = 97, 40, 60 }), true, false, 2, 1, true, 40},
		{"gone from the front", with(whole, func(s *logState) { s.first, s.messages = 61, 40 }), true, false, 0, 60, true, 1},
		{"deleted from the front", with(whole, func(s *logState) { s.first, s.messages = 61, 40 }), true, false, 60, 0, false, 101},
		{"deleted from the front and within", with(whole, func(s *logState) { s.first, s.messages = 61, 35 }), true, false, 65, 0, false, 101},
		{"front gone, full log", with(whole, func(s *logState) { s.first, s.messages, s.maxBytes, s.bytes = 61, 40, 1000, 900 }), true, false, 0, 0, false, 101},
		{"all deleted", with(whole, func(s *logState) { s.first, s.messages = 101, 0 }), true, false, 100, 0, false, 101},
		{"emptied", with(whole, func(s *logState) { s.first, s.messages = 101, 0 }), true, false, 0, 100, true, 1},
	} {
		m := mark{epoch: 7, last: 100, confirmed: 90, first: 1, holes: test.allowed}
		if m.clean = test.clean; test.clean {
			m.confirmed = m.last
		}
		v := m.judge(test.state, test.rebooted)
		missing := uint64(0)
		if v.loss != nil {
			missing = v.loss.Missing
		}
		if missing != test.missing || v.newEpoch != test.newEpoch || v.from != test.from {
			t.Errorf("%s: missing %d, new epoch %v, from %d; want %d, %v, %d", test.name, missing, v.newEpoch, v.from,
				test.missing, test.newEpoch, test.from)
		}
	}
}

func TestMarkCoding(t *testing.T) {
	m := mark{generation: 5, epoch: 7, last: 100, confirmed: 99, first: 3, messages: 97, holes: 1, wall: -1, boottime: 12, boot: [16]byte{1, 15: 2}, clean: true,
		memory: true, forgotten: forgotten{any: true, epoch: 6, begin: 1, end: 90}}
	for i := range uint64(2 * guard.MaxLosses) {
		m.addLoss(queue.Loss{Epoch: i, From: i, To: i})
	}
	if len(m.losses) != guard.MaxLosses || m.losses[0].Epoch != guard.MaxLosses {
		t.Errorf("%d losses", len(m.losses))
	}
	var slot [slotSize]byte
	m.encode(&slot)
	got, ok := decodeMark(slot[:])
	if !ok || !reflect.DeepEqual(got, m) {
		t.Errorf("decoded %v %+v\nwant %+v", ok, got, m)
	}
	for i := range slot {
		slot[i] ^= 4
		if _, ok := decodeMark(slot[:]); ok {
			t.Fatalf("a flipped bit in byte %d went unnoticed", i)
		}
		slot[i] ^= 4
	}
}

func TestFailedCommitIsFinal(t *testing.T) {
	dir := t.TempDir()
	e := start(t, Config{Dir: dir})
	l, closeLog, err := openLog(e)
	noError(t, err)
	l.publish(t, e, 10, 10)
	broken := errors.New("input/output error")
	e.flush = func(_, _ *os.File) error { return broken }
	for range 2 {
		if err := e.Commit(11); !errors.Is(err, broken) {
			t.Fatalf("commit: %v", err)
		}
		e.flush = flush // works again, but who knows what it covers
		if err := e.Health(); !errors.Is(err, broken) {
			t.Fatalf("health: %v", err)
		}
	}
	closeLog()
	if err := e.Close(); !errors.Is(err, broken) {
		t.Fatalf("close: %v", err)
	}
}
