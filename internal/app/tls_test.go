package app

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/holdpost/holdpost/internal/config"
)

// The authority is asked for the configured names alone, whatever clients ask for.
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
	server := acmeConfig(newACME(c))
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
	for _, name := range []string{"other.example.com", "example.com", ""} {
		if err := shake(name); err == nil || asked.Load() != 0 {
			t.Errorf("%q: %v, the authority was asked %d times", name, err, asked.Load())
		}
	}
	if err := shake("events.example.com", acme.ALPNProto); err == nil || asked.Load() != 0 {
		t.Errorf("a challenge that nobody has begun: %v, the authority was asked %d times", err, asked.Load())
	}
	if err := shake("events.example.com", "http/1.1"); err == nil || asked.Load() == 0 {
		t.Errorf("%v, the authority was asked %d times", err, asked.Load())
	}
}
