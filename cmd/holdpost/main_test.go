package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/natstest"
)

// patience bounds what takes a moment: a line of output, the end of a process.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"holdpost": main})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int { return leaktest.Run(l.m) }

// The scripts run this binary as a person would. Besides testscript's own commands they have:
//
//	fails CODE [ARG]...            run holdpost, which must end with the code
//	spawn NAME [ARG]...            start holdpost in the background, with its output in NAME.out and NAME.err
//	await NAME REGEXP [VARIABLE]   wait for a line of its output; the variable takes the group
//	until NAME REGEXP [ARG]...     run holdpost again and again, until that line is there
//	signal NAME SIGNAL             send it TERM, INT, KILL or HUP
//	ended NAME CODE                wait until it has ended with the code; -1 is a signal
//	capture VARIABLE REGEXP        the variable takes the group from the standard output of exec
//
// $NATS is a server with two accounts, whose users are 1 and 2 with the password $NATS_PASSWORD.
func TestScripts(t *testing.T) {
	nats := natstest.Run(t, natstest.Config{Accounts: 2})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[processes{}] = make(map[string]*process)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a race build takes a second
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			e.Setenv("EXAMPLES", examples)
			e.Setenv("NATS", nats.URL)
			e.Setenv("NATS_PASSWORD", natstest.Password)
			// What a script can't write.
			e.Setenv("TAB", "\t")
			e.Setenv("DOLLAR", "$G")
			e.Setenv("ESCAPE", "\x1b[31m")
			e.Setenv("LONG", strings.Repeat("x", 256))
			for name, size := range map[string]int{"large": 1_000_000, "larger": 3 << 20} {
				text := strconv.Quote(strings.Repeat("x", size))
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails": fails, "spawn": spawn, "await": await, "until": until, "signal": signal, "ended": ended, "capture": capture,
		},
	})
}

func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: fails CODE [ARG]...")
	}
	err := ts.Exec("holdpost", args[1:]...)
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

type process struct {
	cmd      *exec.Cmd
	out, err string        // files
	exited   chan struct{} // closed once cmd has ended
}

// processes is the key of a script's processes, by name.
type processes struct{}

func spawn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: spawn NAME [ARG]...")
	}
	name := args[0]
	p := &process{out: ts.MkAbs(name + ".out"), err: ts.MkAbs(name + ".err"), exited: make(chan struct{})}
	bin, err := exec.LookPath("holdpost")
	ts.Check(err)
	p.cmd = exec.Command(bin, args[1:]...)
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "TMPDIR", "GORACE", "HOLDPOST_SERVER", "HOLDPOST_JWT_SECRET", "HOLDPOST_API_KEY", "HOLDPOST_TOKEN", "HOLDPOST_NATS_URLS", "NATS_PASSWORD"} { // and nothing of whoever runs the test
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	stdout, err := os.Create(p.out)
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(p.err)
	ts.Check(err)
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	ts.Check(p.cmd.Start())
	go func() { // ends with the process, which the script's end waits for
		p.cmd.Wait()
		close(p.exited)
	}()
	ts.Defer(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	ts.Value(processes{}).(map[string]*process)[name] = p
}

func named(ts *testscript.TestScript, name string) *process {
	p := ts.Value(processes{}).(map[string]*process)[name]
	if p == nil {
		ts.Fatalf("no process %s", name)
	}
	return p
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: await NAME REGEXP [VARIABLE]")
	}
	m := wait(ts, args[0], args[1], func() {})
	if len(args) == 3 {
		ts.Setenv(args[2], string(m[1]))
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until NAME REGEXP ARG...")
	}
	wait(ts, args[0], args[1], func() { ts.Check(ts.Exec("holdpost", args[2:]...)) })
}

// wait waits until a process has written what matches, and calls f before each look.
func wait(ts *testscript.TestScript, name, pattern string, f func()) [][]byte {
	p := named(ts, name)
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	deadline := time.Now().Add(patience)
	for {
		f()
		ended := false
		select {
		case <-p.exited:
			ended = true // what it wrote is there
		case <-time.After(5 * time.Millisecond):
		}
		output := append(read(ts, p.out), read(ts, p.err)...)
		if m := re.FindSubmatch(output); m != nil {
			return m
		}
		if ended || time.Now().After(deadline) {
			ts.Fatalf("%s never wrote %s (ended: %v):\n%s", name, pattern, ended, output)
		}
	}
}

func read(ts *testscript.TestScript, path string) []byte {
	b, err := os.ReadFile(path)
	ts.Check(err)
	return b
}

func signal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "KILL": os.Kill, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME TERM|INT|KILL|HUP")
	}
	ts.Check(named(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	p := named(ts, args[0])
	code, err := strconv.Atoi(args[1])
	ts.Check(err)
	select {
	case <-p.exited:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended:\n%s%s", args[0], read(ts, p.out), read(ts, p.err))
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		ts.Fatalf("%s ended with %d, want %d:\n%s%s", args[0], got, code, read(ts, p.out), read(ts, p.err))
	}
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VARIABLE REGEXP")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no match for %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}
