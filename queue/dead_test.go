package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

type reason struct {
	Reason, Topic, Queue, Offset, ID string
	Attempts                         int
	PublishedAt                      time.Time
}

// deadReason returns why the i-th dead letter of a queue is one.
func deadReason(t testing.TB, n *node, queueName string, i int) (why reason) {
	t.Helper()
	p, err := n.History(t.Context(), "dead/"+queueName, queue.StartFirst, 0)
	if err != nil || len(p.Events) <= i {
		t.Fatalf("%d dead letters, %v", len(p.Events), err)
	}
	var args []json.RawMessage
	if err := json.Unmarshal(p.Events[i].Args, &args); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(args[len(args)-1], &why); err != nil {
		t.Fatal(err)
	}
	return why
}

// An event whose dead letter was stored by a process that did not live to acknowledge it is given up, though for another reason now.
func TestDeadLetterThatIsThere(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{})
	p := n.publish(t, "jobs", 1)
	e, err := n.Event(t.Context(), "jobs", p.Offset.String())
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%d@%d", e.Offset.Seq, e.Time.UnixNano())
	if _, err := n.Publish(t.Context(), queue.Message{Topic: "dead/workers", ID: id, Event: e.Name}); err != nil {
		t.Fatal(err)
	}
	r := &recorder{hook: func(d queue.Delivery) bool { return d.Reject("never") == nil }}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	drained(t, q)
	if got := r.deliveries(); len(got) != 1 {
		t.Errorf("delivered %d times", len(got))
	}
}

// A dead letter goes back to the queue that gave it up, and to nobody else.
func TestRedrive(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.shared(t, "jobs", queue.QueueConfig{MaxDeliveries: 2, Backoff: []time.Duration{0}})
	other := n.personal(t, "jobs", "ann", queue.StartFirst)
	same := n.shared(t, "mail", queue.QueueConfig{}) // its dead letters are in the same topic
	n.publish(t, "mail", 0)
	for i := range 3 {
		m := message("jobs", i)
		m.Attachments, m.Key = [][]byte{{7}}, "k"
		if _, err := n.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	fail := true
	r := &recorder{}
	r.hook = func(d queue.Delivery) bool {
		switch {
		case !fail:
			d.Ack()
		case string(d.Args) == `["jobs",2]`:
			d.Reject("never")
		default:
			d.Retry(0)
		}
		return true
	}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	attach(t, same, queue.ConsumerConfig{Sink: &recorder{hook: func(d queue.Delivery) bool { return d.Reject("mine") == nil }}})
	drained(t, q)
	drained(t, same)
	if i := info(t, q); i.Dead != 4 { // it can't tell them apart before it looks
		t.Errorf("%+v", i)
	}
	fail = false
	before := len(r.deliveries())
	for _, want := range []int{2, 0} {
		if n, err := q.Redrive(t.Context(), 0); err != nil || n != want+btoi(want > 0) {
			t.Errorf("gave back %d, %v", n, err)
		}
	}
	drained(t, q)
	got := r.deliveries()[before:]
	if len(got) != 3 {
		t.Fatalf("%d came back", len(got))
	}
	var args []string
	for _, d := range got {
		args = append(args, string(d.Args))
		if d.Attempt != 1 || d.Topic != "jobs" || d.Key != "k" || len(d.Attachments) != 1 || d.Name != "e" {
			t.Errorf("%+v %+v", d, d.Event)
		}
	}
	if slices.Sort(args); !slices.Equal(args, texts("jobs", 0, 3)) {
		t.Errorf("%q", args)
	}
	if i := info(t, q); i.Dead != 0 {
		t.Errorf("%+v", i)
	}
	personal := &recorder{}
	attach(t, other, queue.ConsumerConfig{Sink: personal})
	n.publish(t, "jobs", 3)
	personal.want(t, texts("jobs", 0, 4)...)
	if p := n.history(t, "jobs", queue.StartFirst, 0); len(p.Events) != 4 || !p.Complete {
		t.Errorf("history has %d events", len(p.Events))
	}
	if u, err := n.personal(t, "jobs", "bob", queue.StartFirst).Unread(t.Context()); err != nil || u != 4 {
		t.Errorf("unread %d, %v", u, err)
	}
}

// An event that ends the process with it, again and again, becomes a dead letter like any other.
func TestPoisonEventDoesNotLoopForEver(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	const limit = 3
	n.shared(t, "t", queue.QueueConfig{MaxDeliveries: limit})
	for i := range 100 {
		n.publish(t, "t", i)
	}
	n.stop()
	died := 0
	for ; died < 10; died++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "QUEUE_TEST_CHILD=poisoned", "QUEUE_TEST_DIR="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err == nil {
			break
		} else if code := cmd.ProcessState.ExitCode(); code != poisoned {
			t.Fatalf("exit code %d, %v", code, err)
		}
	}
	if died < limit-1 || died > limit+1 {
		t.Errorf("the process died %d times of an event that is delivered %d times", died, limit)
	}
	n = open(t, dir)
	if why := deadReason(t, n, "workers", 0); why.Attempts != limit || why.Reason != "gave up after 3 deliveries; the last time the server ended meanwhile" {
		t.Errorf("%+v", why)
	}
	if i := info(t, n.shared(t, "t", queue.QueueConfig{})); i.Unread != 0 || i.Dead != 1 {
		t.Errorf("%+v", i)
	}
}

const poisoned = 17

// childPoisoned works on the queue until it is empty, and dies at once of one event.
func childPoisoned(n *node) int {
	q, err := n.Queue(context.Background(), queue.QueueConfig{Topic: "t", Name: "workers", MustExist: true})
	if err != nil {
		return 1
	}
	r := &recorder{hook: func(d queue.Delivery) bool {
		if string(d.Args) == `["t",42]` {
			os.Exit(poisoned)
		}
		return d.Ack() == nil
	}}
	if _, err := q.Attach(queue.ConsumerConfig{Sink: r}); err != nil {
		return 1
	}
	for {
		if u, err := q.Unread(context.Background()); err != nil {
			return 1
		} else if u == 0 {
			n.stop()
			return 0
		}
		<-time.After(time.Millisecond)
	}
}

// An event that was given up right before the end does not come again: its dead letter is stored by Close.
func TestRejectThenClose(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	q := n.shared(t, "jobs", queue.QueueConfig{})
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r})
	for i := range 3 {
		n.publish(t, "jobs", i)
	}
	r.want(t, texts("jobs", 0, 3)...)
	for _, d := range r.deliveries() {
		if err := d.Reject("no"); err != nil {
			t.Fatal(err)
		}
	}
	n.stop()

	n = open(t, dir)
	if i := info(t, n.shared(t, "jobs", queue.QueueConfig{})); i.Unread != 0 || i.Dead != 3 {
		t.Errorf("%d unread, %d dead letters", i.Unread, i.Dead)
	}
}
