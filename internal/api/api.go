package api

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/holdpost/holdpost/queue"
)

// maxBody bounds a publish: the most that the broker takes as one event, and room for the object around it.
const maxBody = 1_000_000 + 64<<10

// Config says what the API works on. Broker and Ready are required.
type Config struct {
	Broker *queue.Broker
	// Ready returns nil while requests should be sent here, or why not.
	Ready func() error
	// Host is where the listener listens, as it was configured, without the port. Requests may name it, and always
	// this machine's loopback names. When it is empty or unspecified ("0.0.0.0") they may name any address, but no name.
	Host string
	// Logger takes what no caller sees. Default [slog.Default].
	Logger *slog.Logger
}

type api struct {
	broker  *queue.Broker
	ready   func() error
	host    string
	anyAddr bool
	log     *slog.Logger
}

// Handler returns the API.
func Handler(c Config) http.Handler {
	a := &api{broker: c.Broker, ready: c.Ready, host: strings.ToLower(c.Host), log: c.Logger}
	if a.log == nil {
		a.log = slog.Default()
	}
	if addr, err := netip.ParseAddr(c.Host); c.Host == "" || err == nil && addr.IsUnspecified() {
		a.anyAddr = true
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/publish", only(http.MethodPost, a.publish))
	mux.HandleFunc("/v1/topics/{topic}/events", only(http.MethodGet, a.events))
	mux.HandleFunc("/livez", only(http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]string{"status": "alive"})
	}))
	mux.HandleFunc("/readyz", only(http.MethodGet, a.readyz))
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
// to point here would be of the same origin otherwise.
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
	addr, err := netip.ParseAddr(host)
	return err == nil && (a.anyAddr || addr.Unmap().IsLoopback())
}

func (a *api) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		fail(w, problem{Status: http.StatusServiceUnavailable, Code: "not_ready", Detail: err.Error()})
		return
	}
	reply(w, map[string]string{"status": "ready"})
}

// only answers every other method with 405; HEAD goes where GET does.
func only(method string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			w.Header().Set("Allow", method)
			fail(w, problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Detail: "use " + method})
			return
		}
		next(w, r)
	}
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
