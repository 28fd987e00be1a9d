package embedded

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
)

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	e := start(t, Config{Dir: dir})
	l, closeLog, err := openLog(e)
	noError(t, err)
	cursors, err := l.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: cursorStream, Subjects: []string{"cur.>"}, MaxMsgsPerSubject: 1})
	noError(t, err)
	l.publish(t, e, 2000, 8000)
	over, err := e.Deleting(10)
	noError(t, err)
	for seq := uint64(500); seq < 510; seq++ {
		noError(t, l.stream.DeleteMsg(t.Context(), seq))
	}
	over()
	_, err = l.js.Publish(t.Context(), "cur.x", []byte("cursor"))
	noError(t, err)
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() { // it is in use
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				l.publish(t, e, 20, 100)
			}
		}
	}()
	var backup bytes.Buffer
	noError(t, e.Backup(t.Context(), &backup))
	close(stop)
	<-done
	l.publish(t, e, 10, 100) // these are lost
	last := l.state(t).LastSeq
	closeLog()
	noError(t, e.Close())
	_ = cursors

	again := filepath.Join(t.TempDir(), "restored")
	noError(t, Restore(t.Context(), Config{Dir: again, Reserve: -1, Logger: quiet(t)}, bytes.NewReader(backup.Bytes())))
	if r, err := Verify(again, nil); err != nil || r.Loss != nil || len(r.Scars) > 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	e2 := start(t, Config{Dir: again})
	l, closeLog, err = openLog(e2)
	noError(t, err)
	state := l.state(t)
	if state.LastSeq < 2000 || state.LastSeq > last-10 || state.Msgs != state.LastSeq-10 || state.FirstSeq != 1 {
		t.Errorf("%+v, at most %d", state, last-10)
	}
	want := queue.Loss{Epoch: e.Epoch(), From: state.LastSeq + 1, To: math.MaxUint64}
	if losses := e2.Losses(); e2.Epoch() == e.Epoch() || len(losses) != 1 || losses[0] != want {
		t.Errorf("epoch %x, was %x; losses %+v, want %+v", e2.Epoch(), e.Epoch(), losses, want)
	}
	if begin, end, ok := e2.Forgotten(); !ok || begin.Epoch != e.Epoch() || begin.Seq < 2000 || begin.Seq > end.Seq || end.Seq != state.LastSeq {
		t.Errorf("queues made since are not missed: %v to %v, %v", begin, end, ok)
	}
	m, err := l.js.Stream(t.Context(), cursorStream)
	noError(t, err)
	if got, err := m.GetLastMsgForSubject(t.Context(), "cur.x"); err != nil || string(got.Data) != "cursor" {
		t.Errorf("%v, %v", got, err)
	}
	if got := l.publish(t, e2, 1, 10); got != state.LastSeq+1 {
		t.Errorf("the next event is %d", got)
	}
	closeLog()
	noError(t, e2.Close())

	if err := Restore(t.Context(), Config{Dir: again, Logger: quiet(t)}, bytes.NewReader(backup.Bytes())); err == nil {
		t.Error("a store was restored over another one")
	}
	for name, bad := range map[string][]byte{
		"empty":   nil,
		"half":    backup.Bytes()[:backup.Len()/2],
		"no end":  backup.Bytes()[:backup.Len()-4096],
		"changed": flipped(backup.Bytes(), backup.Len()/3),
		"rubbish": bytes.Repeat([]byte("x"), 3000),
	} {
		target := filepath.Join(t.TempDir(), "bad")
		if err := Restore(t.Context(), Config{Dir: target, Reserve: -1, Logger: quiet(t)}, bytes.NewReader(bad)); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is left: %v", name, err)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}
