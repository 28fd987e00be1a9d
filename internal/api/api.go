package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/queue"
)

// Config says what the API works on. Broker and Ready are required.
type Config struct {
	Broker *queue.Broker
	// Ready returns nil while requests should be sent here, or why not.
	Ready func(context.Context) error
	// Leaving ends when the server begins to: who follows a topic is asked to go, and nothing more is pulled.
	// nil: it never does.
	Leaving context.Context
	// Namespace has the sockets, and Post what they are subscribed to. Without them there are neither sockets nor rooms.
	Namespace *holdpost.Namespace
	Post      *delivery.Delivery
	// Identity returns who a socket is. Required with Namespace.
	Identity func(*holdpost.Socket) string
	// Authority judges the API keys. While it has none, and without it, whoever reaches the API may do everything.
	Authority *auth.Authority
	// Revoked is called when an identity was revoked, stored or not, to turn out its sockets. nil: nobody is.
	Revoked func()
	// More are further handlers, by path: metrics, profiles. Those below "/debug/" and "/v1/" need the permission to manage.
	More map[string]http.Handler
	// Host is where the listener listens, as it was configured, without the port. Requests may name it, and always
	// this machine's loopback names. When it is empty or unspecified ("0.0.0.0") they may name any address; a name only while
	// Authority has keys.
	Host string
	// Logger takes what no caller sees. Default [slog.Default].
	Logger *slog.Logger
}

type api struct {
	Config
	host    string
	anyAddr bool
	openapi []byte
}

// Handler returns the API.
func Handler(c Config) http.Handler {
	a := &api{Config: c, host: strings.ToLower(c.Host)}
	if a.Logger == nil {
		a.Logger = slog.Default()
	}
	if addr, err := netip.ParseAddr(c.Host); c.Host == "" || err == nil && addr.IsUnspecified() {
		a.anyAddr = true
	}
	if a.Leaving == nil {
		a.Leaving = context.Background()
	}
	mux := http.NewServeMux()
	routes := a.routes()
	a.openapi = describe(routes)
	methods := make(map[string][]string)
	for _, r := range routes {
		mux.Handle(r.method+" "+r.path, a.keyed(r.needs, r.handle))
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods { // whatever has none of the methods
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			fail(w, problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Detail: "use " + strings.Join(allowed, " or ")})
		})
	}
	for path, h := range c.More {
		needs := nothing
		if strings.HasPrefix(path, "/debug/") || strings.HasPrefix(path, "/v1/") {
			needs = toManage
		}
		mux.Handle("GET "+path, a.keyed(needs, h.ServeHTTP))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, problem{Status: http.StatusNotFound, Code: "not_found", Detail: "there is nothing at this path"})
	})
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(w, problem{Status: http.StatusForbidden, Code: "cross_origin", Detail: "a page of another origin can't change anything here"})
	}))
	return a.guard(cross.Handler(mux))
}

// guard refuses what reaches this machine under a name that is not this machine's: a foreign page whose own name was made
// to point here would be of the same origin otherwise. It has no key, though: with keys, others find this machine by the names
// that they have for it, as containers do.
func (a *api) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !a.known(r.Host) {
			fail(w, problem{Status: http.StatusForbidden, Code: "forbidden_host", Detail: "the Host header does not name this machine"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *api) known(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if host == "localhost" || host == a.host && host != "" {
		return true
	}
	if a.anyAddr && host != "" && a.Authority != nil && a.Authority.NeedsKey() {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && (a.anyAddr || addr.Unmap().IsLoopback())
}

func (a *api) livez(w http.ResponseWriter, _ *http.Request) {
	reply(w, status{"alive"})
}

func (a *api) readyz(w http.ResponseWriter, r *http.Request) {
	if err := a.Ready(r.Context()); err != nil {
		fail(w, problem{Status: http.StatusServiceUnavailable, Code: "not_ready", Detail: err.Error()})
		return
	}
	reply(w, status{"ready"})
}

type status struct {
	Status string `json:"status"`
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder(w).Encode(v) // an error is the client's going away
}

// encoder leaves <, > and & as they are: nothing here ends up in a page.
func encoder(w http.ResponseWriter) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}
