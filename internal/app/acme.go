package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/holdpost/holdpost/internal/config"
)

const (
	// acmeRetry is how soon an authority is asked again that gave no certificate, twice as late each time: it counts what fails.
	acmeRetry     = 2 * time.Minute
	acmeRetryMost = time.Hour
	// acmeLook is how often it is looked whether a certificate has been renewed.
	acmeLook = time.Hour
)

var errNoCertificate = errors.New("there is no certificate for this name yet")

// acmeCertificates gets certificates from an authority (RFC 8555), keeps them in the data directory and renews them.
type acmeCertificates struct {
	names   []string
	manager *autocert.Manager
	log     *slog.Logger

	mu    sync.Mutex           // guards the field below
	until map[string]time.Time // when the certificate of a name ends, of those that have one
}

func newACME(c *config.Config, log *slog.Logger) (*acmeCertificates, error) {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Email: c.TLS.ACME.Email, Cache: autocert.DirCache(filepath.Join(c.DataDir, "acme")),
		HostPolicy: only(c.TLS.ACME.Domains),
		Client:     &acme.Client{DirectoryURL: c.TLS.ACME.Directory, UserAgent: "holdpost"},
	}
	if c.TLS.ACME.RootFile != "" {
		roots, err := readRoots(c.TLS.ACME.RootFile)
		if err != nil {
			return nil, err
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		m.Client.HTTPClient = &http.Client{Transport: transport}
	}
	return &acmeCertificates{names: slices.Compact(slices.Sorted(slices.Values(c.TLS.ACME.Domains))), manager: m, log: log, until: make(map[string]time.Time)}, nil
}

// only lets a manager serve these names. A challenge over HTTP has the port behind the name, if that is not 80.
func only(names []string) autocert.HostPolicy {
	listed := autocert.HostWhitelist(names...)
	return func(ctx context.Context, host string) error {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return listed(ctx, host)
	}
}

func readRoots(name string) (*x509.CertPool, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate in PEM", name)
	}
	return roots, nil
}

// config answers the challenge on the listener itself (RFC 8737). The other one, over plain HTTP, is tried when this one fails, if
// something listens there.
func (a *acmeCertificates) config() *tls.Config {
	return &tls.Config{GetCertificate: a.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", acme.ALPNProto}}
}

// get returns the certificate for a client, or for the authority's challenge. A client has none asked for: the authority would be
// asked once a minute as long as it refuses.
func (a *acmeCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	challenge := len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto
	a.mu.Lock()
	_, have := a.until[strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))]
	a.mu.Unlock()
	if !have && !challenge {
		return nil, errNoCertificate
	}
	return a.manager.GetCertificate(modern(hello))
}

// modern returns hello as autocert understands it. The suites of TLS 1.3 name no kind of key, and a client that has no others, as
// over QUIC, is taken for one that needs RSA, for which there would be a second certificate.
func modern(hello *tls.ClientHelloInfo) *tls.ClientHelloInfo {
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		return hello
	}
	m := *hello
	m.CipherSuites = append(slices.Clip(hello.CipherSuites), tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	return &m
}

// run gets the certificates and watches them until ctx ends.
func (a *acmeCertificates) run(ctx context.Context) {
	var names sync.WaitGroup
	for _, name := range a.names {
		names.Go(func() { a.watch(ctx, name) })
	}
	names.Wait()
}

func (a *acmeCertificates) watch(ctx context.Context, name string) {
	var until time.Time
	retry := acmeRetry
	for {
		leaf, err := a.obtain(ctx, name)
		if ctx.Err() != nil {
			return
		}
		wait := acmeLook
		switch {
		case err != nil:
			wait, retry = retry, min(2*retry, acmeRetryMost)
			a.log.Error("no certificate: the authority must reach the public listener at port 443 of the name, or tls.http_listen at port 80", "name", name, "err", err, "next try in", wait)
		case time.Until(leaf.NotAfter) < leaf.NotAfter.Sub(leaf.NotBefore)/4: // it is renewed when a third is left
			a.log.Warn("certificate not renewed", "name", name, "until", leaf.NotAfter)
		case !leaf.NotAfter.Equal(until):
			until = leaf.NotAfter
			a.log.Info("certificate", "name", name, "until", until)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// ends returns when the first of the certificates ends, the zero time while one is missing.
func (a *acmeCertificates) ends() (first time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.until) < len(a.names) {
		return first
	}
	for _, end := range a.until {
		if first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// obtain returns the certificate that clients get. It does not wait longer than ctx for the authority, which autocert does: what it
// has begun then ends by itself.
func (a *acmeCertificates) obtain(ctx context.Context, name string) (*x509.Certificate, error) {
	type result struct {
		certificate *tls.Certificate
		err         error
	}
	got := make(chan result, 1)
	go func() {
		c, err := a.manager.GetCertificate(modern(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}}))
		got <- result{c, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return nil, r.err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, n := range r.certificate.Leaf.DNSNames {
			a.until[n] = r.certificate.Leaf.NotAfter
		}
		return r.certificate.Leaf, nil
	case <-ctx.Done():
		return nil, errors.New("given up")
	}
}
