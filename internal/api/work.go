package api

import (
	"context"
	"net/http"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/queue"
)

// maxWait bounds how long a pull waits for an event.
const maxWait = 30 * time.Second

type pullRequest struct {
	Most int  `json:"most,omitempty"` // events at once; 0 is 1
	Wait span `json:"wait,omitempty"` // for the first of them, at most 30s
}

type deliveries struct {
	Events []delivered `json:"events"`
}

type delivered struct {
	event
	Attempt int `json:"attempt"`
}

func newDeliveries(all []queue.Delivery) deliveries {
	out := deliveries{make([]delivered, len(all))}
	for i, d := range all {
		out.Events[i] = delivered{newEvent(d.Event), d.Attempt}
	}
	return out
}

// mayWork tells whether whoever sent the request may take events from a queue.
func (a *api) mayWork(w http.ResponseWriter, r *http.Request, q *queue.Queue) bool {
	return a.allow(w, r, auth.Subscribe, q.Topic()) && a.allow(w, r, auth.Work, q.Name())
}

// pull takes events of a shared queue. Each is the caller's for the queue's ackTimeout, and then another's.
func (a *api) pull(w http.ResponseWriter, r *http.Request) {
	in := pullRequest{Most: 1}
	if !decode(w, r, &in, maxSmall) {
		return
	}
	q, _, ok := a.named(w, r)
	if !ok || !a.mayWork(w, r, q) {
		return
	}
	if in.Most < 1 || in.Most > maxLimit || in.Wait < 0 || time.Duration(in.Wait) > maxWait {
		badRequest(w, "most is a number from 1 to %d, wait a duration up to %v", maxLimit, maxWait)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(a.Leaving, cancel)()
	got, err := q.Pull(ctx, in.Most, time.Duration(in.Wait))
	if err != nil && a.Leaving.Err() != nil {
		fail(w, problem{Status: http.StatusServiceUnavailable, Code: "not_ready", Detail: "the server is ending"})
		return
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	for _, d := range got {
		_, end := d.Begin(r.Context())
		end(nil)
	}
	reply(w, newDeliveries(got))
}

// settlement names events that were pulled.
type settlement struct {
	Events []taken `json:"events"`
	Retry  *span   `json:"retry,omitempty"`  // nack: give them back, to come again after so long; left out: after the queue's backoff
	Reject *string `json:"reject,omitempty"` // nack: give them up, as dead letters with this reason
}

type taken struct {
	Offset  string `json:"offset"`
	Attempt int    `json:"attempt"`
}

type settled struct {
	Settled int          `json:"settled"`
	Failed  []notSettled `json:"failed"`
}

type notSettled struct {
	taken
	failure
}

func (a *api) ack(w http.ResponseWriter, r *http.Request) {
	a.settle(w, r, func(s *settlement, d queue.Delivery) error { return d.Ack() })
}

func (a *api) nack(w http.ResponseWriter, r *http.Request) {
	a.settle(w, r, func(s *settlement, d queue.Delivery) error {
		switch {
		case s.Reject != nil:
			return d.Reject(*s.Reject)
		case s.Retry != nil:
			return d.Retry(time.Duration(*s.Retry))
		}
		return d.Retry(-1)
	})
}

// extend starts the time anew in which events must be settled.
func (a *api) extend(w http.ResponseWriter, r *http.Request) {
	a.settle(w, r, func(s *settlement, d queue.Delivery) error { return d.Extend() })
}

// settle does something to each of the events, and tells of which it could not.
func (a *api) settle(w http.ResponseWriter, r *http.Request, do func(*settlement, queue.Delivery) error) {
	var in settlement
	if !decode(w, r, &in, maxSmall) {
		return
	}
	q, _, ok := a.named(w, r)
	if !ok || !a.mayWork(w, r, q) {
		return
	}
	if len(in.Events) == 0 || len(in.Events) > maxLimit {
		badRequest(w, "events: 1 to %d are expected", maxLimit)
		return
	}
	if in.Retry != nil && (in.Reject != nil || *in.Retry < 0) {
		badRequest(w, "retry is a duration from 0s on, and not given with reject")
		return
	}
	out := settled{Failed: []notSettled{}}
	for _, t := range in.Events {
		err := func() error {
			o, err := queue.ParseOffset(t.Offset)
			if err != nil {
				return err
			}
			d, err := q.InFlight(o, t.Attempt)
			if err != nil {
				return err
			}
			return do(&in, d)
		}()
		if err != nil {
			out.Failed = append(out.Failed, notSettled{t, *a.failure(r, err)})
			continue
		}
		out.Settled++
	}
	reply(w, out)
}
