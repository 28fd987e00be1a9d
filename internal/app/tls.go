package app

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
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

func (c *certificate) ends() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf.NotAfter
}

// config is for HTTP/1.1, which WebSockets need.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// resetKey returns the key by which a process tells clients that the QUIC connections of the one before it are gone. It is kept in
// the data directory, and made when it is missing there.
func resetKey(dir string) (*[32]byte, error) {
	name := filepath.Join(dir, "quic.key")
	switch b, err := os.ReadFile(name); {
	case err == nil && len(b) == 32:
		return (*[32]byte)(b), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key := new([32]byte)
	rand.Read(key[:])
	return key, os.WriteFile(name, key[:], 0o600)
}
