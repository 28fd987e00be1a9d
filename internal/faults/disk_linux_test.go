package faults

import (
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdpost/holdpost/internal/history"
)

// TestCallsFail has flushes fail, or writes, and then cuts the power: whatever was acknowledged meanwhile without being on the disk
// is gone, and the history shows it.
func TestCallsFail(t *testing.T) {
	for _, which := range []string{flushesFail, writesFail} {
		t.Run(which, func(t *testing.T) {
			d := newDisk(t, 256)
			r := newRun(t, filepath.Join(d.dir, "data"))
			for range rounds(1, 10) {
				start, refused := 700+r.random.IntN(1000), 0
				if err := r.process(func(n int, e history.Event, v victim) {
					switch {
					case n == start:
						v.fail(which)
					case n > start && (e.Kind == history.Rejected || e.Kind == history.Unknown):
						if refused++; refused == 100 {
							d.cutPower()
							v.kill()
						}
					}
				}); err == nil || refused < 100 {
					t.Fatalf("%d publishes were refused, and the child ended with %v", refused, err)
				}
				r.crashed(powerCut)
				d.powerOn(r.Dir)
			}
			r.drain()
			r.check()
		})
	}
}

// TestDiskHangs has the disk not answer for a while: publishers are told that they can't know, and go on when it answers again.
func TestDiskHangs(t *testing.T) {
	const freeze, thaw = 0xc0045877, 0xc0045878 // FIFREEZE, FITHAW
	d := newDisk(t, 256)
	root, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	control := func(what uintptr) {
		var none int
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), what, uintptr(unsafe.Pointer(&none))); errno != 0 && errno != unix.EINVAL {
			t.Error("freeze or thaw: ", errno)
		}
	}
	watchdog := time.AfterFunc(patience, func() { control(thaw) }) // whatever happens: who writes can't even be killed meanwhile
	t.Cleanup(func() {                                             // before it is unmounted
		watchdog.Stop()
		control(thaw)
		root.Close()
	})
	r := newRun(t, filepath.Join(d.dir, "data"))
	for range rounds(1, 3) {
		start, unknown, since := 300+r.random.IntN(1000), 0, 0
		if err := r.process(func(n int, e history.Event, v victim) {
			switch {
			case n == start:
				control(freeze)
				watchdog.Reset(patience / 2)
			case n > start && unknown < publishers/2 && e.Kind == history.Unknown:
				if unknown++; unknown == publishers/2 {
					control(thaw)
				}
			case unknown == publishers/2 && e.Kind == history.Stored:
				if since++; since == 200 {
					v.stop()
				}
			}
		}); err != nil || since < 200 {
			t.Fatalf("%d unknown, then %d stored, %v", unknown, since, err)
		}
	}
	r.drain()
	r.check()
}

// TestStopped stops the process for longer than anybody waits, and lets it go on.
func TestStopped(t *testing.T) {
	r := newRun(t, t.TempDir())
	for range rounds(1, 5) {
		stop, end := 300+r.random.IntN(1000), 3000
		if err := r.process(func(n int, _ history.Event, v victim) {
			switch n {
			case stop:
				if err := v.process.Signal(unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(stopped, func() { v.process.Signal(unix.SIGCONT) })
			case end:
				v.stop()
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	r.drain()
	r.check()
}

// stopped is longer than a queue's consumer has for an event, and than a publisher waits for the log.
const stopped = 6 * time.Second
