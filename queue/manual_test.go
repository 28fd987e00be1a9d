package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

func attempts(ds []queue.Delivery) []int {
	var n []int
	for _, d := range ds {
		n = append(n, d.Attempt)
	}
	return n
}

func TestPrefetchBoundsWhatIsInFlight(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 10 {
		n.publish(t, "t", i)
	}
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true, Prefetch: 3})
	for i := range 10 {
		until(t, "the next one", func() bool { return len(r.deliveries()) > i })
		ds := r.deliveries()
		if len(ds)-i > 3 {
			t.Fatalf("%d in flight", len(ds)-i)
		}
		ds[i].Ack()
	}
	n.publish(t, "t", 10) // live again
	r.want(t, texts("t", 0, 11)...)
}

func TestUnacknowledgedComesToTheNextConsumer(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	q := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 6 {
		n.publish(t, "t", i)
	}
	r := &recorder{}
	c := attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	r.want(t, texts("t", 0, 6)...)
	ds := r.deliveries()
	for _, i := range []int{0, 2, 3} {
		ds[i].Ack()
	}
	if got := q.Cursor(); got != ds[0].Offset {
		t.Errorf("cursor %v, want %v", got, ds[0].Offset)
	}
	if unread, err := q.Unread(t.Context()); err != nil || unread != 3 {
		t.Errorf("unread %d, %v", unread, err)
	}
	c.Close()
	ds[1].Ack() // too late

	left := []string{`["t",1]`, `["t",4]`, `["t",5]`}
	r = &recorder{}
	c = attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	r.want(t, left...)
	if got := attempts(r.deliveries()); !slices.Equal(got, []int{2, 2, 2}) {
		t.Errorf("attempts %v", got)
	}
	c.Close()

	n.stop()
	n = open(t, dir)
	r = &recorder{}
	q = n.personal(t, "t", "ann", queue.StartNew)
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	r.want(t, left...)
	if got := attempts(r.deliveries()); !slices.Equal(got, []int{3, 3, 3}) {
		t.Errorf("attempts after a restart %v", got)
	}
	for _, d := range r.deliveries() {
		d.Ack()
	}
	if last, _ := n.Last("t"); q.Cursor() != last {
		t.Errorf("cursor %v, want %v", q.Cursor(), last)
	}
}

func TestRetry(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 3 {
		n.publish(t, "t", i)
	}
	r := &recorder{}
	c := attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true, Prefetch: 2})
	r.want(t, texts("t", 0, 2)...)
	r.deliveries()[0].Retry(0)
	r.want(t, `["t",0]`, `["t",1]`, `["t",0]`)
	if d := r.deliveries()[2]; d.Attempt != 2 {
		t.Errorf("attempt %d", d.Attempt)
	}
	const delay = 150 * time.Millisecond
	begin := time.Now()
	r.deliveries()[2].Retry(delay) // frees room for the third meanwhile
	r.want(t, `["t",0]`, `["t",1]`, `["t",0]`, `["t",2]`)
	r.deliveries()[1].Ack()
	r.want(t, `["t",0]`, `["t",1]`, `["t",0]`, `["t",2]`, `["t",0]`)
	if took := time.Since(begin); took < delay {
		t.Errorf("came after %v", took)
	}
	if d := r.deliveries()[4]; d.Attempt != 3 {
		t.Errorf("attempt %d", d.Attempt)
	}

	// A delay outlives the consumer that asked for it.
	begin = time.Now()
	r.deliveries()[4].Retry(delay)
	c.Close()
	r = &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	r.want(t, `["t",2]`, `["t",0]`)
	if took := time.Since(begin); took < delay {
		t.Errorf("came after %v", took)
	}
}

func TestReject(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "jobs", "ann", queue.StartFirst)
	m := message("jobs", 0)
	m.Attachments = [][]byte{{1, 2}}
	if _, err := n.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Publish(t.Context(), queue.Message{Topic: "jobs", Event: "bare"}); err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	r.want(t, `["jobs",0]`, `[]`)
	r.deliveries()[0].Retry(0)
	r.want(t, `["jobs",0]`, `[]`, `["jobs",0]`)
	for _, d := range r.deliveries()[1:] {
		d.Reject("no \"use\"")
		d.Reject("twice")
	}
	until(t, "both to be acknowledged", func() bool { return q.Cursor() == r.deliveries()[1].Offset })
	p, err := n.History(t.Context(), "dead/ann", queue.StartFirst, 0)
	if err != nil || len(p.Events) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if p.Events[0].Name != "bare" {
		t.Errorf("dead letters are not in the order of rejection")
	}
	for i, e := range []*queue.Event{p.Events[1], p.Events[0]} {
		var args []json.RawMessage
		if err := json.Unmarshal(e.Args, &args); err != nil {
			t.Fatal(err)
		}
		if want := []int{3, 1}[i]; len(args) != want {
			t.Fatalf("args %s", e.Args)
		}
		var why struct {
			Reason, Topic, Queue, Offset, ID string
			Attempts                         int
			PublishedAt                      time.Time
		}
		if err := json.Unmarshal(args[len(args)-1], &why); err != nil {
			t.Fatal(err)
		}
		if why.Reason != `no "use"` || why.Topic != "jobs" || why.Queue != "ann" || why.Attempts != 2-i || why.ID == "" ||
			why.Offset != r.deliveries()[i].Offset.String() || e.ID == "" || why.PublishedAt.IsZero() {
			t.Errorf("%+v", why)
		}
	}
	if e := p.Events[1]; len(e.Attachments) != 1 || e.Name != "e" {
		t.Errorf("%+v", e)
	}
}

// Both consumers of one personal queue get everything, whatever the other one acknowledges.
func TestTwoConsumersOnOneQueue(t *testing.T) {
	for _, manual := range []bool{false, true} {
		t.Run(fmt.Sprint("manual=", manual), func(t *testing.T) {
			n := open(t, t.TempDir())
			q := n.personal(t, "t", "ann", queue.StartFirst)
			for i := range 50 {
				n.publish(t, "t", i)
			}
			var rs [2]*recorder
			var cs [2]*queue.Consumer
			for i := range rs {
				r := &recorder{}
				rs[i] = r
				cs[i] = attach(t, q, queue.ConsumerConfig{Sink: r, Manual: manual, Prefetch: 1000})
			}
			for i := 50; i < 200; i++ {
				p := n.publish(t, "t", i)
				if manual {
					for _, d := range rs[i%2].deliveries() {
						d.Ack()
					}
				} else if i%2 == 0 {
					cs[0].AckThrough(p.Offset)
				}
			}
			for i, r := range rs {
				r.want(t, texts("t", 0, 200)...)
				for _, d := range r.deliveries() {
					if manual {
						d.Ack()
					} else {
						cs[i].AckThrough(d.Offset)
					}
				}
			}
			if unread, err := q.Unread(t.Context()); err != nil || unread != 0 {
				t.Errorf("unread %d, %v", unread, err)
			}
		})
	}
}

// One event that nobody settles keeps nobody from the others, however many they are.
func TestOneUnsettledEventBlocksNothing(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	const count = 5000
	var group sync.WaitGroup
	for i := range count {
		group.Add(1)
		n.PublishAsync(t.Context(), message("t", i), func(queue.Published, error) { group.Done() })
	}
	group.Wait()
	r := &recorder{}
	r.hook = func(d queue.Delivery) bool {
		if string(d.Args) != `["t",0]` {
			d.Ack() // from inside the sink
		}
		return true
	}
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true, Prefetch: 2})
	r.want(t, texts("t", 0, count)...)
	if unread, err := q.Unread(t.Context()); err != nil || unread != 1 {
		t.Errorf("unread %d, %v", unread, err)
	}
	first := r.deliveries()[0]
	if want := first.Offset.Seq - 1; q.Cursor().Seq != want {
		t.Errorf("cursor %d, want %d", q.Cursor().Seq, want)
	}
	first.Ack()
	if last, _ := n.Last("t"); q.Cursor() != last {
		t.Errorf("cursor %v, want %v", q.Cursor(), last)
	}
}

// Events that wait to come again take memory: with MaxPending of them nothing new is handed out.
func TestMaxPending(t *testing.T) {
	const limit = 5
	n := open(t, t.TempDir())
	q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann", From: queue.StartFirst, MaxPending: limit})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{hook: func(d queue.Delivery) bool { return d.Retry(time.Hour) == nil }}
	attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true, Prefetch: 2})
	for i := range limit + 1 {
		n.publish(t, "t", i)
	}
	r.want(t, texts("t", 0, limit)...)
	n.publish(t, "other", 0)
	until(t, "the index", func() bool { last, err := n.Last("other"); return err == nil && last.Seq > 0 })
	r.want(t, texts("t", 0, limit)...)
	if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "ann", MaxPending: limit + 1}); err != nil {
		t.Fatal(err)
	}
	r.want(t, texts("t", 0, limit+1)...)
}

func TestSinkMayCallItsConsumer(t *testing.T) {
	n := open(t, t.TempDir())
	for i := range 20 {
		n.publish(t, "t", i)
	}
	q := n.personal(t, "t", "ann", queue.StartFirst)
	r := &recorder{}
	var c *queue.Consumer
	ready := make(chan struct{})
	seen := 0
	r.hook = func(d queue.Delivery) bool {
		<-ready
		seen++
		switch seen {
		case 1:
			d.Retry(0)
		case 2:
			d.Reject("because")
		case 3:
			c.Resume()
			return false
		case 4:
			c.AckThrough(d.Offset)
		case 5:
			c.Close()
		}
		return true
	}
	c = attach(t, q, queue.ConsumerConfig{Sink: r, Manual: true})
	close(ready)
	until(t, "close", func() bool { return len(r.deliveries()) == 4 })
	again := &recorder{}
	attach(t, q, queue.ConsumerConfig{Sink: again})
	until(t, "the rest", func() bool { return len(again.deliveries()) > 0 && again.args()[len(again.args())-1] == `["t",19]` })
	if got := len(r.deliveries()); got != 4 {
		t.Errorf("%d deliveries, some after close", got)
	}
}

func TestConsume(t *testing.T) {
	n := open(t, t.TempDir())
	q := n.personal(t, "t", "ann", queue.StartFirst)
	for i := range 5 {
		n.publish(t, "t", i)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var got []string
	err := q.Consume(ctx, queue.ConsumerConfig{Prefetch: 2}, func(ctx context.Context, d *queue.Delivery) error {
		got = append(got, fmt.Sprintf("%s %d", d.Args, d.Attempt))
		switch {
		case string(d.Args) == `["t",1]` && d.Attempt == 1:
			return errors.New("not now")
		case string(d.Args) == `["t",2]`:
			return d.Reject("never")
		case d.Attempt == 2:
			cancel(enough)
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	if want := []string{`["t",0] 1`, `["t",1] 1`, `["t",2] 1`, `["t",3] 1`, `["t",4] 1`, `["t",1] 2`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if p, err := n.History(t.Context(), "dead/ann", queue.StartFirst, 0); err != nil || len(p.Events) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	until(t, "everything to be acknowledged", func() bool { u, err := q.Unread(t.Context()); return err == nil && u == 0 })
}
