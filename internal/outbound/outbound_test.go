package outbound

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestCheck(t *testing.T) {
	for _, a := range []string{
		"127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1", "fe80::1", "fe80::1%eth0",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "224.0.0.1", "ff02::1", "255.255.255.255", "100.64.0.1", "0.1.2.3",
		"192.0.2.1", "198.18.0.1",
	} {
		if err := Check(netip.MustParseAddr(a), nil); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1"} {
		if err := Check(netip.MustParseAddr(a), nil); err != nil {
			t.Error(err)
		}
	}
	ten := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	if err := Check(netip.MustParseAddr("10.1.2.3"), ten); err != nil {
		t.Error(err)
	}
	if err := Check(netip.MustParseAddr("10.2.2.3"), ten); err == nil {
		t.Error("beyond the allowed network")
	}
}

func TestClient(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer here.Close()

	var networks Networks
	client := Client(&networks, 5*time.Second)
	for _, url := range []string{here.URL, strings.Replace(here.URL, "127.0.0.1", "localhost", 1), strings.Replace(here.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		if _, err := client.Get(url); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", url, err)
		}
	}
	networks.Replace([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	defer client.CloseIdleConnections()
	response, err := client.Get(here.URL)
	if err != nil || response.StatusCode != http.StatusFound {
		t.Fatalf("%v %v", response, err)
	}
	response.Body.Close()
}

// Whatever a URL calls this machine, and whoever answers: nothing private is reached, and nobody makes a request last or grow (K1, K3).
func TestHostileEndpoints(t *testing.T) {
	var bomb bytes.Buffer
	g := gzip.NewWriter(&bomb)
	g.Write(make([]byte, 1<<20))
	g.Close()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-release
		case "/dribble":
			for r.Context().Err() == nil {
				io.WriteString(w, ".")
				w.(http.Flusher).Flush()
			}
		case "/headers":
			w.Header().Set("X", strings.Repeat("x", 128<<10))
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}
	}))
	defer server.Close()
	defer close(release)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")

	var networks Networks
	client := Client(&networks, 5*time.Second)
	defer client.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "a@127.0.0.1"} {
		if w, err := client.Get("http://" + host + ":" + port + "/"); err == nil {
			w.Body.Close()
			t.Errorf("%s is reached", host)
		}
	}
	for _, url := range []string{"file:///etc/passwd", "gopher://127.0.0.1:" + port, "http://127.0.0.1:" + port + "/\r\nX: y"} {
		if w, err := client.Get(url); err == nil {
			w.Body.Close()
			t.Errorf("%s is reached", url)
		}
	}

	networks.Replace([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	hasty := Client(&networks, 200*time.Millisecond)
	defer hasty.CloseIdleConnections()
	patient := Client(&networks, time.Minute)
	defer patient.CloseIdleConnections()
	for path, c := range map[string]*http.Client{"/silent": hasty, "/dribble": hasty, "/headers": patient} {
		w, err := c.Get(server.URL + path)
		if err == nil {
			_, err = io.Copy(io.Discard, w.Body)
			w.Body.Close()
		}
		if err == nil {
			t.Errorf("%s has an end", path)
		}
	}
	w, err := patient.Get(server.URL + "/bomb")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	if n, err := io.Copy(io.Discard, w.Body); err != nil || n != int64(bomb.Len()) {
		t.Errorf("a compressed answer has become %d bytes: %v", n, err)
	}
	self := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer self.Close()
	self.Config.ErrorLog = log.New(io.Discard, "", 0)
	if w, err := patient.Get(self.URL); err == nil {
		w.Body.Close()
		t.Error("a certificate that nobody vouches for is believed")
	}
}
