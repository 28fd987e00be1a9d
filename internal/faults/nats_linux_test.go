package faults

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/internal/natstest"
)

// TestNATSDiskFull fills the disk of the server that has the log. A server that could not write stores nothing more until it is started
// anew, which is done once there is room.
func TestNATSDiskFull(t *testing.T) {
	if !long() {
		t.Skip("it takes long")
	}
	d := newDisk(t, 256)
	s := natstest.Run(t, natstest.Config{SyncAlways: true, Dir: filepath.Join(d.dir, "nats")})
	r := newRun(t, t.TempDir())
	r.NATS = []string{s.URL}
	for range 3 {
		start, refused, since := 500+r.random.IntN(1000), 0, 0
		if err := r.process(func(n int, e history.Event, v victim) {
			switch {
			case n == start:
				d.fill()
			case n > start && refused < 100 && (e.Kind == history.Rejected || e.Kind == history.Unknown):
				if refused++; refused == 100 {
					s.Kill()
					d.empty()
					if err := s.Start(); err != nil {
						t.Fatal(err)
					}
				}
			case refused == 100 && e.Kind == history.Stored:
				if since++; since == 300 {
					v.stop()
				}
			}
		}); err != nil || since < 300 {
			t.Fatalf("%d refused, then %d stored, %v", refused, since, err)
		}
	}
	r.drain()
	r.check()
}

// TestNATSDiskOfOneFull fills, of three servers, the disk of one. The others go on.
func TestNATSDiskOfOneFull(t *testing.T) {
	if !long() {
		t.Skip("it takes long")
	}
	d := newDisk(t, 256)
	servers := natstest.RunCluster(t, natstest.Config{Dir: filepath.Join(d.dir, "nats")}, 3)
	r := newRun(t, t.TempDir())
	r.NATS = natstest.URLs(servers)
	for range 2 {
		r.disturb(1, func() {
			d.fill()
			<-time.After(20 * time.Second)
		})
		servers[0].Kill()
		d.empty()
		if err := servers[0].Start(); err != nil {
			t.Fatal(err)
		}
	}
	r.drain()
	r.check()
}

// fill takes all the room that the disk has.
func (d *disk) fill() {
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 1<<20); len(b) > 0; {
		if _, err := f.Write(b); err != nil {
			b = b[:len(b)/2]
		}
	}
}

// empty gives it back.
func (d *disk) empty() {
	if err := os.Remove(filepath.Join(d.dir, "ballast")); err != nil {
		d.Fatal(err)
	}
}
