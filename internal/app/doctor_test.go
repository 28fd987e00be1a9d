package app

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/config"
)

// Each proxy spoils one thing, and the doctor finds it.
func TestDoctorFindsWhatAProxySpoils(t *testing.T) {
	const ping = 200 * time.Millisecond
	quiet := slog.New(slog.DiscardHandler)
	srv := holdpost.NewServer(&holdpost.Config{Logger: quiet, PingInterval: ping, Origins: []string{"https://good.example"}})
	t.Cleanup(func() { srv.Close() })
	srv.Of("/").Wrap(answerUnhandled)
	backend := httptest.NewServer(srv)
	t.Cleanup(backend.Close)
	at, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	honest := func() *httputil.ReverseProxy {
		p := httputil.NewSingleHostReverseProxy(at)
		p.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelDebug)
		p.Transport = &http.Transport{}
		t.Cleanup(p.Transport.(*http.Transport).CloseIdleConnections)
		return p
	}
	for name, c := range map[string]struct {
		proxy func() http.Handler
		want  map[string]string // results that are not ok
		like  string            // in the first of those
	}{
		"nothing": {func() http.Handler { return honest() }, map[string]string{}, ""},
		"upgrades": {func() http.Handler {
			p := honest()
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Upgrade")
				r.Header.Del("Connection")
				p.ServeHTTP(w, r)
			})
		}, map[string]string{"websocket": "fail", "upgrade": "fail"}, ""},
		"large events": {func() http.Handler {
			p := honest()
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ContentLength > 1000 {
					w.WriteHeader(http.StatusRequestEntityTooLarge)
					return
				}
				p.ServeHTTP(w, r)
			})
		}, map[string]string{"size": "fail"}, "does not get through"},
		"quiet connections": {func() http.Handler {
			p := honest()
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p.ServeHTTP(&shortWriter{w, r.URL.Query().Get("transport") == "websocket"}, r)
			})
		}, map[string]string{"quiet": "fail"}, "websocket: "},
		"the clock": {func() http.Handler {
			p := honest()
			p.ModifyResponse = func(r *http.Response) error {
				r.Header.Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
				return nil
			}
			return p
		}, map[string]string{"clock": "warn"}, "away from the server"},
		"origins": {func() http.Handler {
			p := honest()
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Origin")
				p.ServeHTTP(w, r)
			})
		}, map[string]string{"origin": "warn"}, "any origin"},
		"the internal listener": {func() http.Handler {
			p := honest()
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/metrics" {
					io.WriteString(w, "holdpost_connections 1\n")
					return
				}
				p.ServeHTTP(w, r)
			})
		}, map[string]string{"internal": "fail"}, "/metrics of the internal listener"},
		"the path": {func() http.Handler { return http.NotFoundHandler() }, map[string]string{"server": "fail"}, "404"},
		"the server": {func() http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		}, map[string]string{"server": "fail"}, "nobody is behind"},
	} {
		t.Run(name, func(t *testing.T) {
			front := httptest.NewServer(c.proxy())
			defer front.Close()
			d := &doctor{url: front.URL, origin: "https://good.example", hold: 3 * ping, config: func() (*config.Config, error) { return nil, errors.New("none") }}
			got := make(map[string]finding)
			d.run(t.Context(), func(f finding) {
				if f.Result != "ok" && f.Check != "config" && f.Check != "disk" && f.Check != "files" && f.Check != "tls" {
					got[f.Check] = f
				}
			})
			for check, f := range got {
				if f.Result != c.want[check] {
					t.Errorf("%+v, want %q", f, c.want[check])
				}
				if !strings.Contains(f.Detail, c.like) || f.Hint == "" {
					t.Errorf("%+v, want %q and a hint", f, c.like)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// shortWriter has a WebSocket closed after a moment.
type shortWriter struct {
	http.ResponseWriter
	short bool
}

func (w *shortWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *shortWriter) Flush() { http.NewResponseController(w.ResponseWriter).Flush() }

func (w *shortWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.short {
		time.AfterFunc(150*time.Millisecond, func() { c.Close() })
	}
	return c, rw, err
}

// A certificate that nobody vouches for, or that ends soon, is found.
func TestDoctorLooksAtCertificates(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	srv := holdpost.NewServer(&holdpost.Config{Logger: quiet})
	t.Cleanup(func() { srv.Close() })
	for _, c := range []struct {
		name          string
		before, after time.Duration
		trusted       bool
		check, result string
	}{
		{"good", -time.Hour, 24 * time.Hour, true, "tls", "ok"},
		{"ends soon", -80 * time.Hour, 10 * time.Hour, true, "tls", "warn"},
		{"has ended", -2 * time.Hour, -time.Hour, true, "server", "fail"},
		{"of nobody", -time.Hour, 24 * time.Hour, false, "server", "fail"},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(c.before), NotAfter: time.Now().Add(c.after),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		front := httptest.NewUnstartedServer(srv)
		front.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelDebug)
		front.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
		front.StartTLS()
		roots := x509.NewCertPool()
		if c.trusted {
			roots.AddCert(leaf)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		d := &doctor{url: front.URL, http: &http.Client{Transport: transport}}
		f := d.checkServer(t.Context())
		if c.check == "tls" && f.Result == "ok" {
			f = d.checkCertificate(t.Context())
		}
		if f.Result != c.result || (f.Hint == "") != (c.result == "ok") {
			t.Errorf("%s: %+v, want %s", c.name, f, c.result)
		}
		transport.CloseIdleConnections()
		front.Close()
	}
}

// Interrupted it tells what it has found until then.
func TestDoctorIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &doctor{url: "http://127.0.0.1:1", config: func() (*config.Config, error) { return nil, errors.New("none") }}
	n := 0
	d.run(ctx, func(finding) {
		n++
		cancel()
	})
	if n != 1 {
		t.Errorf("%d checks, want 1", n)
	}
}
