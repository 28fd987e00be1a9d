// Package metrics counts what the server does, for Prometheus. No label has values that a client can choose: operations, codes
// and reasons are from lists of ours, and what is not on them is "other".
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
)

// Sources are asked when somebody reads the metrics.
type Sources struct {
	Connections func() int
	Sockets     func() int
	Queued      func() int // bytes
	Healthy     func() bool
	Scrub       func() embedded.Scrub
	Certificate func() time.Time // when it ends; nil: there is none, nor the metric
}

// Metrics are the counters. Make them with [New]. All methods may be called from any goroutine.
type Metrics struct {
	// Refused counts by what: one of refusals.
	Refused *prometheus.CounterVec
	// Open says, by option, whether the configuration opens the server to everybody.
	Open *prometheus.GaugeVec
	// Shed counts connections that were closed for want of memory.
	Shed prometheus.Counter

	registry    *prometheus.Registry
	connects    *prometheus.CounterVec
	disconnects *prometheus.CounterVec
	operations  *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	requests    *prometheus.HistogramVec
	hooks       *prometheus.HistogramVec
}

// Operations are what clients can call, and the values of the label operation besides "other".
var Operations = []string{"join", "leave", "send", "subscribe", "unsubscribe", "publish", "history", "presence", "refresh"}

// reasons are the values of the label reason.
var reasons = []holdpost.Reason{
	holdpost.ReasonTransportError, holdpost.ReasonTransportClose, holdpost.ReasonForcedClose, holdpost.ReasonPingTimeout, holdpost.ReasonParseError,
	holdpost.ReasonServerShutdown, holdpost.ReasonForcedServer, holdpost.ReasonClientDisconnect, holdpost.ReasonServerDisconnect,
	holdpost.ReasonSlowPeer, holdpost.ReasonOverrun, holdpost.ReasonPanic, holdpost.ReasonReplaced,
}

// refusals are the values of the label by.
var refusals = []string{"admission", "memory", "files", "tls", "request", "gate"}

// scheduling is Go's own histogram of how long what could go on waited for a processor: what a loaded server makes its clients wait.
var scheduling = regexp.MustCompile(`^/sched/latencies:seconds$`)

// definition is a metric as the page lists it.
type definition struct{ name, kind, labels, help string }

var (
	connections      = definition{"holdpost_connections", "gauge", "", "Connections that are open."}
	sockets          = definition{"holdpost_sockets", "gauge", "", "Sockets that are connected."}
	queued           = definition{"holdpost_queued_bytes", "gauge", "", "Bytes that clients have not taken yet."}
	healthy          = definition{"holdpost_store_healthy", "gauge", "", "1 while events can be stored and handed out, else 0."}
	damaged          = definition{"holdpost_store_damaged_messages", "gauge", "", "Messages of the store that could not be read when it was read through: at least so many are lost when it is opened next."}
	scrubbed         = definition{"holdpost_store_scrubbed_timestamp_seconds", "gauge", "", "When the store had been read through last, in seconds since 1970; 0 is not since the start."}
	scrubbedBytes    = definition{"holdpost_store_scrubbed_bytes_total", "counter", "", "Bytes of the store that were read to find damage."}
	scrubbedFiles    = definition{"holdpost_store_scrubbed_files_total", "counter", "", "Files of the store that were read to find damage."}
	open             = definition{"holdpost_open", "gauge", "option", "1 if the configuration opens the server, else 0: dev (everybody is let in, and may do everything), anonymous (without a token), any_origin (from every web page)."}
	certificate      = definition{"holdpost_certificate_expiry_timestamp_seconds", "gauge", "", "When the certificate ends, in seconds since 1970, the first one of several; 0 while one is missing. Only with TLS."}
	connects         = definition{"holdpost_connects_total", "counter", "recovered", "Sockets that were let in; recovered is true for those that came back and got what they missed."}
	disconnects      = definition{"holdpost_disconnects_total", "counter", "reason", "Sockets that were disconnected."}
	refused          = definition{"holdpost_refused_total", "counter", "by", "Connections that were not let in: by admission (too many at once), memory and files (there is too little left), tls (too many handshakes at a time), request (malformed, or of a foreign origin), gate (no valid token, too many)."}
	shed             = definition{"holdpost_shed_total", "counter", "", "Connections that were closed to get memory back: those for which most was waiting."}
	operationsTotal  = definition{"holdpost_operations_total", "counter", "operation code", "Operations that clients called; code is ok or a code of errors.md; of events that hooks answer also other."}
	requestSeconds   = definition{"holdpost_request_seconds", "histogram", "route status", "How long requests of the API took; status is its first digit, as in 2xx."}
	hookSeconds      = definition{"holdpost_hook_seconds", "histogram", "type outcome", "How long hooks took to be asked or told, by the type of what happened; outcome is ok or failed."}
	operationSeconds = definition{"holdpost_operation_seconds", "histogram", "operation", "How long operations took, until they were answered."}

	definitions = []definition{connections, sockets, queued, healthy, damaged, scrubbed, scrubbedBytes, scrubbedFiles, open, certificate, connects, disconnects, refused, shed, operationsTotal, operationSeconds, requestSeconds, hookSeconds}
)

func (d definition) counter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.name, Help: d.help}, strings.Fields(d.labels))
}

func (d definition) histogram() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: d.name, Help: d.help, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // to 4 s
	}, strings.Fields(d.labels))
}

func (d definition) count(f func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: d.name, Help: d.help}, f)
}

func (d definition) gauge(f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: d.name, Help: d.help}, f)
}

// stamp returns a time in seconds since 1970, and 0 for none.
func stamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// New returns metrics with nothing counted.
func New(s Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), Refused: refused.counter(), connects: connects.counter(), disconnects: disconnects.counter(), operations: operationsTotal.counter(),
		Open:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: open.name, Help: open.help}, strings.Fields(open.labels)),
		Shed:    prometheus.NewCounter(prometheus.CounterOpts{Name: shed.name, Help: shed.help}),
		seconds: operationSeconds.histogram(), requests: requestSeconds.histogram(), hooks: hookSeconds.histogram(),
	}
	whole := func(f func() int) func() float64 { return func() float64 { return float64(f()) } }
	m.registry.MustRegister(
		m.Refused, m.Open, m.Shed, m.connects, m.disconnects, m.operations, m.seconds, m.requests, m.hooks,
		connections.gauge(whole(s.Connections)), sockets.gauge(whole(s.Sockets)), queued.gauge(whole(s.Queued)),
		healthy.gauge(func() float64 {
			if s.Healthy() {
				return 1
			}
			return 0
		}),
		damaged.gauge(func() float64 { return float64(s.Scrub().Messages()) }),
		scrubbed.gauge(func() float64 {
			return stamp(s.Scrub().Done)
		}),
		scrubbedBytes.count(func() float64 { return float64(s.Scrub().Bytes) }),
		scrubbedFiles.count(func() float64 { return float64(s.Scrub().Files) }),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: scheduling})), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if s.Certificate != nil {
		m.registry.MustRegister(certificate.gauge(func() float64 { return stamp(s.Certificate()) }))
	}
	for _, by := range refusals { // there from the start, so that a first one is seen as an increase
		m.Refused.WithLabelValues(by)
	}
	for _, option := range []string{"dev", "anonymous", "any_origin"} {
		m.Open.WithLabelValues(option)
	}
	return m
}

// Handler returns the page that Prometheus reads.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Watch counts what happens in a namespace. Call it before other wrappers are added: what they refuse is counted then.
func (m *Metrics) Watch(ns *holdpost.Namespace) {
	ns.OnConnection(func(_ context.Context, s *holdpost.Socket) error {
		m.connects.WithLabelValues(fmt.Sprint(s.Recovered())).Inc()
		return nil
	})
	ns.OnDisconnect(func(_ *holdpost.Socket, r holdpost.Reason) {
		reason := "other"
		if slices.Contains(reasons, r) {
			reason = string(r)
		}
		m.disconnects.WithLabelValues(reason).Inc()
	})
	ns.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
		start := time.Now()
		reply, err := next(ctx, s, args)
		operation := "other"
		if slices.Contains(Operations, event) {
			operation = event
		}
		code := codeOf(err)
		if operation == "other" && !slices.Contains([]string{"ok", "unknown_event", "too_many", holdpost.CodeInternal}, code) {
			code = "other" // a hook's own
		}
		m.operations.WithLabelValues(operation, code).Inc()
		m.seconds.WithLabelValues(operation).Observe(time.Since(start).Seconds())
		return reply, err
	})
}

// Request counts a request of the API. route is the pattern that it matched, "" if it matched none.
func (m *Metrics) Request(route string, status int, took time.Duration) {
	if route == "" || route == "/" {
		route = "other"
	}
	m.requests.WithLabelValues(route, fmt.Sprintf("%dxx", status/100)).Observe(took.Seconds())
}

// Hook counts what a hook was asked or told.
func (m *Metrics) Hook(kind string, failed bool, took time.Duration) {
	outcome := "ok"
	if failed {
		outcome = "failed"
	}
	m.hooks.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

func codeOf(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*holdpost.Error](err); ok {
		return e.Code
	}
	return queue.Code(err)
}

// Reference returns docs/metrics.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

This page is made from the code, and compared with it by a test.

` + "`GET /metrics`" + ` on the internal listener, in Prometheus' format. Besides these there are Go's own (` + "`go_*`" + `) and the process's (` + "`process_*`" + `). [operations.md](operations.md) says what to be woken for.

| metric | is | labels | |
|---|---|---|---|
`)
	for _, d := range definitions {
		labels := ""
		for _, l := range strings.Fields(d.labels) {
			labels += "`" + l + "` "
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.name, d.kind, strings.TrimSpace(labels), d.help)
	}
	return b.String()
}
