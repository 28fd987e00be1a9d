package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What is for operators is on the internal listener alone, and nothing anywhere tells the command line (A4).
func TestPublicListenerHasNothingForOperators(t *testing.T) {
	p := newPlace(t, nil)
	status := func(h http.Handler, path string) int {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "127.0.0.1"
		r.Header.Set("Authorization", "Bearer "+apiKey)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		for _, secret := range []string{apiKey, jwtSecret} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s tells a secret", path)
			}
		}
		return w.Code
	}
	public := p.server.publicHandler()
	for _, path := range []string{
		"/metrics", "/livez", "/readyz", "/openapi.json", "/v1/topics", "/v1/sockets", "/v1/store/backup", "/debug/pprof/", "/debug/pprof/cmdline", "/", "/index.html",
		"/socket.io/../metrics", "//metrics", "/socket.io/%2e%2e/metrics", "/socket.iox",
	} {
		if got := status(public, path); got < 400 {
			t.Errorf("the public listener answers %s with %d", path, got)
		}
	}
	for path, want := range map[string]int{"/metrics": 200, "/livez": 200, "/debug/pprof/": 200, "/debug/pprof/cmdline": 404, "/openapi.json": 200} {
		if got := status(p.api, path); got != want {
			t.Errorf("the internal listener answers %s with %d, want %d", path, got, want)
		}
	}
}
