package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

const (
	parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	state  = "vendor=1"
)

// The trace context and the deadline of the first caller reach the last worker, through any number of messages, and come
// back with the replies.
func TestContextTravels(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		first := client.TraceContext{Parent: parent, State: state}
		var deadlines []time.Time
		look := func(ctx context.Context, d *client.Delivery) {
			if got, ok := client.TraceContextOf(ctx); !ok || got != first {
				t.Errorf("%s: trace context %+v, %v", d.Queue, got, ok)
			}
			deadline, ok := ctx.Deadline()
			if !ok {
				t.Errorf("%s: no deadline", d.Queue)
			}
			deadlines = append(deadlines, deadline)
		}
		work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			look(ctx, d)
			reply, err := c.Call(ctx, "b", text("")).One()
			if err != nil {
				return nil, err
			}
			if _, err := d.ReplyMore(ctx, client.Answer{Payload: reply.Payload}); err != nil {
				return nil, err
			}
			// Passed on, with the rest of the work.
			_, err = d.Settle(ctx, client.Settlement{Messages: []client.Item{{Queue: "c", Message: client.Message{ReplyTo: d.ReplyTo()}}}})
			return nil, err
		}, "a")
		for _, queue := range []string{"b", "c"} {
			work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				look(ctx, d)
				return &client.Answer{Payload: []byte(d.Queue), Headers: map[string]string{"own": "header"}}, nil
			}, queue)
		}
		ctx, stop := context.WithTimeout(client.WithTraceContext(t.Context(), first), time.Minute)
		defer stop()
		want, _ := ctx.Deadline()
		n := 0
		for reply, err := range c.Call(ctx, "a", text("")).Replies() {
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := client.TraceContextOf(c.ContextOf(t.Context(), reply.Headers)); got != first {
				t.Errorf("reply %d has the headers %v", reply.Sequence, reply.Headers)
			}
			n++
		}
		if n != 2 || len(deadlines) != 3 {
			t.Errorf("%d replies, %d deliveries", n, len(deadlines))
		}
		for _, got := range deadlines {
			if got.After(want.Add(time.Second)) || got.Before(want.Add(-time.Second)) {
				t.Errorf("a handler's deadline is %v, want the caller's %v", got, want)
			}
		}
	})
}

// headersOf sends a message under a context and returns the headers that it has on arrival.
func headersOf(ctx context.Context, t *testing.T, c *client.Client, m client.Message) map[string]string {
	t.Helper()
	results, err := c.EnqueueBatch(ctx, client.Item{Queue: "q", Message: m})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	s := consume(t.Context(), t, c, client.ConsumeConfig{}, "q")
	defer s.Close()
	d := nextDelivery(t.Context(), t, s)
	if err := d.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d.Headers
}

func TestTraceHeaders(t *testing.T) {
	own := map[string]string{"traceparent": "mine", "a": "b"}
	for name, test := range map[string]struct {
		trace client.TraceContext
		own   map[string]string
		want  map[string]string
	}{
		"none":             {},
		"both":             {client.TraceContext{Parent: parent, State: state}, nil, map[string]string{"traceparent": parent, "tracestate": state}},
		"no state":         {client.TraceContext{Parent: parent}, map[string]string{"a": "b"}, map[string]string{"traceparent": parent, "a": "b"}},
		"the caller's own": {client.TraceContext{Parent: parent, State: state}, own, own},
		"later version":    {client.TraceContext{Parent: "01" + parent[2:] + "-more"}, nil, map[string]string{"traceparent": "01" + parent[2:] + "-more"}},
		"malformed":        {client.TraceContext{Parent: "x\r\nevil: header"}, nil, nil},
		"too long":         {client.TraceContext{Parent: parent + "0"}, nil, nil},
		"upper case":       {client.TraceContext{Parent: "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"}, nil, nil},
		"no trace":         {client.TraceContext{Parent: "00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, nil, nil},
		"no span":          {client.TraceContext{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"}, nil, nil},
		"forbidden":        {client.TraceContext{Parent: "ff" + parent[2:]}, nil, nil},
		"bad state":        {client.TraceContext{Parent: parent, State: "a\nb"}, nil, map[string]string{"traceparent": parent}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
				ctx := client.WithTraceContext(t.Context(), test.trace)
				got := headersOf(ctx, t, c, client.Message{Headers: test.own})
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("headers (-want +got)\n%s", diff)
				}
			})
		})
	}
	if own["traceparent"] != "mine" || len(own) != 2 {
		t.Errorf("the caller's map was changed: %v", own)
	}
}

type baggageKey struct{}

// baggage is a propagator of an application.
type baggage struct{}

func (baggage) Inject(ctx context.Context, headers map[string]string) {
	if v, ok := ctx.Value(baggageKey{}).(string); ok {
		headers["baggage"] = v
	}
}

func (baggage) Extract(ctx context.Context, headers map[string]string) context.Context {
	return context.WithValue(ctx, baggageKey{}, headers["baggage"])
}

func TestPropagator(t *testing.T) {
	inBubble(t, func(t *testing.T, bed *testbed.Bed, c *client.Client) {
		ctx := context.WithValue(client.WithTraceContext(t.Context(), client.TraceContext{Parent: parent}), baggageKey{}, "bag")
		if diff := cmp.Diff(map[string]string{"baggage": "bag"}, headersOf(ctx, t, c, client.Message{})); diff != "" {
			t.Errorf("headers (-want +got)\n%s", diff)
		}
		work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			v, _ := ctx.Value(baggageKey{}).(string)
			return &client.Answer{Payload: []byte(v)}, nil
		}, "bags")
		reply, err := c.Call(ctx, "bags", text("")).One()
		if err != nil || string(reply.Payload) != "bag" || reply.Headers["baggage"] != "bag" {
			t.Errorf("One() = %+v, %v", reply, err)
		}
		silent := newClient(t, bed, client.WithPropagator(nil))
		if got := headersOf(ctx, t, silent, client.Message{}); got != nil {
			t.Errorf("without a propagator: headers %v", got)
		}
	}, client.WithPropagator(baggage{}))
}
