package history_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/queue"
)

// world writes a correct history: one topic, a personal queue that acknowledges through, a personal one that acknowledges each, and a
// shared one with two workers, over several processes.
type world struct {
	random *rand.Rand
	events []history.Event
	at     time.Duration
	epoch  uint64
	seq    uint64
	life   int
	log    []history.Event // Read events

	ann, annSaved int         // how much of the log is acknowledged, and durably
	bob           int         // how much it has acknowledged
	work          int         // how much was handed out
	tries         map[int]int // of the events that the shared queue holds
	dead          []history.Event
	receipts      []history.Event
	gap           *queue.Gap // told to all at the next start
}

const limit = 3

func (w *world) add(e history.Event) {
	w.at += time.Millisecond
	e.At = w.at
	w.events = append(w.events, e)
}

func (w *world) offset(seq uint64) queue.Offset { return queue.Offset{Epoch: w.epoch, Seq: seq} }

func (w *world) name(who string) string { return fmt.Sprintf("%s-%d", who, w.life) }

func (w *world) start() {
	w.life++
	w.at = 0
	w.add(history.Event{Kind: history.Start, Offset: w.offset(0)})
	for _, q := range []string{"ann", "bob", "work"} {
		w.add(history.Event{Kind: history.Queue, Queue: q, Topic: "t", Shared: q == "work", Limit: map[string]int{"work": limit}[q], Receipts: true})
	}
	for _, c := range [][2]string{{"ann", "ann"}, {"bob", "bob"}, {"work", "w0"}, {"work", "w1"}} {
		w.add(history.Event{Kind: history.Attach, Queue: c[0], Consumer: w.name(c[1]), Through: c[0] == "ann"})
		if w.gap != nil {
			w.add(history.Event{Kind: history.Told, Queue: c[0], Consumer: w.name(c[1]), Gap: w.gap})
		}
	}
	for i := w.ann; i < len(w.log); i++ {
		w.deliver("ann", "ann", i, 1)
	}
	for i := w.bob; i < len(w.log); i++ {
		w.deliver("bob", "bob", i, 1)
		w.ack("bob", "bob", i, 1, false)
	}
	w.bob = len(w.log)
	for i := range w.work {
		if tries, held := w.tries[i]; held {
			w.workOn(i, tries+1)
		}
	}
}

func (w *world) deliver(q, c string, i, attempt int) {
	e := w.log[i]
	e.Kind, e.Queue, e.Consumer, e.Attempt = history.Deliver, q, w.name(c), attempt
	w.add(e)
	w.receipt(q, c, "delivered", i, attempt)
}

func (w *world) receipt(q, c, what string, i, attempt int) {
	w.receipts = append(w.receipts, history.Event{Kind: history.Receipt, Queue: q, Consumer: w.name(c), Content: what, Offset: w.log[i].Offset, Attempt: attempt})
}

func (w *world) ack(q, c string, i, attempt int, through bool) {
	e := history.Event{Queue: q, Consumer: w.name(c), Offset: w.log[i].Offset, Attempt: attempt, Through: through}
	for _, e.Kind = range []history.Kind{history.Acking, history.Acked} {
		w.add(e)
	}
	if through {
		attempt = 0
	}
	w.receipt(q, c, "acked", i, attempt)
}

// workOn delivers an event of the shared queue until it is settled, or kept by its worker.
func (w *world) workOn(i, attempt int) {
	for {
		c := fmt.Sprintf("w%d", attempt%2)
		w.deliver("work", c, i, attempt)
		switch n := w.random.IntN(20); {
		case n == 0 && attempt < limit:
			w.tries[i] = attempt
			return
		case n < 8:
			w.add(history.Event{Kind: history.GiveUp, Queue: "work", Consumer: w.name(c), Offset: w.log[i].Offset, Attempt: attempt})
			w.receipt("work", c, "nacked", i, attempt)
			if attempt < limit {
				attempt++
				continue
			}
			w.receipt("work", "", "dead-lettered", i, attempt)
			w.dead = append(w.dead, history.Event{Kind: history.Dead, Queue: "work", Offset: w.log[i].Offset, Attempt: attempt})
		default:
			w.ack("work", c, i, attempt, false)
		}
		delete(w.tries, i)
		return
	}
}

func (w *world) publish(n int) {
	e := history.Event{Kind: history.Publish, Topic: "t", ID: fmt.Sprint(w.life, "-", n), Content: fmt.Sprint("content ", n)}
	w.add(e)
	outcome := history.Stored
	switch w.random.IntN(12) {
	case 0:
		e.Kind = history.Rejected
		w.add(e)
		return
	case 1:
		outcome = history.Rejected // but the first time it was stored
		fallthrough
	case 2:
		e.Kind = history.Unknown
		w.add(e)
		e.Kind = history.Publish
		w.add(e)
	}
	w.seq++
	e.Kind = outcome
	if outcome == history.Stored {
		e.Offset = w.offset(w.seq)
	}
	w.add(e)
	e.Kind, e.Offset = history.Read, w.offset(w.seq)
	w.log = append(w.log, e)
	i := len(w.log) - 1
	w.deliver("ann", "ann", i, 1)
	if n%7 == 0 {
		w.ack("ann", "ann", i, 1, true)
		w.ann = i + 1
	}
	if n%21 == 0 {
		w.add(history.Event{Kind: history.Saved, Queue: "ann", Consumer: w.name("ann")})
		w.annSaved = w.ann
	}
	w.deliver("bob", "bob", i, 1)
	w.ack("bob", "bob", i, 1, false)
	w.bob = i + 1
	w.workOn(i, 1)
	w.work = i + 1
}

// crash takes back what ann acknowledged last; bob and the workers are lucky.
func (w *world) crash() {
	w.add(history.Event{Kind: history.Crash})
	w.ann = w.annSaved
}

func (w *world) finish() {
	for len(w.tries) > 0 {
		w.crash()
		w.start()
	}
	if w.ann < len(w.log) {
		w.ack("ann", "ann", len(w.log)-1, 1, true)
	}
	for _, q := range []string{"ann", "bob", "work"} {
		w.add(history.Event{Kind: history.Drained, Queue: q})
	}
	for _, e := range slices.Concat(w.log, w.dead, w.receipts) {
		w.add(e)
	}
	w.add(history.Event{Kind: history.End, Topic: "t"})
	w.add(history.Event{Kind: history.Stop})
}

func correct(seed uint64, n int) []history.Event {
	w := &world{random: rand.New(rand.NewPCG(seed, 0)), epoch: 7, tries: map[int]int{}}
	w.start()
	for i := range n {
		if i > 0 && i%(n/4) == 0 {
			w.crash()
			w.start()
		}
		w.publish(i)
	}
	w.finish()
	return w.events
}

func TestCorrectHistory(t *testing.T) {
	for seed := range uint64(50) {
		if r := history.Check(correct(seed, 200)); len(r.Violations) > 0 {
			t.Fatalf("seed %d: %s", seed, r)
		}
	}
}

// find returns the position of the event in the middle of those that match.
func find(t *testing.T, events []history.Event, match func(e history.Event) bool) int {
	t.Helper()
	var all []int
	for i, e := range events {
		if match(e) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		t.Fatal("the history has no such event")
	}
	return all[len(all)/2]
}

func first(kind history.Kind, q string) func(history.Event) bool {
	return func(e history.Event) bool { return e.Kind == kind && e.Queue == q && e.Attempt <= 1 }
}

// without drops every event that matches.
func without(events []history.Event, match func(e history.Event) bool) []history.Event {
	return slices.DeleteFunc(slices.Clone(events), match)
}

// TestMutations breaks a correct history in one way at a time.
func TestMutations(t *testing.T) {
	about := func(x history.Event, kinds ...history.Kind) func(history.Event) bool {
		return func(e history.Event) bool { return e.Offset == x.Offset && slices.Contains(kinds, e.Kind) }
	}
	// once is an event that the shared queue delivered once and that was acknowledged then.
	once := func(t *testing.T, events []history.Event) int {
		n := map[queue.Offset]int{}
		for _, e := range events {
			if e.Kind == history.Deliver && e.Queue == "work" {
				n[e.Offset]++
			}
		}
		return find(t, events, func(e history.Event) bool {
			return e.Kind == history.Deliver && e.Queue == "work" && e.Attempt == 1 && n[e.Offset] == 1
		})
	}
	for _, m := range []struct {
		name string
		rule history.Rule
		do   func(t *testing.T, events []history.Event) []history.Event
	}{
		{"an event is not in the log at the end", history.Lost, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, func(e history.Event) bool { return e.Kind == history.Read })
			return slices.Delete(es, i, i+1)
		}},
		{"the last events are not in the log at the end", history.Lost, func(t *testing.T, es []history.Event) []history.Event {
			x := es[find(t, es, func(e history.Event) bool { return e.Kind == history.Read })]
			return without(es, func(e history.Event) bool { return e.Kind == history.Read && e.Offset.Seq > x.Offset.Seq })
		}},
		{"a personal queue never delivers the last event", history.Lost, func(t *testing.T, es []history.Event) []history.Event {
			last := uint64(0)
			for _, e := range es {
				last = max(last, e.Offset.Seq)
			}
			return without(es, func(e history.Event) bool { return e.Queue == "bob" && e.Offset.Seq == last })
		}},
		{"a shared queue forgets an event that was not acknowledged", history.Lost, func(t *testing.T, es []history.Event) []history.Event {
			x := es[once(t, es)]
			return without(es, func(e history.Event) bool { return e.Queue == "work" && about(x, history.Acking, history.Acked)(e) })
		}},
		{"an event that nobody published", history.Phantom, func(t *testing.T, es []history.Event) []history.Event {
			es[find(t, es, first(history.Deliver, "ann"))].ID = "nobody's"
			return es
		}},
		{"other content", history.Phantom, func(t *testing.T, es []history.Event) []history.Event {
			es[find(t, es, first(history.Deliver, "work"))].Content = "another"
			return es
		}},
		{"a rejected event is delivered", history.Resurrected, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, first(history.Stored, ""))
			x := es[i]
			for i := range es { // its publish is the only one, and was rejected
				if e := &es[i]; e.ID == x.ID && e.Kind == history.Stored {
					e.Kind, e.Offset = history.Rejected, queue.Offset{}
				}
			}
			return without(es, func(e history.Event) bool { return e.ID == x.ID && e.Kind == history.Unknown }) // and this leaves its publish twice
		}},
		{"a later publish gets a lower offset", history.Backwards, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, func(e history.Event) bool { return e.Kind == history.Stored })
			j := i + 1
			for es[j].Kind != history.Stored {
				j++
			}
			a, b := es[i].Offset, es[j].Offset
			for i := range es {
				switch es[i].Offset {
				case a:
					es[i].Offset = b
				case b:
					es[i].Offset = a
				}
			}
			return es
		}},
		{"an offset is used again", history.Reuse, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, func(e history.Event) bool { return e.Kind == history.Stored })
			j := i + 1
			for es[j].Kind != history.Stored {
				j++
			}
			es[j].Offset = es[i].Offset
			return es
		}},
		{"an id is stored twice", history.Reuse, func(t *testing.T, es []history.Event) []history.Event {
			x := es[find(t, es, func(e history.Event) bool { return e.Kind == history.Read })]
			x.Offset.Seq += 10_000
			return append(es, x)
		}},
		{"a personal queue swaps two", history.Disorder, func(t *testing.T, es []history.Event) []history.Event {
			return swap(es, "bob")
		}},
		{"a shared queue swaps two", history.Disorder, func(t *testing.T, es []history.Event) []history.Event {
			return swap(es, "work")
		}},
		{"a personal queue skips one until the next start", history.Hole, func(t *testing.T, es []history.Event) []history.Event {
			i, _ := inARow(es, "ann")
			return slices.Delete(es, i, i+1)
		}},
		{"a shared queue skips one", history.Hole, func(t *testing.T, es []history.Event) []history.Event {
			x := es[once(t, es)]
			return without(es, func(e history.Event) bool { return e.Queue == "work" && e.Offset == x.Offset })
		}},
		{"a consumer gets an event twice", history.Repeat, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, first(history.Deliver, "ann"))
			return slices.Insert(es, i+1, es[i])
		}},
		{"an attempt is not counted", history.Repeat, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, func(e history.Event) bool { return e.Kind == history.GiveUp && e.Attempt == 1 })
			es[i+1].Attempt = 1 // it comes again at once
			return es
		}},
		{"two workers have one event", history.Shared, func(t *testing.T, es []history.Event) []history.Event {
			i := once(t, es)
			x := es[i]
			x.Attempt++
			x.Consumer = map[byte]string{'0': "w1", '1': "w0"}[x.Consumer[1]] + x.Consumer[2:]
			return slices.Insert(es, i+1, x)
		}},
		{"an acknowledgement of an attempt that is over counts", history.Shared, func(t *testing.T, es []history.Event) []history.Event {
			es[find(t, es, func(e history.Event) bool { return e.Kind == history.Acked && e.Queue == "work" && e.Attempt == 2 })].Attempt = 1
			return es
		}},
		{"a shared queue hands out what was acknowledged", history.Again, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, first(history.Acked, "work"))
			for j := i; ; j-- {
				if x := es[j]; x.Kind == history.Deliver && x.Offset == es[i].Offset && x.Queue == "work" {
					x.Attempt++
					return slices.Insert(es, i+1, x)
				}
			}
		}},
		{"a restart forgets what was durable", history.Again, forgetDurable},
		{"a gap where nothing is gone", history.Gapped, func(t *testing.T, es []history.Event) []history.Event {
			return tell(t, es, "retention")
		}},
		{"a loss that nobody accepted", history.Gapped, func(t *testing.T, es []history.Event) []history.Event {
			return tell(t, es, "loss")
		}},
		{"too many deliveries", history.Limit, func(t *testing.T, es []history.Event) []history.Event {
			es[find(t, es, func(e history.Event) bool {
				return e.Kind == history.Deliver && e.Queue == "work" && e.Attempt == limit
			})].Attempt++
			return es
		}},
		{"given up too early", history.Limit, func(t *testing.T, es []history.Event) []history.Event {
			es[find(t, es, func(e history.Event) bool { return e.Kind == history.Dead })].Attempt--
			return es
		}},
		{"two dead letters of one event", history.Limit, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, func(e history.Event) bool { return e.Kind == history.Dead })
			return slices.Insert(es, i, es[i])
		}},
		{"a queue is not looked at in the end", history.Unfinished, func(t *testing.T, es []history.Event) []history.Event {
			return without(es, func(e history.Event) bool { return e.Kind == history.Drained && e.Queue == "work" })
		}},
		{"a topic is not read in the end", history.Unfinished, func(t *testing.T, es []history.Event) []history.Event {
			return without(es, func(e history.Event) bool { return e.Kind == history.End })
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(5) {
				r := history.Check(m.do(t, correct(seed, 400)))
				if !slices.Contains(r.Broken(), m.rule) {
					t.Fatalf("seed %d: want %s, got %s", seed, m.rule, r)
				}
				if seed == 0 {
					t.Log(r)
				}
			}
		})
	}
}

// inARow returns the positions of two events in a row of a queue's first deliveries by one process, which is not about to end.
func inARow(es []history.Event, q string) (i, j int) {
	is := first(history.Deliver, q)
	next := func(i int) int {
		for i++; i < len(es) && es[i].Kind != history.Start; i++ {
			if is(es[i]) {
				return i
			}
		}
		return 0
	}
	var pairs [][2]int
	for i := range es {
		if j := next(i); is(es[i]) && j > 0 {
			pairs = append(pairs, [2]int{i, j})
		}
	}
	for k := len(pairs) / 2; ; k++ {
		if i, j = pairs[k][0], pairs[k][1]; pairs[k-1][1] == i { // nor is i the first, where the queue may begin as it likes
			return i, j
		}
	}
}

func swap(es []history.Event, q string) []history.Event {
	i, j := inARow(es, q)
	es[i], es[j] = es[j], es[i]
	es[i].Consumer, es[j].Consumer = es[j].Consumer, es[i].Consumer
	return es
}

// tell has ann told of a gap before an event.
func tell(t *testing.T, es []history.Event, cause string) []history.Event {
	i := find(t, es, first(history.Deliver, "ann"))
	to := es[i].Offset
	to.Seq--
	from := to
	from.Seq--
	return slices.Insert(es, i, history.Event{Kind: history.Told, Queue: "ann", Consumer: es[i].Consumer, Gap: &queue.Gap{Topic: "t", From: from, To: to, Cause: cause}})
}

// forgetDurable has bob get again what it had acknowledged durably before a crash.
func forgetDurable(t *testing.T, es []history.Event) []history.Event {
	i := find(t, es, func(e history.Event) bool { return e.Kind == history.Crash })
	saved := history.Event{Kind: history.Saved, Queue: "bob"}
	var x history.Event
	for j := i; x.Kind == ""; j-- {
		if es[j].Kind == history.Deliver && es[j].Queue == "bob" {
			x = es[j]
		}
	}
	saved.Consumer = x.Consumer
	es = slices.Insert(es, i, saved)
	for i++; !(es[i].Kind == history.Deliver && es[i].Queue == "ann"); i++ {
	}
	x.Consumer = "bob" + es[i].Consumer[3:]
	return slices.Insert(es, i, x)
}

// At level memory a power cut may take back what was durable.
func TestUnflushed(t *testing.T) {
	es := forgetDurable(t, correct(3, 200))
	for i := range es {
		es[i].Unflushed = es[i].Kind == history.Crash
	}
	if r := history.Check(es); slices.Contains(r.Broken(), history.Again) {
		t.Error(r)
	}
}

// TestLosses takes the loss of the last events in three ways: accepted and told, accepted and not told, and silently.
func TestLosses(t *testing.T) {
	const lost = 10
	lose := func(accept, tell bool) history.Report {
		w := &world{random: rand.New(rand.NewPCG(1, 0)), epoch: 7, tries: map[int]int{}}
		w.start()
		for i := range 100 {
			w.publish(i)
		}
		w.crash()
		loss := queue.Loss{Epoch: 7, From: w.seq - lost + 1, To: w.seq}
		if accept {
			w.add(history.Event{Kind: history.Accept, Loss: &loss})
			w.epoch = 8
		}
		if tell {
			w.gap = &queue.Gap{Topic: "t", From: queue.Offset{Epoch: 7, Seq: loss.From - 1}, To: queue.Offset{Epoch: 7, Seq: loss.To}, Cause: "loss"}
		}
		w.log = w.log[:len(w.log)-lost]
		kept := len(w.log)
		for i := range w.log {
			w.log[i].Offset.Epoch = w.epoch
		}
		w.ann, w.annSaved, w.bob, w.work = min(w.ann, kept), min(w.annSaved, kept), kept, kept
		maps.DeleteFunc(w.tries, func(i, _ int) bool { return i >= kept })
		w.dead = slices.DeleteFunc(w.dead, func(e history.Event) bool { return e.Offset.Seq >= loss.From })
		for i := range w.dead {
			w.dead[i].Offset.Epoch = w.epoch
		}
		w.receipts = slices.DeleteFunc(w.receipts, func(e history.Event) bool { return e.Offset.Seq >= loss.From && !accept })
		w.seq -= lost // which the next ones use again
		w.start()
		w.gap = nil
		for i := range 50 {
			w.publish(i)
		}
		w.finish()
		return history.Check(w.events)
	}
	if r := lose(true, true); len(r.Violations) > 0 {
		t.Error("accepted and told: ", r)
	}
	if r := lose(true, false); !slices.Contains(r.Broken(), history.Hole) {
		t.Error("not told: ", r)
	}
	if r := lose(false, false); !slices.Contains(r.Broken(), history.Lost) || !slices.Contains(r.Broken(), history.Reuse) {
		t.Error("silent: ", r)
	}
}

func TestRecorder(t *testing.T) {
	var b bytes.Buffer
	r := history.NewRecorder(&b)
	want := correct(1, 20)
	for _, e := range want {
		r.Record(e)
	}
	b.WriteString(`{"kind":"sto`) // the writer was killed
	var got []history.Event
	if err := history.Decode(&b, func(e history.Event) { got = append(got, e) }); err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	for i := range got {
		got[i].At, want[i].At = 0, 0
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d events read, of %d", len(got), len(want))
	}
	if err := history.Decode(bytes.NewBufferString("{}\nno history\n"), func(history.Event) {}); err == nil || err == io.EOF {
		t.Error(err)
	}
}

func BenchmarkCheck(b *testing.B) {
	events := correct(1, 20_000)
	b.ResetTimer()
	for b.Loop() {
		history.Check(events)
	}
	b.ReportMetric(float64(len(events))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
