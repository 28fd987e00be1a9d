package queue_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// child is what the test binary does when a test starts it to be killed.
func child(role, dir string) int {
	s := setup{}
	if role == "churn" {
		s = churn
	}
	n, err := start(dir, s)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	switch role {
	case "publish":
		childPublish(n)
	case "consume":
		childConsume(n)
	case "churn":
		childChurn(n)
	case "poisoned":
		return childPoisoned(n)
	}
	return 1
}

// childPublish publishes from many goroutines and prints what was acknowledged, until it is killed.
func childPublish(n *node) {
	var mu sync.Mutex
	var group sync.WaitGroup
	for p := range 16 {
		group.Go(func() {
			topic := fmt.Sprintf("t%d", p%4)
			for i := 0; ; i++ {
				m := queue.Message{Topic: topic, Event: "e", ID: fmt.Sprintf("%d#%d", p, i), Args: fmt.Appendf(nil, "[%d,%d]", p, i)}
				a, err := n.Publish(context.Background(), m)
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Println(a.Offset, m.Topic, m.ID, string(m.Args))
				mu.Unlock()
			}
		})
	}
	group.Wait()
}

// childConsume acknowledges events one after the other and prints when it did.
func childConsume(n *node) {
	ctx := context.Background()
	q, err := n.Queue(ctx, queue.QueueConfig{Topic: "t", Name: "ann", From: queue.StartFirst})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	r := &recorder{}
	c, err := q.Attach(queue.ConsumerConfig{Sink: r})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for i := 0; ; i++ {
		p, err := n.Publish(ctx, message("t", i))
		if err != nil {
			return
		}
		for len(r.deliveries()) <= i {
			<-time.After(100 * time.Microsecond)
		}
		c.AckThrough(p.Offset)
		fmt.Println(p.Offset, time.Now().UnixNano())
	}
}

// kill runs the test binary in a role, kills it when enough lines came, and returns them and the time of the kill.
func kill(t *testing.T, role, dir string, enough func(lines int, since time.Duration) bool) ([]string, time.Time) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "QUEUE_TEST_CHILD="+role, "QUEUE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	var killed, first time.Time
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // what a killed process printed is complete lines, but for the last
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "error") {
			t.Error(line)
			break
		}
		if first.IsZero() {
			first = time.Now()
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
		if killed.IsZero() && enough(len(lines), time.Since(first)) {
			killed = time.Now()
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	return lines, killed
}

func TestNothingAcknowledgedIsLostByKill(t *testing.T) {
	dir := t.TempDir()
	stored := map[string]string{}
	for round := range 3 {
		lines, _ := kill(t, "publish", dir, func(lines int, _ time.Duration) bool { return lines >= 3000+1000*round })
		t.Logf("round %d: %d acknowledged", round, len(lines))
		for _, l := range lines {
			offset, rest, _ := strings.Cut(l, " ")
			if was, ok := stored[offset]; ok && was != rest {
				t.Fatalf("offset %s used twice: %q, %q", offset, was, rest)
			}
			stored[offset] = rest
		}
	}
	n := open(t, dir)
	found := 0
	for topic := range 4 {
		seen := map[string]bool{}
		last := map[string]int{}
		for from := queue.StartFirst; ; {
			p, err := n.History(t.Context(), fmt.Sprintf("t%d", topic), from, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Events {
				if want, ok := stored[e.Offset.String()]; ok {
					found++
					if got := fmt.Sprintf("%s %s %s", e.Topic, e.ID, e.Args); got != want {
						t.Fatalf("stored %q, acknowledged %q", got, want)
					}
				}
				who, at, _ := strings.Cut(e.ID, "#")
				i, _ := strconv.Atoi(at)
				if i != 0 && i <= last[who] && !seen[e.ID] {
					t.Fatalf("publisher %s: %d after %d", who, i, last[who])
				}
				last[who], seen[e.ID] = i, true
			}
			if p.Complete {
				break
			}
			from = p.Next.After()
		}
	}
	if found != len(stored) {
		t.Errorf("%d of %d acknowledged events found", found, len(stored))
	}
}

func TestCursorSurvivesKillWithinItsSecond(t *testing.T) {
	dir := t.TempDir()
	lines, killed := kill(t, "consume", dir, func(_ int, since time.Duration) bool { return since > 2500*time.Millisecond })
	n := open(t, dir)
	q := n.personal(t, "t", "ann", queue.StartNew)
	var sure, last queue.Offset
	for _, l := range lines {
		text, at, _ := strings.Cut(l, " ")
		o, err := queue.ParseOffset(text)
		nanos, _ := strconv.ParseInt(at, 10, 64)
		if err != nil {
			continue // the line that the kill cut
		}
		if last = o; killed.Sub(time.Unix(0, nanos)) > 1200*time.Millisecond { // the second, and a commit on a busy machine
			sure = o
		}
	}
	cursor := q.Cursor()
	t.Logf("%d acknowledged, last %d, a second before the kill %d, cursor %d", len(lines), last.Seq, sure.Seq, cursor.Seq)
	if sure.Seq == 0 || cursor.Seq < sure.Seq || cursor.Seq > last.Seq+1 {
		t.Errorf("cursor %d, want %d to %d", cursor.Seq, sure.Seq, last.Seq)
	}
}

// churn has the log lose most of what is published soon after.
var churn = topics(
	queue.TopicConfig{Pattern: "state", Compact: true}, queue.TopicConfig{Pattern: "few", MaxEvents: 10},
	queue.TopicConfig{Pattern: "short", TTL: 50 * time.Millisecond}, queue.TopicConfig{Pattern: "young", MaxAge: 50 * time.Millisecond},
)

// childChurn prints what it published to the topic that is compacted.
func childChurn(n *node) {
	var group sync.WaitGroup
	for p, topic := range []string{"state", "state", "few", "short", "young"} {
		group.Go(func() {
			for i := 0; ; i++ {
				m := queue.Message{Topic: topic, Event: "e", Key: fmt.Sprint(p, "/", i%50), Args: fmt.Appendf(nil, "[%d]", time.Now().UnixNano())}
				if _, err := n.Publish(context.Background(), m); err != nil {
					return
				}
				if topic == "state" {
					fmt.Printf("%s %s\n", m.Key, m.Args)
				}
			}
		})
	}
	group.Wait()
}

// What is deleted on purpose is not taken for lost, whenever the process ends, and nothing else is deleted.
func TestKillWhileDeleting(t *testing.T) {
	dir := t.TempDir()
	last := map[string]string{}
	for round := range 4 {
		lines, _ := kill(t, "churn", dir, func(_ int, since time.Duration) bool {
			return since > 1500*time.Millisecond+time.Duration(round)*377*time.Millisecond
		})
		for _, l := range lines {
			if key, args, ok := strings.Cut(l, " "); ok && strings.HasSuffix(args, "]") {
				last[key] = max(last[key], args) // of the same length
			}
		}
		n := openWith(t, dir, churn)
		if round%2 == 1 {
			n.stop()
			n = withoutIndex(t, dir, churn)
		}
		until(t, "the index", func() bool { return n.Ready() == nil })
		got := map[string]string{}
		for e, err := range n.Events(t.Context(), "state", queue.StartFirst) {
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := got[e.Key]; twice {
				t.Errorf("round %d: key %s is there twice", round, e.Key)
			}
			got[e.Key] = string(e.Args)
		}
		for key, args := range last {
			if got[key] < args { // a later one may have been stored and not acknowledged
				t.Errorf("round %d: key %s has %q, acknowledged %q", round, key, got[key], args)
			}
		}
		t.Logf("round %d: %d acknowledged, %d in the log", round, len(lines), n.stored(t))
		n.stop()
	}
}
