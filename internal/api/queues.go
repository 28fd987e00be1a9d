package api

import (
	"iter"
	"net/http"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/queue"
)

type queueList struct {
	Queues   []queueInfo `json:"queues"`
	Complete bool        `json:"complete"` // there are no others
}

// queueConfig is how a queue behaves. Of a queue that exists a member that is left out changes nothing.
type queueConfig struct {
	From          string   `json:"from,omitempty"` // where a queue made now begins
	Personal      bool     `json:"personal,omitempty"`
	Ordered       bool     `json:"ordered,omitempty"`
	Receipts      bool     `json:"receipts,omitempty"` // keep what becomes of each event
	Events        []string `json:"events,omitempty"`
	AckTimeout    span     `json:"ackTimeout,omitempty"`
	Backoff       []span   `json:"backoff,omitempty"`
	MaxDeliveries int      `json:"maxDeliveries,omitempty"`
	MaxPending    int      `json:"maxPending,omitempty"`
	Expiry        span     `json:"expiry,omitempty"`
}

type queueInfo struct {
	Topic     string      `json:"topic"`
	Queue     string      `json:"queue"`
	Offset    string      `json:"offset"` // everything up to here is acknowledged
	Unread    int         `json:"unread"`
	InFlight  int         `json:"inFlight"`
	Waiting   int         `json:"waiting"`
	Dead      int         `json:"dead"`
	Paused    bool        `json:"paused"`
	Consumers []string    `json:"consumers"`
	Config    queueConfig `json:"config"`
}

func newQueueInfo(q queue.QueueInfo) queueInfo {
	out := queueInfo{
		Topic: q.Topic, Queue: q.Name, Offset: q.Cursor.String(), Unread: q.Unread, InFlight: q.InFlight, Waiting: q.Waiting, Dead: q.Dead,
		Paused: q.Paused, Consumers: q.Consumers,
		Config: queueConfig{
			Personal: !q.Shared, Ordered: q.Ordered, Receipts: q.Receipts, Events: q.Events, AckTimeout: span(q.AckTimeout),
			MaxDeliveries: q.MaxDeliveries, MaxPending: q.MaxPending, Expiry: span(q.Expiry),
		},
	}
	for _, d := range q.Backoff {
		out.Config.Backoff = append(out.Config.Backoff, span(d))
	}
	if out.Consumers == nil {
		out.Consumers = []string{}
	}
	return out
}

// queues lists queues, those first that were not used for longest.
func (a *api) queues(w http.ResponseWriter, r *http.Request) {
	q := query{limit: defaultLimit}
	if !q.read(w, r, "topic", "limit") {
		return
	}
	out := queueList{Queues: []queueInfo{}, Complete: true}
	for info, err := range a.Broker.Queues(r.Context()) {
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		if q.topic != "" && info.Topic != q.topic {
			continue
		}
		if len(out.Queues) >= min(q.limit, maxLimit) {
			out.Complete = false
			break
		}
		out.Queues = append(out.Queues, newQueueInfo(info))
	}
	reply(w, out)
}

// named returns the queue of the path and the parameter topic, which must exist.
func (a *api) named(w http.ResponseWriter, r *http.Request, more ...string) (*queue.Queue, query, bool) {
	q := query{limit: defaultLimit}
	if !q.read(w, r, append(more, "topic")...) {
		return nil, q, false
	}
	if q.topic == "" {
		badRequest(w, "parameter \"topic\" is missing: a queue is known by its topic and its name")
		return nil, q, false
	}
	found, err := a.Broker.Queue(r.Context(), queue.QueueConfig{Topic: q.topic, Name: r.PathValue("queue"), MustExist: true})
	if err != nil {
		a.refuse(w, r, err)
	}
	return found, q, err == nil
}

func (a *api) queue(w http.ResponseWriter, r *http.Request) {
	if q, _, ok := a.named(w, r); ok {
		a.tell(w, r, q)
	}
}

// tell answers with the state of a queue.
func (a *api) tell(w http.ResponseWriter, r *http.Request, q *queue.Queue) {
	info, err := q.Info(r.Context())
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, newQueueInfo(info))
}

func (a *api) createQueue(w http.ResponseWriter, r *http.Request) {
	var q query
	var c queueConfig
	if !q.read(w, r, "topic") || !decode(w, r, &c, maxSmall) {
		return
	}
	from, err := queue.ParseStart(c.From)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	config := queue.QueueConfig{
		Topic: q.topic, Name: r.PathValue("queue"), From: from, Shared: !c.Personal, Ordered: c.Ordered, Receipts: c.Receipts, Events: c.Events,
		AckTimeout: time.Duration(c.AckTimeout), MaxDeliveries: c.MaxDeliveries, MaxPending: c.MaxPending, Expiry: time.Duration(c.Expiry),
	}
	for _, d := range c.Backoff {
		config.Backoff = append(config.Backoff, time.Duration(d))
	}
	made, err := a.Broker.Queue(r.Context(), config)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	a.tell(w, r, made)
}

// managed returns a handler that does something to a queue and answers with its state.
func (a *api) managed(do func(*queue.Queue, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, _, ok := a.named(w, r)
		if !ok {
			return
		}
		if err := do(q, r); err != nil {
			a.refuse(w, r, err)
			return
		}
		a.tell(w, r, q)
	}
}

func (a *api) deleteQueue(w http.ResponseWriter, r *http.Request) {
	q, _, ok := a.named(w, r)
	if !ok {
		return
	}
	if err := q.Delete(r.Context()); err != nil {
		a.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

type redriven struct {
	Events int `json:"events"`
}

func (a *api) redrive(w http.ResponseWriter, r *http.Request) {
	q, query, ok := a.named(w, r, "limit")
	if !ok {
		return
	}
	n, err := q.Redrive(r.Context(), min(query.limit, maxLimit))
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, redriven{n})
}

// peek shows what a queue holds, and takes nothing.
func (a *api) peek(w http.ResponseWriter, r *http.Request) {
	q, query, ok := a.named(w, r, "limit")
	if !ok || !a.allow(w, r, auth.Subscribe, q.Topic()) {
		return
	}
	held, err := q.Peek(r.Context(), min(query.limit, maxLimit))
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, newDeliveries(held))
}

type receiptList struct {
	Receipts []receipt `json:"receipts"`
	Complete bool      `json:"complete"` // nothing happened after them yet
}

type receipt struct {
	What     string `json:"what"`            // stored, delivered, acked, nacked, expired or dead-lettered
	Time     string `json:"time,omitempty"`  // left out if nobody kept it
	Queue    string `json:"queue,omitempty"` // but for stored
	Offset   string `json:"offset"`
	Consumer string `json:"consumer,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// receipts tells what became of a queue's events since a time.
func (a *api) receipts(w http.ResponseWriter, r *http.Request) {
	q, query, ok := a.named(w, r, "since", "limit")
	if !ok || !a.allow(w, r, auth.Subscribe, q.Topic()) {
		return
	}
	a.tellReceipts(w, r, q.Receipts(r.Context(), query.since), query.limit)
}

// receiptsOf tells what became of one event.
func (a *api) receiptsOf(w http.ResponseWriter, r *http.Request) {
	q := query{limit: defaultLimit}
	topic := r.PathValue("topic")
	if !q.read(w, r, "limit") || !a.allow(w, r, auth.Subscribe, topic) {
		return
	}
	a.tellReceipts(w, r, a.Broker.ReceiptsOf(r.Context(), topic, r.PathValue("id")), q.limit)
}

func (a *api) tellReceipts(w http.ResponseWriter, r *http.Request, all iter.Seq2[queue.Receipt, error], limit int) {
	out := receiptList{Receipts: []receipt{}, Complete: true}
	for one, err := range all {
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		if len(out.Receipts) == min(limit, maxLimit) {
			out.Complete = false
			break
		}
		told := receipt{What: one.What, Queue: one.Queue, Offset: one.Offset.String(), Consumer: one.Consumer, Attempt: one.Attempt, Reason: one.Reason}
		if !one.Time.IsZero() {
			told.Time = one.Time.UTC().Format(time.RFC3339Nano)
		}
		out.Receipts = append(out.Receipts, told)
	}
	reply(w, out)
}
