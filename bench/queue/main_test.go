//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/queue"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestFlags(t *testing.T) {
	for _, bad := range []string{"-publishers=0", "-publishers=", "-publishers=1,x", "-duration=0", "-queues=-1", "-missed=0", "-jobs=-1", "-replay=-1", "-idle=-1", "extra", "-nope"} {
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{bad}, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %q", bad, code, stderr.String())
		}
	}
}

func TestMeasures(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := []string{"-dir", t.TempDir(), "-duration", "50ms", "-publishers", "1,8", "-queues", "20", "-missed", "5", "-jobs", "50", "-replay", "100", "-idle", "10", "-json"}
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Publish) != 2 || r.Publish[0].Rate <= 0 || r.Disk.Rate <= 0 || r.Herd == nil || r.Herd.Queues != 20 || len(r.Work) != 2 || r.Work[0].Rate <= 0 ||
		r.Publish[0].Raw.Rate <= 0 || r.Publish[1].Sync.Rate <= 0 || r.Herd.Calm.Events == 0 || r.Replay.Rate <= 0 || r.Idle.Start <= 0 {
		t.Errorf("%s", stdout.String())
	}
	var text strings.Builder
	if err := r.Print(&text); err != nil || strings.Count(text.String(), "\n") != 11 {
		t.Errorf("error %v:\n%s", err, text.String())
	}
}

func TestSink(t *testing.T) {
	done := make(chan error, 4)
	s := &sink{index: 3, missed: 2, done: done}
	deliver := func(owner, event int) {
		s.Deliver(queue.Delivery{Event: &queue.Event{Args: missedArgs(owner, event), Time: time.Now()}})
	}
	deliver(3, 0)
	if len(done) != 0 {
		t.Error("done after the first of two")
	}
	deliver(3, 1)
	if err := <-done; err != nil {
		t.Error(err)
	}
	deliver(3, 1)
	if err := <-done; err == nil {
		t.Error("a repeated delivery was not noticed")
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		got, want float64
		text      string
	}{{5, 0, ""}, {5, 5, " (≥ 5: met)"}, {4, 5, " (≥ 5: NOT met)"}} {
		if got := verdict(c.got, c.want); got != c.text {
			t.Errorf("%v of %v: %q", c.got, c.want, got)
		}
	}
}
