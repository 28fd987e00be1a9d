package api

import (
	"errors"
	"net/http"

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

// refuse answers with an error of the broker. What it did not foresee goes to the log and not to the caller.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problem{Code: queue.Code(err), Detail: err.Error()}
	if p.Status = statusOf[p.Code]; p.Status == 0 {
		p.Status = http.StatusBadRequest // the others tell what is wrong with the arguments
	}
	if refused, ok := errors.AsType[*queue.Error](err); ok {
		p.First = refused.First.Offset.String() // empty but for a conflict
	}
	if p.Code == "internal" {
		a.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		p.Detail = "the reason is in the server's log"
	}
	fail(w, p)
}
