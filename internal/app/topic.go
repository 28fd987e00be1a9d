package app

import (
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

type topicInfo struct {
	Topic   string         `json:"topic"`
	Created bool           `json:"created"`
	First   string         `json:"first"`
	Last    string         `json:"last"`
	Events  int64          `json:"events"`
	Bytes   int64          `json:"bytes"`
	Config  map[string]any `json:"config"`
}

type receipts struct {
	Receipts []receipt `json:"receipts"`
	Complete bool      `json:"complete"`
}

type receipt struct {
	Queue    string `json:"queue,omitempty"`
	What     string `json:"what"`
	Time     string `json:"time,omitempty"`
	Offset   string `json:"offset"`
	Consumer string `json:"consumer,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func showTopic(w io.Writer, answer any) {
	t := answer.(*topicInfo)
	row(w, "topic", t.Topic)
	row(w, "events", t.Events)
	row(w, "bytes", t.Bytes)
	row(w, "first", t.First)
	row(w, "last", t.Last)
	for _, key := range []string{"maxAge", "maxEvents", "maxBytes", "ttl", "refuse", "compact", "maxEventBytes", "dedupeWindow"} {
		switch v := t.Config[key].(type) {
		case nil:
		case float64: // as JSON has numbers
			row(w, key, int64(v))
		default:
			row(w, key, v)
		}
	}
}

func newTopic() *cobra.Command {
	var limits struct {
		maxAge, ttl, dedupeWindow          string
		maxEvents, maxBytes, maxEventBytes int64
		refuse, compact                    bool
	}
	return group("topic", "Look at topics, make and delete them",
		call{
			use: "ls", short: "List topics that have events",
			do: func(cmd *cobra.Command, c *client, _ []string) (any, error) {
				return collect(cmd.Context(), c, path("topics"), "topics", func(t string) string { return t })
			},
			show: func(w io.Writer, answer any) {
				for _, t := range answer.([]string) {
					row(w, t)
				}
			},
		}.command(),
		call{
			use: "info TOPIC", short: "Show a topic", args: []string{"TOPIC"}, show: showTopic,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				t := new(topicInfo)
				return t, c.call(cmd.Context(), http.MethodGet, path("topics", args[0]), nil, t)
			},
		}.command(),
		call{
			use: "receipts TOPIC ID", short: "Tell what became of an event in the queues that read its topic", args: []string{"TOPIC", "ID"},
			long: `Tell what became of an event, in each queue that reads its topic. ID is what it was published with, or its
offset. When, and by whom, is known of queues that were made with receipts.`,
			example: "  holdpost topic receipts orders order-7",
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				page := new(receipts)
				return page, c.call(cmd.Context(), http.MethodGet, path("topics", args[0], "events", args[1], "receipts")+"?limit="+pageSize, nil, page)
			},
			show: func(w io.Writer, answer any) {
				row(w, "QUEUE", "WHAT", "TIME", "CONSUMER", "ATTEMPT", "REASON")
				for _, r := range answer.(*receipts).Receipts {
					row(w, r.Queue, r.What, r.Time, r.Consumer, r.Attempt, r.Reason)
				}
			},
		}.command(),
		call{
			use: "create TOPIC", short: "Create a topic, or change how it is kept", args: []string{"TOPIC"}, show: showTopic,
			example: "  holdpost topic create prices --max-events 1000 --ttl 1h",
			flags: func(cmd *cobra.Command) {
				f := cmd.Flags()
				f.StringVar(&limits.maxAge, "max-age", "", "how long events are kept, as in 72h; -1s is for ever")
				f.Int64Var(&limits.maxEvents, "max-events", 0, "keep no more than so many; 0 is no limit")
				f.Int64Var(&limits.maxBytes, "max-bytes", 0, "keep no more bytes; 0 is no limit")
				f.BoolVar(&limits.refuse, "refuse", false, "at a limit refuse new events, instead of dropping old ones")
				f.BoolVar(&limits.compact, "compact", false, "keep the last event of each key only")
				f.StringVar(&limits.ttl, "ttl", "", "how long an event is worth something, if it does not say itself")
				f.Int64Var(&limits.maxEventBytes, "max-event-bytes", 0, "bytes of one event; 0 is 1000000, which is also the most")
				f.StringVar(&limits.dedupeWindow, "dedupe-window", "", "how long an id is remembered, 2m or more")
			},
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				in := map[string]any{
					"maxEvents": limits.maxEvents, "maxBytes": limits.maxBytes, "refuse": limits.refuse, "compact": limits.compact, "maxEventBytes": limits.maxEventBytes,
				}
				for member, span := range map[string]string{"maxAge": limits.maxAge, "ttl": limits.ttl, "dedupeWindow": limits.dedupeWindow} {
					if span != "" {
						in[member] = span
					}
				}
				t := new(topicInfo)
				return t, c.call(cmd.Context(), http.MethodPut, path("topics", args[0]), in, t)
			},
		}.command(),
		call{
			use: "delete TOPIC", short: "Delete a topic and its events", args: []string{"TOPIC"},
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				return map[string]string{"deleted": args[0]}, c.call(cmd.Context(), http.MethodDelete, path("topics", args[0]), nil, nil)
			},
		}.command())
}
