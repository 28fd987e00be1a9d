package api

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"

	"github.com/holdpost/holdpost/queue"
)

const (
	ndjson = "application/x-ndjson"

	maxBatch      = 1000      // messages of one request
	maxBatchBytes = 8_000_000 // and its bytes
)

// result is the outcome of one message of a batch: that of a publish, or an error.
type result struct {
	*published
	Error *failure `json:"error,omitempty"`
}

// failure is an error in an answer that has others too.
type failure struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// publishAll publishes the messages of a batch, a line each, in their order, and answers each with a line. What is wrong with
// one keeps none of the others from being stored.
func (a *api) publishAll(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, ndjson, maxBatchBytes)
	if !ok {
		return
	}
	var lines [][]byte
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			lines = append(lines, line)
		}
	}
	if len(lines) > maxBatch {
		fail(w, problem{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Detail: fmt.Sprintf("there are more than %d messages", maxBatch)})
		return
	}
	results := make([]result, len(lines))
	var stored sync.WaitGroup
	for i, line := range lines {
		stored.Add(1)
		err := a.publishLine(r, line, func(p queue.Published, err error) {
			defer stored.Done()
			if err != nil {
				results[i].Error = a.failure(r, err)
				return
			}
			out := newPublished(p)
			results[i].published = &out
		})
		if err != nil {
			results[i].Error = err
			stored.Done()
		}
	}
	stored.Wait() // each is answered, when the broker is closed at the latest
	w.Header().Set("Content-Type", ndjson)
	e := encoder(w)
	for i := range results {
		if e.Encode(&results[i]) != nil { // the client went away
			return
		}
	}
}

func (a *api) publishLine(r *http.Request, line []byte, done func(queue.Published, error)) *failure {
	m, err := decodeMessage(line)
	if err != nil {
		return &failure{"invalid_request", err.Error()}
	}
	if err := a.mayPublish(r, m); err != nil {
		return a.failure(r, err)
	}
	if err := a.Broker.PublishAsync(r.Context(), m, done); err != nil {
		return a.failure(r, err)
	}
	return nil
}

func (a *api) failure(r *http.Request, err error) *failure {
	code, detail := codeOf(err)
	if code == "internal" {
		a.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		detail = internalDetail
	}
	return &failure{code, detail}
}
