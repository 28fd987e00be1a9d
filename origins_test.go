package holdpost

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	const host = "chat.example.com"
	tests := []struct {
		allowed []string // nil: the page's own host
		yes, no []string
	}{
		{nil,
			[]string{"http://chat.example.com", "https://chat.example.com", "HTTPS://CHAT.EXAMPLE.COM"},
			[]string{"https://example.com", "https://evil.com", "https://chat.example.com:444", "https://chat.example.com.evil.com",
				"https://chat.example.com@evil.com", "null", "", "file://", "https://chat.example.com/", "https://chat.example.com?", "https://chat.example.com#x", "chat.example.com"}},
		{[]string{"https://example.com"},
			[]string{"https://example.com", "https://example.com:443", "HTTPS://EXAMPLE.COM"},
			[]string{"https://example.com.evil", "https://example.community", "http://example.com", "https://example.com:444", "https://www.example.com",
				"https://example.com.", "https://chat.example.com", "https://xn--example-9c1.com", "https://user@example.com", "null", "", "https://", "https://example.com:", "https://e\u212aample.com", "https://example.c\u03bfm"}},
		{[]string{"http://example.com:8080"},
			[]string{"http://example.com:8080"},
			[]string{"http://example.com", "https://example.com:8080", "http://example.com:80", "http://example.com:808"}},
		{[]string{"https://*.example.com"},
			[]string{"https://a.example.com", "https://xn--bcher-kva.example.com"},
			[]string{"https://example.com", "https://evil-example.com", "https://a.b.example.com", "https://.example.com", "https://a.example.com:444", "https://*.example.com.evil"}},
		{[]string{"http://localhost:*", "http://[::1]:*"},
			[]string{"http://localhost", "http://localhost:3000", "http://[::1]:3000", "http://[::1]"},
			[]string{"https://localhost:3000", "http://localhost.evil:3000", "http://127.0.0.1:3000", "http://[::2]:3000"}},
		{[]string{"https://a.com", "https://b.com"},
			[]string{"https://a.com", "https://b.com"},
			[]string{"https://c.com", "https://a.com https://b.com", "https://a.com,https://b.com"}},
		{[]string{"*"},
			[]string{"https://anything.example", "null", "file://", "http://x:1"},
			nil},
	}
	for _, tt := range tests {
		l := newOriginList(tt.allowed)
		for _, origin := range tt.yes {
			if !l.allow(requestFrom(host, origin)) {
				t.Errorf("%q refuses %q", tt.allowed, origin)
			}
		}
		for _, origin := range tt.no {
			if l.allow(requestFrom(host, origin)) {
				t.Errorf("%q allows %q", tt.allowed, origin)
			}
		}
		if !l.allow(requestFrom(host)) {
			t.Errorf("%q refuses who is no browser", tt.allowed)
		}
		if l.allow(requestFrom(host, "https://a.com", "https://a.com")) {
			t.Errorf("%q allows two origins", tt.allowed)
		}
	}
}

func requestFrom(host string, origins ...string) *http.Request {
	r := httptest.NewRequest("GET", "http://"+host+"/socket.io/?EIO=4&transport=polling", nil)
	for _, o := range origins {
		r.Header.Add("Origin", o)
	}
	return r
}

const ascii = "abcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,;=%\"<>"

// FuzzOrigins: what is allowed is nothing but a scheme, a host of the list, and a port.
func FuzzOrigins(f *testing.F) {
	for _, seed := range []string{"https://example.com", "https://a.example.com", "http://localhost:1", "https://example.com@evil", "null", "https://example.com\\.evil",
		"https://example.com%2eevil", "https://[::1]", "https://example.com:443:443", "HTTPS://EXAMPLE.COM", "https://example.com\x00"} {
		f.Add(seed)
	}
	l := newOriginList([]string{"https://example.com", "https://*.example.com", "http://localhost:*"})
	f.Fuzz(func(t *testing.T, origin string) {
		if !l.allow(requestFrom("host", origin)) {
			return
		}
		rest, ok := strings.CutPrefix(lowerASCII(origin), "https://")
		local, isLocal := strings.CutPrefix(lowerASCII(origin), "http://localhost")
		switch {
		case isLocal && (local == "" || strings.Trim(local[1:], "0123456789") == "" && local[0] == ':'):
		case ok && (rest == "example.com" || rest == "example.com:443"):
		case ok:
			label, _, _ := strings.Cut(rest, ".")
			if tail := strings.TrimPrefix(rest, label); label == "" || strings.Trim(label, ascii) != "" || tail != ".example.com" && tail != ".example.com:443" {
				t.Errorf("allows %q", origin)
			}
		default:
			t.Errorf("allows %q", origin)
		}
	})
}
