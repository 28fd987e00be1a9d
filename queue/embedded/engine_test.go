package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/queue"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
	}
	leaktest.Main(m)
}

// quiet keeps the log of tests to what is wrong.
func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func start(t testing.TB, c Config) *Engine {
	t.Helper()
	e, err := tryStart(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func tryStart(t testing.TB, c Config) (*Engine, error) {
	t.Helper()
	if c.Logger == nil {
		c.Logger = quiet(t)
	}
	if c.Reserve == 0 {
		c.Reserve = -1
	}
	e, err := Start(t.Context(), c)
	if err == nil {
		t.Cleanup(func() { e.Close() })
	}
	return e, err
}

// eventLog is the stream as package queue makes it, in short.
type eventLog struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

func openLog(e *Engine) (eventLog, func(), error) {
	nc, err := e.Connect("test")
	if err != nil {
		return eventLog{}, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return eventLog{}, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: logStream, Subjects: []string{"evt.0.>"}, AllowDirect: true,
		Duplicates: 2 * time.Minute})
	if err != nil {
		nc.Close()
		return eventLog{}, nil, err
	}
	return eventLog{js, s}, nc.Close, nil
}

func mustOpenLog(t testing.TB, e *Engine) eventLog {
	t.Helper()
	l, closeLog, err := openLog(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeLog)
	return l
}

// publish stores n events of size bytes and commits them; it returns the last sequence.
func (l eventLog) publish(t testing.TB, e *Engine, n, size int) uint64 {
	t.Helper()
	body := make([]byte, size)
	futures := make([]jetstream.PubAckFuture, 0, n)
	for i := range n {
		f, err := l.js.PublishAsync(fmt.Sprintf("evt.0.topic-%d", i%10), body)
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, f)
	}
	last := uint64(0)
	for _, f := range futures {
		select {
		case ack := <-f.Ok():
			last = max(last, ack.Sequence)
		case err := <-f.Err():
			t.Fatal(err)
		}
	}
	if err := e.Commit(last); err != nil {
		t.Fatal(err)
	}
	return last
}

func (l eventLog) state(t testing.TB) jetstream.StreamState {
	t.Helper()
	info, err := l.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

func TestReopen(t *testing.T) {
	for _, level := range []string{LevelDisk, LevelMemory} {
		t.Run(level, func(t *testing.T) {
			dir := t.TempDir()
			var epoch uint64
			for round := range 3 {
				e := start(t, Config{Dir: dir, Level: level})
				if epoch == 0 {
					epoch = e.Epoch()
				}
				if e.Epoch() != epoch || epoch == 0 || len(e.Losses()) != 0 {
					t.Fatalf("round %d: epoch %x, was %x, losses %v", round, e.Epoch(), epoch, e.Losses())
				}
				if err := e.Health(); err != nil {
					t.Fatal(err)
				}
				if err := e.Room(); err != nil {
					t.Fatal(err)
				}
				l, closeLog, err := openLog(e)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := l.publish(t, e, 100, 100), uint64(100*(round+1)); got != want {
					t.Fatalf("last sequence %d, want %d", got, want)
				}
				closeLog()
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				if err := e.Close(); err != nil {
					t.Fatalf("second close: %v", err)
				}
				if err := e.Commit(1); !errors.Is(err, errClosed) {
					t.Fatalf("commit after close: %v", err)
				}
				if _, err := e.Connect("late"); !errors.Is(err, errClosed) {
					t.Fatalf("connect after close: %v", err)
				}
			}
		})
	}
}

func TestSecondEngineIsRefused(t *testing.T) {
	dir := t.TempDir()
	e := start(t, Config{Dir: dir})
	_, err := tryStart(t, Config{Dir: dir})
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("second start: %v, want ErrInUse", err)
	}
	t.Log(err)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}

// TestFullDiskOpens has less free than the reserve from the beginning: no room, but what is there can be used.
func TestFullDiskOpens(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		e := start(t, Config{Dir: dir, Reserve: 1 << 60})
		if err := e.Room(); !errors.Is(err, queue.ErrFull) {
			t.Fatalf("room: %v, want ErrFull", err)
		}
		nc, err := e.Connect("test")
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: logStream, Subjects: []string{"evt.0.>"}, MaxBytes: 1 << 40}); err != nil {
			t.Errorf("a stream that may grow above what is free: %v", err)
		}
		nc.Close()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadConfig(t *testing.T) {
	if _, err := tryStart(t, Config{Dir: t.TempDir(), Level: "cloud"}); err == nil {
		t.Error("an unknown level was taken")
	}
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(t, Config{Dir: file}); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// A busy machine makes the server complain of itself now and then.
func TestOneComplaintIsNone(t *testing.T) {
	e := &Engine{log: slog.New(slog.DiscardHandler)}
	for i, c := range []struct {
		complaint string
		sick      bool
	}{{"late", false}, {"", false}, {"late", false}, {"late", true}, {"late", true}, {"", false}, {"late", false}} {
		e.diagnose(c.complaint)
		if sick := e.sick.Load() != nil; sick != c.sick {
			t.Errorf("look %d, %q: sick %v, want %v", i, c.complaint, sick, c.sick)
		}
	}
}
