package index

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/queue"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
	}
	leaktest.Main(m)
}

func open(t testing.TB, dir string) *Index {
	t.Helper()
	x, err := Open(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func opened(t testing.TB) *Index {
	x := open(t, t.TempDir())
	t.Cleanup(func() { closeIndex(t, x) })
	return x
}

func closeIndex(t testing.TB, x *Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

var birth = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func event(topic string, seq uint64) *queue.Event {
	return &queue.Event{Topic: topic, Name: "created", ID: fmt.Sprintf("id-%d", seq), Args: fmt.Appendf(nil, `[{"seq":%d}]`, seq),
		Offset: queue.Offset{Epoch: 7, Seq: seq}, Time: birth.Add(time.Duration(seq) * time.Second)}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seqs(t testing.TB, x *Index, topic string, after, upto uint64, limit int) (got []uint64) {
	t.Helper()
	check(t, x.Range(topic, after, upto, limit, func(e *queue.Event) bool {
		if e.Topic != topic {
			t.Errorf("event %d has topic %q, want %q", e.Offset.Seq, e.Topic, topic)
		}
		got = append(got, e.Offset.Seq)
		return true
	}))
	return got
}

func lastOf(t testing.TB, x *Index, topic string) uint64 {
	t.Helper()
	i, _, err := x.Topic(topic)
	check(t, err)
	return i.Last.Seq
}

func TestEventsComeBackWhole(t *testing.T) {
	x := opened(t)
	check(t, x.Reset(7))
	want := []*queue.Event{
		event("orders", 1),
		{Topic: "orders", Name: "", Offset: queue.Offset{Epoch: 7, Seq: 5}, Time: birth},
		{Topic: "orders", Key: "k", Queue: "q", ReplyTo: "r", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Expires: birth.Add(time.Hour).Local(), Name: "naïve\x00", ID: strings.Repeat("i", 300), Args: []byte(`[1]`), Attachments: [][]byte{{1, 2, 3}, {}, bytes.Repeat([]byte{9}, 20_000)},
			Offset: queue.Offset{Epoch: 7, Seq: 1 << 40}, Time: birth},
	}
	check(t, x.Apply(want, nil))
	want[1].ID = want[1].Offset.String() // what has no id is known by its offset
	var got []*queue.Event
	check(t, x.Range("orders", 0, ^uint64(0), 0, func(e *queue.Event) bool { got = append(got, e); return true }))
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].Time.Equal(want[i].Time) {
			t.Errorf("event %d: time %v, want %v", i, got[i].Time, want[i].Time)
		}
		got[i].Time = want[i].Time
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("event %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
	got[2].Args = append(got[2].Args, "x"...) // must not run into the attachments
	if got[2].Attachments[0][0] != 1 {
		t.Error("args and attachments overlap")
	}
}

func TestRange(t *testing.T) {
	x := opened(t)
	names := []string{"a", "a\x00", "a\x00b", "a\x00\xff", "a/b", "ab", "", "z"} // each could be mistaken for another one
	var batch []*queue.Event
	for i := range uint64(80) {
		batch = append(batch, event(names[i%8], i+1))
	}
	check(t, x.Apply(batch[:30], nil))
	check(t, x.Apply(batch[30:], nil))
	for i, name := range names {
		var all []uint64
		for s := uint64(i + 1); s <= 80; s += 8 {
			all = append(all, s)
		}
		if got := seqs(t, x, name, 0, ^uint64(0), 0); !slices.Equal(got, all) {
			t.Errorf("topic %q: %v, want %v", name, got, all)
		}
		if got := seqs(t, x, name, all[1], all[4], 0); !slices.Equal(got, all[2:5]) {
			t.Errorf("topic %q after %d up to %d: %v", name, all[1], all[4], got)
		}
		if got := seqs(t, x, name, 0, ^uint64(0), 3); !slices.Equal(got, all[:3]) {
			t.Errorf("topic %q limit 3: %v", name, got)
		}
		if got := lastOf(t, x, name); got != all[9] {
			t.Errorf("topic %q: last %d, want %d", name, got, all[9])
		}
		if got := must[int](t)(x.Count(name, "", all[3], 100)); got != 6 {
			t.Errorf("topic %q: count %d, want 6", name, got)
		}
		if got := must[int](t)(x.Count(name, "", 0, 4)); got != 4 {
			t.Errorf("topic %q: bounded count %d, want 4", name, got)
		}
		if topic, ok, err := x.TopicAt(all[5]); topic != name || !ok || err != nil {
			t.Errorf("topic at %d: %q %v %v, want %q", all[5], topic, ok, err, name)
		}
	}
	if got := seqs(t, x, "a", 5, 5, 0); got != nil {
		t.Errorf("empty range: %v", got)
	}
	if got := seqs(t, x, "b", 0, ^uint64(0), 0); got != nil {
		t.Errorf("unknown topic: %v", got)
	}
	if _, ok, err := x.TopicAt(81); ok || err != nil {
		t.Errorf("topic at 81: %v %v", ok, err)
	}
	n := 0
	check(t, x.Range("a", 0, ^uint64(0), 0, func(*queue.Event) bool { n++; return false }))
	if n != 1 {
		t.Errorf("%d events after f returned false", n)
	}

	slices.Sort(names)
	if got := must[[]string](t)(x.Topics("", 100)); !slices.Equal(got, names) {
		t.Errorf("topics %q, want %q", got, names)
	}
	var paged []string
	page := must[[]string](t)(x.Topics("", 3))
	for len(page) > 0 {
		paged = append(paged, page...)
		page = must[[]string](t)(x.Topics(page[len(page)-1], 3))
	}
	if !slices.Equal(paged, names) {
		t.Errorf("pages of topics %q, want %q", paged, names)
	}
}

func TestFind(t *testing.T) {
	x := opened(t)
	r := rand.New(rand.NewPCG(1, 2))
	var batch, ours []*queue.Event
	now := birth
	for seq := uint64(1); seq <= 2000; seq += 1 + r.Uint64N(5) {
		now = now.Add(time.Duration(r.IntN(3)) * time.Second) // several at the same time
		e := event("other", seq)
		if r.IntN(3) == 0 {
			e.Topic = "ours"
			ours = append(ours, e)
		}
		e.Time = now
		batch = append(batch, e)
	}
	check(t, x.Apply(batch, nil))
	for at := birth.Add(-2 * time.Second); at.Before(now.Add(3 * time.Second)); at = at.Add(500 * time.Millisecond) {
		after := must[uint64](t)(x.Find("ours", at))
		for _, e := range ours {
			if early := e.Time.Before(at); early != (e.Offset.Seq <= after) {
				t.Fatalf("find %v: after %d, but event %d is of %v", at, after, e.Offset.Seq, e.Time)
			}
		}
	}
	if after := must[uint64](t)(x.Find("none", birth)); after != 0 {
		t.Errorf("find in no topic: after %d", after)
	}
}

func TestPosition(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir)
	if x.Epoch() != 0 || x.Applied() != 0 {
		t.Fatalf("new index: epoch %d, applied %d", x.Epoch(), x.Applied())
	}
	check(t, x.Reset(7))
	check(t, x.Apply([]*queue.Event{event("a", 1), event("b", 4)}, nil))
	check(t, x.Apply(nil, nil))
	if err := x.Apply([]*queue.Event{event("a", 5), event("a", 5)}, nil); err == nil {
		t.Error("a batch out of order was taken")
	}
	if got := seqs(t, x, "a", 0, 100, 0); !slices.Equal(got, []uint64{1}) {
		t.Errorf("a refused batch left %v", got)
	}
	check(t, x.Skip(9))
	check(t, x.Skip(3))
	closeIndex(t, x)

	x = open(t, dir)
	if x.Epoch() != 7 || x.Applied() != 9 {
		t.Fatalf("reopened: epoch %d, applied %d, want 7 and 9", x.Epoch(), x.Applied())
	}
	if got := seqs(t, x, "b", 0, 100, 0); !slices.Equal(got, []uint64{4}) {
		t.Errorf("reopened: %v", got)
	}
	check(t, x.Reset(8))
	if x.Epoch() != 8 || x.Applied() != 0 {
		t.Errorf("reset: epoch %d, applied %d", x.Epoch(), x.Applied())
	}
	if names := must[[]string](t)(x.Topics("", 10)); len(names) != 0 {
		t.Errorf("reset left %q", names)
	}
	check(t, x.Apply([]*queue.Event{event("c", 1)}, nil))
	if got := seqs(t, x, "c", 0, 100, 0); !slices.Equal(got, []uint64{1}) {
		t.Errorf("after the reset: %v", got)
	}
	closeIndex(t, x)
}

func TestTrim(t *testing.T) {
	x := opened(t)
	var batch []*queue.Event
	for seq := uint64(1); seq <= 1000; seq++ {
		topic := "many"
		switch {
		case seq%100 == 0:
			topic = fmt.Sprintf("few-%d", seq/500)
		case seq == 333:
			topic = "once"
		}
		batch = append(batch, event(topic, seq))
	}
	check(t, x.Apply(batch, nil))
	for _, first := range []uint64{0, 1, 2, 334, 501, 501, 400} {
		check(t, x.Trim(first))
	}
	for topic, want := range map[string][3]uint64{ // trimmed, last, count
		"many": {499, 999, 495}, "few-0": {400, 400, 0}, "few-1": {500, 900, 4}, "few-2": {0, 1000, 1}, "once": {333, 333, 0}, "none": {},
	} {
		trimmed, last := must[uint64](t)(x.Trimmed(topic)), lastOf(t, x, topic)
		count := must[int](t)(x.Count(topic, "", 0, 1000))
		if got := [3]uint64{trimmed, last, uint64(count)}; got != want {
			t.Errorf("topic %q: trimmed, last, count %v, want %v", topic, got, want)
		}
	}
	if names := must[[]string](t)(x.Topics("", 10)); !slices.Equal(names, []string{"few-1", "few-2", "many"}) {
		t.Errorf("topics with events: %q", names)
	}
	if _, ok, _ := x.TopicAt(500); ok {
		t.Error("event 500 has a topic after the trim")
	}
	if topic, ok, _ := x.TopicAt(501); !ok || topic != "many" {
		t.Errorf("topic at 501: %q %v", topic, ok)
	}

	// The log begins above what the index has seen: who was behind may have lost anything.
	check(t, x.Trim(2001))
	for _, topic := range []string{"many", "none"} {
		if got := must[uint64](t)(x.Trimmed(topic)); got != 2000 {
			t.Errorf("topic %q: trimmed %d, want 2000", topic, got)
		}
	}
}

// TestTrimInParts has more to trim than fits one batch.
func TestTrimInParts(t *testing.T) {
	x := opened(t)
	const n = 2*trimBatch + 17
	for from := uint64(1); from <= n; from += 5000 {
		var batch []*queue.Event
		for seq := from; seq < min(from+5000, n+1); seq++ {
			batch = append(batch, event(fmt.Sprintf("t%d", seq%3), seq))
		}
		check(t, x.Apply(batch, nil))
	}
	check(t, x.Trim(n-1))
	for i := range uint64(3) {
		topic := fmt.Sprintf("t%d", i)
		var want []uint64
		for _, seq := range []uint64{n - 1, n} {
			if seq%3 == i {
				want = append(want, seq)
			}
		}
		if got := seqs(t, x, topic, 0, n, 0); !slices.Equal(got, want) {
			t.Errorf("topic %s: %v, want %v", topic, got, want)
		}
	}
}

func TestDamagedIndexBeginsAnew(t *testing.T) {
	files := func(t *testing.T, dir, pattern string) []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s in %s: %v", pattern, dir, err)
		}
		return names
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"manifest gone": func(t *testing.T, dir string) {
			for _, f := range files(t, dir, "MANIFEST-*") {
				check(t, os.Remove(f))
			}
		},
		"manifest zeroed": func(t *testing.T, dir string) {
			for _, f := range files(t, dir, "MANIFEST-*") {
				check(t, os.WriteFile(f, make([]byte, 100), 0o600))
			}
		},
		"tables gone": func(t *testing.T, dir string) {
			for _, f := range files(t, dir, "*.sst") {
				check(t, os.Remove(f))
			}
		},
		"tables garbled": func(t *testing.T, dir string) {
			for _, f := range files(t, dir, "*.sst") {
				b := must[[]byte](t)(os.ReadFile(f))
				for i := range b {
					b[i] ^= 0x55
				}
				check(t, os.WriteFile(f, b, 0o600))
			}
		},
		"marked": func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, damagedName), nil, 0o600))
		},
		"something else": func(t *testing.T, dir string) {
			check(t, os.RemoveAll(dir))
			check(t, os.MkdirAll(dir, 0o700))
			check(t, os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("hello"), 0o600))
			check(t, os.WriteFile(filepath.Join(dir, "MANIFEST-000001"), []byte("hello"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := open(t, dir)
			check(t, x.Reset(7))
			check(t, x.Apply([]*queue.Event{event("a", 1)}, nil))
			closeIndex(t, x)
			damage(t, dir)

			x = open(t, dir)
			defer closeIndex(t, x)
			if x.Epoch() != 0 || x.Applied() != 0 {
				t.Fatalf("epoch %d, applied %d: not new", x.Epoch(), x.Applied())
			}
			check(t, x.Reset(8))
			check(t, x.Apply([]*queue.Event{event("a", 1)}, nil))
			if got := seqs(t, x, "a", 0, 9, 0); len(got) != 1 {
				t.Fatalf("new index: %v", got)
			}
		})
	}
}

func TestIndexInUseIsLeftAlone(t *testing.T) {
	x := opened(t)
	check(t, x.Apply([]*queue.Event{event("a", 1)}, nil))
	if y, err := Open(x.dir, nil); err == nil {
		y.Close()
		t.Fatal("an index in use was opened again")
	}
	if got := seqs(t, x, "a", 0, 9, 0); len(got) != 1 {
		t.Fatalf("after the second open: %v", got)
	}
}

func TestDamagedValues(t *testing.T) {
	good := appendEvent(nil, &queue.Event{ID: "id", Name: "name", Args: []byte("[1]"), Attachments: [][]byte{{1}, {2, 3}}, Time: birth})
	var d decoder
	if _, err := d.event(good); err != nil {
		t.Fatal(err)
	}
	for n := range len(good) {
		if _, err := d.event(good[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken for an event", n, len(good))
		}
	}
	if _, err := d.event(append(slices.Clone(good), 0)); err == nil {
		t.Error("a byte too many was overlooked")
	}
	for i := range good { // whatever comes out, it must not crash
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			b := slices.Clone(good)
			b[i] = v
			d.event(b)
		}
	}
}
