//go:build unix

package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The official client in a browser over WebTransport: directly, and as the upgrade that it chooses by itself.
func TestWebTransport(t *testing.T) {
	skipShort(t)
	dir := t.TempDir()
	hash := writeCertificate(t, dir)
	config := fmt.Sprintf("webtransport: true\ntls: {cert_file: %s/cert.pem, key_file: %[1]s/key.pem}\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "holdpost.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "--config", filepath.Join(dir, "holdpost.yaml"))
	runScript(t, "webtransport.mjs", s, "HOLDPOST_CHROMIUM="+chromium, "HOLDPOST_CERTIFICATE="+hash)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// writeCertificate makes a certificate as browsers trust it by its hash alone, which it returns: one of two weeks at most, with a key
// of P-256.
func writeCertificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
