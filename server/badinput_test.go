package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// send calls the method that takes a request of this type.
func (c *client) send(req proto.Message) (proto.Message, metadata.MD, error) {
	var trailer metadata.MD
	opt := grpc.Trailer(&trailer)
	var (
		res proto.Message
		err error
	)
	switch r := req.(type) {
	case *queuepb.EnqueueRequest:
		res, err = c.Enqueue(c.ctx, r, opt)
	case *queuepb.EnqueueBatchRequest:
		res, err = c.EnqueueBatch(c.ctx, r, opt)
	case *queuepb.ReplyRequest:
		res, err = c.Reply(c.ctx, r, opt)
	case *queuepb.SettleRequest:
		res, err = c.Settle(c.ctx, r, opt)
	case *queuepb.ExtendLeasesRequest:
		res, err = c.ExtendLeases(c.ctx, r, opt)
	case *queuepb.StopConsumingRequest:
		res, err = c.StopConsuming(c.ctx, r, opt)
	case *queuepb.OpenPipeRequest:
		res, err = c.OpenPipe(c.ctx, r, opt)
	case *queuepb.CancelRequest:
		res, err = c.Cancel(c.ctx, r, opt)
	case *queuepb.DescribeRequest:
		res, err = c.Describe(c.ctx, r, opt)
	case *queuepb.CallRequest:
		return streamed(c.ctx, r, c.Call)
	case *queuepb.ConsumeRequest:
		return streamed(c.ctx, r, c.Consume)
	case *queuepb.ReceiveRequest:
		return streamed(c.ctx, r, c.Receive)
	default:
		c.t.Fatalf("no method for %T", req)
	}
	return res, trailer, err
}

// streamed is the first answer of a stream.
func streamed[Q, R any](
	ctx context.Context, req *Q, method func(context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error),
) (proto.Message, metadata.MD, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := method(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	res, err := stream.Recv()
	if err != nil {
		return nil, stream.Trailer(), err
	}
	m, ok := any(res).(proto.Message)
	if !ok {
		return nil, nil, fmt.Errorf("%T is no message", res)
	}
	return m, nil, nil
}

// operationOf wraps a request for a session.
func operationOf(id uint64, req proto.Message) *queuepb.Operation {
	o := &queuepb.Operation{Id: id}
	m := o.ProtoReflect()
	fields := m.Descriptor().Oneofs().ByName("request").Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message().FullName() == req.ProtoReflect().Descriptor().FullName() {
			m.Set(f, protoreflectValue(req))
		}
	}
	return o
}

// TestBadInput sends the catalogue of bad requests, on both faces.
func TestBadInput(t *testing.T) {
	web, webLine := server.NewAPIKey("default", 1, "web", time.Time{})
	other, otherLine := server.NewAPIKey("default", 1, "other", time.Time{})
	keys, err := server.ParseAPIKeys([]byte(webLine + "\n" + otherLine))
	if err != nil {
		t.Fatal(err)
	}
	nobody := newClient(t, testbed.WithServer(func(c *server.Config) { c.APIKeys = keys }))
	c := nobody.as(web)
	conn := must[*grpc.ClientConn](t)(c.bed.Dial())
	admin := queuepb.NewAdminServiceClient(conn)
	fixture := must[*badinput.Fixture](t)(badinput.Prepare(badinput.Clients{
		Queues: c, Admin: admin, Mine: c.ctx, Other: nobody.as(other).ctx,
	}, c.bed.Keys))
	queues := func() []*queuepb.Queue {
		return must[*queuepb.ListQueuesResponse](t)(admin.ListQueues(c.ctx, &queuepb.ListQueuesRequest{})).Queues
	}
	before := queues()
	session := must[*badinput.Session](t)(badinput.OpenSession(c.ctx, conn))
	for _, row := range badinput.Rows(fixture) {
		t.Run(row.Name, func(t *testing.T) {
			answer, got, err := badinput.Plain(c.ctx, conn, row.Method, row.Request)
			if err != nil {
				t.Error(err)
			}
			if wrong := row.Check(answer, got); wrong != "" {
				t.Errorf("plain: %s", wrong)
			}
			if !row.InSession {
				return
			}
			if answer, got, err = session.Do(&row); err != nil {
				t.Fatal(err)
			}
			if wrong := row.Check(answer, got); wrong != "" {
				t.Errorf("session: %s", wrong)
			}
		})
	}
	if diff := cmp.Diff(before, queues(), protocmp.Transform(),
		protocmp.IgnoreFields(&queuepb.QueueStatistics{}, "oldest_age", "enqueue_rate", "ack_rate")); diff != "" {
		t.Errorf("the queues have changed (-before +after):\n%s", diff)
	}
}

// TestErrorsShowLittle: no more than 32 characters of what a client sent, and nothing that may be a secret.
func TestErrorsShowLittle(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	long := strings.Repeat("\x01", 100)
	for _, name := range []string{pipe.SendHandle.Token, "x" + pipe.SendHandle.Token, "qk1_secretsecretsecretsecret", long} {
		for _, req := range []proto.Message{
			&queuepb.EnqueueRequest{Queue: name},
			&queuepb.ConsumeRequest{Queues: []string{"q"}, ConsumerId: name + "!"},
			&queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{Headers: map[string]string{name: ""}}},
		} {
			_, trailer, err := c.send(req)
			all := fmt.Sprint(err, trailer)
			for _, part := range []string{name[5:15], strings.Repeat(`\x01`, 9)} {
				if strings.Contains(all, part) {
					t.Errorf("error shows what was sent: %s", all)
				}
			}
		}
	}
}

// TestUnknownFields: what a newer client says more is dropped, and does not reach consumers.
func TestUnknownFields(t *testing.T) {
	c := newClient(t)
	m := text("x")
	m.ProtoReflect().SetUnknown([]byte{0xa2, 0x06, 1, 'u'}) // field 100
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: m}))
	d := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"q"}}))
	if u := d.Message.ProtoReflect().GetUnknown(); len(u) > 0 {
		t.Errorf("delivered message has unknown fields %x, want none", u)
	}
}
