package engineio

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A Refusal is the answer to a request that is not served (Engine.IO v4, "Error handling").
type Refusal struct {
	Status  int
	Code    int // -1: none, the body is the bare message
	Message string
	Err     error // what the client is not told, nil if there is no more to say
}

// The refusals of the protocol. Clients compare the bodies byte for byte.
var (
	unknownTransport = &Refusal{http.StatusBadRequest, 0, "Transport unknown", nil}
	unknownSession   = &Refusal{http.StatusBadRequest, 1, "Session ID unknown", nil}
	badMethod        = &Refusal{http.StatusBadRequest, 2, "Bad handshake method", nil}
	badRequest       = &Refusal{http.StatusBadRequest, 3, "Bad request", nil}
	forbidden        = &Refusal{http.StatusForbidden, 4, "Forbidden", nil}
	badVersion       = &Refusal{http.StatusBadRequest, 5, "Unsupported protocol version", nil}
	unavailable      = &Refusal{http.StatusServiceUnavailable, -1, "Service Unavailable", nil}
	upgradeRequired  = &Refusal{http.StatusUpgradeRequired, -1, "Upgrade Required", nil}
)

var (
	errOriginHeader = errors.New("malformed Origin header")
	errOrigin       = errors.New("origin not allowed")
	errTransport    = errors.New("request of another transport than the session's")
	errUpgrade      = errors.New("transport and Upgrade header do not fit")
	errRevision     = errors.New("protocol revision of another session")
	errMethod       = errors.New("method not allowed")
	errHandshake    = errors.New("malformed WebSocket handshake")
)

// because returns the refusal with its reason.
func (no Refusal) because(err error) *Refusal {
	no.Err = err
	return &no
}

// speaks reports whether the revision of the protocol that a request is of is served.
func (srv *Server) speaks(q *query) bool {
	return q.repeated&repeatedEIO == 0 && (q.eio == "4" || srv.config.AllowEIO3 && (q.eio == "3" || q.eio == ""))
}

// v3 reports whether the request is of revision 3, which a client need not say.
func (q *query) v3() bool { return q.eio != "4" }

// admit checks a request in the order that clients know, and returns its session, nil for a request to open one.
func (srv *Server) admit(r *http.Request) (*Session, *Refusal) {
	q := parseQuery(r.URL.RawQuery)
	upgrade := isUpgrade(r)
	switch {
	case q.repeated&repeatedTransport != 0,
		q.transport == Polling && !srv.polling,
		q.transport == WebSocket && !srv.websocket,
		q.transport != Polling && q.transport != WebSocket:
		return nil, unknownTransport
	}
	if no := srv.foreign(r); no != nil {
		return nil, no
	}
	if q.repeated&repeatedSID != 0 {
		return nil, unknownSession
	}
	if q.sid != "" {
		return srv.admitKnown(r, &q, upgrade)
	}
	switch {
	case r.Method != http.MethodGet:
		return nil, badMethod
	case upgrade != (q.transport == WebSocket):
		return nil, badRequest.because(errUpgrade)
	case !srv.speaks(&q):
		return nil, badVersion
	}
	return nil, srv.vetoed(r)
}

// foreign refuses a request from an origin that may not send it.
func (srv *Server) foreign(r *http.Request) *Refusal {
	switch {
	case !validOrigin(r.Header):
		return badRequest.because(errOriginHeader)
	case srv.config.CheckOrigin != nil && !srv.config.CheckOrigin(r):
		return forbidden.because(errOrigin)
	}
	return nil
}

// vetoed refuses to open a session if the application does.
func (srv *Server) vetoed(r *http.Request) *Refusal {
	if srv.config.AllowRequest == nil {
		return nil
	}
	err := srv.config.AllowRequest(r)
	if err == nil {
		return nil
	}
	no := forbidden.because(err)
	if text := err.Error(); text != "" {
		no.Message = text
	}
	return no
}

func (srv *Server) admitKnown(r *http.Request, q *query, upgrade bool) (*Session, *Refusal) {
	s := srv.session(q.sid)
	switch {
	case s == nil:
		return nil, unknownSession
	case upgrade && (q.transport != WebSocket || srv.config.NoUpgrades || r.Method != http.MethodGet):
		return nil, badRequest.because(errUpgrade)
	case !upgrade && (q.transport != Polling || s.Transport() != Polling):
		return nil, badRequest.because(errTransport)
	case !upgrade && r.Method != http.MethodGet && r.Method != http.MethodPost:
		return nil, badRequest.because(errMethod)
	case !srv.speaks(q) || q.v3() != s.v3:
		return nil, badRequest.because(errRevision)
	}
	return s, nil
}

// refuse writes the refusal: as JSON, or bare if the client wants a WebSocket and so won't parse it.
func (srv *Server) refuse(w http.ResponseWriter, r *http.Request, no *Refusal) {
	srv.refused(r, no)
	h := w.Header()
	status := no.Status
	var body []byte
	switch {
	case isUpgrade(r):
		if no.Code >= 0 {
			status = http.StatusBadRequest
		}
		h.Set("Connection", "close")
		h.Set("Content-Type", "text/html")
		body = []byte(no.Message)
	case no.Code < 0:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		body = []byte(no.Message)
	default:
		h.Set("Content-Type", "application/json")
		message, _ := json.Marshal(no.Message)
		body = append(body, `{"code":`...)
		body = strconv.AppendInt(body, int64(no.Code), 10)
		body = append(body, `,"message":`...)
		body = append(body, message...)
		body = append(body, '}')
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// refused tells the application of a refusal.
func (srv *Server) refused(r *http.Request, no *Refusal) {
	if srv.config.Refused != nil {
		srv.config.Refused(r, no)
	}
}

// isUpgrade reports whether the request asks for a WebSocket (RFC 6455 §4.2.1).
func isUpgrade(r *http.Request) bool {
	return hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

// hasToken reports whether the comma-separated lists hold the token, in any case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.Trim(part, " \t"), token) {
				return true
			}
		}
	}
	return false
}

func validOrigin(h http.Header) bool {
	for _, origin := range h["Origin"] {
		for i := range len(origin) {
			if c := origin[i]; c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
		}
	}
	return true
}

// A query holds the parameters that belong to the protocol; all others are the application's.
type query struct {
	eio, transport, sid string
	t                   string // not the protocol's, but see stampOf
	b64                 bool   // the client takes no binary payloads (revision 3)
	repeated            uint8
}

const (
	repeatedEIO = 1 << iota
	repeatedTransport
	repeatedSID
)

// parseQuery picks the protocol's parameters. It does without a map for all of them, since every poll comes here.
func parseQuery(raw string) (q query) {
	var seen uint8
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		var bit uint8
		var dst *string
		switch unescape(key) {
		case "EIO":
			bit, dst = repeatedEIO, &q.eio
		case "transport":
			bit, dst = repeatedTransport, &q.transport
		case "sid":
			bit, dst = repeatedSID, &q.sid
		case "b64":
			q.b64 = true
			continue
		case "t":
			q.t = value
			continue
		default:
			continue
		}
		q.repeated |= seen & bit
		seen |= bit
		*dst = unescape(value)
	}
	return q
}

// unescape leaves what is not properly escaped as it is, which then is no known value either.
func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
