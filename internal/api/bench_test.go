package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// Publishing over HTTP, with every event on disk before it is answered: one a request, and a thousand. The directory of temporary
// files decides which disk that is.
func BenchmarkPublish(b *testing.B) {
	quiet := slog.New(slog.DiscardHandler)
	store, err := local.Open(b.Context(), local.Config{
		Engine: embedded.Config{Dir: b.TempDir(), Logger: quiet, Level: embedded.LevelDisk}, Broker: queue.Config{Logger: quiet},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	server := httptest.NewServer(Handler(Config{Broker: store.Broker, Ready: func(context.Context) error { return nil }, Logger: quiet}))
	defer server.Close()
	const line = `{"topic":"orders","event":"created","args":[{"text":"2 espresso, and as much else as makes it an event of about a hundred and twenty-eight bytes"}]}`
	for _, batch := range []int{1, maxBatch} {
		b.Run(fmt.Sprintf("events=%d", batch), func(b *testing.B) {
			kind, body := "application/json", []byte(line)
			if batch > 1 {
				kind, body = ndjson, bytes.Repeat([]byte(line+"\n"), batch)
			}
			transport := &http.Transport{MaxIdleConnsPerHost: 1000}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			b.SetParallelism(32)
			if batch > 1 {
				b.SetParallelism(2)
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					response, err := client.Post(server.URL+"/v1/publish", kind, bytes.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK || n < int64(batch)*50 {
						b.Errorf("%s, %d bytes, %v", response.Status, n, err)
					}
					response.Body.Close()
				}
			})
			b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
