package queue_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue"
)

// What is given back without a delay is the next thing that is handed out, also when new events have been read already.
func TestGivenBackComesBeforeNew(t *testing.T) {
	const count = 20
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{MaxDeliveries: -1})
	r := &recorder{}
	r.hook = func(d queue.Delivery) bool {
		if d.Attempt < 3 {
			d.Retry(0)
		} else {
			d.Ack()
		}
		return true
	}
	var want []string
	for i := range 2 * count {
		for range 3 {
			want = append(want, fmt.Sprintf(`["jobs",%d]`, i))
		}
	}
	for i := range count { // which a worker reads
		n.publish(t, "jobs", i)
	}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, want[:3*count]...)
	until(t, "the tail to serve the queue", func() bool { return queue.Live(n.Broker, "jobs") == 1 })
	var batch []queue.Message // which the tail has
	for i := range count {
		batch = append(batch, message("jobs", count+i))
	}
	if _, err := n.PublishBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	r.want(t, want...)
}

// slowIndex is an index whose reading can be held up.
type slowIndex struct {
	queue.Index
	reading func()
}

func (x slowIndex) Range(topic string, after, upto uint64, limit int, f func(*queue.Event) bool) error {
	x.reading()
	return x.Index.Range(topic, after, upto, limit, f)
}

// slowEngine is an engine whose commits can be held up, or fail.
type slowEngine struct {
	queue.Engine
	committing func() error
}

func (e slowEngine) Commit(last uint64) error {
	if err := e.committing(); err != nil {
		return err
	}
	return e.Engine.Commit(last)
}

// An event of an earlier process is delivered once the store knows of that. If it comes to know while the reader has new events
// before it, those come later all the same.
func TestAnnouncedComesBeforeNew(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	n.publish(t, "jobs", 0)
	n.stop()

	var announcing atomic.Pointer[queue.Queue]
	second := make(chan struct{})
	reads := 0
	n = openWith(t, dir, setup{config: func(c *queue.Config) {
		c.Engine = slowEngine{c.Engine, func() error {
			if announcing.Load() != nil {
				<-second
			}
			return nil
		}}
		c.Index = slowIndex{c.Index, func() {
			q := announcing.Load()
			if q == nil {
				return
			}
			if reads++; reads == 2 { // the first one found the first event
				close(second)
				until(t, "the announcement", func() bool { return queue.Again(q) == 1 })
			}
		}}
	}})
	q := n.shared(t, "jobs", queue.QueueConfig{MaxDeliveries: 5})
	n.publish(t, "jobs", 1)
	until(t, "the index", func() bool { u, err := q.Unread(t.Context()); return err == nil && u == 2 })
	announcing.Store(q)
	r := acks()
	attach(t, q, queue.ConsumerConfig{Sink: r, Prefetch: 1})
	r.want(t, texts("jobs", 0, 2)...)
}

// When the store can't take the announcement, new events do not come first either.
func TestNotAnnouncedComesBeforeNew(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	n.publish(t, "jobs", 0)
	n.stop()

	var failing atomic.Bool
	var lines logLines
	n = openWith(t, dir, setup{config: func(c *queue.Config) {
		c.Engine = slowEngine{c.Engine, func() error {
			if failing.Load() {
				return errors.New("no disk")
			}
			return nil
		}}
		c.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	}})
	q := n.shared(t, "jobs", queue.QueueConfig{MaxDeliveries: 5})
	n.publish(t, "jobs", 1)
	until(t, "the index", func() bool { u, err := q.Unread(t.Context()); return err == nil && u == 2 })
	failing.Store(true)
	r := acks()
	c := attach(t, q, queue.ConsumerConfig{Sink: r})
	until(t, "the announcement to fail", func() bool { return strings.Contains(lines.String(), "save cursor") })
	c.Resume() // which has a worker look again
	until(t, "a worker that has looked", func() bool { return queue.Parked(c) })
	if got := r.args(); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// The next event with a key comes when the one before it has expired, though nothing else happens.
func TestKeyGoesOnAfterExpiry(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{Ordered: true})
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	for i := range 3 {
		m := message("jobs", i)
		m.Key = "k"
		if i == 1 {
			m.TTL = time.Millisecond
		}
		if _, err := n.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	r.want(t, `["jobs",0]`)
	<-time.After(5 * time.Millisecond)
	if err := r.deliveries()[0].Ack(); err != nil {
		t.Fatal(err)
	}
	r.want(t, `["jobs",0]`, `["jobs",2]`)
}

// lateIndex is an index that does not get on with the log before it may.
type lateIndex struct {
	queue.Index
	may chan struct{}
}

func (x lateIndex) Apply(batch []*queue.Event, rule func(topic string) (time.Duration, bool)) error {
	<-x.may
	return x.Index.Apply(batch, rule)
}

// logLines is a writer for a logger.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// What is not acknowledged comes again after a restart, however long the index, which a crash has thrown back, takes to have it.
func TestUnacknowledgedWaitsForTheIndex(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared=", shared), func(t *testing.T) {
			const count = 5
			dir := t.TempDir()
			n := open(t, dir)
			config := queue.QueueConfig{Topic: "jobs", Name: "q", From: queue.StartFirst, Shared: shared, MaxDeliveries: -1}
			q, err := n.Queue(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			for i := range count {
				n.publish(t, "jobs", i)
			}
			r := &recorder{}
			attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
			r.want(t, texts("jobs", 0, count)...)
			if err := r.deliveries()[count-1].Ack(); err != nil { // so that the store knows of the others
				t.Fatal(err)
			}
			n.stop()
			if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
				t.Fatal(err)
			}

			var lines logLines
			may := make(chan struct{})
			n = openWith(t, dir, setup{config: func(c *queue.Config) {
				c.Index, c.Logger = lateIndex{c.Index, may}, slog.New(slog.NewTextHandler(&lines, nil))
			}})
			var once sync.Once
			release := func() { once.Do(func() { close(may) }) }
			t.Cleanup(release) // before the broker is closed
			if q, err = n.Queue(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			again := &recorder{}
			before := q.Cursor()
			c := attach(t, q, queue.ConsumerConfig{Sink: again, Manual: true})
			until(t, "a worker that has looked", func() bool { return queue.Parked(c) })
			if got := again.args(); len(got) > 0 || q.Cursor() != before {
				t.Fatalf("got %q, and the cursor is %s, not %s", got, q.Cursor(), before)
			}
			if text := lines.String(); text != "" {
				t.Errorf("it is nothing to complain of: %s", text)
			}
			release()
			again.want(t, texts("jobs", 0, count-1)...)
		})
	}
}

// An event that was being delivered when a process ended is on trial, and all others wait for its end; so it must not wait for
// those before it.
func TestTrialWaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	config := queue.QueueConfig{MaxDeliveries: 5}
	n.shared(t, "jobs", config)
	for i := range 2 {
		n.publish(t, "jobs", i)
	}
	setCursor(t, n, "cur.jobs.workers", func(b []byte) []byte { // docs/store.md
		return append(b[:len(b)-3], 2, 2,
			1, 1<<1, 0,
			1, 1<<1|1, 0,
			0)
	})
	n.stop()

	n = open(t, dir)
	q := n.shared(t, "jobs", config)
	r := acks()
	attach(t, q, queue.ConsumerConfig{Sink: r})
	r.want(t, `["jobs",1]`, `["jobs",0]`)
}

// setCursor changes a queue in the store.
func setCursor(t testing.TB, n *node, subject string, change func([]byte) []byte) {
	t.Helper()
	nc, err := n.engine.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "CUR")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, change(slices.Clone(m.Data))); err != nil {
		t.Fatal(err)
	}
}
