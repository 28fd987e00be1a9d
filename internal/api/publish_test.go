package api

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// Whoever goes away before the answer, and publishes again with the same id, has published once (P3).
func TestPublishAgainAfterGoingAway(t *testing.T) {
	n := start(t)
	const rounds = 50
	for i := range rounds {
		body := fmt.Sprintf(`{"topic":"orders","event":"created","args":[%d],"id":"order-%d"}`, i, i)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			r := httptest.NewRequestWithContext(ctx, "POST", "/v1/publish", strings.NewReader(body))
			r.Host = "127.0.0.1:7301"
			r.Header.Set("Content-Type", "application/json")
			n.handler.ServeHTTP(httptest.NewRecorder(), r)
			close(gone)
		}()
		if i%2 == 0 { // sometimes it was sent, sometimes not
			cancel()
		}
		if code, out := n.do("POST", "/v1/publish", body); code != 200 {
			t.Fatalf("again: %d %v", code, out)
		}
		cancel()
		<-gone
	}
	p, err := n.broker.History(t.Context(), "orders", queue.StartFirst, 1000)
	if err != nil || len(p.Events) != rounds {
		t.Errorf("%d events are stored, want %d: %v", len(p.Events), rounds, err)
	}
}

// An id has up to 128 bytes, whatever they are (P4).
func TestIDsOfPublishes(t *testing.T) {
	n := start(t)
	for _, id := range []string{strings.Repeat("x", 128), strings.Repeat("é", 64), "__proto__", "constructor", "*", ">", "$SYS", "..", "/", "%00", "null", "-1", "\\u202e", "\\ufb00"} {
		body := fmt.Sprintf(`{"topic":"ids","event":"e","id":"%s"}`, id)
		for again := range 2 {
			if code, out := n.do("POST", "/v1/publish", body); code != 200 || out["duplicate"] != (again == 1) {
				t.Errorf("%.20q, time %d: %d %v", id, again, code, out)
			}
		}
	}
	for _, id := range []string{strings.Repeat("x", 129), strings.Repeat("x", 10<<10), "a\\u0000b", "a\\r\\nX: y"} {
		if code, out := n.do("POST", "/v1/publish", fmt.Sprintf(`{"topic":"ids","event":"e","id":"%s"}`, id)); code != 400 || out["code"] != "invalid_id" {
			t.Errorf("%.20q: %d %v", id, code, out)
		}
	}
}
