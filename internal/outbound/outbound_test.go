package outbound

import (
	"errors"
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
