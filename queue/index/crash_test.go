package index

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// childEnv names the directory in which this binary, run again, applies events until it is killed.
const childEnv = "HOLDPOST_INDEX_CHILD"

const crashTopics = 7

func child(dir string) {
	x, err := Open(dir, nil)
	if err == nil && x.Epoch() == 0 {
		err = x.Reset(7)
	}
	pad := bytes.Repeat([]byte("x"), 500)
	for seq := uint64(0); err == nil; {
		seq = x.Applied()
		batch := make([]*queue.Event, 200)
		for i := range batch {
			seq++
			batch[i] = event(fmt.Sprintf("t%d", seq%crashTopics), seq)
			batch[i].Args = fmt.Appendf(nil, `[%d,%q]`, seq, pad)
		}
		if err = x.Apply(batch, nil); err == nil {
			fmt.Println(seq)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilledIndexIsAPrefix kills a process that writes, several times on one index: what is left ends where Applied says
// and lacks nothing below.
func TestKilledIndexIsAPrefix(t *testing.T) {
	dir := t.TempDir()
	progress := uint64(0)
	for round, target := range []uint64{1_000, 60_000, 120_000} { // the first dies before anything is flushed
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		applied := uint64(0)
		for lines := bufio.NewScanner(out); applied < target && lines.Scan(); {
			applied, _ = strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64)
		}
		cmd.Process.Kill()
		cmd.Wait()
		if applied < target {
			t.Fatalf("round %d: the child ended at %d", round, applied)
		}

		x := open(t, dir)
		got := x.Applied()
		t.Logf("round %d: applied %d or a little more, found %d", round, applied, got)
		if got > applied+100_000 || round == 2 && got <= progress {
			t.Errorf("round %d: found %d, before %d", round, got, progress)
		}
		total := 0
		for i := range uint64(crashTopics) {
			topic := fmt.Sprintf("t%d", i)
			want := i
			if i == 0 {
				want = crashTopics
			}
			check(t, x.Range(topic, 0, ^uint64(0), 0, func(e *queue.Event) bool {
				if e.Offset.Seq != want || !bytes.HasPrefix(e.Args, fmt.Appendf(nil, "[%d,", want)) {
					t.Fatalf("topic %s: event %d with %.20s, want %d", topic, e.Offset.Seq, e.Args, want)
				}
				want += crashTopics
				total++
				return true
			}))
			if last := lastOf(t, x, topic); last != 0 && last != want-crashTopics {
				t.Errorf("topic %s: last %d, want %d", topic, last, want-crashTopics)
			}
		}
		if uint64(total) != got {
			t.Errorf("round %d: %d events, but applied is %d", round, total, got)
		}
		progress = got
		closeIndex(t, x)
	}
}
