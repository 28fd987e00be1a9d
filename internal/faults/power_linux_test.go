package faults

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/queue/embedded"
)

// disk is a small ext4 file system in a file, which can lose its power.
type disk struct {
	*testing.T
	image, dir string
	mounted    bool
}

// newDisk skips the test where there are no loop devices.
func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	base := t.TempDir()
	d := &disk{T: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mnt")}
	for _, err := range []error{os.Mkdir(d.dir, 0o700), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, mib<<20)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	t.Cleanup(d.unmount)
	if err := d.tryMount(); err != nil {
		t.Skip("no loop mounts here: ", err)
	}
	return d
}

func (d *disk) tryMount() error {
	out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(bytes.TrimSpace(out))))
	}
	d.mounted = true
	return nil
}

func (d *disk) unmount() {
	if !d.mounted {
		return
	}
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Unmount(d.dir, 0)
		if err == nil {
			d.mounted = false
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			d.Fatal("unmount: ", err)
		}
	}
}

// cutPower shuts the file system down: what was not flushed is gone, and nothing can be written until it is mounted again.
func (d *disk) cutPower() {
	const (
		ext4Shutdown   = 0x8004587d
		withoutJournal = 2
	)
	f, err := os.Open(d.dir)
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	how := uint32(withoutJournal)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		d.Fatal("ext4 shutdown: ", errno)
	}
}

// powerOn mounts the disk again. As the machine was not really off, the store's high-water file has to be told that it was: in each
// of its two slots the id of the boot is another one.
func (d *disk) powerOn(store string) {
	d.unmount()
	if err := d.tryMount(); err != nil {
		d.Fatal(err)
	}
	const (
		slot = 4096
		boot = 8 + 11*8 // behind the magic and eleven numbers: docs/store.md
	)
	name := filepath.Join(store, "highwater")
	b, err := os.ReadFile(name)
	if err != nil || len(b) != 2*slot {
		d.Logf("no high-water file to change: %d bytes, %v", len(b), err)
		return
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for s := range slices.Chunk(b, slot) {
		sum := s[slot-4:]
		if binary.LittleEndian.Uint32(sum) == crc32.Checksum(s[:slot-4], table) {
			s[boot] ^= 1
			binary.LittleEndian.PutUint32(sum, crc32.Checksum(s[:slot-4], table))
		}
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		d.Fatal(err)
	}
}

// TestPowerCut cuts the power of the store's disk again and again.
func TestPowerCut(t *testing.T) {
	d := newDisk(t, 256)
	r := newRun(t, filepath.Join(d.dir, "data"))
	for range rounds(1, 20) {
		r.killAt(500+r.random.IntN(2500), powerCut, d.cutPower)
		d.powerOn(r.Dir)
	}
	r.drain()
	report := r.check()
	t.Logf("%d power cuts, %d events in the history", report.Counts[history.Crash], len(r.events))
}

// TestPowerCutAtLevelMemory does the same to a store that promises nothing but to tell: the epoch ends, and readers hear of a gap.
// Without that the history has to break the rules, which shows that a power cut is one and that the checker sees what it does.
func TestPowerCutAtLevelMemory(t *testing.T) {
	d := newDisk(t, 256)
	r := newRun(t, filepath.Join(d.dir, "data"))
	r.Level = embedded.LevelMemory
	r.stopAt(500) // which is flushed
	for range rounds(1, 5) {
		r.killAt(1000+r.random.IntN(2000), powerCut, d.cutPower)
		d.powerOn(r.Dir)
	}
	r.drain()
	r.check()
	silent := slices.DeleteFunc(slices.Clone(r.events), func(e history.Event) bool { return e.Kind == history.Accept || e.Kind == history.Told })
	if report := history.Check(silent); !slices.Contains(report.Broken(), history.Lost) {
		r.save()
		t.Error("nothing was lost: ", report)
	} else {
		t.Logf("broken, as they have to be: %v; %d violations", report.Broken(), len(report.Violations)+report.More)
	}
}

// TestDiskFull fills the disk under the publishers, waits until they are refused, and then makes room.
func TestDiskFull(t *testing.T) {
	d := newDisk(t, 128)
	r := newRun(t, filepath.Join(d.dir, "data"))
	r.Reserve = 16 << 20
	ballast := filepath.Join(d.dir, "ballast")
	for range rounds(1, 5) {
		refused, since, full := 0, 0, false
		start := 300 + r.random.IntN(500)
		err := r.process(func(n int, e history.Event, v victim) {
			switch {
			case n == start:
				var s unix.Statfs_t
				if err := unix.Statfs(d.dir, &s); err != nil {
					t.Fatal(err)
				}
				free := int64(s.Bavail) * s.Bsize
				f, err := os.Create(ballast)
				if err == nil { // below the reserve, above half of it
					err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, max(1, free-12<<20)), f.Close())
				}
				if err != nil {
					t.Fatal(err)
				}
				full = true
			case full && e.Kind == history.Rejected:
				if refused++; refused == 200 {
					if err := os.Remove(ballast); err != nil {
						t.Fatal(err)
					}
				}
			case refused >= 200 && e.Kind == history.Stored:
				if since++; since == 100 {
					v.stop()
				}
			}
		})
		if err != nil || since < 100 {
			t.Fatalf("%d refused, then %d stored, %v", refused, since, err)
		}
	}
	r.drain()
	r.check()
}
