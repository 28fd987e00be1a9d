package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

type queueInfo struct {
	Topic     string          `json:"topic"`
	Queue     string          `json:"queue"`
	Offset    string          `json:"offset"`
	Unread    int             `json:"unread"`
	InFlight  int             `json:"inFlight"`
	Waiting   int             `json:"waiting"`
	Dead      int             `json:"dead"`
	Paused    bool            `json:"paused"`
	Consumers []string        `json:"consumers"`
	Config    json.RawMessage `json:"config"`
}

func showQueue(w io.Writer, answer any) {
	q := answer.(*queueInfo)
	row(w, "topic", q.Topic)
	row(w, "queue", q.Queue)
	row(w, "offset", q.Offset)
	row(w, "unread", q.Unread)
	row(w, "in flight", q.InFlight)
	row(w, "to come again", q.Waiting)
	row(w, "dead letters", q.Dead)
	row(w, "paused", q.Paused)
	row(w, "consumers", strings.Join(q.Consumers, " "))
	row(w, "config", string(q.Config))
}

type heldEvent struct {
	Topic       string          `json:"topic"`
	Offset      string          `json:"offset"`
	ID          string          `json:"id"`
	Key         string          `json:"key,omitempty"`
	Event       string          `json:"event"`
	Args        json.RawMessage `json:"args"`
	Attachments [][]byte        `json:"attachments,omitempty"`
	PublishedAt string          `json:"publishedAt"`
	Attempt     int             `json:"attempt"`
}

type heldEvents struct {
	Events []heldEvent `json:"events"`
}

func showHeld(w io.Writer, answer any) {
	for _, e := range answer.(*heldEvents).Events {
		row(w, e.PublishedAt, e.Offset, e.Attempt, e.Event, string(e.Args))
	}
}

// onQueue returns the path of a queue, and of something to do with it.
func onQueue(args []string, query url.Values, do ...string) string {
	query.Set("topic", args[0])
	return path(append([]string{"queues", args[1]}, do...)...) + "?" + query.Encode()
}

// newQueueConfig is how a queue behaves; what is left out is not changed.
type newQueueConfig struct {
	From          string   `json:"from,omitempty"`
	Personal      bool     `json:"personal,omitempty"`
	Ordered       bool     `json:"ordered,omitempty"`
	Receipts      bool     `json:"receipts,omitempty"`
	Events        []string `json:"events,omitempty"`
	AckTimeout    string   `json:"ackTimeout,omitempty"`
	Backoff       []string `json:"backoff,omitempty"`
	MaxDeliveries int      `json:"maxDeliveries,omitempty"`
	MaxPending    int      `json:"maxPending,omitempty"`
	Expiry        string   `json:"expiry,omitempty"`
}

var queueArgs = []string{"TOPIC", "QUEUE"}

func newQueue() *cobra.Command {
	var limit int
	limited := func(cmd *cobra.Command) {
		cmd.Flags().IntVar(&limit, "limit", 100, "at most so many events, up to 1000")
	}
	var made newQueueConfig
	var pull struct {
		most int
		wait string
		ack  bool
	}
	simple := func(use, short string) *cobra.Command {
		return call{
			use: use + " TOPIC QUEUE", short: short, args: queueArgs, show: showQueue,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				q := new(queueInfo)
				return q, c.call(cmd.Context(), http.MethodPost, onQueue(args, url.Values{}, use), nil, q)
			},
		}.command()
	}
	return group("queue", "Look at queues and operate them",
		call{
			use: "ls [TOPIC]", short: "List queues, those first that were not used for longest", more: true,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				query := url.Values{"limit": {pageSize}}
				if len(args) > 0 {
					query.Set("topic", args[0])
				}
				var page struct {
					Queues []*queueInfo `json:"queues"`
				}
				err := c.call(cmd.Context(), http.MethodGet, path("queues")+"?"+query.Encode(), nil, &page)
				return page.Queues, err
			},
			show: func(w io.Writer, answer any) {
				row(w, "TOPIC", "QUEUE", "UNREAD", "IN FLIGHT", "CONSUMERS", "PAUSED")
				for _, q := range answer.([]*queueInfo) {
					row(w, q.Topic, q.Queue, q.Unread, q.InFlight, len(q.Consumers), q.Paused)
				}
			},
		}.command(),
		call{
			use: "info TOPIC QUEUE", short: "Show a queue", args: queueArgs, show: showQueue,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				q := new(queueInfo)
				return q, c.call(cmd.Context(), http.MethodGet, onQueue(args, url.Values{}), nil, q)
			},
		}.command(),
		call{
			use: "create TOPIC QUEUE", short: "Make a queue, or change how it behaves", args: queueArgs, show: showQueue,
			long: `Make a shared queue, whose consumers get each event once between them, or with --personal one whose consumers
all get every event. It holds what is published from now on, or --from somewhere else. Of a queue that exists
the flags that are given change what it has. TOPIC may be a pattern.`,
			example: "  holdpost queue create jobs workers --ack-timeout 2m --max-deliveries 5 --receipts",
			flags: func(cmd *cobra.Command) {
				f := cmd.Flags()
				f.StringVar(&made.From, "from", "", "where a new queue begins: new, first, last, an offset, or a time")
				f.BoolVar(&made.Personal, "personal", false, "each consumer gets every event; QUEUE is the identity whose it is")
				f.BoolVar(&made.Ordered, "ordered", false, "keep the order of events with the same key")
				f.BoolVar(&made.Receipts, "receipts", false, "keep what becomes of each event, when, and by whom")
				f.StringSliceVar(&made.Events, "event", nil, "take only events with these `names`")
				f.StringVar(&made.AckTimeout, "ack-timeout", "", "how long a consumer may take with an event, as in 30s; -1s is for ever")
				f.StringSliceVar(&made.Backoff, "backoff", nil, "before an event comes again, after its first failure, its second and so on, as in `1s,10s,1m`")
				f.IntVar(&made.MaxDeliveries, "max-deliveries", 0, "then an event becomes a dead letter; -1 is never")
				f.IntVar(&made.MaxPending, "max-pending", 0, "events that are handed out and not acknowledged")
				f.StringVar(&made.Expiry, "expiry", "", "delete the queue when nobody used it for so long; -1s is never")
			},
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				q := new(queueInfo)
				return q, c.call(cmd.Context(), http.MethodPut, onQueue(args, url.Values{}), &made, q)
			},
		}.command(),
		call{
			use: "peek TOPIC QUEUE", short: "Show what a queue holds, without taking it", args: queueArgs, show: showHeld, flags: limited,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				held := new(heldEvents)
				return held, c.call(cmd.Context(), http.MethodGet, onQueue(args, url.Values{"limit": {strconv.Itoa(limit)}}, "events"), nil, held)
			},
		}.command(),
		call{
			use: "pull TOPIC QUEUE", short: "Take events of a shared queue", args: queueArgs, show: showHeld,
			long: `Take events of a shared queue, print them, and acknowledge them. With --ack=false they come again
when the queue's ack timeout is over.`,
			example: "  holdpost queue pull jobs workers --most 10 --wait 30s",
			flags: func(cmd *cobra.Command) {
				f := cmd.Flags()
				f.IntVar(&pull.most, "most", 1, "take at most so many, up to 1000")
				f.StringVar(&pull.wait, "wait", "0s", "wait so long for the first, up to 30s")
				f.BoolVar(&pull.ack, "ack", true, "acknowledge them")
			},
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				held := new(heldEvents)
				in := map[string]any{"most": pull.most, "wait": pull.wait}
				err := c.call(cmd.Context(), http.MethodPost, onQueue(args, url.Values{}, "pull"), in, held)
				if err != nil || !pull.ack || len(held.Events) == 0 {
					return held, err
				}
				taken := make([]map[string]any, len(held.Events))
				for i, e := range held.Events {
					taken[i] = map[string]any{"offset": e.Offset, "attempt": e.Attempt}
				}
				var settled struct{}
				return held, c.call(cmd.Context(), http.MethodPost, onQueue(args, url.Values{}, "ack"), map[string]any{"events": taken}, &settled)
			},
		}.command(),
		simple("purge", "Acknowledge everything that a queue holds"),
		simple("pause", "Have a queue hand out nothing"),
		simple("resume", "Have a paused queue go on"),
		call{
			use: "redrive TOPIC QUEUE", short: "Give a queue its dead letters back", args: queueArgs, flags: limited,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				var out map[string]int
				return &out, c.call(cmd.Context(), http.MethodPost, onQueue(args, url.Values{"limit": {strconv.Itoa(limit)}}, "redrive"), nil, &out)
			},
			show: func(w io.Writer, answer any) { row(w, (*answer.(*map[string]int))["events"], "events given back") },
		}.command(),
		call{
			use: "delete TOPIC QUEUE", short: "Delete a queue", args: queueArgs,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				return map[string]string{"topic": args[0], "deleted": args[1]}, c.call(cmd.Context(), http.MethodDelete, onQueue(args, url.Values{}), nil, nil)
			},
		}.command())
}
