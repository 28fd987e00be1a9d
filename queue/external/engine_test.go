package external

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/internal/guard"
)

// One node uses the log at a time. The next one gets it when it ends, when it has ended, or when it is gone.
func TestOneNodeAtATime(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	first := startOn(t, Config{Node: "a"}, s)
	if err := refused(t, Config{Node: "b"}, s); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "node a") {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := startOn(t, Config{Node: "b"}, s)
	if second.Epoch() != first.Epoch() {
		t.Error("another epoch, though nothing was lost")
	}
	second.crash()
	begin := time.Now()
	again := startOn(t, Config{Node: "b"}, s)
	if took := time.Since(begin); took > leaseEnds/2 {
		t.Errorf("a node had to wait %v for itself", took)
	}
	again.sleep()
	defer again.release()
	third := startOn(t, Config{Node: "c"}, s)
	if again.Health() == nil {
		t.Error("it may publish though it has been replaced")
	}
	again.renew()
	for _, err := range []error{again.Health(), again.Commit(1)} {
		if !errors.Is(err, ErrInUse) {
			t.Errorf("it lost the log and says %v", err)
		}
	}
	if err := third.Health(); err != nil {
		t.Error(err)
	}
}

// An engine whose record was written, and which did not get the answer, finds that out.
func TestAnswerThatDidNotCome(t *testing.T) {
	t.Parallel()
	e := startOn(t, Config{}, natstest.Run(t, natstest.Config{}))
	e.sleep()
	defer e.release()
	was := e.revision
	if err := e.put(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.revision = was
	if err := e.renew(); err != nil || e.Health() != nil {
		t.Errorf("%v, %v", err, e.Health())
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{SyncAlways: true})
	e := startOn(t, Config{}, s)
	n := open(t, e, t.TempDir())
	for i := range 100 {
		n.publish(t, i)
	}
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann", From: queue.StartFirst})
	if err != nil {
		t.Fatal(err)
	}
	sink := newSink()
	c, err := q.Attach(queue.ConsumerConfig{Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for round := range 2 {
		s.Kill()
		for i := range 3 {
			if _, err := n.Publish(t.Context(), message(1000+i)); !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, queue.ErrUnknown) {
				t.Errorf("published to nobody: %v", err)
			}
		}
		if round == 1 {
			until(t, "the broker to notice", func() bool { return n.Health() != nil })
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			n.insist(t, 100*(round+1)+i)
		}
		until(t, "health", func() bool { return n.Health() == nil && e.Health() == nil })
	}
	if got := n.texts(t); !slices.Equal(got, numbers(0, 300)) {
		t.Errorf("%d events: %q", len(got), got)
	}
	for i := range 300 {
		if got := string(receive(t, sink.events).Args); got != numbers(i, i+1)[0] {
			t.Fatalf("delivered %s, want %d", got, i)
		}
	}
	epoch := e.Epoch()
	n.stop()
	e.crash()
	if again := startOn(t, Config{Node: e.config.Node}, s); again.Epoch() != epoch {
		t.Error("a new epoch, though nothing was lost")
	}
}

// cut takes the end off the log of a server that does not run.
func cut(t *testing.T, s *natstest.Server) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(s.Store, "jetstream", "*", "streams", guard.Events, "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(blocks, err)
	}
	newest := blocks[len(blocks)-1]
	info, err := os.Stat(newest)
	if err == nil {
		err = os.Truncate(newest, info.Size()/2)
	}
	if err == nil {
		err = os.Remove(filepath.Join(filepath.Dir(newest), "index.db"))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// A log that ends earlier than it did is noticed, and readers are told when it goes on under a new epoch.
func TestLossOfTheEnd(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	e := startOn(t, Config{}, s)
	dir := t.TempDir()
	n := open(t, e, dir)
	for i := range 100 {
		n.publish(t, i)
	}
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann", From: queue.StartFirst})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Seen(t.Context(), queue.Offset{Epoch: e.Epoch(), Seq: 90}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	cut(t, s)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	loss, ok := errors.AsType[*LossError](refused(t, Config{}, s))
	if !ok || loss.Stream != guard.Events || loss.Have < 10 || loss.Have > 90 || loss.Want != 100 || loss.Epoch != e.Epoch() {
		t.Fatalf("%+v", loss)
	}
	again := startOn(t, Config{AcceptLoss: true}, s)
	want := []queue.Loss{{Epoch: e.Epoch(), From: loss.Have + 1, To: 100}}
	if !slices.Equal(again.Losses(), want) || again.Epoch() == e.Epoch() {
		t.Fatalf("losses %+v, want %+v", again.Losses(), want)
	}
	n = open(t, again, dir)
	if p := n.publish(t, 1000); p.Offset.Seq != loss.Have+1 {
		t.Errorf("%+v", p)
	}
	if q, err = n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	sink := newSink()
	c, err := q.Attach(queue.ConsumerConfig{Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if g := receive(t, sink.gaps); g.Cause != "loss" || g.To != (queue.Offset{Epoch: e.Epoch(), Seq: 100}) {
		t.Errorf("gap %+v", g)
	}
	if got := string(receive(t, sink.events).Args); got != "[1000]" {
		t.Error(got)
	}
}

// What the node's index has seen counts, even if the record does not say so.
func TestLossThatTheIndexKnowsOf(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	e := startOn(t, Config{Node: "a"}, s)
	n := open(t, e, t.TempDir())
	last := n.publish(t, 0).Offset
	n.stop()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	last.Seq += 5
	loss, ok := errors.AsType[*LossError](refused(t, Config{Seen: last}, s))
	if !ok || loss.Have != last.Seq-5 || loss.Want != last.Seq {
		t.Fatalf("%+v", loss)
	}
	last.Epoch++
	startOn(t, Config{Seen: last}, s) // that is about another log
}

// A stream that was deleted is noticed at start, and while the engine runs, if it was made anew meanwhile too.
func TestStreamOfTheSameName(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	js := operator(t, s)
	anew := func() {
		t.Helper()
		old, err := js.Stream(t.Context(), guard.Events)
		if err == nil {
			err = js.DeleteStream(t.Context(), guard.Events)
		}
		if err == nil {
			_, err = js.CreateStream(t.Context(), old.CachedInfo().Config)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	e := startOn(t, Config{}, s)
	n := open(t, e, t.TempDir())
	for i := range 10 {
		n.publish(t, i)
	}
	anew()
	if _, err := n.Publish(t.Context(), message(10)); !errors.Is(err, queue.ErrUnknown) { // stored, under a number that was another one's
		t.Errorf("%v", err)
	}
	if _, err := n.Publish(t.Context(), message(11)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	until(t, "the engine to notice", func() bool { return e.failed.Load() != nil })
	if _, ok := errors.AsType[*LossError](e.Health()); !ok {
		t.Error(e.Health())
	}
	n.stop()
	e.Close()

	loss, ok := errors.AsType[*LossError](refused(t, Config{Node: e.config.Node}, s))
	if !ok || loss.Have != 0 || loss.Want != 10 {
		t.Fatalf("%+v", loss)
	}
	again := startOn(t, Config{Node: e.config.Node, AcceptLoss: true}, s)
	if l := again.Losses(); len(l) != 1 || l[0] != (queue.Loss{Epoch: e.Epoch(), From: 1, To: math.MaxUint64}) {
		t.Errorf("%+v", l)
	}
	if err := js.DeleteStream(t.Context(), guard.Events); err != nil {
		t.Fatal(err)
	}
	n = open(t, again, t.TempDir())
	n.publish(t, 20)
	until(t, "the engine to notice", func() bool { return again.failed.Load() != nil })
}

// Queues that are gone are a loss too, of which no reader could be told.
func TestLossOfQueues(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	e := startOn(t, Config{}, s)
	n := open(t, e, t.TempDir())
	n.publish(t, 0)
	if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := operator(t, s).DeleteStream(t.Context(), guard.Cursors); err != nil {
		t.Fatal(err)
	}
	if loss, ok := errors.AsType[*LossError](refused(t, Config{}, s)); !ok || loss.Stream != guard.Cursors || !strings.Contains(loss.Error(), "revoke again") {
		t.Fatalf("%v", loss)
	}
	again := startOn(t, Config{AcceptLoss: true}, s)
	if again.Epoch() != e.Epoch() {
		t.Error("a new epoch, though no event is gone")
	}
	if begin, end, ok := again.Forgotten(); !ok || begin != (queue.Offset{Epoch: e.Epoch()}) || end != (queue.Offset{Epoch: e.Epoch(), Seq: 1}) {
		t.Errorf("forgotten: %v, %v, %v", begin, end, ok)
	}
}

func TestLogWithoutARecord(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{})
	e := startOn(t, Config{}, s)
	n := open(t, e, t.TempDir())
	n.publish(t, 0)
	n.stop()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	js := operator(t, s)
	if err := js.DeleteKeyValue(t.Context(), recordBucket); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, Config{}, s); !errors.Is(err, ErrRecord) {
		t.Fatal(err)
	}
	again := startOn(t, Config{AcceptLoss: true}, s)
	if l := again.Losses(); len(l) != 1 || l[0] != (queue.Loss{From: 2, To: math.MaxUint64}) {
		t.Errorf("%+v", l)
	}
	again.Close()
	kv, err := js.KeyValue(t.Context(), recordBucket)
	if err == nil {
		_, err = kv.PutString(t.Context(), recordKey, "{}")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := refused(t, Config{AcceptLoss: true}, s); !errors.Is(err, ErrRecord) {
		t.Fatal(err)
	}
}

func TestUnsuitedServers(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{Extra: `
		accounts {
			with { jetstream: enabled, users: [{ user: with, password: test }] }
			without { users: [{ user: without, password: test }] }
			` + may("listed", subjects...) + `
		}`})
	startOn(t, Config{User: "with", Password: "test"}, s)
	n := open(t, startOn(t, Config{User: "listed", Password: "test"}, s), t.TempDir()) // with what docs/operations.md says
	later := message(0)
	later.Delay = time.Millisecond
	if _, err := n.Publish(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	until(t, "the event for later", func() bool { return len(n.texts(t)) == 1 })
	if err := n.CreateTopic(t.Context(), queue.TopicConfig{Pattern: "t", MaxEvents: 1}); err != nil {
		t.Fatal(err)
	}
	if err := n.Keep(t.Context(), "a", []byte("b")); err != nil {
		t.Fatal(err)
	}
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann", From: queue.StartFirst, Receipts: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.ReceiptsOf(t.Context(), "0"); err != nil {
		t.Error(err)
	}
	if err := n.DeleteTopic(t.Context(), "t"); err != nil {
		t.Error(err)
	}
	if err := refused(t, Config{User: "without", Password: "test"}, s); !errors.Is(err, ErrUnsuited) {
		t.Error(err)
	}
	if err := refused(t, Config{User: "with", Password: "wrong"}, s); !strings.Contains(err.Error(), "Authorization") {
		t.Error(err)
	}
	if err := refused(t, Config{User: "with", Password: "test", Replicas: 3}, s); !strings.Contains(err.Error(), "3 replicas") {
		t.Error(err)
	}
	if err := refused(t, Config{URLs: []string{oldServer(t)}}); !errors.Is(err, ErrUnsuited) || !strings.Contains(err.Error(), "2.11.9") {
		t.Error(err)
	}
	s.Kill()
	if err := refused(t, Config{}, s); !strings.Contains(err.Error(), s.URL) {
		t.Error(err)
	}
}

// oldServer says that it is one of an old version.
func oldServer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "INFO {\"version\":\"2.11.9\",\"headers\":true,\"max_payload\":1048576}\r\n")
		for in := bufio.NewScanner(c); in.Scan(); {
			if in.Text() == "PING" {
				fmt.Fprint(c, "PONG\r\n")
			}
		}
	}()
	return "nats://" + l.Addr().String()
}

// An account that is nearly full takes no more events, and takes them again once there is room.
func TestRoom(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t, natstest.Config{Extra: `
		accounts { small { jetstream: { max_file: 4MB }, users: [{ user: small, password: test }] } }`})
	e := startOn(t, Config{User: "small", Password: "test"}, s)
	n := open(t, e, t.TempDir())
	big := message(0)
	big.ID, big.Attachments = "", [][]byte{make([]byte, 100_000)}
	until(t, "the account to be full", func() bool {
		_, err := n.Publish(t.Context(), big)
		if err != nil && !errors.Is(err, queue.ErrFull) {
			t.Fatal(err)
		}
		return err != nil
	})
	until(t, "the engine to notice", func() bool { return errors.Is(e.Room(), queue.ErrFull) })
	if err := n.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	until(t, "room", func() bool { return e.Room() == nil })
	n.publish(t, 1)
}
