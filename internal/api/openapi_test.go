package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/holdpost/holdpost/internal/peertest"
)

// loadDescription reads what the API says of itself.
func loadDescription(t *testing.T, h http.Handler) routers.Router {
	t.Helper()
	r := httptest.NewRequest("GET", "/openapi.json", nil)
	r.Host = "127.0.0.1"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// describes holds an answer of the API against its description; what is not described must be 404 or 405.
func (n *node) describes(r *http.Request, w *httptest.ResponseRecorder) {
	n.t.Helper()
	if strings.HasPrefix(r.URL.Path, "/debug/") || r.Method == http.MethodHead || w.Code == http.StatusForbidden && strings.Contains(w.Body.String(), "forbidden_host") {
		return
	}
	route, path, err := n.description.FindRoute(r)
	if err != nil {
		if w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed && w.Code != http.StatusForbidden && !strings.Contains(r.URL.EscapedPath(), "%") {
			n.t.Errorf("%s %s: %d, and not described: %v", r.Method, r.URL, w.Code, err)
		}
		return
	}
	if strings.Contains(w.Header().Get("Content-Type"), "ndjson") {
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: path, Route: route},
		Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(n.t.Context(), input); err != nil {
		n.t.Errorf("%s %s: %d is not as described: %v\n%s", r.Method, r.URL, w.Code, err, w.Body)
	}
}

// Each route that there is is described, each that is described there is, and each asks for a key but health.
func TestRoutesNeedKeys(t *testing.T) {
	n := start(t)
	n.serve(withKeys)
	routes := (&api{Config: Config{Namespace: n.main, Authority: n.authority}}).routes()
	open := map[string]bool{"/livez": true, "/readyz": true, "/openapi.json": true}
	for _, r := range routes {
		target := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(r.path, "x")
		for key, want := range map[string]int{"": 401, "wrong": 401, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.x": 401} {
			if n.key = key; open[r.path] {
				want = 200
			}
			code, _ := n.do(r.method, target, "")
			if code != want {
				t.Errorf("%s %s with key %q: %d, want %d", r.method, r.path, key, code, want)
			}
		}
		if r.needs == toManage {
			n.key = shopKey
			if code, out := n.do(r.method, target, ""); code != 403 || out["code"] != "forbidden" {
				t.Errorf("%s %s with a key for less: %d %v", r.method, r.path, code, out)
			}
		}
		if _, _, err := n.description.FindRoute(httptest.NewRequest(r.method, target, nil)); err != nil {
			t.Errorf("%s %s is not described: %v", r.method, r.path, err)
		}
	}
	n.key = shopKey
	if code, _ := n.do("GET", "/v1/thing", ""); code != 403 {
		t.Errorf("a further handler: %d", code)
	}
	if code, _ := n.do("GET", "/debug/thing", ""); code != 403 {
		t.Errorf("a profile with a key for less: %d", code)
	}
	n.key = adminKey
	if code, _ := n.do("GET", "/debug/thing", ""); code != 200 {
		t.Errorf("a profile: %d", code)
	}
}

// Every operation that is described works, as it is described: its request too.
func TestEveryOperationWorks(t *testing.T) {
	n := start(t)
	peer := n.host.Connect(peertest.WebSocket)
	peer.Send("40")
	peer.Next()
	var socket string
	for s := range n.main.Sockets() {
		socket = s.ID()
	}
	settle := `{"events":[{"offset":"OFFSET","attempt":1}]}` // of what was pulled last
	offset := ""
	worked := make(map[string]bool)
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/livez", ""}, {"GET", "/readyz", ""}, {"GET", "/openapi.json", ""},
		{"PUT", "/v1/topics/orders", `{"maxAge":"1h","maxEvents":100,"maxBytes":100000,"refuse":true,"compact":false,"ttl":"1h","maxEventBytes":1000,"dedupeWindow":"1h"}`},
		{"PUT", "/v1/queues/packers?topic=orders", `{"from":"first","ordered":true,"receipts":true,"events":["e"],"ackTimeout":"1m","backoff":["0s"],"maxDeliveries":3,"maxPending":10,"expiry":"1h"}`},
		{"POST", "/v1/publish", `{"topic":"orders","event":"e","args":[1],"id":"one","key":"k","ttl":"1m"}`},
		{"POST", "/v1/publish", `{"topic":"orders","event":"e","args":[{"_placeholder":true,"num":0}],"attachments":["AQI="],"id":"two"}`},
		{"POST", "/v1/publish", `{"topic":"orders","event":"e","id":"three"}`},
		{"GET", "/v1/topics?after=a&limit=10", ""}, {"GET", "/v1/topics/orders", ""},
		{"GET", "/v1/topics/orders/events?from=first&limit=10&follow=false", ""},
		{"GET", "/v1/topics/orders/events/two", ""}, {"GET", "/v1/topics/orders/events/two/receipts?limit=10", ""},
		{"GET", "/v1/queues?topic=orders&limit=10", ""}, {"GET", "/v1/queues/packers?topic=orders", ""},
		{"GET", "/v1/queues/packers/events?topic=orders&limit=10", ""},
		{"POST", "/v1/queues/packers/pull?topic=orders", `{"most":1,"wait":"10s"}`},
		{"POST", "/v1/queues/packers/extend?topic=orders", settle}, {"POST", "/v1/queues/packers/ack?topic=orders", settle},
		{"POST", "/v1/queues/packers/pull?topic=orders", `{"most":1,"wait":"10s"}`},
		{"POST", "/v1/queues/packers/nack?topic=orders", strings.Replace(settle, "]}", `],"reject":"no"}`, 1)},
		{"GET", "/v1/queues/packers/receipts?topic=orders&limit=10&since=2020-01-01T00:00:00Z", ""},
		{"POST", "/v1/queues/packers/redrive?topic=orders&limit=10", ""}, {"POST", "/v1/queues/packers/purge?topic=orders", ""},
		{"POST", "/v1/queues/packers/pause?topic=orders", ""}, {"POST", "/v1/queues/packers/resume?topic=orders", ""},
		{"DELETE", "/v1/queues/packers?topic=orders", ""}, {"DELETE", "/v1/topics/orders", ""},
		{"POST", "/v1/sockets/SOCKET/join", `{"rooms":["lobby","den"]}`}, {"POST", "/v1/sockets/SOCKET/leave", `{"rooms":["den"]}`},
		{"POST", "/v1/emit", `{"event":"e","args":[{"_placeholder":true,"num":0}],"attachments":["AQI="],"rooms":["lobby"],"except":["den"],"volatile":true}`},
		{"GET", "/v1/sockets?after=&limit=10", ""}, {"GET", "/v1/sockets/SOCKET", ""},
		{"GET", "/v1/rooms?after=&limit=10", ""}, {"GET", "/v1/presence/lobby?after=&limit=10", ""},
		{"POST", "/v1/sockets/SOCKET/disconnect", ""}, {"POST", "/v1/identities/ann/revoke", ""},
	} {
		target := strings.ReplaceAll(c.target, "SOCKET", socket)
		body := strings.ReplaceAll(c.body, "OFFSET", offset)
		r := httptest.NewRequest(c.method, target, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		route, path, err := n.description.FindRoute(r)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, target, err)
			continue
		}
		input := &openapi3filter.RequestValidationInput{
			Request: r, PathParams: path, Route: route,
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		}
		if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
			t.Errorf("%s %s: the request is not as described: %v", c.method, target, err)
		}
		code, out := n.do(c.method, target, body) // which looks at the answer
		if code < 200 || code > 299 {
			t.Errorf("%s %s: %d %v", c.method, target, code, out)
		}
		if events, ok := out["events"].([]any); ok && strings.Contains(target, "/pull") && len(events) == 1 {
			offset = events[0].(map[string]any)["offset"].(string)
		}
		if failed, ok := out["failed"].([]any); ok && len(failed) > 0 {
			t.Errorf("%s %s: %v", c.method, target, out)
		}
		worked[c.method+" "+route.Path] = true
	}
	for _, r := range (&api{Config: Config{Namespace: n.main, Authority: n.authority}}).routes() {
		if !worked[r.method+" "+r.path] {
			t.Errorf("nothing was tried of %s %s", r.method, r.path)
		}
	}
}
