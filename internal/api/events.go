package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/queue"
)

type event struct {
	Topic       string          `json:"topic"`
	Offset      string          `json:"offset"`
	ID          string          `json:"id"`
	Key         string          `json:"key,omitempty"`
	Event       string          `json:"event"`
	Args        json.RawMessage `json:"args"`
	Attachments [][]byte        `json:"attachments,omitempty"` // base64; what the placeholders in args refer to
	PublishedAt string          `json:"publishedAt"`
	TraceParent string          `json:"traceparent,omitempty"` // the trace that it was published in (W3C Trace Context)
}

type gap struct {
	Topic string `json:"topic"`
	From  string `json:"from"`
	To    string `json:"to"`
	Cause string `json:"cause"`
}

type page struct {
	Events   []event `json:"events"`
	Next     string  `json:"next"`
	Complete bool    `json:"complete"`
	Gap      *gap    `json:"gap,omitempty"`
}

func newEvent(e *queue.Event) event {
	args := json.RawMessage(e.Args)
	if len(args) == 0 {
		args = json.RawMessage("[]")
	}
	return event{e.Topic, e.Offset.String(), e.ID, e.Key, e.Name, args, e.Attachments, e.Time.UTC().Format(time.RFC3339Nano), e.TraceParent}
}

func newGap(g queue.Gap) *gap { return &gap{g.Topic, g.From.String(), g.To.String(), g.Cause} }

// event finds one event by its id.
func (a *api) event(w http.ResponseWriter, r *http.Request) {
	topic := r.PathValue("topic")
	if !a.allow(w, r, auth.Subscribe, topic) {
		return
	}
	e, err := a.Broker.Event(r.Context(), topic, r.PathValue("id"))
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, newEvent(e))
}

func (a *api) events(w http.ResponseWriter, r *http.Request) {
	q := query{from: string(queue.StartFirst), limit: defaultLimit}
	if !q.read(w, r, "from", "limit", "follow") {
		return
	}
	topic := r.PathValue("topic")
	if !a.allow(w, r, auth.Subscribe, topic) {
		return
	}
	from, err := queue.ParseStart(q.from)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	if q.follow {
		if !q.limited {
			q.limit = 0
		}
		a.follow(w, r, topic, from, q.limit)
		return
	}
	p, err := a.Broker.History(r.Context(), topic, from, min(q.limit, maxLimit))
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	out := page{Events: make([]event, len(p.Events)), Next: p.Next.String(), Complete: p.Complete}
	for i, e := range p.Events {
		out.Events[i] = newEvent(e)
	}
	if p.Gap != nil {
		out.Gap = newGap(*p.Gap)
	}
	reply(w, out)
}
