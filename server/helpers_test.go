package server_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// client is a client of the plain face, with a context that ends with the test.
type client struct {
	queuepb.QueueServiceClient
	t   *testing.T
	ctx context.Context
	bed *testbed.Bed
}

func dial(t *testing.T, bed *testbed.Bed, options ...grpc.DialOption) *client {
	t.Helper()
	conn, err := bed.Dial(options...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return &client{queuepb.NewQueueServiceClient(conn), t, ctx, bed}
}

func newClient(t *testing.T, options ...testbed.Option) *client {
	t.Helper()
	return dial(t, testbed.New(t, options...))
}

// must fails the test on an error.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// consume starts a consumer and waits until it is registered.
func (c *client) consume(req *queuepb.ConsumeRequest) grpc.ServerStreamingClient[queuepb.ConsumeResponse] {
	c.t.Helper()
	stream, err := c.Consume(c.ctx, req)
	if err != nil {
		c.t.Fatal(err)
	}
	if e, err := stream.Recv(); err != nil || e.GetStarted() == nil {
		c.t.Fatalf("first event of Consume = %v, %v, want started", e, err)
	}
	return stream
}

// delivery reads the next delivery of a consumer.
func (c *client) delivery(stream grpc.ServerStreamingClient[queuepb.ConsumeResponse]) *queuepb.Delivery {
	c.t.Helper()
	e, err := stream.Recv()
	if err != nil || e.GetDelivery() == nil {
		c.t.Fatalf("Consume = %v, %v, want a delivery", e, err)
	}
	return e.GetDelivery()
}

func text(s string) *queuepb.Message { return &queuepb.Message{Payload: []byte(s)} }

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

// refusal is what a status says in all the ways that clients read.
type refusal struct {
	Code   codes.Code
	Reason string
	Field  string
}

func refusalOf(t *testing.T, err error, trailer metadata.MD) refusal {
	t.Helper()
	st := status.Convert(err)
	r := refusal{Code: st.Code()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			r.Reason = d.Reason
			if d.Domain != "replyq" {
				t.Errorf("ErrorInfo.Domain = %q, want replyq", d.Domain)
			}
		case *errdetails.BadRequest:
			r.Field = d.FieldViolations[0].Field
		}
	}
	if got := first(trailer["replyq-reason"]); got != r.Reason {
		t.Errorf("trailer replyq-reason = %q, want %q as in ErrorInfo", got, r.Reason)
	}
	if got := first(trailer["replyq-field"]); r.Field == "" {
		r.Field = got
	} else if got != r.Field {
		t.Errorf("trailer replyq-field = %q, want %q as in BadRequest", got, r.Field)
	}
	return r
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

type connT = grpc.ClientConn

// clock is one that tests can set, for server and broker alike.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time            { return time.Unix(0, c.at.Load()) }
func (c *clock) server(cfg *server.Config) { cfg.Now = c.now }
func (c *clock) broker(cfg *broker.Config) { cfg.Now = c.now }
func (c *clock) advance(d time.Duration)   { c.at.Add(int64(d)) }

// mint makes a genuine send handle of a tenant for a pipe that does not exist.
func (c *client) mint(t *testing.T, tenant uint32, expires int64) *queuepb.Handle {
	t.Helper()
	h := c.bed.Keys.Mint(handles.Claims{
		Kind: handles.Send, Tenant: tenant, Store: c.bed.Broker.Store(), Slot: 4711, Nonce: 42, Expires: expires,
	})
	return &queuepb.Handle{Token: h.Text()}
}

func smallPayloads(cfg *server.Config) { cfg.MaxPayload = 1000 }

// flip changes one bit of a character of a token.
func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func protoreflectValue(m proto.Message) protoreflect.Value {
	return protoreflect.ValueOfMessage(m.ProtoReflect())
}
