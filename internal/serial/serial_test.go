package serial

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestOrder(t *testing.T) {
	var q Queue[int]
	for i := range 5 {
		if wake := q.Push(i); wake != (i == 0) {
			t.Errorf("push %d: wake = %v", i, wake)
		}
	}
	if q.Len() != 5 {
		t.Errorf("Len = %d", q.Len())
	}
	var got []int
	q.Run(func(batch []int) {
		if q.Len() != 0 {
			t.Error("what was handed out still counts")
		}
		got = append(got, batch...)
		if len(got) == 5 && q.Push(5) {
			t.Error("a push during Run asks for a second one")
		}
	})
	if !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
		t.Error(got)
	}
	if !q.Push(6) {
		t.Error("an idle queue does not ask for Run")
	}
	q.Run(func([]int) {})
	q.Run(func([]int) { t.Error("Run of an empty queue called f") })
}

// Several producers, each in its own order, and never two runners.
func TestConcurrent(t *testing.T) {
	const producers, each = 8, 2000
	type item struct{ producer, n int }
	var (
		q       Queue[item]
		wg      sync.WaitGroup
		next    [producers]int // owned by the runner: the race detector sees a second one
		handled int
	)
	for p := range producers {
		wg.Go(func() {
			for n := range each {
				if q.Push(item{p, n}) {
					wg.Go(func() {
						q.Run(func(batch []item) {
							for _, v := range batch {
								if next[v.producer] != v.n {
									t.Errorf("producer %d: got %d, want %d", v.producer, v.n, next[v.producer])
								}
								next[v.producer] = v.n + 1
								handled++
							}
						})
					})
				}
				if n%100 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
	if handled != producers*each {
		t.Errorf("handled %d of %d", handled, producers*each)
	}
}

// An idle queue holds no goroutine: a bubble does not end before its last one has.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue[int]
		release, seen := make(chan bool), 0
		push := func() {
			if q.Push(1) {
				go q.Run(func(batch []int) {
					seen += len(batch)
					<-release
				})
			}
		}
		for range 3 {
			push()
			synctest.Wait() // the runner is inside f, durably blocked
			push()
			if n := running(); n != 1 {
				t.Fatalf("%d runners while there is work, want 1", n)
			}
			release <- true
			release <- true
			synctest.Wait()
			if n := running(); n != 0 {
				t.Fatalf("%d runners of an idle queue", n)
			}
			if q.items != nil {
				t.Fatal("an idle queue keeps a buffer")
			}
			time.Sleep(time.Hour)
		}
		if seen != 6 {
			t.Errorf("handled %d, want 6", seen)
		}
	})
}

// running counts the goroutines that are inside Run.
func running() int {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	return strings.Count(string(buf), "serial.(*Queue[...]).Run(")
}

// What was handed out is not kept alive by the buffer that is used again.
func TestForgets(t *testing.T) {
	var q Queue[*int]
	q.Push(new(int))
	batches := 0
	var first []*int
	q.Run(func(batch []*int) {
		if batches++; batches == 1 {
			first = batch
			q.Push(new(int))
			return
		}
		if first[0] != nil {
			t.Error("a batch that was done with still holds its elements")
		}
	})
	if batches != 2 {
		t.Error(batches)
	}
}

func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(Queue[[4]string]{}); n > 32 {
		t.Errorf("an idle queue takes %d bytes, want at most 32", n)
	}
}

func BenchmarkPushRun(b *testing.B) {
	var q Queue[*int]
	v, f := new(int), func([]*int) {}
	b.ReportAllocs()
	for b.Loop() {
		if q.Push(v) {
			q.Run(f)
		}
	}
}

func BenchmarkBurst(b *testing.B) {
	var q Queue[*int]
	v, rounds := new(int), 0
	b.ReportAllocs()
	q.Push(v)
	q.Run(func([]*int) { // 32 elements a batch, both buffers in use
		if rounds++; rounds <= b.N/32 {
			for range 32 {
				q.Push(v)
			}
		}
	})
}
