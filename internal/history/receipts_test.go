package history_test

import (
	"slices"
	"testing"

	"github.com/holdpost/holdpost/internal/history"
	"github.com/holdpost/holdpost/queue"
)

// TestReceiptMutations breaks the receipts of a correct history in one way at a time.
func TestReceiptMutations(t *testing.T) {
	receipt := func(q, what string, attempt int) func(history.Event) bool {
		return func(e history.Event) bool {
			return e.Kind == history.Receipt && e.Queue == q && e.Content == what && e.Attempt == attempt
		}
	}
	change := func(q, what string, attempt int, f func(e *history.Event)) func(*testing.T, []history.Event) []history.Event {
		return func(t *testing.T, es []history.Event) []history.Event {
			f(&es[find(t, es, receipt(q, what, attempt))])
			return es
		}
	}
	for _, m := range []struct {
		name string
		rule history.Rule
		do   func(t *testing.T, es []history.Event) []history.Event
	}{
		{"of an event that never was", history.Untrue, change("work", "delivered", 1, func(e *history.Event) { e.Offset.Seq += 10_000 })},
		{"delivered to another one", history.Untrue, change("bob", "delivered", 1, func(e *history.Event) { e.Consumer = "ann" + e.Consumer[3:] })},
		{"delivered, and its consumer did not see it", history.Untrue, func(t *testing.T, es []history.Event) []history.Event {
			es = without(es, func(e history.Event) bool { return e.Kind == history.Deliver && e.Consumer == "bob-1" })
			return without(es, func(e history.Event) bool { return e.Consumer == "bob-1" && e.Content == "acked" })
		}},
		{"delivered at another attempt", history.Untrue, change("work", "delivered", 2, func(e *history.Event) { e.Attempt = 1 })},
		{"delivered later than it was", history.Untrue, change("bob", "delivered", 1, func(e *history.Event) { e.Wall = 1 })},
		{"delivered after it was settled", history.Untrue, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, receipt("work", "acked", 1))
			again := es[i]
			again.Content = "delivered"
			again.Wall++
			return slices.Insert(es, i+1, again)
		}},
		{"acked, and it was not", history.Untrue, change("work", "nacked", 1, func(e *history.Event) { e.Content = "acked" })},
		{"acked by another one", history.Untrue, change("bob", "acked", 1, func(e *history.Event) { e.Consumer = "ann" + e.Consumer[3:] })},
		{"acked up to what nobody did", history.Untrue, func(t *testing.T, es []history.Event) []history.Event {
			var through []queue.Offset
			for _, e := range es {
				if e.Kind == history.Acking && e.Queue == "ann" {
					through = append(through, e.Offset)
				}
			}
			i := find(t, es, receipt("ann", "acked", 0))
			for slices.Contains(through, es[i].Offset) {
				es[i].Offset.Seq--
			}
			return es
		}},
		{"acked, and it was not delivered", history.Untrue, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, receipt("bob", "acked", 1))
			x := es[i]
			return without(es, func(e history.Event) bool {
				return receipt("bob", "delivered", 1)(e) && e.Offset == x.Offset && e.Consumer == x.Consumer
			})
		}},
		{"nacked, and nobody gave it back", history.Untrue, change("work", "acked", 1, func(e *history.Event) { e.Content = "nacked" })},
		{"nacked, and it was not delivered", history.Untrue, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, receipt("work", "nacked", 1))
			x := es[i]
			return without(es, func(e history.Event) bool { return receipt("work", "delivered", 1)(e) && e.Offset == x.Offset })
		}},
		{"a dead letter of what was tried once", history.Untrue, change("work", "acked", 1, func(e *history.Event) { e.Content = "dead-lettered" })},
		{"expired, and it had no end", history.Untrue, change("bob", "acked", 1, func(e *history.Event) { e.Content = "expired" })},
		{"an acknowledgement without one", history.Untold, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, receipt("work", "acked", 1))
			return slices.Delete(es, i, i+1)
		}},
		{"a dead letter without one", history.Untold, func(t *testing.T, es []history.Event) []history.Event {
			i := find(t, es, receipt("work", "dead-lettered", limit))
			es = slices.Delete(es, i, i+1)
			return without(es, func(e history.Event) bool { return e.Kind == history.Crash })
		}},
		{"the last acknowledgements of all up to one", history.Untold, func(t *testing.T, es []history.Event) []history.Event {
			x := es[find(t, es, receipt("ann", "acked", 0))]
			return without(es, func(e history.Event) bool { return receipt("ann", "acked", 0)(e) && e.Offset.Seq > x.Offset.Seq })
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(5) {
				r := history.Check(m.do(t, correct(seed, 400)))
				if !slices.Contains(r.Broken(), m.rule) {
					t.Fatalf("seed %d: want %s, got %s", seed, m.rule, r)
				}
			}
		})
	}
}

// What a receipt may lack: an event that its consumer had no room for, one that was on its way when the process was killed, and receipts
// that were lost with a part of the store.
func TestReceiptsThatMayBe(t *testing.T) {
	es := correct(1, 400)
	i := find(t, es, func(e history.Event) bool {
		return e.Kind == history.Receipt && e.Queue == "ann" && e.Content == "delivered"
	})
	x := es[i]
	refused := []history.Event{x, x}
	for k := range refused {
		refused[k].Attempt = 7
	}
	refused[1].Content = "nacked"
	if r := history.Check(slices.Insert(slices.Clone(es), i, refused...)); len(r.Violations) > 0 {
		t.Error("no room: ", r)
	}
	onItsWay := x
	onItsWay.Attempt, onItsWay.Consumer = 7, "ann-1"
	if r := history.Check(slices.Insert(slices.Clone(es), i, onItsWay)); len(r.Violations) > 0 {
		t.Error("on its way: ", r)
	}
	lost := without(es, func(e history.Event) bool { return e.Kind == history.Receipt && e.Content == "acked" })
	if r := history.Check(append([]history.Event{{Kind: history.Forgot, Content: history.Receipts}}, lost...)); len(r.Violations) > 0 {
		t.Error("lost: ", r)
	}
}
