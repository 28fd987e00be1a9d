package app

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/metrics"
	"github.com/holdpost/holdpost/queue"
)

// traceFlush bounds how long the end of a server waits for its last spans to be taken.
const traceFlush = 5 * time.Second

// tracing makes spans, sent by OTLP over HTTP as the variables OTEL_* say (OpenTelemetry, environment variable specification).
type tracing struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// tracingWanted tells whether the environment names somewhere to send spans to.
func tracingWanted(getenv func(string) string) bool {
	if off, _ := strconv.ParseBool(getenv("OTEL_SDK_DISABLED")); off {
		return false
	}
	switch getenv("OTEL_TRACES_EXPORTER") {
	case "otlp":
		return true
	case "":
		return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	}
	return false
}

// startTracing returns nil if nobody wants spans. It contacts nobody yet.
func startTracing(ctx context.Context, onError func(error)) (*tracing, error) {
	if !tracingWanted(os.Getenv) {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	name := resource.NewSchemaless(attribute.String("service.name", "holdpost"), attribute.String("service.version", buildVersion().Version))
	r, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if r == nil {
		return nil, err
	}
	if r, err = resource.Merge(name, r); err != nil { // what the environment says counts
		return nil, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(onError)) // the exporter knows no other way to tell
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(r))
	return &tracing{
		provider, provider.Tracer("github.com/holdpost/holdpost"),
		propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}, nil
}

// close sends what is left.
func (t *tracing) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// requests returns h with a span for each request, whose parent is that of the request's headers.
func (t *tracing) requests(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", r.Method)))
		defer span.End()
		r = r.WithContext(ctx)
		status := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(status, r)
		if r.Pattern != "" { // which has the method, and names instead of what stands for them
			span.SetName(r.Pattern)
			span.SetAttributes(attribute.String("http.route", r.Pattern))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status.status))
		if status.status >= 500 {
			span.SetStatus(codes.Error, "")
		}
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// operations has a span for each event that a client sends.
func (t *tracing) operations(ns *holdpost.Namespace) {
	ns.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
		name := "event"
		if slices.Contains(metrics.Operations, event) {
			name = event
		}
		ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("holdpost.socket", s.ID()), attribute.String("holdpost.event", event)))
		defer span.End()
		reply, err := next(ctx, s, args)
		if err != nil {
			code := queue.Code(err)
			if e, ok := errors.AsType[*holdpost.Error](err); ok {
				code = e.Code
			}
			span.SetAttributes(attribute.String("holdpost.code", code))
			span.SetStatus(codes.Error, code)
		}
		return reply, err
	})
}

// outgoing returns a transport with a span for each request, which the request's headers name.
func (t *tracing) outgoing(next http.RoundTripper) http.RoundTripper { return tracedTransport{t, next} }

type tracedTransport struct {
	tracing *tracing
	next    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := t.tracing.tracer.Start(r.Context(), r.Method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Hostname())))
	defer span.End()
	r = r.Clone(ctx)
	t.tracing.propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	response, err := t.next.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "")
		span.RecordError(err)
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", response.StatusCode))
	return response, nil
}

// CloseIdleConnections is for [http.Client].
func (t tracedTransport) CloseIdleConnections() {
	(&http.Client{Transport: t.next}).CloseIdleConnections()
}
