package embedded

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/holdpost/holdpost/queue"
)

// loopDisk is a small ext4 file system of its own, which can lose its power.
type loopDisk struct {
	image, dir string
	mounted    bool
}

func newLoopDisk(t *testing.T, mib int64) *loopDisk {
	t.Helper()
	if testing.Short() {
		t.Skip("short: no loop mounts")
	}
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	base := t.TempDir()
	d := &loopDisk{image: filepath.Join(base, "image"), dir: filepath.Join(base, "mnt")}
	noError(t, os.Mkdir(d.dir, 0o700))
	noError(t, os.WriteFile(d.image, nil, 0o600))
	noError(t, os.Truncate(d.image, mib<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	t.Cleanup(func() { d.umount(t) })
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("no loop mounts here: %v %s", err, bytes.TrimSpace(out))
	}
	d.mounted = true
	return d
}

func (d *loopDisk) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	d.mounted = true
}

func (d *loopDisk) umount(t *testing.T) {
	t.Helper()
	if !d.mounted {
		return
	}
	d.mounted = false
	eventually(t, "umount "+d.dir, func() bool { return unix.Unmount(d.dir, 0) == nil })
}

// cutPower shuts the file system down without writing what is only in memory; only the journal brings back the rest.
func (d *loopDisk) cutPower(t *testing.T) {
	t.Helper()
	const (
		ext4Shutdown   = 0x8004587d
		withoutJournal = 2
	)
	f, err := os.Open(d.dir)
	noError(t, err)
	defer f.Close()
	how := uint32(withoutJournal)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		t.Skipf("ext4 shutdown: %v", errno)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		case <-tick.C:
		}
	}
}

// TestPowerCut publishes from another process until the power goes. What was acknowledged after a commit is there
// again; without the commit it is not, which shows that the test bites.
func TestPowerCut(t *testing.T) {
	for _, mode := range []string{"commit", "bare"} {
		t.Run(mode, func(t *testing.T) {
			d := newLoopDisk(t, 128)
			dir := filepath.Join(d.dir, "data")
			acked := map[uint64]string{}
			for round := range 2 {
				v := spawn(t, mode, dir)
				v.read(t, 2000)
				d.cutPower(t)
				v.cmd.Process.Kill()
				v.read(t, -1) // what was acknowledged after the cut counts too
				v.kill()
				d.umount(t)
				d.mount(t)
				for seq, body := range v.acked {
					acked[seq] = body
				}
				reboot(t, dir, func(*mark) {})
				e := start(t, Config{Dir: dir})
				l, closeLog, err := openLog(e)
				noError(t, err)
				lost := l.missing(t, acked)
				t.Logf("round %d: %d acknowledged, %d lost, losses %v", round, len(acked), lost, e.Losses())
				closeLog()
				noError(t, e.Close())
				if mode == "bare" {
					if lost == 0 {
						t.Error("nothing was lost without a commit: the power cut is none")
					}
					return
				}
				if lost > 0 {
					t.Errorf("round %d: %d of %d acknowledged events lost", round, lost, len(acked))
				}
			}
		})
	}
}

// TestDiskFails lets the flush itself fail.
func TestDiskFails(t *testing.T) {
	d := newLoopDisk(t, 64)
	e := start(t, Config{Dir: filepath.Join(d.dir, "data")})
	l, closeLog, err := openLog(e)
	noError(t, err)
	l.publish(t, e, 100, 100)
	d.cutPower(t)
	for range 2 {
		if err := e.Commit(100); !errors.Is(err, unix.EIO) {
			t.Fatalf("commit on a dead disk: %v, want EIO", err)
		}
	}
	if err := e.Health(); !errors.Is(err, unix.EIO) {
		t.Fatalf("health: %v, want EIO", err)
	}
	closeLog()
	if err := e.Close(); !errors.Is(err, unix.EIO) {
		t.Fatalf("close: %v, want EIO", err)
	}
}

// TestDiskFull fills the disk as a broker would, and then somebody makes room.
func TestDiskFull(t *testing.T) {
	const reserve = 16 << 20
	d := newLoopDisk(t, 96)
	ballast := filepath.Join(d.dir, "ballast")
	noError(t, os.WriteFile(ballast, make([]byte, 40<<20), 0o600))
	dir := filepath.Join(d.dir, "data")
	e := start(t, Config{Dir: dir, Reserve: reserve})
	l, closeLog, err := openLog(e)
	noError(t, err)
	noError(t, e.Room())

	last, stored := uint64(0), 0
	for e.Room() == nil {
		if stored++; stored > 10_000 {
			t.Fatal("the disk does not fill up")
		}
		last = l.publish(t, e, 10, 16<<10)
	}
	if err := e.Room(); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("room: %v, want ErrFull", err)
	}
	t.Log(e.Room())
	_, free, err := diskRoom(d.dir)
	noError(t, err)
	if free < reserve*3/4 {
		t.Errorf("%d MiB are left of a reserve of %d: full was told too late", free>>20, reserve>>20)
	}
	for { // somebody who does not ask is stopped too
		ack, err := l.js.Publish(t.Context(), "evt.0.x", make([]byte, 16<<10))
		var refused *jetstream.APIError
		if errors.As(err, &refused) {
			t.Log(refused)
			break
		}
		noError(t, err)
		last = ack.Sequence
		noError(t, e.Commit(last)) // what is there can still be made durable
	}
	_, free, err = diskRoom(d.dir)
	noError(t, err)
	if free < reserve/4 {
		t.Errorf("%d bytes are left of a reserve of %d: the brake was too slow", free, reserve)
	}
	noError(t, e.Commit(last))
	if err := e.Health(); err != nil {
		t.Errorf("a full disk is no failure: %v", err)
	}

	noError(t, os.Remove(ballast))
	eventually(t, "room again", func() bool { return e.Room() == nil })
	for range 100 {
		noError(t, e.Room())
		last = l.publish(t, e, 10, 16<<10)
	}
	closeLog()
	noError(t, e.Close())

	e = start(t, Config{Dir: dir, Reserve: reserve})
	l, closeLog, err = openLog(e)
	noError(t, err)
	if s := l.state(t); s.LastSeq != last || s.Msgs != last {
		t.Errorf("reopened: last %d, %d events; want %d", s.LastSeq, s.Msgs, last)
	}
	closeLog()
	noError(t, e.Close())
}
