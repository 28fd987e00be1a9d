package app

import (
	"context"
	"net"
	"net/http"
	"strings"
)

// redirectActor answers plain HTTP: the challenges of an ACME authority (RFC 8555, 8.3), and all others with where they should ask. No
// connection outlives its request, and all of them count with those of clients.
func (s *server) redirectActor(files *fileGuard) (execute func() error, interrupt func(error)) {
	_, port, _ := net.SplitHostPort(s.public.Addr().String())
	handler := toHTTPS(port)
	if s.acme != nil {
		handler = s.acme.manager.HTTPHandler(handler) // from then on it tries this challenge, too
	}
	h := newPublicHTTP(handler, s.log)
	h.SetKeepAlivesEnabled(false)
	h.ConnState = files.watch
	listener := s.reserved(s.plain, true)
	return func() error { return serve(h, listener) }, func(error) {
		ctx, cancel := context.WithTimeout(context.Background(), s.now.Load().Drain.Patience)
		defer cancel()
		s.stop(ctx, "plain HTTP", h)
	}
}

// toHTTPS redirects who wants to read to the same place over TLS. Who sends something is refused, to be noticed: it went over the network
// for everybody to read.
func toHTTPS(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := r.URL.RequestURI()
		if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Host == "" || !strings.HasPrefix(at, "/") {
			http.Error(w, "use https", http.StatusBadRequest)
			return
		}
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil { // it has no port
			host = strings.Trim(r.Host, "[]")
		}
		host = net.JoinHostPort(host, port)
		http.Redirect(w, r, "https://"+strings.TrimSuffix(host, ":443")+at, http.StatusFound)
	})
}
