// Package leaktest fails a test run that leaves goroutines or file descriptors behind.
//
// A package that starts goroutines calls [Main] from its TestMain. The check runs once, after all tests: what stands
// still then was leaked by one of them.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience bounds the wait for goroutines that are already on their way out.
const patience = 5 * time.Second

// Main runs the tests of m and exits with the code of [Run].
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run runs the tests of m and returns their code, or 1 when they passed but left something behind.
func Run(m *testing.M) int {
	if r, w, err := os.Pipe(); err == nil { // starts the runtime's poller, whose own descriptors stay open
		r.Close()
		w.Close()
	}
	before := openFiles()
	code := m.Run()
	if code == 0 {
		if leak := wait(before); leak != "" {
			fmt.Fprintln(os.Stderr, leak)
			code = 1
		}
	}
	return code
}

func wait(filesBefore int) string {
	deadline := time.Now().Add(patience)
	for {
		stacks := leaked()
		files := openFiles()
		if len(stacks) == 0 && files <= filesBefore {
			return ""
		}
		if time.Now().After(deadline) {
			if len(stacks) > 0 {
				return fmt.Sprintf("leaktest: %d goroutines left:\n\n%s", len(stacks), strings.Join(stacks, "\n\n"))
			}
			return fmt.Sprintf("leaktest: %d file descriptors open, %d before the tests", files, filesBefore)
		}
		runtime.GC() // finalizers close what only the collector can reach
		time.Sleep(10 * time.Millisecond)
	}
}

// leaked returns the stacks of all goroutines but the runtime's own and the caller's.
func leaked() []string {
	buf := make([]byte, 4<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var stacks []string
	for _, stack := range all[1:] { // the first is the caller's
		if stack != "" && !ownedByRuntime(stack) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

func ownedByRuntime(stack string) bool {
	for _, frame := range []string{
		"os/signal.loop", "os/signal.signal_recv", "runtime.ensureSigM", "testing.(*M).startAlarm", "testing.runFuzzing",
		"created by runtime", "internal/synctest", "internal/fuzz",
	} {
		if strings.Contains(stack, frame) {
			return true
		}
	}
	return false
}

// openFiles counts the process's descriptors; 0 where the system does not list them.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
