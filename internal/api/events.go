package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/holdpost/holdpost/queue"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

type event struct {
	Topic       string          `json:"topic"`
	Offset      string          `json:"offset"`
	ID          string          `json:"id"`
	Event       string          `json:"event"`
	Args        json.RawMessage `json:"args"`
	Attachments [][]byte        `json:"attachments,omitempty"` // base64; what the placeholders in args refer to
	PublishedAt string          `json:"publishedAt"`
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
	return event{e.Topic, e.Offset.String(), e.ID, e.Name, args, e.Attachments, e.Time.UTC().Format(time.RFC3339Nano)}
}

func newGap(g queue.Gap) *gap { return &gap{g.Topic, g.From.String(), g.To.String(), g.Cause} }

func (a *api) events(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r)
	if err != nil {
		fail(w, problem{Status: http.StatusBadRequest, Code: "invalid_request", Detail: err.Error()})
		return
	}
	from, err := queue.ParseStart(q.from)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	topic := r.PathValue("topic")
	if q.follow {
		a.follow(w, r, topic, from, q.limit)
		return
	}
	limit := defaultLimit
	if q.limit > 0 {
		limit = min(q.limit, maxLimit)
	}
	p, err := a.broker.History(r.Context(), topic, from, limit)
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

type query struct {
	from   string
	limit  int // 0: not given
	follow bool
}

func parseQuery(r *http.Request) (query, error) {
	q := query{from: string(queue.StartFirst)}
	for name, values := range r.URL.Query() {
		if len(values) != 1 {
			return q, fmt.Errorf("parameter %q stands there %d times", name, len(values))
		}
		value := values[0]
		switch name {
		case "from":
			q.from = value
		case "limit":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) || n < 1 {
				return q, fmt.Errorf("limit %q is not a number above 0", value)
			}
			q.limit = int(min(n, 1<<31-1)) // too large is as good as no limit
		case "follow":
			follow, err := strconv.ParseBool(value)
			if err != nil {
				return q, fmt.Errorf("follow %q is neither true nor false", value)
			}
			q.follow = follow
		default:
			return q, fmt.Errorf("parameter %q is unknown: there are from, limit and follow", name)
		}
	}
	return q, nil
}
