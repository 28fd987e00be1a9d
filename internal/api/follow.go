package api

import (
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/holdpost/holdpost/queue"
)

const (
	// ahead is how many events wait for a client that follows; the rest stays in the log.
	ahead = 64
	// patience is how long a write to it may stand still.
	patience = 30 * time.Second
)

// item is an event or a gap.
type item struct {
	event *queue.Event
	gap   *queue.Gap
}

// feed is the sink of one client that follows a topic: the broker puts in, the request's goroutine takes out.
type feed struct {
	more chan struct{} // has a token while there may be items

	mu    sync.Mutex // guards the field below
	items []item
}

// Deliver implements [queue.Sink].
func (f *feed) Deliver(d queue.Delivery) bool { return f.put(item{event: d.Event}, ahead) }

// Gap implements [queue.Sink]. Gaps are few, and none may go untold: they always find room.
func (f *feed) Gap(g queue.Gap) { f.put(item{gap: &g}, math.MaxInt) }

// Flush implements [queue.Sink].
func (f *feed) Flush() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

func (f *feed) put(i item, most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.items) >= most {
		return false
	}
	f.items = append(f.items, i)
	return true
}

func (f *feed) take() []item {
	f.mu.Lock()
	defer f.mu.Unlock()
	items := f.items
	f.items = nil
	return items
}

// follow writes events as they come until the client goes, the server drains, or limit events were written; 0 is no limit.
func (a *api) follow(w http.ResponseWriter, r *http.Request, topic string, from queue.Start, limit int) {
	q, err := a.Broker.Queue(r.Context(), queue.QueueConfig{Topic: topic, From: from, Ephemeral: true})
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	f := &feed{more: make(chan struct{}, 1)}
	consumer, err := q.Attach(queue.ConsumerConfig{Sink: f})
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	defer consumer.Close()

	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lines{w: w, control: http.NewResponseController(w)}
	out.flush() // the header, so that the client knows that it is connected
	for n := 0; out.err == nil; {
		select {
		case <-f.more:
		case <-r.Context().Done():
			return
		case <-a.Leaving.Done():
			return
		}
		for _, next := range f.take() {
			if next.gap != nil {
				out.write(map[string]*gap{"gap": newGap(*next.gap)})
				continue
			}
			out.write(newEvent(next.event))
			consumer.AckThrough(next.event.Offset)
			if n++; n == limit {
				out.flush()
				return
			}
		}
		out.flush()
		consumer.Resume() // the feed was emptied: what it refused fits now
	}
}

// lines writes one JSON value a line and remembers the first error.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

func (l *lines) write(v any) {
	if l.err != nil {
		return
	}
	l.control.SetWriteDeadline(time.Now().Add(patience)) // not every writer has deadlines, and those do without
	l.err = encoder(l.w).Encode(v)
}

func (l *lines) flush() {
	if l.err == nil {
		l.err = l.control.Flush()
	}
}
