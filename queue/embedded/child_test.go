package embedded

import (
	"bufio"
	"context"
	"fmt"

	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// childEnv makes this binary, run again, publish until it is killed. Its value is "commit:DIR", or "bare:DIR" for
// acknowledging without a commit.
const childEnv = "HOLDPOST_EMBEDDED_CHILD"

const childPublishers = 8

// child prints "SEQ BODY" for each event that it acknowledged.
func child() {
	mode, dir, _ := strings.Cut(os.Getenv(childEnv), ":")
	err := func() error {
		e, err := Start(context.Background(), Config{Dir: dir, Reserve: -1})
		if err != nil {
			return err
		}
		l, _, err := openLog(e)
		if err != nil {
			return err
		}
		c := newCommitter(e, mode == "bare")
		out := make(chan string, 1024)
		for p := range childPublishers {
			go func() {
				for n := 0; ; n++ {
					body := fmt.Sprintf("%d/%d/%d/%s", os.Getpid(), p, n, strings.Repeat("x", 200))
					seq, err := c.publish(l, fmt.Sprintf("evt.0.p%d", p), []byte(body))
					if err != nil {
						return // not acknowledged
					}
					out <- fmt.Sprintf("%d %s\n", seq, body)
				}
			}()
		}
		w := bufio.NewWriter(os.Stdout)
		for line := range out {
			w.WriteString(line)
			if len(out) == 0 {
				w.Flush()
			}
		}
		return nil
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// committer is the group commit in its shortest form: what was published while one commit ran shares the next one.
type committer struct {
	e    *Engine
	bare bool

	mu      sync.Mutex
	waiting []chan error
	last    uint64
	wake    chan struct{}
}

func newCommitter(e *Engine, bare bool) *committer {
	c := &committer{e: e, bare: bare, wake: make(chan struct{}, 1)}
	go c.run()
	return c
}

func (c *committer) close() { close(c.wake) }

func (c *committer) run() {
	for range c.wake {
		c.mu.Lock()
		batch, last := c.waiting, c.last
		c.waiting = nil
		c.mu.Unlock()
		if len(batch) == 0 {
			continue
		}
		err := c.e.Commit(last)
		for _, w := range batch {
			w <- err
		}
	}
}

func (c *committer) publish(l eventLog, subject string, body []byte) (uint64, error) {
	f, err := l.js.PublishAsync(subject, body)
	if err != nil {
		return 0, err
	}
	var seq uint64
	select {
	case ack := <-f.Ok():
		seq = ack.Sequence
	case err := <-f.Err():
		return 0, err
	}
	if c.bare {
		return seq, nil
	}
	done := make(chan error, 1)
	c.mu.Lock()
	c.waiting, c.last = append(c.waiting, done), max(c.last, seq)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return seq, <-done
}

// victim is a running child.
type victim struct {
	cmd   *exec.Cmd
	acked map[uint64]string
	out   *bufio.Scanner
}

func spawn(t *testing.T, mode, dir string) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+mode+":"+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &victim{cmd: cmd, acked: map[uint64]string{}, out: bufio.NewScanner(out)}
	t.Cleanup(v.kill)
	return v
}

// read takes in n acknowledgements, or all until the child ends if n < 0.
func (v *victim) read(t *testing.T, n int) {
	t.Helper()
	for i := 0; i != n; i++ {
		if !v.out.Scan() {
			if n >= 0 {
				t.Fatalf("the child ended after %d acknowledgements", len(v.acked))
			}
			return
		}
		var seq uint64
		var body string
		if _, err := fmt.Sscan(v.out.Text(), &seq, &body); err != nil {
			if n >= 0 {
				t.Fatalf("%q: %v", v.out.Text(), err)
			}
			return // cut off by the kill
		}
		v.acked[seq] = body
	}
}

func (v *victim) kill() {
	v.cmd.Process.Kill()
	v.cmd.Wait()
}

// missing returns how many of the acknowledged events the log does not hold.
func (l eventLog) missing(t *testing.T, acked map[uint64]string) int {
	t.Helper()
	c, err := l.js.OrderedConsumer(t.Context(), logStream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	state := l.state(t)
	left := len(acked)
	for last := uint64(0); last < state.LastSeq; {
		batch, err := c.Fetch(5000, jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := range batch.Messages() {
			n++
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			last = meta.Sequence.Stream
			if want, ok := acked[last]; ok && want == string(m.Data()) {
				left--
			}
			if last == state.LastSeq {
				break
			}
		}
		if err := batch.Error(); err != nil || n == 0 {
			t.Fatalf("read the log: %d messages, %v", n, err)
		}
	}
	return left
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[uint64]string{}
	var epoch uint64
	for round := range 3 {
		v := spawn(t, "commit", dir)
		v.read(t, 3000)
		v.cmd.Process.Kill()
		v.read(t, -1)
		v.kill()
		for seq, body := range v.acked {
			if was, ok := acked[seq]; ok {
				t.Fatalf("sequence %d given twice: %.20s and %.20s", seq, was, body)
			}
			acked[seq] = body
		}
		begin := time.Now()
		e := start(t, Config{Dir: dir})
		took := time.Since(begin)
		l, closeLog, err := openLog(e)
		if err != nil {
			t.Fatal(err)
		}
		if n := l.missing(t, acked); n > 0 {
			t.Errorf("round %d: %d of %d acknowledged events lost", round, n, len(acked))
		}
		t.Logf("round %d: %d acknowledged, reopened in %v", round, len(acked), took)
		if epoch == 0 {
			epoch = e.Epoch()
		}
		if e.Epoch() != epoch || len(e.Losses()) > 0 {
			t.Errorf("round %d: a kill changed the epoch", round)
		}
		closeLog()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
