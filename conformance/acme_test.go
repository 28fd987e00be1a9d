//go:build unix

package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	wt "github.com/quic-go/webtransport-go"
)

var expiry = regexp.MustCompile(`(?m)^holdpost_certificate_expiry_timestamp_seconds (\S+)$`)

// A certificate from an authority: by one order, for HTTPS and WebTransport, for every process that serves the data directory.
func TestACME(t *testing.T) {
	skipShort(t)
	t.Parallel()
	s, authority := newACMEServer(t, 90*24*time.Hour, "")
	runScript(t, "live.mjs", s, "HOLDPOST_TRANSPORT=upgrade", "NODE_EXTRA_CA_CERTS="+authority.rootFile, "NODE_OPTIONS=--import=./js/loopback.mjs")
	leaf := authority.leafOf(t, s)
	if over := authority.leafOverQUIC(t, s); !over.Equal(leaf) {
		t.Error("WebTransport has another certificate")
	}
	if n := authority.issued(); n != 1 {
		t.Errorf("%d certificates were issued", n)
	}
	said := s.log.tail(20) // of the last process
	_, metrics := get(internalURL.FindStringSubmatch(said[strings.LastIndex(said, "API "):])[1] + "/metrics")
	if m := expiry.FindStringSubmatch(metrics); m == nil {
		t.Error("there is no metric of the certificate")
	} else if ends, err := strconv.ParseFloat(m[1], 64); err != nil || int64(ends) != leaf.NotAfter.Unix() {
		t.Errorf("the metric says %s, %v, the certificate %d", m[1], err, leaf.NotAfter.Unix())
	}
	authority.kill() // it is not needed any more
	for _, end := range []func() error{s.stop, s.kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		if again := authority.leafOf(t, s); !again.Equal(leaf) {
			t.Error("the next process has another certificate")
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// An authority that can't reach port 443 is answered by plain HTTP, where all others are sent on.
func TestACMEOverHTTP(t *testing.T) {
	skipShort(t)
	t.Parallel()
	plain := freeAddress(t)
	s, authority := newACMEServer(t, 90*24*time.Hour, plain)
	authority.leafOf(t, s)
	if n := authority.issued(); n != 1 {
		t.Errorf("%d certificates were issued", n)
	}
	runScript(t, "live.mjs", s, "HOLDPOST_TRANSPORT=upgrade", "NODE_EXTRA_CA_CERTS="+authority.rootFile, "NODE_OPTIONS=--import=./js/loopback.mjs")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+plain+"/page?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = certified
	answer, err := new(http.Transport).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	_, port, _ := net.SplitHostPort(s.listen)
	if want := "https://" + certified + ":" + port + "/page?a=b"; answer.Header.Get("Location") != want || !answer.Close {
		t.Errorf("%s to %q, closed %v, want %q", answer.Status, answer.Header.Get("Location"), answer.Close, want)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", plain); err == nil {
		c.Close()
		t.Error("plain HTTP is still there")
	}
}

// A certificate is renewed before it ends, and the next process has the new one.
func TestACMERenews(t *testing.T) {
	skipShort(t)
	t.Parallel()
	s, authority := newACMEServer(t, 15*time.Second, "")
	first := authority.leafOf(t, s)
	renewed := first
	deadline := time.Now().Add(patience)
	for renewed.Equal(first) {
		if time.Now().After(deadline) {
			t.Fatalf("not renewed, %d were issued:\n%s", authority.issued(), authority.said.tail(50))
		}
		<-time.After(10 * time.Millisecond)
		renewed = authority.leafOf(t, s)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	if leaf := authority.leafOf(t, s); leaf.NotAfter.Before(renewed.NotAfter) {
		t.Error("the next process has the first one")
	}
}

// A pebble is Let's Encrypt's test authority. It looks for what it certifies on one port of this machine.
type pebble struct {
	cmd      *exec.Cmd
	said     *output
	roots    *x509.CertPool // vouch for what it certifies
	rootFile string         // the same
}

// newACMEServer starts an authority whose certificates last so long, and a server that gets one from it: over TLS, or over plain HTTP at
// an address.
func newACMEServer(t *testing.T, lifetime time.Duration, plain string) (*server, *pebble) {
	t.Helper()
	if err := command("pebble", "go", "build", "-o", artifacts+"/", "tool"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeCertificate(t, dir) // of the authority's own address
	public, directory, management, dns := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	more, httpPort := "", "1" // where nobody is
	_, tlsPort, _ := net.SplitHostPort(public)
	if plain != "" {
		more = "http_listen: '" + plain + "', "
		_, httpPort, _ = net.SplitHostPort(plain)
		tlsPort = "1"
	}
	settings := map[string]any{"pebble": map[string]any{
		"listenAddress": directory, "managementListenAddress": management, "certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": json.Number(httpPort), "tlsPort": json.Number(tlsPort), "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"validityPeriod": lifetime / time.Second}},
	}}
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	off := []string{"-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-defaultIPv6", ""}
	names := startPebble(t, filepath.Join(artifacts, "pebble-challtestsrv"), append(off, "-dnsserver", dns, "-management", freeAddress(t))...)
	listens(t, dns, names.said)
	p := startPebble(t, filepath.Join(artifacts, "pebble"), "-config", file, "-dnsserver", dns)
	p.readRoots(t, "https://"+management+"/roots/0", dir)
	config := fmt.Sprintf("webtransport: true\ntls: {%sacme: {domains: [%s], directory: 'https://%s/dir', root_file: %s/cert.pem}}\n", more, certified, directory, dir)
	if err := os.WriteFile(filepath.Join(dir, "holdpost.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return newServerNamed(t, certified, "--listen", public, "--config", filepath.Join(dir, "holdpost.yaml")), p
}

func startPebble(t *testing.T, name string, args ...string) *pebble {
	t.Helper()
	p := &pebble{cmd: exec.Command(name, args...), said: &output{}}
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), p.said.tail(100))
		}
	})
	return p
}

// kill ends it at once. Further calls do nothing.
func (p *pebble) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *pebble) readRoots(t *testing.T, url, dir string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		status, text := get(url)
		if status == http.StatusOK {
			p.roots = x509.NewCertPool()
			p.roots.AppendCertsFromPEM([]byte(text))
			p.rootFile = filepath.Join(dir, "root.pem")
			if err := os.WriteFile(p.rootFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the authority does not start: %d %s\n%s", status, text, p.said.tail(50))
		}
		<-time.After(10 * time.Millisecond)
	}
}

// issued returns how many certificates were.
func (p *pebble) issued() int { return strings.Count(p.said.tail(1<<20), "Issued certificate") }

// leafOf returns the certificate that a client gets, which must be valid for it.
func (p *pebble) leafOf(t *testing.T, s *server) *x509.Certificate {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.listen, &tls.Config{ServerName: certified, RootCAs: p.roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// leafOverQUIC opens a WebTransport session and returns the certificate of its connection.
func (p *pebble) leafOverQUIC(t *testing.T, s *server) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d := &wt.Transport{
		TLSClientConfig: &tls.Config{RootCAs: p.roots, ServerName: certified},
		QUICConfig:      &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true},
	}
	defer d.Close()
	_, session, err := d.Dial(ctx, "https://"+s.listen+"/socket.io/?EIO=4&transport=webtransport", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.CloseWithError(0, "")
	return session.SessionState().ConnectionState.TLS.PeerCertificates[0]
}
