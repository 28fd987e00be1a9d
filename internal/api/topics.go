package api

import (
	"net/http"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/queue"
)

type topicList struct {
	Topics   []string `json:"topics"`
	Complete bool     `json:"complete"` // none comes after them
}

// topicConfig is how a topic is kept. Members that are left out are as for every other topic.
type topicConfig struct {
	MaxAge        span  `json:"maxAge,omitempty"`
	MaxEvents     int64 `json:"maxEvents,omitempty"`
	MaxBytes      int64 `json:"maxBytes,omitempty"`
	Refuse        bool  `json:"refuse,omitempty"`
	Compact       bool  `json:"compact,omitempty"`
	TTL           span  `json:"ttl,omitempty"`
	MaxEventBytes int   `json:"maxEventBytes,omitempty"`
	DedupeWindow  span  `json:"dedupeWindow,omitempty"`
}

type topicInfo struct {
	Topic   string      `json:"topic"`
	Created bool        `json:"created"`
	First   string      `json:"first"`
	Last    string      `json:"last"`
	Events  int64       `json:"events"`
	Bytes   int64       `json:"bytes"`
	Config  topicConfig `json:"config"`
}

func newTopicInfo(t queue.TopicInfo) topicInfo {
	return topicInfo{
		Topic: t.Name, Created: t.Created, First: t.First.String(), Last: t.Last.String(), Events: t.Events, Bytes: t.Bytes,
		Config: topicConfig{span(t.MaxAge), t.MaxEvents, t.MaxBytes, t.Refuse, t.Compact, span(t.TTL), t.MaxEventBytes, span(t.DedupeWindow)},
	}
}

func (a *api) topics(w http.ResponseWriter, r *http.Request) {
	q := query{limit: defaultLimit}
	if !q.read(w, r, "after", "limit") {
		return
	}
	limit := min(q.limit, maxLimit)
	names, err := a.Broker.Topics(r.Context(), q.after, limit)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	if names == nil {
		names = []string{}
	}
	reply(w, topicList{names, len(names) < limit})
}

func (a *api) topic(w http.ResponseWriter, r *http.Request) {
	topic := r.PathValue("topic")
	if !a.allow(w, r, auth.Subscribe, topic) {
		return
	}
	info, err := a.Broker.Topic(r.Context(), topic)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, newTopicInfo(info))
}

func (a *api) createTopic(w http.ResponseWriter, r *http.Request) {
	var c topicConfig
	if !decode(w, r, &c, maxSmall) {
		return
	}
	topic := r.PathValue("topic")
	err := a.Broker.CreateTopic(r.Context(), queue.TopicConfig{
		Pattern: topic, MaxAge: time.Duration(c.MaxAge), MaxEvents: c.MaxEvents, MaxBytes: c.MaxBytes, Refuse: c.Refuse, Compact: c.Compact,
		TTL: time.Duration(c.TTL), MaxEventBytes: c.MaxEventBytes, DedupeWindow: time.Duration(c.DedupeWindow),
	})
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	info, err := a.Broker.Topic(r.Context(), topic)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply(w, newTopicInfo(info))
}

func (a *api) deleteTopic(w http.ResponseWriter, r *http.Request) {
	if err := a.Broker.DeleteTopic(r.Context(), r.PathValue("topic")); err != nil {
		a.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
