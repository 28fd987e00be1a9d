package holdpost

import (
	"net/http"
	"net/url"
	"strings"
)

// originList decides which pages may connect, over every transport: a WebSocket handshake is not protected by CORS.
type originList struct {
	any     bool
	allowed []originPattern // empty: pages of the request's own host
}

type originPattern struct {
	scheme, host, port string
	anyLabel           bool // host begins with "*.": one label stands for the star
	anyPort            bool
}

func newOriginList(origins []string) *originList {
	l := &originList{}
	for _, o := range origins {
		if o == "*" {
			l.any = true
			continue
		}
		if p, ok := parseOriginPattern(o); ok {
			l.allowed = append(l.allowed, p)
		}
	}
	return l
}

// parseOriginPattern reports whether o is a pattern that an origin can match.
func parseOriginPattern(o string) (p originPattern, ok bool) {
	var rest string
	p.scheme, rest, ok = strings.Cut(lowerASCII(o), "://")
	if host, ok := strings.CutSuffix(rest, ":*"); ok {
		p.anyPort, rest = true, host
	}
	if host, ok := strings.CutPrefix(rest, "*."); ok {
		p.anyLabel, rest = true, host
	}
	u := url.URL{Host: rest}
	p.host, p.port = u.Hostname(), portOf(p.scheme, u.Port())
	return p, ok && p.scheme != "" && p.host != "" && !strings.ContainsAny(rest, "/?#@* ")
}

// allow is the one verdict on an Origin header. No header means no browser.
func (l *originList) allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	switch {
	case len(values) == 0:
		return true
	case len(values) > 1:
		return false
	case l.any:
		return true
	}
	origin := lowerASCII(values[0])
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || u.Scheme+"://"+u.Host != origin || strings.HasSuffix(origin, ":") {
		return false // "null", "file://" and whatever else is no web origin
	}
	if len(l.allowed) == 0 {
		return u.Host == lowerASCII(r.Host)
	}
	for _, p := range l.allowed {
		if p.matches(u) {
			return true
		}
	}
	return false
}

// lowerASCII leaves what is not ASCII alone: the lower case of some letters is, and would pass for another host.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

func (p *originPattern) matches(u *url.URL) bool {
	if u.Scheme != p.scheme || !p.anyPort && portOf(u.Scheme, u.Port()) != p.port {
		return false
	}
	host := u.Hostname()
	if p.anyLabel {
		label, parent, ok := strings.Cut(host, ".")
		return ok && label != "" && parent == p.host
	}
	return host == p.host
}

func portOf(scheme, port string) string {
	switch {
	case port != "":
		return port
	case scheme == "https":
		return "443"
	case scheme == "http":
		return "80"
	}
	return ""
}

// maxRequestHeaders bounds the list of header names that a preflight asks for, in bytes.
const maxRequestHeaders = 1024

// cors sets the headers with which a browser lets a page of an allowed foreign origin poll. It reports whether the
// request was a preflight and has been answered.
func (l *originList) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	origin := r.Header.Get("Origin")
	if origin == "" || r.Header.Get("Upgrade") != "" { // a WebSocket's handshake has no use for them
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if !l.allow(r) {
		return false
	}
	if l.any { // credentials never go together with "anyone"
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	names := r.Header.Get("Access-Control-Request-Headers")
	if len(names) > maxRequestHeaders {
		w.WriteHeader(http.StatusBadRequest)
		return true
	}
	if names != "" {
		h.Set("Access-Control-Allow-Headers", names)
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
