package app

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/holdpost/holdpost/internal/config"
)

// certificateLook is how often it is looked whether the files of a certificate have changed.
const certificateLook = time.Minute

// certificate is one in two files, which may be replaced at any time.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex // guards the fields below; the files are read under it, once a minute at most
	current *tls.Certificate
	changed time.Time // when the files were, as far as was seen
	looked  time.Time
}

func openCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return c, c.reload()
}

// reload reads the files. On an error the certificate stays what it was.
func (c *certificate) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read()
}

// read is reload. c.mu is held.
func (c *certificate) read() error {
	c.looked, c.changed = time.Now(), c.newest()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", c.certFile, err)
	}
	c.current = &pair
	return nil
}

// newest returns when the files changed last; the zero time if they are not there right now.
func (c *certificate) newest() (newest time.Time) {
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return time.Time{}
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) > certificateLook {
		c.looked = now
		if !c.newest().Equal(c.changed) {
			c.read() // files that are being replaced may not fit each other: the next look is soon
		}
	}
	return c.current, nil
}

// derive returns a key for a purpose that stays the same for as long as the private key does, nil if that can't be exported.
func (c *certificate) derive(purpose string) *[32]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	private, err := x509.MarshalPKCS8PrivateKey(c.current.PrivateKey)
	if err != nil {
		return nil
	}
	key, err := hkdf.Key(sha256.New, private, nil, "holdpost "+purpose, 32)
	if err != nil {
		return nil
	}
	return (*[32]byte)(key)
}

// newACME returns what gets certificates for the configured names, and renews them, when the first client asks for one. It keeps them
// in the data directory.
func newACME(c *config.Config) *autocert.Manager {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Email: c.TLS.ACME.Email, Cache: autocert.DirCache(filepath.Join(c.DataDir, "acme")),
		HostPolicy: autocert.HostWhitelist(c.TLS.ACME.Domains...),
	}
	if c.TLS.ACME.Directory != "" {
		m.Client = &acme.Client{DirectoryURL: c.TLS.ACME.Directory}
	}
	return m
}

// acmeConfig answers the challenge on the listener itself (RFC 8737).
func acmeConfig(m *autocert.Manager) *tls.Config {
	return &tls.Config{GetCertificate: m.GetCertificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", acme.ALPNProto}}
}

// config is for HTTP/1.1, which WebSockets need.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}
