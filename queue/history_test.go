package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

func (n *node) history(t testing.TB, topic string, from queue.Start, limit int) queue.Page {
	t.Helper()
	p, err := n.History(t.Context(), topic, from, limit)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHistoryPages(t *testing.T) {
	n := open(t, t.TempDir())
	if p := n.history(t, "t", queue.StartFirst, 5); len(p.Events) != 0 || !p.Complete || p.Gap != nil {
		t.Errorf("nothing there: %+v", p)
	}
	empty := n.history(t, "t", queue.StartNew, 5).Next
	var offsets []queue.Offset
	var middle time.Time
	for i := range 25 {
		if i == 10 {
			<-time.After(2 * time.Millisecond)
			middle = time.Now()
			<-time.After(2 * time.Millisecond)
		}
		offsets = append(offsets, n.publish(t, "t", i).Offset)
		n.publish(t, "other", i)
	}
	for _, limit := range []int{1, 4, 5, 24, 25, 26, 0, 5000} {
		got := 0
		for from := queue.StartFirst; ; {
			p := n.history(t, "t", from, limit)
			for _, e := range p.Events {
				if e.Offset != offsets[got] {
					t.Fatalf("limit %d: %v at %d", limit, e.Offset, got)
				}
				got++
			}
			if p.Complete {
				if p := n.history(t, "t", p.Next.After(), limit); len(p.Events) != 0 || !p.Complete {
					t.Errorf("limit %d: after the end %+v", limit, p)
				}
				break
			}
			if len(p.Events) != limit {
				t.Fatalf("limit %d: page of %d", limit, len(p.Events))
			}
			from = p.Next.After()
		}
		if got != 25 {
			t.Errorf("limit %d: %d events", limit, got)
		}
	}
	for _, c := range []struct {
		from  queue.Start
		first int
	}{
		{empty.After(), 0},
		{queue.Offset{}.After(), 0},
		{offsets[3].After(), 4},
		{queue.Start(time.Now().Add(-time.Hour).Format(time.RFC3339Nano)), 0},
		{queue.Start(middle.Format(time.RFC3339Nano)), 10},
		{queue.Start(time.Now().Add(time.Hour).Format(time.RFC3339Nano)), 25},
		{queue.StartNew, 25},
		{"", 25},
	} {
		p := n.history(t, "t", c.from, 1000)
		if len(p.Events) != 25-c.first || !p.Complete || p.Gap != nil {
			t.Errorf("from %s: %d events", c.from, len(p.Events))
		}
	}
	for _, from := range []queue.Start{"x", "~", "~AAAA", "2026-01-01", queue.Offset{Epoch: 1, Seq: 1}.After(),
		queue.Offset{Epoch: offsets[0].Epoch, Seq: 1000}.After(), queue.Start(strings.Repeat("9", 1000))} {
		if _, err := n.History(t.Context(), "t", from, 1); queue.Code(err) != "invalid_offset" {
			t.Errorf("from %.40s: %v", from, err)
		}
		if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: "x", From: from}); queue.Code(err) != "invalid_offset" {
			t.Errorf("queue from %.40s: %v", from, err)
		}
	}
	if last, err := n.Last("t"); err != nil || last != offsets[24] {
		t.Errorf("last %v, %v", last, err)
	}
	if names, err := n.Topics(t.Context(), "other", 0); err != nil || len(names) != 1 || names[0] != "t" {
		t.Errorf("topics %q, %v", names, err)
	}
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.History(dead, "t", queue.StartFirst, 1); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
}

func TestHistoryPageIsBoundedInBytes(t *testing.T) {
	n := open(t, t.TempDir())
	big := []byte(`["` + strings.Repeat("x", 900_000) + `"]`)
	for range 10 {
		if _, err := n.Publish(t.Context(), queue.Message{Topic: "t", Event: "e", Args: big}); err != nil {
			t.Fatal(err)
		}
	}
	got, pages := 0, 0
	for from := queue.StartFirst; ; pages++ {
		p := n.history(t, "t", from, 1000)
		got += len(p.Events)
		if len(p.Events) > 6 {
			t.Errorf("page of %d large events", len(p.Events))
		}
		if p.Complete {
			break
		}
		from = p.Next.After()
	}
	if got != 10 || pages == 0 {
		t.Errorf("%d events on %d pages", got, pages)
	}
}

func TestQueueBeginsWhereItIsTold(t *testing.T) {
	n := open(t, t.TempDir())
	var offsets []queue.Offset
	for i := range 10 {
		offsets = append(offsets, n.publish(t, "t", i).Offset)
	}
	for i, c := range []struct {
		from  queue.Start
		first int
	}{
		{queue.StartNew, 10}, {queue.StartFirst, 0}, {offsets[6].After(), 7},
		{queue.Start(time.Now().Add(-time.Hour).Format(time.RFC3339Nano)), 0}, {queue.Start(time.Now().Add(time.Hour).Format(time.RFC3339Nano)), 10},
	} {
		for _, ephemeral := range []bool{false, true} {
			q, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: fmt.Sprint(i), From: c.from, Ephemeral: ephemeral})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := q.Unread(t.Context()); err != nil || got != 10-c.first {
				t.Errorf("from %s: %d unread, %v", c.from, got, err)
			}
		}
		again, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: fmt.Sprint(i), From: queue.StartFirst})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := again.Unread(t.Context()); got != 10-c.first {
			t.Errorf("a queue that exists began again, from %s: %d unread", c.from, got)
		}
	}
	for _, name := range []string{"", "a\x00", strings.Repeat("x", 256)} {
		if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "t", Name: name}); queue.Code(err) != "invalid_queue" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := n.Queue(t.Context(), queue.QueueConfig{Topic: "", Name: "x"}); queue.Code(err) != "invalid_topic" {
		t.Errorf("%v", err)
	}
	if q := n.personal(t, "t", "0", queue.StartNew); q != n.personal(t, "t", "0", queue.StartNew) {
		t.Error("two of one queue")
	}
}

func TestStartAndOffsetTexts(t *testing.T) {
	for _, o := range []queue.Offset{{}, {Epoch: 1}, {Epoch: 1, Seq: 1}, {Epoch: 1<<64 - 1, Seq: 1<<64 - 1}} {
		got, err := queue.ParseOffset(o.String())
		if err != nil || got != o {
			t.Errorf("%v: %q, %v, %v", o, o.String(), got, err)
		}
	}
	for _, s := range []string{"~", "~~", "~AAAAAAAAAAE", "bob", "~AAAAAAAAAAEB ", "~AAAAAAAAAAEBAA", "~AAAAAAAAAAGBgA", strings.Repeat("~", 100)} {
		if o, err := queue.ParseOffset(s); err == nil {
			t.Errorf("%q is %v", s, o)
		} else if _, ok := errors.AsType[*queue.Error](err); !ok {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "new", "first", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+01:00", queue.Offset{Epoch: 5, Seq: 6}.String()} {
		from, err := queue.ParseStart(s)
		if err != nil || s != "" && from.String() != s {
			t.Errorf("%q: %q, %v", s, from, err)
		}
	}
	for _, s := range []string{"New", "latest", "0", "~x", "2026"} {
		if _, err := queue.ParseStart(s); queue.Code(err) != "invalid_offset" {
			t.Errorf("%q: %v", s, err)
		}
	}
}
