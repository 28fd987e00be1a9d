package app

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost/internal/config"
)

// writeCertificate writes a certificate for 127.0.0.1 and its key into files.
func writeCertificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	s.Close()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: s.Certificate().Raw}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return certFile, keyFile, roots
}

// metric tells whether the metrics have a line.
func (p *place) metric(line string) bool {
	p.t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Host = "127.0.0.1"
	w := httptest.NewRecorder()
	p.api.ServeHTTP(w, r)
	return strings.Contains(w.Body.String(), "\n"+line+"\n")
}

// As many handshakes go on at a time as are configured; one more is ended at once, and whoever has sent a request counts no more.
func TestTLSHandshakesAreBounded(t *testing.T) {
	certFile, keyFile, roots := writeCertificate(t)
	p := newPlace(t, func(c *config.Config) {
		c.TLS.CertFile, c.TLS.KeyFile, c.Limits.TLSHandshakes = certFile, keyFile, 2
	})
	address := p.server.public.Addr().String()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	going := func(want int) {
		t.Helper()
		g := &p.server.handshakes
		for n := -1; n != want; runtime.Gosched() {
			g.mu.Lock()
			n = len(g.current)
			g.mu.Unlock()
		}
	}
	ask := func() error {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}} // a connection of its own, which stays
		t.Cleanup(c.CloseIdleConnections)
		w, err := c.Get("https://" + address + "/socket.io/?EIO=4&transport=polling")
		if err != nil {
			return err
		}
		defer w.Body.Close()
		_, err = io.Copy(io.Discard, w.Body)
		if w.StatusCode != 200 {
			t.Errorf("status %d", w.StatusCode)
		}
		return err
	}
	first, second := dial(), dial()
	going(2)
	if n, err := dial().Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("one too many: %d %v", n, err)
	}
	if err := ask(); err == nil {
		t.Error("one too many is answered")
	}
	if !p.metric(`holdpost_refused_total{by="tls"} 2`) {
		t.Error("those were not counted")
	}
	first.Close()
	going(1)
	for range 3 {
		if err := ask(); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
	if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) { // after 5 s
		t.Errorf("a handshake that does not go on: %d %v", n, err)
	}
	going(0)
}

// Without memory nobody new is let in and nothing is compressed; with it again everything is as before.
func TestPressedForMemory(t *testing.T) {
	p := newPlace(t, nil)
	get := func(query string) (int, string) {
		return p.Request("GET", "EIO=4&transport=polling"+query, "", "Accept-Encoding", "gzip")
	}
	_, open := get("")
	var session struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(open, "0")), &session); err != nil {
		t.Fatal(open)
	}
	sid := "&sid=" + session.SID
	auth, _ := json.Marshal(map[string]string{"token": token(t, jwt.SigningMethodHS256, []byte(jwtSecret), nil)})
	if status, said := p.Request("POST", "EIO=4&transport=polling"+sid, "40"+string(auth)); status != 200 {
		t.Fatal(said)
	}
	get(sid)
	for _, held := range []bool{false, true, false} {
		p.server.hold(held)
		if status, _ := get(""); (status == http.StatusServiceUnavailable) != held {
			t.Errorf("held is %v, and a new client is answered %d", held, status)
		}
		if err := p.server.sockets.Of("/").Emit(t.Context(), "long", strings.Repeat("x", 10_000)); err != nil {
			t.Fatal(err)
		}
		if _, body := get(sid); (len(body) > 10_000) != held {
			t.Errorf("held is %v, and a poll is answered by %d bytes", held, len(body))
		}
	}
}
