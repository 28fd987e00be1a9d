package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrClosed is returned by a [Socket] that is not connected and does not try to be: it never was, or it has ended.
	ErrClosed = errors.New("client: socket closed")

	// ErrFull is returned for an event that finds too much waiting: to be sent, to be answered, in an outbox.
	ErrFull = errors.New("client: too much waits to be sent")
)

// DialError says why a server can't be reached. Its text says what to do about it. Code is one of
//
//	invalid_config  the URL or the Config can't be used
//	unreachable     no connection: refused, no such host, timed out
//	certificate     the server's certificate is not trusted
//	not_found       404: there is a server, but none of Socket.IO at this path
//	refused         the server does not want this client or what it asks for; Err quotes it
//	version         the server speaks another revision of the protocol
//	unavailable     an HTTP status of 5xx or 429: a proxy without a server behind it, a server that is starting or full
//	redirect        more redirects than Config.MaxRedirects, or one away from TLS
//	not_socketio    an answer that is none of Socket.IO
//	malformed       an answer of Socket.IO with something wrong in it
//
// The first attempt to connect ends with any but unreachable and unavailable, which may pass. Once a client has been connected
// every attempt that fails is followed by another.
type DialError struct {
	Code       string
	URL        string        // that was requested, without its query
	Transport  string        // "websocket", "polling", or "" when none was tried
	Status     int           // of HTTP, 0 without an answer
	RetryAfter time.Duration // what the server asked to wait
	Err        error
}

// The codes of DialError.
const (
	codeConfig      = "invalid_config"
	codeUnreachable = "unreachable"
	codeCertificate = "certificate"
	codeNotFound    = "not_found"
	codeRefused     = "refused"
	codeVersion     = "version"
	codeUnavailable = "unavailable"
	codeRedirect    = "redirect"
	codeNotSocketIO = "not_socketio"
	codeMalformed   = "malformed"
)

var advice = map[string]string{
	codeUnreachable: "is the server running, and the address right?",
	codeCertificate: "have its authority trusted through Config.TLS.RootCAs",
	codeNotFound:    "there is no Socket.IO server at this path; set Config.Path to where it is",
	codeVersion:     "the server must speak Socket.IO 3 or later (Engine.IO 4)",
	codeUnavailable: "the server is starting, full, or down behind its proxy",
	codeRedirect:    "use the address that the server redirects to",
	codeNotSocketIO: "what answers is no Socket.IO server; is a proxy or another program in its place?",
}

func (e *DialError) Error() string {
	var b strings.Builder
	b.WriteString("client: connect")
	if e.URL != "" {
		b.WriteString(" to " + e.URL)
	}
	if e.Transport != "" {
		b.WriteString(" over " + e.Transport)
	}
	b.WriteString(": " + e.Code)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP status %d)", e.Status)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if a := advice[e.Code]; a != "" {
		b.WriteString(": " + a)
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *DialError) Unwrap() error { return e.Err }

// passing tells whether the same attempt may succeed later.
func (e *DialError) passing() bool { return e.Code == codeUnreachable || e.Code == codeUnavailable }

// elsewhere tells whether another transport may succeed: proxies that know nothing of WebSockets answer in many ways.
func (e *DialError) elsewhere() bool {
	switch e.Code {
	case codeConfig, codeUnreachable, codeCertificate, codeVersion:
		return false
	}
	return true
}

var errRedirect = errors.New("redirected too often, or away from TLS")

// requestError makes a DialError of what [http.Client.Do] returned.
func requestError(err error) *DialError {
	code := codeUnreachable
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		code = codeCertificate
	} else if errors.Is(err, errRedirect) {
		code = codeRedirect
	}
	return &DialError{Code: code, Err: err}
}

// Bytes of an answer that is an error: enough to say what it is.
const maxErrorBody = 1024

// answerError makes a DialError of an answer to a handshake that lets nobody in. It does not close the body.
func answerError(resp *http.Response) *DialError {
	e := &DialError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what can't be read is not quoted
	text := strings.TrimSpace(string(body))
	var said struct { // by Engine.IO over polling; a WebSocket is refused with the message alone
		Code    *int
		Message string
	}
	known := json.Unmarshal(body, &said) == nil && said.Code != nil
	switch {
	case known && *said.Code == 5, strings.HasPrefix(text, "Unsupported protocol version"):
		e.Code = codeVersion
	case known:
		e.Code, e.Err = codeRefused, fmt.Errorf("%q", said.Message)
	case e.Status == http.StatusNotFound:
		e.Code = codeNotFound
	case e.Status >= 500, e.Status == http.StatusTooManyRequests:
		e.Code = codeUnavailable
	case e.Status == http.StatusBadRequest, e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		e.Code, e.Err = codeRefused, fmt.Errorf("%.100q", text)
	default:
		e.Code = codeNotSocketIO
	}
	return e
}

// retryAfter reads the header: seconds or a date (RFC 9110 §10.2.3). What it can't be is ignored.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return boundedWait(float64(seconds))
	}
	if at, err := http.ParseTime(value); err == nil {
		return boundedWait(time.Until(at).Seconds())
	}
	return 0
}

// maxRetryAfter bounds what a server may ask to wait.
const maxRetryAfter = 10 * time.Minute

func boundedWait(seconds float64) time.Duration {
	if !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
}
