package api

import (
	"net/http"

	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/queue"
)

// route is one thing that the API does, and all that its description says of it.
type route struct {
	method, path string
	summary      string
	needs        need
	query        []string // parameters that the URL may have
	in, out      any      // values of the types that the bodies have; nil is none
	handle       http.HandlerFunc
}

// routes lists the API. What needs sockets is left out without them.
func (a *api) routes() []route {
	all := []route{
		{"GET", "/livez", "Whether the process is alive", nothing, nil, nil, status{}, a.livez},
		{"GET", "/readyz", "Whether clients should be sent here: an event was published and handed out just now", nothing, nil, nil, status{}, a.readyz},
		{"GET", "/openapi.json", "This description", nothing, nil, nil, map[string]any{}, a.describe},

		{"POST", "/v1/publish", "Store an event in a topic; as application/x-ndjson up to 1,000, with a result a line", byName, nil, message{}, published{}, a.publish},
		{"GET", "/v1/topics", "Topics that have events", toManage, []string{"after", "limit"}, nil, topicList{}, a.topics},
		{"GET", "/v1/topics/{topic}", "A topic", byName, nil, nil, topicInfo{}, a.topic},
		{"PUT", "/v1/topics/{topic}", "Create a topic, or change how it is kept", toManage, nil, topicConfig{}, topicInfo{}, a.createTopic},
		{"DELETE", "/v1/topics/{topic}", "Delete a topic and its events", toManage, nil, nil, nil, a.deleteTopic},
		{"GET", "/v1/topics/{topic}/events", "Events of a topic; with follow=true as application/x-ndjson, going on with what comes", byName, []string{"from", "limit", "follow"}, nil, page{}, a.events},
		{"GET", "/v1/topics/{topic}/events/{id}", "The event that was published with an id, or at an offset", byName, nil, nil, event{}, a.event},
		{"GET", "/v1/topics/{topic}/events/{id}/receipts", "What became of an event in all queues that read its topic", byName, []string{"limit"}, nil, receiptList{}, a.receiptsOf},

		{"GET", "/v1/queues", "Queues, those first that were not used for longest", toManage, []string{"topic", "limit"}, nil, queueList{}, a.queues},
		{"GET", "/v1/queues/{queue}", "A queue", toManage, []string{"topic"}, nil, queueInfo{}, a.queue},
		{"PUT", "/v1/queues/{queue}", "Make a shared queue, or a personal one, or change it", toManage, []string{"topic"}, queueConfig{}, queueInfo{}, a.createQueue},
		{"DELETE", "/v1/queues/{queue}", "Delete a queue", toManage, []string{"topic"}, nil, nil, a.deleteQueue},
		{"GET", "/v1/queues/{queue}/events", "What a queue holds, without taking it", byName, []string{"topic", "limit"}, nil, deliveries{}, a.peek},
		{"GET", "/v1/queues/{queue}/receipts", "What became of a queue's events, if it keeps receipts", byName, []string{"topic", "since", "limit"}, nil, receiptList{}, a.receipts},
		{"POST", "/v1/queues/{queue}/pull", "Take events of a shared queue", byName, []string{"topic"}, pullRequest{}, deliveries{}, a.pull},
		{"POST", "/v1/queues/{queue}/ack", "Acknowledge events that were pulled", byName, []string{"topic"}, settlement{}, settled{}, a.ack},
		{"POST", "/v1/queues/{queue}/nack", "Give events back that were pulled, or up", byName, []string{"topic"}, settlement{}, settled{}, a.nack},
		{"POST", "/v1/queues/{queue}/extend", "Keep events that were pulled for longer", byName, []string{"topic"}, settlement{}, settled{}, a.extend},
		{"POST", "/v1/queues/{queue}/purge", "Acknowledge everything that a queue holds", toManage, []string{"topic"}, nil, queueInfo{}, a.managed(func(q *queue.Queue, r *http.Request) error { return q.Purge(r.Context()) })},
		{"POST", "/v1/queues/{queue}/pause", "Have a queue hand out nothing", toManage, []string{"topic"}, nil, queueInfo{}, a.managed(func(q *queue.Queue, r *http.Request) error { return q.Pause(r.Context()) })},
		{"POST", "/v1/queues/{queue}/resume", "Have a paused queue go on", toManage, []string{"topic"}, nil, queueInfo{}, a.managed(func(q *queue.Queue, r *http.Request) error { return q.Resume(r.Context()) })},
		{"POST", "/v1/queues/{queue}/redrive", "Give a queue its dead letters back", toManage, []string{"topic", "limit"}, nil, redriven{}, a.redrive},
	}
	if a.Namespace != nil {
		all = append(all,
			route{"POST", "/v1/emit", "Send an event live", byName, nil, emission{}, nil, a.emit},
			route{"GET", "/v1/sockets", "Sockets that are connected", toManage, []string{"after", "limit"}, nil, socketList{}, a.sockets},
			route{"GET", "/v1/sockets/{socket}", "A socket", toManage, nil, nil, socketInfo{}, a.connected(show)},
			route{"POST", "/v1/sockets/{socket}/disconnect", "Disconnect a socket; its client does not come back by itself", toManage, nil, nil, socketInfo{}, a.connected(disconnect)},
			route{"POST", "/v1/sockets/{socket}/join", "Put a socket into rooms", toManage, nil, membership{}, socketInfo{}, a.connected(join)},
			route{"POST", "/v1/sockets/{socket}/leave", "Take a socket out of rooms", toManage, nil, membership{}, socketInfo{}, a.connected(leave)},
			route{"GET", "/v1/rooms", "Rooms that have sockets", toManage, []string{"after", "limit"}, nil, roomList{}, a.rooms},
			route{"GET", "/v1/presence/{room}", "Who is in a room", byName, []string{"after", "limit"}, nil, delivery.Presence{}, a.presence})
	}
	if a.Authority != nil {
		all = append(all, route{"POST", "/v1/identities/{identity}/revoke", "Turn an identity out: its tokens of up to now hold no more, its sockets are disconnected", toManage, nil, nil, nil, a.revoke})
	}
	return all
}
