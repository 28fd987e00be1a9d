package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
)

// once makes a client give up with the first failure.
var once = client.Config{ReconnectAttempts: -1}

func dialError(t *testing.T, what string, err error, code string, says ...string) *client.DialError {
	t.Helper()
	e, ok := errors.AsType[*client.DialError](err)
	if !ok || e.Code != code {
		t.Errorf("%s: %v, want code %s", what, err, code)
		return &client.DialError{}
	}
	for _, part := range says {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("%s: %q does not say %q", what, e, part)
		}
	}
	return e
}

func TestBadConfig(t *testing.T) {
	for _, c := range []struct {
		url    string
		config client.Config
		says   string
	}{
		{url: "ftp://x", says: "http, https, ws or wss"},
		{url: "localhost:7300", says: "http, https, ws or wss"},
		{url: "", says: "http, https, ws or wss"},
		{url: "http://", says: "no host"},
		{url: "http://x/admin", says: "Client.Of"},
		{url: "http://x\x7f", says: "invalid"},
		{url: "http://x", config: client.Config{Transports: []string{"webtransport"}}, says: "Config.Transports"},
		{url: "http://x", config: client.Config{WhenFull: "panic"}, says: "Config.WhenFull"},
		{url: "http://x", config: client.Config{ReconnectFactor: 0.5}, says: "Config.ReconnectFactor"},
	} {
		cl := client.New(c.url, &c.config)
		dialError(t, c.url, cl.Of("/").Connect(background), "invalid_config", c.says)
		cl.Close()
	}
}

// What else than a Socket.IO server can be at an address.
func TestNotOurServer(t *testing.T) {
	page := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for name, c := range map[string]struct {
		handler http.Handler
		code    string
		says    string
	}{
		"not found":        {http.NotFoundHandler(), "not_found", "Config.Path"},
		"wrong path":       {holdpost.NewServer(&holdpost.Config{Path: "/elsewhere/"}), "not_found", "Config.Path"},
		"proxy without it": {page(502, "text/html", "<html>Bad Gateway</html>"), "unavailable", "502"},
		"overloaded":       {page(503, "text/plain", ""), "unavailable", "503"},
		"too many":         {page(429, "text/plain", ""), "unavailable", "429"},
		"web page":         {page(200, "text/html", "<!doctype html><h1>Welcome"), "not_socketio", "proxy"},
		"empty page":       {page(204, "text/html", ""), "not_socketio", "204"},
		"login wanted":     {page(401, "text/plain", "who are you"), "refused", "who are you"},
		"not allowed":      {page(403, "application/json", `{"code":4,"message":"not you"}`), "refused", "not you"},
		"next revision":    {page(400, "application/json", `{"code":5,"message":"Unsupported protocol version"}`), "version", "Engine.IO 4"},
		"earlier revision": {page(200, "text/plain", `85:0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":5000}2:40`), "version", "Socket.IO 3"},
		"no sid":           {page(200, "text/plain", `0{"upgrades":[],"pingInterval":25000,"pingTimeout":5000}`), "malformed", "sid"},
		"no JSON":          {page(200, "text/plain", `0{"sid":`), "malformed", "open packet"},
		"no interval":      {page(200, "text/plain", `0{"sid":"x","pingInterval":0,"pingTimeout":5000}`), "malformed", "pingInterval"},
		"negative":         {page(200, "text/plain", `0{"sid":"x","pingInterval":25000,"pingTimeout":-1}`), "malformed", "pingTimeout"},
		"endless":          {page(200, "text/plain", `0{"sid":"x","pingInterval":1e12,"pingTimeout":5000}`), "malformed", "pingInterval"},
		"not a number":     {page(200, "text/plain", `0{"sid":"x","pingInterval":"1","pingTimeout":5000}`), "malformed", "open packet"},
		"message first":    {page(200, "text/plain", `42["x"]`), "malformed", "first"},
		"huge":             {page(200, "text/plain", strings.Repeat("x", 9<<20)), "not_socketio", "MaxPayload"},
		"round trip": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}), "redirect", "redirected too often"},
	} {
		for _, transport := range []string{"polling", "websocket"} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				web := httptest.NewServer(c.handler)
				defer web.Close()
				config := once
				config.Transports = []string{transport}
				cl := client.New(web.URL, &config)
				defer cl.Close()
				err := cl.Of("/").Connect(background)
				code, says := c.code, c.says
				if e, ok := errors.AsType[*client.DialError](err); ok && transport == "websocket" && e.Status == 200 {
					code, says = "not_socketio", "no WebSocket" // whatever the page says
				}
				e := dialError(t, name, err, code, says, web.URL, transport)
				if code == "unavailable" && e.RetryAfter != 7*time.Second {
					t.Errorf("retry after %v", e.RetryAfter)
				}
			})
		}
	}
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	cl := client.New("http://"+address, &once)
	defer cl.Close()
	dialError(t, "nobody listens", cl.Of("/").Connect(background), "unreachable", "refused", "is the server running", address)
}

// Certificates are verified unless the program says otherwise.
func TestCertificate(t *testing.T) {
	srv := holdpost.NewServer(nil)
	srv.Of("/")
	web := httptest.NewUnstartedServer(srv)
	web.Config.ErrorLog = quiet
	web.StartTLS()
	defer web.Close()
	defer srv.Close()
	for _, transport := range []string{"polling", "websocket"} {
		config := client.Config{Transports: []string{transport}} // it reconnects, but not for this
		cl := client.New(web.URL, &config)
		dialError(t, transport, cl.Of("/").Connect(background), "certificate", "RootCAs")
		cl.Close()
		config.TLS = web.Client().Transport.(*http.Transport).TLSClientConfig
		cl = client.New(strings.Replace(web.URL, "https", "wss", 1), &config)
		if err := cl.Of("/").Connect(background); err != nil {
			t.Errorf("%s with the authority: %v", transport, err)
		}
		cl.Close()
	}
}

// A redirect away from TLS is not followed, whatever the limit.
func TestDowngrade(t *testing.T) {
	srv := holdpost.NewServer(nil)
	defer srv.Close()
	plain := httptest.NewServer(srv)
	defer plain.Close()
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.RequestURI(), http.StatusFound)
	}))
	defer web.Close()
	config := once
	config.TLS = web.Client().Transport.(*http.Transport).TLSClientConfig
	cl := client.New(web.URL, &config)
	defer cl.Close()
	dialError(t, "downgrade", cl.Of("/").Connect(background), "redirect")
}

// When WebSockets do not get through, polling does.
func TestNextTransport(t *testing.T) {
	srv := holdpost.NewServer(&holdpost.Config{Transports: []string{"polling"}})
	srv.Of("/")
	defer srv.Close()
	web := httptest.NewServer(srv)
	defer web.Close()
	cl := client.New(web.URL, nil)
	defer cl.Close()
	if err := cl.Of("/").Connect(background); err != nil || cl.Transport() != "polling" {
		t.Errorf("connected over %q: %v", cl.Transport(), err)
	}
}

// Headers, the query and cookies reach the server with every request.
func TestRequests(t *testing.T) {
	srv := holdpost.NewServer(nil)
	srv.Of("/")
	defer srv.Close()
	var seen record
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, _ := r.Cookie("sticky")
		seen.add("%s %s %s %v", r.Header.Get("Authorization"), r.UserAgent(), r.URL.Query().Get("tenant"), cookie)
		http.SetCookie(w, &http.Cookie{Name: "sticky", Value: "node1", Path: "/"})
		srv.ServeHTTP(w, r)
	}))
	defer web.Close()
	cl := client.New(web.URL+"?tenant=a b", &client.Config{
		Transports: []string{"polling", "websocket"},
		Header:     http.Header{"authorization": {"Bearer x"}, "User-Agent": {"test"}},
	})
	if err := cl.Of("/").Connect(background); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	all := seen.all()
	if len(all) < 3 || all[0] != "Bearer x test a b " {
		t.Fatalf("requests: %q", all)
	}
	for _, line := range all[1:] {
		if line != "Bearer x test a b sticky=node1" {
			t.Errorf("a later request: %q", line)
		}
	}
}

// The proxy is asked for plain and for encrypted connections, and TLS goes through it untouched.
func TestProxy(t *testing.T) {
	srv := holdpost.NewServer(nil)
	srv.Of("/")
	defer srv.Close()
	web := httptest.NewTLSServer(srv)
	defer web.Close()
	proxy, tunnels := newProxy(t)
	cl := client.New(web.URL, &client.Config{
		Proxy: http.ProxyURL(proxy),
		TLS:   web.Client().Transport.(*http.Transport).TLSClientConfig,
	})
	defer cl.Close()
	if err := cl.Of("/").Connect(background); err != nil {
		t.Fatal(err)
	}
	if all := tunnels.all(); len(all) != 1 || all[0] != strings.TrimPrefix(web.URL, "https://") {
		t.Errorf("tunnels: %q", all)
	}
}

// A server of the other codec hangs up instead of letting the client in, who is told what that may mean.
func TestOtherCodec(t *testing.T) {
	for _, theirs := range []bool{true, false} {
		run(t, holdpost.Config{MessagePack: theirs}, func(t *testing.T, w *world, cc client.Config) {
			cc.MessagePack = !theirs
			s := w.client(cc).Of("/")
			failed := make(chan error, 100)
			s.OnError(func(err error) { failed <- err })
			ctx, cancel := context.WithTimeout(background, time.Minute)
			defer cancel()
			for _, err := range []error{s.Connect(ctx), <-failed} {
				if _, ok := errors.AsType[*holdpost.DisconnectError](err); !ok || !strings.Contains(err.Error(), "Config.MessagePack") {
					t.Errorf("MessagePack %v: %v", cc.MessagePack, err)
				}
			}
		})
	}
}
