package app

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/queue"
)

// What happens to the store while a server uses it is found and told, and the server goes on.
func TestDamageIsFoundWhileItServes(t *testing.T) {
	var dir string
	p := newPlace(t, func(c *config.Config) {
		c.Store.ScrubEvery = time.Millisecond
		dir = c.DataDir
	})
	metric := func(name string) string {
		w := httptest.NewRecorder()
		p.server.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		_, rest, _ := strings.Cut(w.Body.String(), "\n"+name+" ")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	until := func(name string, ok func(value string) bool) {
		t.Helper()
		deadline := time.After(time.Minute)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !ok(metric(name)) {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s stays at %q", name, metric(name))
			}
		}
	}
	publish := func() {
		t.Helper()
		if _, err := p.server.store.Publish(t.Context(), queue.Message{Topic: "orders", Event: "created", Args: []byte(`["a text that is easily found"]`)}); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	publish()
	until("holdpost_store_scrubbed_bytes_total", func(v string) bool { return v != "0" })
	until("holdpost_store_scrubbed_timestamp_seconds", func(v string) bool { return v != "0" })
	if n := metric("holdpost_store_damaged_messages"); n != "0" {
		t.Errorf("%s messages are damaged, and nothing is", n)
	}

	name := filepath.Join(dir, "js", "jetstream", "$G", "streams", "EVT_0", "msgs", "1.blk")
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := os.ReadFile(name)
	at := strings.Index(string(b), "easily")
	if err != nil || at < 0 {
		t.Fatal("the event is not in its file: ", err)
	}
	if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
	until("holdpost_store_damaged_messages", func(v string) bool { return v == "1" })
	publish()
	if metric("holdpost_store_healthy") != "1" {
		t.Error("it does not serve what it can read any more")
	}
}
