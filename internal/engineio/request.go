package engineio

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A refusal is the answer to a request that is not served (Engine.IO v4, "Error handling").
type refusal struct {
	status  int
	code    int // -1: none, the body is the bare message
	message string
}

// The refusals of the protocol. Clients compare the bodies byte for byte.
var (
	unknownTransport = &refusal{http.StatusBadRequest, 0, "Transport unknown"}
	unknownSession   = &refusal{http.StatusBadRequest, 1, "Session ID unknown"}
	badMethod        = &refusal{http.StatusBadRequest, 2, "Bad handshake method"}
	badRequest       = &refusal{http.StatusBadRequest, 3, "Bad request"}
	forbidden        = &refusal{http.StatusForbidden, 4, "Forbidden"}
	badVersion       = &refusal{http.StatusBadRequest, 5, "Unsupported protocol version"}
	unavailable      = &refusal{http.StatusServiceUnavailable, -1, "Service Unavailable"}
)

const protocolVersion = "4"

// admit checks a request in the order that clients know, and returns its session, nil for a request to open one.
func (srv *Server) admit(r *http.Request) (*Session, *refusal) {
	q := parseQuery(r.URL.RawQuery)
	upgrade := isUpgrade(r)
	switch {
	case q.repeated&repeatedTransport != 0,
		q.transport == Polling && !srv.polling,
		q.transport == WebSocket && !srv.websocket,
		q.transport != Polling && q.transport != WebSocket:
		return nil, unknownTransport
	case !validOrigin(r.Header):
		return nil, badRequest
	case srv.config.CheckOrigin != nil && !srv.config.CheckOrigin(r):
		return nil, forbidden
	case q.repeated&repeatedSID != 0:
		return nil, unknownSession
	}
	if q.sid != "" {
		return srv.admitKnown(r, &q, upgrade)
	}
	switch {
	case r.Method != http.MethodGet:
		return nil, badMethod
	case upgrade != (q.transport == WebSocket):
		return nil, badRequest
	case q.repeated&repeatedEIO != 0 || q.eio != protocolVersion:
		return nil, badVersion
	}
	if allow := srv.config.AllowRequest; allow != nil {
		if err := allow(r); err != nil {
			no := *forbidden
			if text := err.Error(); text != "" {
				no.message = text
			}
			return nil, &no
		}
	}
	return nil, nil
}

func (srv *Server) admitKnown(r *http.Request, q *query, upgrade bool) (*Session, *refusal) {
	s := srv.session(q.sid)
	switch {
	case s == nil:
		return nil, unknownSession
	case upgrade && (q.transport != WebSocket || srv.config.NoUpgrades || r.Method != http.MethodGet),
		!upgrade && (q.transport != Polling || s.Transport() != Polling),
		!upgrade && r.Method != http.MethodGet && r.Method != http.MethodPost,
		q.repeated&repeatedEIO != 0 || q.eio != protocolVersion:
		return nil, badRequest
	}
	return s, nil
}

// refuse writes the refusal: as JSON, or bare if the client wants a WebSocket and so won't parse it.
func refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	h := w.Header()
	status := no.status
	var body []byte
	switch {
	case isUpgrade(r):
		if no.code >= 0 {
			status = http.StatusBadRequest
		}
		h.Set("Connection", "close")
		h.Set("Content-Type", "text/html")
		body = []byte(no.message)
	case no.code < 0:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		body = []byte(no.message)
	default:
		h.Set("Content-Type", "application/json")
		message, _ := json.Marshal(no.message)
		body = append(body, `{"code":`...)
		body = strconv.AppendInt(body, int64(no.code), 10)
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
