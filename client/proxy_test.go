package client_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

var quiet = log.New(io.Discard, "", 0)

// newProxy starts a proxy that makes tunnels, and records to where.
func newProxy(t *testing.T) (*url.URL, *record) {
	var tunnels record
	ended := make(chan struct{}, 16)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "tunnels only", http.StatusMethodNotAllowed)
			return
		}
		tunnels.add("%s", r.Host)
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(there, here); there.Close(); ended <- struct{}{} }()
		go func() { io.Copy(here, there); here.Close(); ended <- struct{}{} }()
	}))
	t.Cleanup(func() {
		proxy.Close()
		for range tunnels.all() {
			<-ended
			<-ended
		}
	})
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, &tunnels
}
