package app

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// A NATS server with a certificate of one's own is believed when one says so.
func TestNATSWithCertificates(t *testing.T) {
	s := httptest.NewTLSServer(nil) // which has a certificate for 127.0.0.1
	s.Close()
	pair := s.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile := write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	keyFile := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	nats := natstest.Run(t, natstest.Config{Extra: fmt.Sprintf("tls { cert_file: %q, key_file: %q }", certFile, keyFile)})
	open := func(n config.NATS) error {
		n.URLs = []string{nats.URL}
		outside, err := outsideLog(&n, false)
		if err != nil {
			return err
		}
		store, err := local.Open(t.Context(), local.Config{
			Outside: outside, Engine: embedded.Config{Dir: filepath.Join(dir, "data"), Logger: slog.New(slog.DiscardHandler)},
		})
		if err != nil {
			return err
		}
		if err := store.Ready(); err != nil {
			t.Error(err)
		}
		return store.Close()
	}
	if err := open(config.NATS{CAFile: certFile, CertFile: certFile, KeyFile: keyFile}); err != nil {
		t.Error(err)
	}
	for _, n := range []config.NATS{{}, {CertFile: certFile, KeyFile: keyFile}} {
		if err := open(n); err == nil {
			t.Errorf("let in with %+v", n)
		}
	}
	for want, n := range map[string]config.NATS{
		"no such file":       {CAFile: filepath.Join(dir, "none")},
		"has no certificate": {CAFile: keyFile},
		"credentials_file":   {CredentialsFile: filepath.Join(dir, "none")},
		"nats.cert_file":     {CertFile: keyFile, KeyFile: keyFile},
		"nats: environment":  {User: "u", Secret: config.Secret{Env: "HOLDPOST_NO_SUCH_VARIABLE"}},
	} {
		err := open(n)
		if x, ok := errors.AsType[*exitError](err); !ok || x.code != exitConfig || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
