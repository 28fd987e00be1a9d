package embedded

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkPublish measures publishes of 256 bytes that are durable when they return, with a minimal group commit above.
func BenchmarkPublish(b *testing.B) {
	for _, level := range []string{LevelDisk, LevelMemory} {
		for _, publishers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("level=%s/publishers=%d", level, publishers), func(b *testing.B) {
				e := start(b, Config{Dir: b.TempDir(), Level: level})
				l := mustOpenLog(b, e)
				c := newCommitter(e, false)
				defer c.close()
				body := make([]byte, 256)
				b.ResetTimer()
				var wg sync.WaitGroup
				for p := range publishers {
					wg.Go(func() {
						for i := p; i < b.N; i += publishers {
							if _, err := c.publish(l, "evt.0.bench", body); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
			})
		}
	}
}

// BenchmarkReopen opens a closed store of 500,000 events.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	e := start(b, Config{Dir: dir})
	l, closeLog, err := openLog(e)
	if err != nil {
		b.Fatal(err)
	}
	for range 250 {
		l.publish(b, e, 2000, 256)
	}
	closeLog()
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	var opening time.Duration
	for range b.N {
		begin := time.Now()
		e := start(b, Config{Dir: dir})
		opening += time.Since(begin)
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(opening.Milliseconds())/float64(b.N), "ms/open")
}
