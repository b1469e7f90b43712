package client

import (
	"context"
	"maps"
	"strings"
)

// Propagator carries what a context holds across messages: trace context, mostly. Inject writes it into the headers of
// what is sent under the context, Extract makes a context of the headers of what came. Both may be called by many
// goroutines at once; headers is never nil in Inject, and must not be kept or changed in Extract.
//
// The propagators of OpenTelemetry need one line each to be one:
//
//	func (o otel) Inject(ctx context.Context, h map[string]string) {
//		o.TextMapPropagator.Inject(ctx, propagation.MapCarrier(h))
//	}
//	func (o otel) Extract(ctx context.Context, h map[string]string) context.Context {
//		return o.TextMapPropagator.Extract(ctx, propagation.MapCarrier(h))
//	}
type Propagator interface {
	Inject(ctx context.Context, headers map[string]string)
	Extract(ctx context.Context, headers map[string]string) context.Context
}

// WithPropagator sets what carries contexts across messages; nil for nothing. Default: the W3C trace context (see
// [TraceContext]) is passed on as it came, which keeps a trace in one piece through programs that do not trace.
//
// Injected are messages (Enqueue, EnqueueBatch, Call, and those of a [Settlement]) and replies, with the context given
// to the method that sends them; what a [Handler] returns, with the context that the handler got. A header that the
// caller has set by itself stays as it is. Extracted is a delivery, into its context. For replies there is
// [Client.ContextOf].
func WithPropagator(p Propagator) Option { return func(c *config) { c.propagator = p } }

// The headers of the W3C trace context.
const (
	headerTraceParent = "traceparent"
	headerTraceState  = "tracestate"
)

// TraceContext is a W3C trace context, as it stands in the headers traceparent and tracestate. Without a propagator of
// its own a client passes it on: from a delivery into the handler's context, and from a context into messages and
// replies.
type TraceContext struct {
	// Parent is the traceparent, e.g. "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".
	Parent string
	// State is the tracestate; may be empty.
	State string
}

type traceKey struct{}

// WithTraceContext returns a context under which messages and replies have the trace context. One whose Parent has not
// the form that the W3C recommendation gives it is not sent.
func WithTraceContext(ctx context.Context, t TraceContext) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceContextOf returns the trace context of a context, such as a handler's.
func TraceContextOf(ctx context.Context) (t TraceContext, ok bool) {
	t, ok = ctx.Value(traceKey{}).(TraceContext)
	return t, ok
}

// passTrace is the propagator that clients have by default.
type passTrace struct{}

// Inject implements Propagator.
func (passTrace) Inject(ctx context.Context, headers map[string]string) {
	if t, ok := TraceContextOf(ctx); ok && validTraceParent(t.Parent) {
		headers[headerTraceParent] = t.Parent
		if validTraceState(t.State) {
			headers[headerTraceState] = t.State
		}
	}
}

// Extract implements Propagator.
func (passTrace) Extract(ctx context.Context, headers map[string]string) context.Context {
	parent := headers[headerTraceParent]
	if !validTraceParent(parent) {
		return ctx
	}
	return WithTraceContext(ctx, TraceContext{Parent: parent, State: headers[headerTraceState]})
}

// validTraceParent tells whether s is a traceparent: of version 00, or of a later one that begins in the same way.
func validTraceParent(s string) bool {
	const size = 55 // 00-<32>-<16>-<2>
	if len(s) < size || len(s) > 256 || len(s) > size && (s[:2] == "00" || s[size] != '-') {
		return false
	}
	if s[:2] == "ff" || s[3:35] == strings.Repeat("0", 32) || s[36:52] == strings.Repeat("0", 16) {
		return false
	}
	for i := range size {
		switch c := s[i]; {
		case i == 2 || i == 35 || i == 52:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return printable(s[size:])
}

// validTraceState tells whether s can be sent: its members are their owners' business.
func validTraceState(s string) bool { return s != "" && len(s) <= 512 && printable(s) }

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ContextOf makes a context of the headers of a reply, as a handler's context is made of those of a delivery.
func (c *Client) ContextOf(ctx context.Context, headers map[string]string) context.Context {
	if c.propagator == nil || len(headers) == 0 {
		return ctx
	}
	return c.propagator.Extract(ctx, headers)
}

// headersUnder returns the headers with what the context carries added. The caller's map is left alone.
func (c *Client) headersUnder(ctx context.Context, headers map[string]string) map[string]string {
	if c.propagator == nil {
		return headers
	}
	if c.passesTrace { // the usual case, without allocation
		if t, ok := TraceContextOf(ctx); !ok || !validTraceParent(t.Parent) {
			return headers
		}
	}
	if _, own := headers[headerTraceParent]; own && c.passesTrace {
		return headers // with a tracestate of its own, or none
	}
	all := make(map[string]string, len(headers)+2)
	c.propagator.Inject(ctx, all)
	if len(all) == 0 {
		return headers
	}
	maps.Copy(all, headers)
	return all
}

// answerUnder returns the answer with such headers; the caller's is left alone.
func (c *Client) answerUnder(ctx context.Context, a *Answer) *Answer {
	if a == nil {
		return nil
	}
	headers := c.headersUnder(ctx, a.Headers)
	if len(headers) == len(a.Headers) {
		return a
	}
	all := *a
	all.Headers = headers
	return &all
}

// itemsUnder returns items with such headers; the caller's are left alone.
func (c *Client) itemsUnder(ctx context.Context, items []Item) []Item {
	copied := false
	for i := range items {
		headers := c.headersUnder(ctx, items[i].Message.Headers)
		if len(headers) == len(items[i].Message.Headers) {
			continue
		}
		if !copied {
			items, copied = append([]Item(nil), items...), true
		}
		items[i].Message.Headers = headers
	}
	return items
}

// repliesUnder returns replies with such headers; the caller's are left alone.
func (c *Client) repliesUnder(ctx context.Context, replies []SettleReply) []SettleReply {
	copied := false
	for i := range replies {
		answer := c.answerUnder(ctx, replies[i].Answer)
		if answer == replies[i].Answer {
			continue
		}
		if !copied {
			replies, copied = append([]SettleReply(nil), replies...), true
		}
		replies[i].Answer = answer
	}
	return replies
}
