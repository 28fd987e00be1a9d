package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/queue/embedded"
)

const childEnv = "HOLDPOST_FAULTS_CHILD"

func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		os.Exit(child(config))
	}
	leaktest.Main(m)
}

func long() bool { return os.Getenv("HOLDPOST_FAULTS") == "long" }

// rounds returns how many to run.
func rounds(short, many int) int {
	if long() {
		return many
	}
	return short
}

// run is a store, the processes that used it, one after the other, and what they saw.
type run struct {
	*testing.T
	life   // of the next process
	random *rand.Rand
	events []history.Event
}

func newRun(t *testing.T, dir string) *run {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOLDPOST_FAULTS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HOLDPOST_FAULTS_SEED=%d", seed)
	r := &run{T: t, random: rand.New(rand.NewPCG(seed, 0)), life: life{Dir: dir, Seed: seed, Reserve: -1}}
	for range publishers {
		r.Publishers = append(r.Publishers, progress{Open: -1})
	}
	return r
}

// patience bounds the life of a child.
const patience = 3 * time.Minute

// victim is a running child.
type victim struct {
	process *os.Process
	orders  io.WriteCloser
}

func (v victim) kill() { v.process.Kill() }

// stop lets it end in an orderly way.
func (v victim) stop() { v.orders.Close() }

// fail has system calls of it fail from now on.
func (v victim) fail(which string) { fmt.Fprintln(v.orders, which) }

// process runs a child until it ends, and calls each with every event that it records.
func (r *run) process(each func(n int, e history.Event, v victim)) error {
	r.Helper()
	r.Number++
	r.Eager = r.random.IntN(2) == 0
	config, err := json.Marshal(r.life)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	cmd.Stderr = r.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	n := 0
	err = history.Decode(out, func(e history.Event) {
		n++
		r.note(e)
		each(n, e, victim{cmd.Process, in})
	})
	if err != nil {
		r.Error(err)
		cmd.Process.Kill()
	}
	err = cmd.Wait()
	r.Logf("process %d: %d events, %v", r.Number, n, err)
	return err
}

// note keeps an event, and where publishers stand.
func (r *run) note(e history.Event) {
	r.events = append(r.events, e)
	var p, n int
	if e.Kind == history.Later {
		r.Later = append(r.Later, [2]string{e.Topic, e.ID})
	}
	if e.Kind != history.Publish && e.Kind != history.Stored && e.Kind != history.Later && e.Kind != history.Rejected {
		return
	}
	if _, err := fmt.Sscanf(e.ID, "%d/%d", &p, &n); err != nil {
		r.Fatal(err)
	}
	if at := &r.Publishers[p]; e.Kind == history.Publish {
		*at = progress{Next: n + 1, Open: n}
	} else {
		at.Open = -1
	}
}

// powerCut is the crash that leaves only what was flushed.
const powerCut = "power cut"

// killAt runs a child that is killed, or loses its disk as fault does it, after so many events.
func (r *run) killAt(events int, what string, fault func()) {
	r.Helper()
	err := r.process(func(n int, _ history.Event, v victim) {
		if n == events {
			fault()
			v.kill()
		}
	})
	if err == nil || len(r.events) < events {
		r.Fatalf("the child ended by itself: %v", err)
	}
	r.crashed(what)
}

// crashed notes how a child ended.
func (r *run) crashed(what string) {
	lost := what == powerCut && r.Level == embedded.LevelMemory
	r.events = append(r.events, history.Event{Kind: history.Crash, Content: what, Unflushed: lost})
	if lost {
		r.Later = nil
	}
}

// stopAt runs a child that stops in an orderly way.
func (r *run) stopAt(events int) {
	r.Helper()
	if err := r.process(func(n int, _ history.Event, v victim) {
		if n == events {
			v.stop()
		}
	}); err != nil {
		r.Fatal(err)
	}
}

// drain runs a child that empties the queues and reads everything.
func (r *run) drain() {
	r.Helper()
	r.Drain = true
	if err := r.process(func(int, history.Event, victim) {}); err != nil {
		r.save()
		r.Fatal(err)
	}
	r.Drain = false
}

// check checks the history, which has to have had something in it.
func (r *run) check() history.Report {
	r.Helper()
	report := history.Check(r.events)
	r.Log(report)
	if len(report.Violations) > 0 {
		r.Error("the history breaks ", report.Broken())
		r.save()
	}
	for _, k := range []history.Kind{history.Stored, history.Rejected, history.Deliver, history.Acked, history.GiveUp} {
		if report.Counts[k] == 0 {
			r.Errorf("the history has no %q: the run shows nothing", k)
		}
	}
	return report
}

// save writes the history of a run that failed.
func (r *run) save() {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("holdpost-history-%d.jsonl", r.Seed))
	f, err := os.Create(path)
	if err != nil {
		r.Error(err)
		return
	}
	defer f.Close()
	enc := json.NewEncoder(f)
	for _, e := range r.events {
		if err := enc.Encode(e); err != nil {
			r.Error(err)
			return
		}
	}
	r.Log("HOLDPOST_FAULTS_HISTORY=" + path)
}

// TestHistory checks a history that another run left.
func TestHistory(t *testing.T) {
	path := os.Getenv("HOLDPOST_FAULTS_HISTORY")
	if path == "" {
		t.Skip("HOLDPOST_FAULTS_HISTORY names no file")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []history.Event
	if err := history.Decode(f, func(e history.Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	if r := history.Check(events); len(r.Violations) > 0 {
		t.Error(r)
	}
}

// TestKill kills the process again and again, and lets it stop in an orderly way now and then.
func TestKill(t *testing.T) {
	r := newRun(t, t.TempDir())
	stops := 0
	for round := range rounds(3, 50) {
		events := 300 + r.random.IntN(3000)
		if round%5 == 4 {
			stops++
			r.stopAt(events)
		} else {
			r.killAt(events, "kill", func() {})
		}
	}
	r.drain()
	report := r.check()
	t.Logf("%d kills, %d stops, %d events in the history", report.Counts[history.Crash], stops, len(r.events))
	if i := slices.IndexFunc(r.events, func(e history.Event) bool { return e.Kind == history.Accept }); i >= 0 {
		t.Errorf("a kill lost events: %+v", r.events[i].Loss)
	}
}
