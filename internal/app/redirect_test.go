package app

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRedirectsToHTTPS(t *testing.T) {
	for _, c := range []struct {
		method, target, host, port string
		want                       string // "" is a refusal
	}{
		{"GET", "/", "events.example.com", "443", "https://events.example.com/"},
		{"GET", "/socket.io/?EIO=4&transport=polling", "events.example.com:80", "443", "https://events.example.com/socket.io/?EIO=4&transport=polling"},
		{"HEAD", "/a%2Fb?c=%26", "events.example.com:8080", "8443", "https://events.example.com:8443/a%2Fb?c=%26"},
		{"GET", "//elsewhere.example/", "events.example.com", "443", "https://events.example.com//elsewhere.example/"},
		{"GET", "http://elsewhere.example/x", "events.example.com", "443", "https://events.example.com/x"},
		{"GET", "/", "[::1]", "443", "https://[::1]/"},
		{"GET", "/", "[::1]:80", "8443", "https://[::1]:8443/"},
		{"GET", "/", "", "443", ""},
		{"POST", "/socket.io/?EIO=4&transport=polling&sid=x", "events.example.com", "443", ""},
		{"OPTIONS", "/", "events.example.com", "443", ""},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		toHTTPS(c.port).ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != c.want || (got == "") != (w.Code == http.StatusBadRequest) {
			t.Errorf("%s %s at %q: %d %q, want %q", c.method, c.target, c.host, w.Code, got, c.want)
		}
	}
}
