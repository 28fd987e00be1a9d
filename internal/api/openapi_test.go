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
