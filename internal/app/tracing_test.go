package app

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// collector takes spans as OpenTelemetry's own does, and keeps what it was sent.
type collector struct {
	*httptest.Server
	mu   sync.Mutex // guards the field below
	sent []byte
}

func newCollector(t *testing.T) *collector {
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = append(c.sent, body...)
	}))
	t.Cleanup(c.Close)
	return c
}

func TestTracing(t *testing.T) {
	spans := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.URL)
	t.Setenv("OTEL_SERVICE_NAME", "the-shop")
	tracing, err := startTracing(t.Context(), func(err error) { t.Error(err) })
	if err != nil || tracing == nil {
		t.Fatal(tracing, err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()

	// A request is a part of its caller's trace, and what it asks of others is a part of it.
	var forwarded string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { forwarded = r.Header.Get("Traceparent") }))
	defer other.Close()
	client := &http.Client{Transport: tracing.outgoing(&http.Transport{})}
	defer client.CloseIdleConnections()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/queues/{queue}/pull", func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), "GET", other.URL, nil)
		if err != nil {
			t.Error(err)
		}
		if response, err := client.Do(out); err != nil {
			t.Error(err)
		} else {
			response.Body.Close()
		}
		w.WriteHeader(http.StatusTeapot)
	})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r := httptest.NewRequest("POST", "/v1/queues/packers/pull", nil)
	r.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	w := httptest.NewRecorder()
	tracing.requests(mux).ServeHTTP(w, r)
	if w.Code != http.StatusTeapot {
		t.Errorf("status %d", w.Code)
	}
	if len(forwarded) != 55 || forwarded[3:35] != trace || forwarded[36:52] == "b7ad6b7169203331" {
		t.Errorf("forwarded is %q", forwarded)
	}

	// So is what a client does.
	srv := holdpost.NewServer(&holdpost.Config{Logger: slog.New(slog.DiscardHandler)})
	defer srv.Close()
	tracing.operations(srv.Of("/"))
	srv.Of("/").Wrap(answerUnhandled)
	peer := peertest.New(t, srv).Connect(peertest.WebSocket)
	peer.Send("40")
	peer.Next()
	peer.Send(`421["publish"]`)
	peer.Next()
	peer.Send(`422["their own"]`)
	peer.Next()

	if err := tracing.close(); err != nil {
		t.Fatal(err)
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	for _, want := range []string{"the-shop", "POST /v1/queues/{queue}/pull", "\x0a\x07publish", "unknown_event", "their own", "\x0a\xf7\x65\x19\x16\xcd\x43\xdd"} {
		if !bytes.Contains(spans.sent, []byte(want)) {
			t.Errorf("nothing was sent of %q", want)
		}
	}
}

func TestTracingIsWantedByVariables(t *testing.T) {
	for _, c := range []struct {
		environ map[string]string
		want    bool
	}{
		{nil, false},
		{map[string]string{"OTEL_SERVICE_NAME": "x"}, false},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, false},
	} {
		if got := tracingWanted(func(name string) string { return c.environ[name] }); got != c.want {
			t.Errorf("%v: %v", c.environ, got)
		}
	}
}
