package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/queue"
)

// problem is an error as RFC 9457 wants it, with the stable code of docs/errors.md.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	// First is where the event was stored whose id was used again for another; only with code "conflict".
	First string `json:"first,omitempty"`
}

func fail(w http.ResponseWriter, p problem) {
	p.Type = "urn:holdpost:" + p.Code
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	encoder(w).Encode(p) // an error is the client's going away
}

var statusOf = map[string]int{
	"unauthorized":    http.StatusUnauthorized,
	"revoked":         http.StatusUnauthorized,
	"token_used":      http.StatusUnauthorized,
	"token_expired":   http.StatusUnauthorized,
	"forbidden":       http.StatusForbidden,
	"not_found":       http.StatusNotFound,
	"not_in_flight":   http.StatusConflict,
	"queue_exclusive": http.StatusConflict,
	"taken_over":      http.StatusConflict,
	"wrong_last":      http.StatusConflict,
	"topic_full":      http.StatusInsufficientStorage,
	"too_many":        http.StatusTooManyRequests,
	"too_large":       http.StatusRequestEntityTooLarge,
	"conflict":        http.StatusConflict,
	"storage_full":    http.StatusInsufficientStorage,
	"unavailable":     http.StatusServiceUnavailable,
	"closed":          http.StatusServiceUnavailable,
	"cancelled":       http.StatusServiceUnavailable,
	"timeout":         http.StatusGatewayTimeout,
	"unknown_outcome": http.StatusGatewayTimeout,
	"internal":        http.StatusInternalServerError,
}

// codeOf returns the code of an error of a lower package, and the text that a caller may see.
func codeOf(err error) (code, detail string) {
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return e.Code, e.Detail
	}
	if errors.Is(err, holdpost.ErrInvalidName) {
		return "invalid_name", err.Error()
	}
	if errors.Is(err, holdpost.ErrTooMany) {
		return "too_many", err.Error()
	}
	return queue.Code(err), err.Error()
}

// refuse answers with an error of a lower package. What it did not foresee goes to the log and not to the caller.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var p problem
	p.Code, p.Detail = codeOf(err)
	if p.Status = statusOf[p.Code]; p.Status == 0 {
		p.Status = http.StatusBadRequest // the others tell what is wrong with the arguments
	}
	if refused, ok := errors.AsType[*queue.Error](err); ok {
		p.First = refused.First.Offset.String() // empty but for a conflict
	}
	if p.Code == "internal" {
		a.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		p.Detail = internalDetail
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	fail(w, p)
}

const internalDetail = "the reason is in the server's log"

// badRequest answers that the request itself makes no sense.
func badRequest(w http.ResponseWriter, format string, args ...any) {
	fail(w, problem{Status: http.StatusBadRequest, Code: "invalid_request", Detail: fmt.Sprintf(format, args...)})
}
