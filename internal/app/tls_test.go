package app

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/holdpost/holdpost/internal/config"
)

// The authority is asked for the configured names alone, and never because of what clients ask for.
func TestACMEAsksForConfiguredNames(t *testing.T) {
	var asked atomic.Int32
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusTeapot) // there is none: it is enough that it was asked
	}))
	defer authority.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := config.Default()
	c.DataDir = t.TempDir()
	c.TLS.ACME.Domains, c.TLS.ACME.Directory = []string{"events.example.com"}, authority.URL
	certificates, err := newACME(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := certificates.config()
	shake := func(name string, protocols ...string) error {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		theirs.SetDeadline(time.Now().Add(time.Minute))
		done := make(chan struct{})
		go func() { // ends with the pipe
			tls.Client(ours, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true}).Handshake()
			ours.Close()
			close(done)
		}()
		err := tls.Server(theirs, server).Handshake()
		theirs.Close()
		<-done
		return err
	}
	for _, name := range []string{"events.example.com", "other.example.com", "example.com", ""} {
		if err := shake(name); err == nil || asked.Load() != 0 {
			t.Errorf("%q: %v, the authority was asked %d times", name, err, asked.Load())
		}
	}
	if err := shake("events.example.com", acme.ALPNProto); err == nil || asked.Load() != 0 {
		t.Errorf("a challenge that nobody has begun: %v, the authority was asked %d times", err, asked.Load())
	}
	if _, err := certificates.obtain(t.Context(), "other.example.com"); err == nil || asked.Load() != 0 {
		t.Errorf("%v, the authority was asked %d times", err, asked.Load())
	}
	if _, err := certificates.obtain(t.Context(), "events.example.com"); err == nil || asked.Load() == 0 {
		t.Errorf("%v, the authority was asked %d times", err, asked.Load())
	}
}

// The authority's own address is vouched for by the configured root, and by nobody else's.
func TestACMETrustsTheConfiguredRoot(t *testing.T) {
	var asked atomic.Int32
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusTeapot)
	}))
	authority.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer authority.Close()
	c := config.Default()
	c.DataDir = t.TempDir()
	c.TLS.ACME.Domains, c.TLS.ACME.Directory = []string{"events.example.com"}, authority.URL
	root := filepath.Join(c.DataDir, "root.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw})
	if err := os.WriteFile(root, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", root} {
		c.TLS.ACME.RootFile = name
		a, err := newACME(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.obtain(t.Context(), "events.example.com")
		if err == nil || (asked.Load() > 0) != (name != "") {
			t.Errorf("root %q: %v, the authority was asked %d times", name, err, asked.Load())
		}
		if a.manager.Client.HTTPClient != nil {
			a.manager.Client.HTTPClient.CloseIdleConnections()
		}
	}
	c.TLS.ACME.RootFile = filepath.Join(c.DataDir, "none.pem")
	if _, err := newACME(c, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	c.TLS.ACME.RootFile = filepath.Join(c.DataDir, "holdpost.yaml")
	if err := os.WriteFile(c.TLS.ACME.RootFile, []byte("tls: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newACME(c, nil); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a file of something else: %v", err)
	}
}

// A server that ends does not wait for an authority that does not answer.
func TestACMEDoesNotHoldUpTheEnd(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	authority := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-leave
	}))
	defer authority.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer close(leave)
	c := config.Default()
	c.DataDir = t.TempDir()
	c.TLS.ACME.Domains, c.TLS.ACME.Directory = []string{"events.example.com"}, authority.URL
	a, err := newACME(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }() // ends with the request
	a.run(ctx)
}

// The key lasts as long as the data directory. One that is not whole is made anew.
func TestResetKey(t *testing.T) {
	dir := t.TempDir()
	first, err := resetKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := resetKey(dir); err != nil || *again != *first {
		t.Errorf("%x, then %x: %v", first, again, err)
	}
	name := filepath.Join(dir, "quic.key")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := os.Truncate(name, 31); err != nil {
		t.Fatal(err)
	}
	if other, err := resetKey(dir); err != nil || *other == *first {
		t.Errorf("of a key cut short: %x, %v", other, err)
	}
	if _, err := resetKey(filepath.Join(dir, "none")); err == nil {
		t.Error("there is no directory")
	}
}
