package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/peertest"
)

// traced is a place whose spans are kept, with a hook that tells of post.
type traced struct {
	*place
	spans *tracetest.InMemoryExporter
	api   http.Handler
	hook  chan string // traceparents of its requests
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", newCollector(t).URL)
	p := &traced{spans: tracetest.NewInMemoryExporter(), hook: make(chan string, 10)}
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { p.hook <- r.Header.Get("Traceparent") }))
	t.Cleanup(endpoint.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(apiKey), 0o600); err != nil {
		t.Fatal(err)
	}
	p.place = newPlace(t, func(c *config.Config) {
		c.Hooks = []config.Hook{{URL: endpoint.URL, Events: []string{"mail"}, Secret: config.Secret{File: secret}}}
		c.Outbound.Allow = []string{"127.0.0.0/8"}
	})
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	p.server.tracing.provider.RegisterSpanProcessor(sdktrace.NewSimpleSpanProcessor(p.spans))
	p.api = p.server.tracing.requests(p.place.api)
	return p
}

// call asks the API in a trace, and decodes the answer.
func (p *traced) call(trace, method, path, body string, answer any) {
	p.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1"
	r.Header.Set("Authorization", "Bearer "+apiKey)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Traceparent", trace)
	w := httptest.NewRecorder()
	p.api.ServeHTTP(w, r)
	if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), answer) != nil {
		p.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

// span returns the one of a name, kind and trace. It waits for it: a span may end behind the answer that it is about.
func (p *traced) span(name string, kind trace.SpanKind, of string) tracetest.SpanStub {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		for _, s := range p.spans.GetSpans() {
			if s.Name == name && s.SpanKind == kind && s.SpanContext.TraceID().String() == of {
				return s
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no span %s, %v, of trace %s", name, kind, of)
		}
	}
}

type tracedEvent struct {
	Event, Offset, TraceParent string
	Attempt                    int
}

func TestTraceOfAnEvent(t *testing.T) {
	p := newTraced(t)
	const publisher, puller, quiet = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736", "11111111111111111111111111111111"
	in := func(trace, flags string) string { return "00-" + trace + "-b7ad6b7169203331-" + flags }

	var made any
	p.call(in(quiet, "00"), "PUT", "/v1/queues/packers?topic=mine", `{"from":"first"}`, &made)
	peer := p.Connect(peertest.WebSocket)
	auth, _ := json.Marshal(map[string]string{"token": token(t, jwt.SigningMethodHS256, []byte(jwtSecret), nil)})
	peer.Send("40" + string(auth))
	peer.Next()
	if code := askPeer(peer, 1, `["subscribe",{"topic":"mine","meta":true}]`); code != "" {
		t.Fatal(code)
	}

	// From a request to a socket.
	p.call(in(publisher, "01"), "POST", "/v1/publish", `{"topic":"mine","event":"created"}`, &made)
	var args []json.RawMessage
	var meta tracedEvent
	said := peer.Next()
	if err := json.Unmarshal([]byte(strings.TrimPrefix(said, "42")), &args); err != nil || len(args) < 2 || json.Unmarshal(args[1], &meta) != nil {
		t.Fatal(said)
	}
	published := p.span("publish", trace.SpanKindProducer, publisher)
	request := p.span("POST /v1/publish", trace.SpanKindServer, publisher)
	if published.Parent.SpanID() != request.SpanContext.SpanID() {
		t.Error("the publish is no part of the request")
	}
	if want := "00-" + publisher + "-" + published.SpanContext.SpanID().String() + "-01"; meta.TraceParent != want {
		t.Errorf("the client is told %q, want %q", meta.TraceParent, want)
	}
	delivered := p.span("deliver", trace.SpanKindConsumer, publisher)
	if delivered.Parent.SpanID() != published.SpanContext.SpanID() || !linked(delivered, published) {
		t.Errorf("the delivery to the socket is under %v with links %v", delivered.Parent.SpanID(), delivered.Links)
	}

	// To somebody who pulls it: the span is a part of the request, and linked to the publish.
	var got struct{ Events []tracedEvent }
	p.call(in(puller, "01"), "POST", "/v1/queues/packers/pull?topic=mine", `{"wait":"30s"}`, &got)
	if len(got.Events) != 1 || got.Events[0].TraceParent != meta.TraceParent {
		t.Errorf("pulled %v, want the trace %q", got.Events, meta.TraceParent)
	}
	if pulled := p.span("deliver", trace.SpanKindConsumer, puller); !linked(pulled, published) {
		t.Errorf("the pull has links %v", pulled.Links)
	}

	// To a hook, by way of a queue of its own.
	p.call(in(publisher, "01"), "POST", "/v1/publish", `{"topic":"inbox/bob","event":"message"}`, &made)
	if trace := <-p.hook; len(trace) != 55 || trace[3:35] != publisher || trace[53:] != "01" {
		t.Errorf("the hook is asked in %q", trace)
	}

	// From a socket, whose operation begins a trace.
	p.spans.Reset()
	if code := askPeer(peer, 2, `["publish","mine","made"]`); code != "" {
		t.Fatal(code)
	}
	p.call(in(puller, "01"), "POST", "/v1/queues/packers/pull?topic=mine", `{"wait":"30s"}`, &got)
	own := got.Events[0].TraceParent
	if len(own) != 55 || own[3:35] == publisher || own[3:35] == puller {
		t.Fatalf("published by a socket: %q", own)
	}
	if operation := p.span("publish", trace.SpanKindServer, own[3:35]); p.span("publish", trace.SpanKindProducer, own[3:35]).Parent.SpanID() != operation.SpanContext.SpanID() {
		t.Error("the publish is no part of the operation")
	}

	// A trace that nobody looks at goes on, and makes no spans.
	p.spans.Reset()
	p.call(in(quiet, "00"), "POST", "/v1/publish", `{"topic":"mine","event":"unseen"}`, &made)
	p.call(in(quiet, "00"), "POST", "/v1/queues/packers/pull?topic=mine", `{"wait":"30s"}`, &got)
	if trace := got.Events[0].TraceParent; !strings.HasPrefix(trace, "00-"+quiet) || !strings.HasSuffix(trace, "-00") {
		t.Errorf("pulled in %q", trace)
	}
	for _, s := range p.spans.GetSpans() {
		if s.SpanContext.TraceID().String() == quiet {
			t.Errorf("a span %s", s.Name)
		}
	}
}

func linked(s, to tracetest.SpanStub) bool {
	return len(s.Links) == 1 && s.Links[0].SpanContext.SpanID() == to.SpanContext.SpanID()
}

// Without tracing an event has no trace, whatever its publisher's request says.
func TestNoTraceWithoutTracing(t *testing.T) {
	p := newPlace(t, nil)
	r := httptest.NewRequest("POST", "/v1/publish", strings.NewReader(`{"topic":"mine","event":"created","id":"7"}`))
	r.Host = "127.0.0.1"
	r.Header.Set("Authorization", "Bearer "+apiKey)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w := httptest.NewRecorder()
	p.api.ServeHTTP(w, r)
	e, err := p.server.store.Event(t.Context(), "mine", "7")
	if w.Code != http.StatusOK || err != nil || e.TraceParent != "" {
		t.Errorf("%d %s: %v %v", w.Code, w.Body, e, err)
	}
}
