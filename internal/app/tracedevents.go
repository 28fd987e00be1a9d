package app

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdpost/holdpost/queue"
)

// What is traced of an event, from who publishes it to who gets it, by OpenTelemetry's semantic conventions for messaging.

const traceParent = "traceparent" // W3C Trace Context, 3.2

// publishing has a span for each event that is published as a part of something that is traced. The event keeps its place in the trace.
func (t *tracing) publishing(ctx context.Context, m *queue.Message) (end func(error)) {
	if m.TraceParent != "" || !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	ctx, span := t.tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "holdpost"), attribute.String("messaging.operation.name", "publish"), attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", m.Topic), attribute.String("messaging.message.id", m.ID), attribute.String("holdpost.event", m.Event)))
	carrier := make(propagation.MapCarrier)
	propagation.TraceContext{}.Inject(ctx, carrier)
	m.TraceParent = carrier[traceParent]
	return ended(span)
}

// consuming has a span for each event that goes to a socket, a caller of the API or a hook, linked to the one that it was published
// in. It is a part of what asked for the event, and else of the event's own trace.
func (t *tracing) consuming(ctx context.Context, name string, d queue.Delivery) (_ context.Context, end func(error)) {
	published := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceParent: d.TraceParent})
	origin := trace.SpanContextFromContext(published)
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, origin)
	}
	if !origin.IsSampled() { // nobody will look for it
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, "deliver", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: origin}), trace.WithAttributes(
		attribute.String("messaging.system", "holdpost"), attribute.String("messaging.operation.name", "deliver"), attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", d.Topic), attribute.String("messaging.consumer.group.name", name), attribute.String("messaging.message.id", d.ID),
		attribute.String("holdpost.event", d.Name), attribute.Int("holdpost.attempt", d.Attempt)))
	return ctx, ended(span)
}

// ended returns what ends a span with an outcome.
func ended(span trace.Span) func(error) {
	return func(err error) {
		if err != nil {
			code := queue.Code(err)
			span.SetAttributes(attribute.String("holdpost.code", code))
			span.SetStatus(codes.Error, code)
		}
		span.End()
	}
}
