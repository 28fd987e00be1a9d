package queue

import (
	"context"
	"strings"
)

// The trace of an event is a header of its message in the log. It is no part of the event: a publish that is repeated in another
// trace is the same one.
const (
	traceHeader = "traceparent"   // W3C Trace Context, 3.2
	traceBytes  = 2 + 33 + 17 + 3 // version, trace, span and flags, with hyphens
	traceDigits = "0123456789abcdef"
)

// traceParent returns s if it has the form of version 00, and else "".
func traceParent(s string) string {
	if len(s) != traceBytes || !strings.HasPrefix(s, "00-") {
		return ""
	}
	for i, c := range []byte(s) {
		hyphen := i == 2 || i == 35 || i == 52
		if hyphen != (c == '-') || !hyphen && strings.IndexByte(traceDigits, c) < 0 {
			return ""
		}
	}
	return s
}

// traceOf returns the trace among the headers of a message.
func traceOf(header map[string][]string) string {
	if v := header[traceHeader]; len(v) > 0 {
		return traceParent(v[0])
	}
	return ""
}

// begin tells Config.OnPublish, which is not nil, of a publish. It is a function of its own so that m is not on the heap where nobody
// traces.
func (b *Broker) begin(ctx context.Context, m Message) (_ Message, end func(error)) {
	if end = b.config.OnPublish(ctx, &m); end == nil {
		end = func(error) {}
	}
	return m, end
}

// Begin tells [Config.OnConsume] that somebody begins to handle the event, as [Queue.Consume] does by itself. It returns the context to
// handle it in, and what to call with the outcome, once.
func (d Delivery) Begin(ctx context.Context) (_ context.Context, end func(error)) {
	if d.TraceParent == "" || d.to == nil || d.to.queue.broker.config.OnConsume == nil {
		return ctx, func(error) {}
	}
	q := d.to.queue
	return q.broker.config.OnConsume(ctx, q.name, d)
}
