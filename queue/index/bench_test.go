package index

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

const benchBatch = 200

func fill(b *testing.B, x *Index, events, topics int) {
	r := rand.New(rand.NewPCG(1, 2))
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprintf("chat/%d", i)
	}
	args := make([]byte, 256)
	for i := range args {
		args[i] = ' ' + byte(r.IntN(90))
	}
	batch := make([]*queue.Event, benchBatch)
	for n := 0; n < events; n += benchBatch {
		for i := range batch {
			seq := x.Applied() + uint64(i) + 1
			batch[i] = &queue.Event{Topic: names[r.IntN(topics)], Name: "message", Args: args, Offset: queue.Offset{Epoch: 1, Seq: seq}, Time: birth}
		}
		if err := x.Apply(batch, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply takes in events of 256 bytes over 10,000 topics, 200 a batch; a round is one event.
func BenchmarkApply(b *testing.B) {
	x := opened(b)
	b.ReportAllocs()
	b.ResetTimer()
	fill(b, x, b.N, 10_000)
}

// BenchmarkRange reads topics of 50 events out of 500,000; a round is one event.
func BenchmarkRange(b *testing.B) {
	x := opened(b)
	fill(b, x, 500_000, 10_000)
	check(b, x.db.Flush())
	last := x.Applied()
	b.ReportAllocs()
	b.ResetTimer()
	for n, i := 0, 0; n < b.N; i++ {
		check(b, x.Range(fmt.Sprintf("chat/%d", i*7919%10_000), 0, last, 50, func(*queue.Event) bool { n++; return true }))
	}
}

// BenchmarkRangeLong reads one topic of 100,000 events in pages of 1,000.
func BenchmarkRangeLong(b *testing.B) {
	x := opened(b)
	fill(b, x, 100_000, 1)
	last := x.Applied()
	b.ReportAllocs()
	b.ResetTimer()
	for n, after := 0, uint64(0); n < b.N; {
		check(b, x.Range("chat/0", after, last, 1000, func(e *queue.Event) bool { n++; after = e.Offset.Seq; return true }))
		if after == last {
			after = 0
		}
	}
}
