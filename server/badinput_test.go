package server_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
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

// TestBadInput is the catalogue of what is wrong with the form of requests, on both faces.
func TestBadInput(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "leased"}))
	lease := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"leased"}})).Lease
	const far = 1 << 40
	mint := func(kind handles.Kind, tenant uint32, expires int64) *queuepb.Handle {
		return &queuepb.Handle{Token: c.bed.Keys.Mint(handles.Claims{
			Kind: kind, Tenant: tenant, Store: c.bed.Broker.Store(), Slot: 4711, Nonce: 1, Expires: expires,
		}).Text()}
	}
	token := pipe.SendHandle.Token
	flipped := &queuepb.Handle{Token: token[:40] + flip(token[40]) + token[41:]}
	foreign, expired, unknown := mint(handles.Send, 9, far), mint(handles.Send, 1, 0), mint(handles.Send, 1, far)
	foreignFuture := mint(handles.Receive, 9, far)

	invalid := func(reason, field string) refusal { return refusal{codes.InvalidArgument, reason, field} }
	message := func(m *queuepb.Message) *queuepb.EnqueueRequest {
		return &queuepb.EnqueueRequest{Queue: "q", Message: m}
	}
	headers := func(n int, key, value string) map[string]string {
		all := map[string]string{key: value}
		for i := 1; i < n; i++ {
			all[fmt.Sprint("h", i)] = "v"
		}
		return all
	}
	named := func(n int, name string, h *queuepb.Handle) map[string]*queuepb.Handle {
		all := map[string]*queuepb.Handle{name: h}
		for i := 1; i < n; i++ {
			all[fmt.Sprint("h", i)] = pipe.SendHandle
		}
		return all
	}
	reply := func(change func(*queuepb.ReplyRequest)) *queuepb.ReplyRequest {
		r := &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{}, More: true}
		change(r)
		return r
	}
	failure := func(e *queuepb.Error) *queuepb.ReplyRequest {
		return &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Error{Error: e}}
	}

	type row struct {
		name string
		req  proto.Message
		want refusal
	}
	rows := []row{
		{"33 no request in a batch", &queuepb.EnqueueBatchRequest{}, invalid("BATCH_EMPTY", "items")},
		{"49 batch of too many", &queuepb.EnqueueBatchRequest{Items: make1001()}, invalid("BATCH_TOO_LARGE", "items")},
		{"49 batch of too much", &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{
			message(&queuepb.Message{Payload: make([]byte, 5<<20)}),
		}}, invalid("BATCH_TOO_LARGE", "items")},
		{"40 payload", message(&queuepb.Message{Payload: make([]byte, 1<<20+1)}), invalid("PAYLOAD_TOO_LARGE", "message.payload")},
		{"41 headers, many", message(&queuepb.Message{Headers: headers(65, "a", "")}), invalid("HEADER_INVALID", "message.headers")},
		{"41 headers, long", message(&queuepb.Message{Headers: headers(1, "a", strings.Repeat("v", 8<<10))}), invalid("HEADER_INVALID", "message.headers")},
		{"41 header key", message(&queuepb.Message{Headers: headers(1, "A", "")}), invalid("HEADER_INVALID", `message.headers["A"]`)},
		{"41 header key, empty", message(&queuepb.Message{Headers: headers(1, "", "")}), invalid("HEADER_INVALID", `message.headers[""]`)},
		{"41 header value", message(&queuepb.Message{Headers: headers(1, "a", "x\r\nEvil: 1")}), invalid("HEADER_INVALID", `message.headers["a"]`)},
		{"41 header value, NUL", message(&queuepb.Message{Headers: headers(1, "a", "\x00")}), invalid("HEADER_INVALID", `message.headers["a"]`)},
		{"41 content type", message(&queuepb.Message{ContentType: strings.Repeat("x", 129)}), invalid("HEADER_INVALID", "message.content_type")},
		{"42 reserved header", message(&queuepb.Message{Headers: headers(1, "replyq-x", "")}), invalid("HEADER_RESERVED", `message.headers["replyq-x"]`)},
		{"42 reserved header, grpc", message(&queuepb.Message{Headers: headers(1, "grpc-x", "")}), invalid("HEADER_RESERVED", `message.headers["grpc-x"]`)},
		{"43 expiry 0", &queuepb.EnqueueRequest{Queue: "q", Expiry: seconds(0)}, invalid("EXPIRY_INVALID", "expiry")},
		{"43 expiry negative", &queuepb.EnqueueRequest{Queue: "q", Expiry: seconds(-1)}, invalid("EXPIRY_INVALID", "expiry")},
		{"43 expiry long", &queuepb.EnqueueRequest{Queue: "q", Expiry: seconds(366 * 86400)}, invalid("EXPIRY_INVALID", "expiry")},
		{"43 delay negative", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(-1)}, invalid("DELAY_INVALID", "delay")},
		{"43 delay long", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(366 * 86400)}, invalid("DELAY_INVALID", "delay")},
		{"43 delay twice", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(1), DeliverAt: timestamppb.Now()}, invalid("DELAY_INVALID", "deliver_at")},
		{"43 deliver_at far", &queuepb.EnqueueRequest{Queue: "q", DeliverAt: &timestamppb.Timestamp{Seconds: 8_000_000_000}}, invalid("DELAY_INVALID", "deliver_at")},
		{"35 duration", &queuepb.EnqueueRequest{Queue: "q", Delay: &durationpb.Duration{Nanos: 1_000_000_000}}, invalid("DURATION_INVALID", "delay")},
		{"35 duration, mixed signs", &queuepb.EnqueueRequest{Queue: "q", Expiry: &durationpb.Duration{Seconds: 1, Nanos: -1}}, invalid("DURATION_INVALID", "expiry")},
		{"35 timestamp", &queuepb.EnqueueRequest{Queue: "q", DeliverAt: &timestamppb.Timestamp{Seconds: 253402300800}}, invalid("TIMESTAMP_INVALID", "deliver_at")},
		{"45 priority", &queuepb.EnqueueRequest{Queue: "q", Priority: 10}, invalid("PRIORITY_INVALID", "priority")},
		{"group", &queuepb.EnqueueRequest{Queue: "q", Group: strings.Repeat("g", 129)}, invalid("GROUP_INVALID", "group")},
		{"46 idempotency key", &queuepb.EnqueueRequest{Queue: "q", IdempotencyKey: strings.Repeat("k", 129)}, invalid("IDEMPOTENCY_KEY_INVALID", "idempotency_key")},
		{"reply_to and pipe", &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{ReplyTo: pipe.SendHandle}, Pipe: &queuepb.PipeOptions{}}, invalid("REPLY_TO_AND_PIPE", "pipe")},
		{"reply_to in a call", &queuepb.CallRequest{Queue: "q", Message: &queuepb.Message{ReplyTo: pipe.SendHandle}}, invalid("REPLY_TO_AND_PIPE", "message.reply_to")},
		{"pipe timeout", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Timeout: seconds(25 * 3600)}}, invalid("PIPE_OPTIONS_INVALID", "pipe.timeout")},
		{"pipe timeout 0", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Timeout: seconds(0)}}, invalid("PIPE_OPTIONS_INVALID", "pipe.timeout")},
		{"pipe grace", &queuepb.CallRequest{Queue: "q", Pipe: &queuepb.PipeOptions{DisconnectGrace: seconds(3601)}}, invalid("PIPE_OPTIONS_INVALID", "pipe.disconnect_grace")},
		{"pipe retain", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Retain: seconds(-1)}}, invalid("PIPE_OPTIONS_INVALID", "pipe.retain")},
		{"pipe capacity", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{CapacityReplies: 65537}}, invalid("PIPE_OPTIONS_INVALID", "pipe.capacity_replies")},
		{"pipe bytes", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{CapacityBytes: 65 << 20}}, invalid("PIPE_OPTIONS_INVALID", "pipe.capacity_bytes")},
		{"33 enum", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{IfAbandoned: 7}}, invalid("ENUM_UNKNOWN", "pipe.if_abandoned")},
		{"33 enum, settle", &queuepb.SettleRequest{Lease: lease, Action: 9}, invalid("ENUM_UNKNOWN", "action")},

		{"56 lease time", &queuepb.ConsumeRequest{Queues: []string{"q"}, LeaseTime: seconds(0)}, invalid("LEASE_INVALID", "lease_time")},
		{"56 lease time, long", &queuepb.ConsumeRequest{Queues: []string{"q"}, LeaseTime: seconds(12*3600 + 1)}, invalid("LEASE_INVALID", "lease_time")},
		{"56 lease time, extension", &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{lease}, LeaseTime: seconds(-1)}, invalid("LEASE_INVALID", "lease_time")},
		{"61 max_in_flight", &queuepb.ConsumeRequest{Queues: []string{"q"}, MaxInFlight: 10001}, invalid("CREDIT_INVALID", "max_in_flight")},
		{"no queues", &queuepb.ConsumeRequest{}, invalid("QUEUES_INVALID", "queues")},
		{"too many queues", &queuepb.ConsumeRequest{Queues: make([]string, 65)}, invalid("QUEUES_INVALID", "queues")},
		{"36 queue among queues", &queuepb.ConsumeRequest{Queues: []string{"q", ".q"}}, invalid("QUEUE_NAME_INVALID", "queues[1]")},
		{"consumer id", &queuepb.ConsumeRequest{Queues: []string{"q"}, ConsumerId: "a b"}, invalid("CONSUMER_ID_INVALID", "consumer_id")},
		{"consumer id missing", &queuepb.StopConsumingRequest{}, invalid("CONSUMER_ID_INVALID", "consumer_id")},
		{"wait", &queuepb.ConsumeRequest{Queues: []string{"q"}, Wait: seconds(-1)}, invalid("DURATION_INVALID", "wait")},
		{"no leases", &queuepb.ExtendLeasesRequest{}, invalid("LEASES_INVALID", "leases")},

		{"58 lease malformed", &queuepb.SettleRequest{Lease: &queuepb.Handle{Token: "x"}}, invalid("HANDLE_INVALID", "lease")},
		{"58 lease missing", &queuepb.SettleRequest{}, invalid("HANDLE_INVALID", "lease")},
		{"58 lease of another kind", &queuepb.SettleRequest{Lease: pipe.SendHandle}, invalid("HANDLE_KIND", "lease")},
		{"58 lease forged", &queuepb.SettleRequest{Lease: &queuepb.Handle{Token: lease.Token[:60] + flip(lease.Token[60]) + lease.Token[61:]}}, refusal{codes.NotFound, "LEASE_UNKNOWN", "lease"}},
		{"58 lease unknown", &queuepb.SettleRequest{Lease: mint(handles.Lease, 1, far)}, refusal{codes.NotFound, "LEASE_UNKNOWN", "lease"}},
		{"58 lease foreign", &queuepb.SettleRequest{Lease: mint(handles.Lease, 9, far)}, refusal{codes.NotFound, "LEASE_UNKNOWN", "lease"}},
		{"settle delay", &queuepb.SettleRequest{Lease: lease, Delay: seconds(1)}, invalid("DELAY_INVALID", "delay")},
		{"settle reason", &queuepb.SettleRequest{Lease: lease, Reason: strings.Repeat("r", 1025)}, invalid("SETTLE_TOO_LARGE", "reason")},
		{"settle replies", &queuepb.SettleRequest{Lease: lease, Replies: make([]*queuepb.ReplyRequest, 257)}, invalid("SETTLE_TOO_LARGE", "replies")},
		{"settle messages", &queuepb.SettleRequest{Lease: lease, Messages: make([]*queuepb.EnqueueRequest, 257)}, invalid("SETTLE_TOO_LARGE", "messages")},
		{"settle with a bad reply", &queuepb.SettleRequest{Lease: lease, Replies: []*queuepb.ReplyRequest{failure(&queuepb.Error{})}}, invalid("ERROR_INVALID", "replies[0].error.code")},
		{"settle with a bad message", &queuepb.SettleRequest{Lease: lease, Messages: []*queuepb.EnqueueRequest{message(&queuepb.Message{ReplyTo: flipped})}}, invalid("HANDLE_INVALID", "messages[0].message.reply_to")},
		{"settle that requires a consumer", &queuepb.SettleRequest{Lease: lease, Messages: []*queuepb.EnqueueRequest{{Queue: "q", RequireConsumer: true}}}, invalid("REQUIRE_CONSUMER_INVALID", "messages[0].require_consumer")},
		{"settle with a pipe", &queuepb.SettleRequest{Lease: lease, Messages: []*queuepb.EnqueueRequest{{Queue: "q", Pipe: &queuepb.PipeOptions{}}}}, invalid("PIPE_OPTIONS_INVALID", "messages[0].pipe")},

		{"62 handle empty", &queuepb.ReceiveRequest{}, invalid("HANDLE_INVALID", "handle")},
		{"62 handle, no token", &queuepb.ReceiveRequest{Handle: &queuepb.Handle{Token: "token"}}, invalid("HANDLE_INVALID", "handle")},
		{"63 handle, a bit flipped", message(&queuepb.Message{ReplyTo: flipped}), invalid("HANDLE_INVALID", "message.reply_to")},
		{"64 handle, padded", message(&queuepb.Message{ReplyTo: &queuepb.Handle{Token: token + "="}}), invalid("HANDLE_INVALID", "message.reply_to")},
		{"64 handle, prefix", message(&queuepb.Message{ReplyTo: &queuepb.Handle{Token: "QH1S_" + token[5:]}}), invalid("HANDLE_INVALID", "message.reply_to")},
		{"66 handle, foreign", message(&queuepb.Message{ReplyTo: foreign}), refusal{codes.NotFound, "HANDLE_UNKNOWN", "message.reply_to"}},
		{"70 handle, unknown", message(&queuepb.Message{ReplyTo: unknown}), refusal{codes.NotFound, "HANDLE_UNKNOWN", "message.reply_to"}},
		{"66 handle, foreign, receive", &queuepb.ReceiveRequest{Handle: foreignFuture}, refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}},
		{"66 handle, foreign, cancel", &queuepb.CancelRequest{Handle: foreignFuture}, refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}},
		{"66 handle, foreign, describe", &queuepb.DescribeRequest{Handle: foreign}, refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}},
		{"67 handle, expired", message(&queuepb.Message{ReplyTo: expired}), refusal{codes.FailedPrecondition, "HANDLE_EXPIRED", "message.reply_to"}},
		{"68 kind, reply", &queuepb.ReplyRequest{Handle: pipe.ReceiveHandle}, invalid("HANDLE_KIND", "handle")},
		{"68 kind, receive", &queuepb.ReceiveRequest{Handle: pipe.SendHandle}, invalid("HANDLE_KIND", "handle")},
		{"68 kind, lease as reply_to", message(&queuepb.Message{ReplyTo: lease}), invalid("HANDLE_KIND", "message.reply_to")},
		{"68 kind, splice", &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Splice{Splice: pipe.SendHandle}}, invalid("HANDLE_KIND", "splice")},
		{"66 splice, foreign", &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Splice{Splice: foreignFuture}}, refusal{codes.NotFound, "HANDLE_UNKNOWN", "splice"}},
		{"76 handles, many", message(&queuepb.Message{Handles: named(33, "a", pipe.SendHandle)}), invalid("HANDLES_TOO_MANY", "message.handles")},
		{"76 handle name", message(&queuepb.Message{Handles: named(1, "a b", pipe.SendHandle)}), invalid("HANDLE_NAME_INVALID", `message.handles["a b"]`)},
		{"76 handle name, long", message(&queuepb.Message{Handles: named(1, strings.Repeat("a", 65), pipe.SendHandle)}), invalid("HANDLE_NAME_INVALID", `message.handles["`+strings.Repeat("a", 32)+`..."]`)},
		{"82 one bad handle", message(&queuepb.Message{Handles: named(9, "audit", flipped)}), invalid("HANDLE_INVALID", `message.handles["audit"]`)},
		{"82 one unknown handle", message(&queuepb.Message{Handles: named(9, "audit", unknown)}), refusal{codes.NotFound, "HANDLE_UNKNOWN", `message.handles["audit"]`}},
		{"82 one bad handle in a reply", reply(func(r *queuepb.ReplyRequest) { r.Handles = named(9, "audit", expired) }), refusal{codes.FailedPrecondition, "HANDLE_EXPIRED", `handles["audit"]`}},

		{"reply payload", reply(func(r *queuepb.ReplyRequest) { r.Body = &queuepb.ReplyRequest_Payload{Payload: make([]byte, 1<<20+1)} }), invalid("PAYLOAD_TOO_LARGE", "payload")},
		{"reply header", reply(func(r *queuepb.ReplyRequest) { r.Headers = headers(1, "a", "\n") }), invalid("HEADER_INVALID", `headers["a"]`)},
		{"reply id", reply(func(r *queuepb.ReplyRequest) { r.ReplyId = strings.Repeat("i", 65) }), invalid("REPLY_ID_INVALID", "reply_id")},
		{"ack without lease", reply(func(r *queuepb.ReplyRequest) { r.Ack = true }), invalid("LEASE_REQUIRED", "lease")},
		{"error without code", failure(&queuepb.Error{}), invalid("ERROR_INVALID", "error.code")},
		{"error with code 17", failure(&queuepb.Error{Code: 17}), invalid("ERROR_INVALID", "error.code")},
		{"error reason", failure(&queuepb.Error{Code: 5, Reason: "not so"}), invalid("ERROR_INVALID", "error.reason")},
		{"error message", failure(&queuepb.Error{Code: 5, Message: strings.Repeat("m", 4097)}), invalid("ERROR_INVALID", "error.message")},
		{"error metadata", failure(&queuepb.Error{Code: 5, Metadata: headers(17, "a", "")}), invalid("ERROR_INVALID", "error.metadata")},
		{"error details", failure(&queuepb.Error{Code: 5, Details: []*anypb.Any{{Value: make([]byte, 65<<10)}}}), invalid("ERROR_INVALID", "error.details")},
		{"error with more", reply(func(r *queuepb.ReplyRequest) { r.Body = &queuepb.ReplyRequest_Error{Error: &queuepb.Error{Code: 5}} }), invalid("MORE_INVALID", "more")},
		{"splice with more", reply(func(r *queuepb.ReplyRequest) { r.Body = &queuepb.ReplyRequest_Splice{Splice: pipe.ReceiveHandle} }), invalid("MORE_INVALID", "more")},
		{"handles without payload", reply(func(r *queuepb.ReplyRequest) { r.Body, r.Handles = nil, named(1, "a", pipe.SendHandle) }), invalid("HANDLES_TOO_MANY", "handles")},

		{"grace", &queuepb.ConsumeRequest{Queues: []string{"q"}, DisconnectGrace: seconds(3601)}, invalid("DURATION_INVALID", "disconnect_grace")},
		{"grace, negative", &queuepb.ConsumeRequest{Queues: []string{"q"}, DisconnectGrace: seconds(-1)}, invalid("DURATION_INVALID", "disconnect_grace")},
		{"held leases, forged", &queuepb.ConsumeRequest{Queues: []string{"q"}, HeldLeases: []*queuepb.Handle{lease, {Token: "x"}}}, invalid("HANDLE_INVALID", "held_leases[1]")},
		{"held leases, kind", &queuepb.ConsumeRequest{Queues: []string{"q"}, HeldLeases: []*queuepb.Handle{pipe.SendHandle}}, invalid("HANDLE_KIND", "held_leases[0]")},
		{"held leases, many", &queuepb.ConsumeRequest{Queues: []string{"q"}, HeldLeases: slices.Repeat([]*queuepb.Handle{lease}, 10_001)}, invalid("LEASES_INVALID", "held_leases")},

		{"parent, forged", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Parent: flipped}}, invalid("HANDLE_INVALID", "pipe.parent")},
		{"parent, lease", &queuepb.EnqueueRequest{Queue: "q", Pipe: &queuepb.PipeOptions{Parent: lease}}, invalid("HANDLE_KIND", "pipe.parent")},
		{"parent, unknown", &queuepb.CallRequest{Queue: "q", Pipe: &queuepb.PipeOptions{Parent: unknown}}, refusal{codes.NotFound, "HANDLE_UNKNOWN", "pipe.parent"}},
		{"parent, expired", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Parent: expired}}, refusal{codes.FailedPrecondition, "HANDLE_EXPIRED", "pipe.parent"}},
	}
	for _, name := range []string{
		"", strings.Repeat("a", 129), ".a", "a.", "a..b", "A", "a b", "a*", "a>", "$JS.x", "$SYS", "a/b", "..", "a\x00", "a\n",
		"\u0430bc", "a\u200b", "\xff",
	} {
		rows = append(rows, row{fmt.Sprintf("36 and 37 queue %q", name), &queuepb.EnqueueRequest{Queue: name}, invalid("QUEUE_NAME_INVALID", "queue")})
	}
	s := c.openSession(&queuepb.Hello{})
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if strings.Contains(r.name, `\xff`) {
				t.Skip("the client's encoder refuses it: TestBadBytes sends it raw")
			}
			res, trailer, err := c.send(r.req)
			if err == nil {
				t.Fatalf("%v = %v, want %v", r.req, res, r.want)
			}
			if got := refusalOf(t, err, trailer); got != r.want {
				t.Errorf("plain: got %v (%v), want %v", got, err, r.want)
			}
			if size := proto.Size(r.req); size > 4<<20 {
				return // ends a session, see TestSessionEnds
			}
			s.do(operationOf(uint64(i+1), r.req))
			e := s.next(uint64(i + 1)).GetError()
			if got := (refusal{codes.Code(e.GetCode()), e.GetReason(), e.GetField()}); got != r.want {
				t.Errorf("session: got %v, want %v", got, r.want)
			}
		})
	}
	t.Run("39 empty payload", func(t *testing.T) {
		if _, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{}}); err != nil {
			t.Errorf("Enqueue() = %v, want OK", err)
		}
	})
	t.Run("nothing else was stored", func(t *testing.T) {
		admin := queuepb.NewAdminServiceClient(must[*grpc.ClientConn](t)(c.bed.Dial()))
		res := must[*queuepb.ListQueuesResponse](t)(admin.ListQueues(c.ctx, &queuepb.ListQueuesRequest{}))
		for _, q := range res.Queues {
			if q.Name == "q" && q.Statistics.EnqueuedTotal != 1 || q.Name != "q" && q.Name != "leased" {
				t.Errorf("queue %v, want only what was accepted", q)
			}
		}
	})
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

// TestBadBytes sends what is no message at all.
func TestBadBytes(t *testing.T) {
	bed := testbed.New(t)
	conn := must[*grpc.ClientConn](t)(bed.Dial(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}))))
	c := dial(t, bed)
	badName := append([]byte{0x0a, 2}, "a\xff"...)
	unknown := append([]byte{0xa2, 0x06, 0x80, 0x80, 0x40}, make([]byte, 1<<20)...) // field 100, 1 MiB of it
	for name, test := range map[string]struct {
		method string
		bytes  []byte
		want   refusal
	}{
		"garbage, unary":  {"Enqueue", []byte("\xff\xff\xff\xff"), refusal{codes.InvalidArgument, "FRAME_MALFORMED", ""}},
		"cut, unary":      {"Enqueue", []byte{0x0a, 10, 'a'}, refusal{codes.InvalidArgument, "FRAME_MALFORMED", ""}},
		"bad UTF-8":       {"Enqueue", badName, refusal{codes.InvalidArgument, "QUEUE_NAME_INVALID", "queue"}},
		"garbage, stream": {"Call", []byte("\xff\xff\xff\xff"), refusal{codes.InvalidArgument, "FRAME_MALFORMED", ""}},
		"garbage, frame":  {"Session", []byte("\xff\xff\xff\xff"), refusal{codes.InvalidArgument, "FRAME_MALFORMED", ""}},

		"29 small parts, unary":  {"EnqueueBatch", bytes.Repeat([]byte{0x0a, 0}, 1<<19), refusal{codes.InvalidArgument, "TOO_MANY_ELEMENTS", ""}},
		"29 small parts, stream": {"Consume", bytes.Repeat([]byte{0x2a, 0}, 1<<19), refusal{codes.InvalidArgument, "TOO_MANY_ELEMENTS", ""}},
		"29 small parts, frame":  {"Session", bytes.Repeat([]byte{0x12, 0}, 1<<19), refusal{codes.InvalidArgument, "TOO_MANY_ELEMENTS", ""}},
		"30 nesting, unary":      {"Enqueue", bytes.Repeat([]byte{0xa3, 0x06}, 10_000), refusal{codes.InvalidArgument, "NESTING_TOO_DEEP", ""}},
		"30 nesting, frame":      {"Session", bytes.Repeat([]byte{0xa3, 0x06}, 33), refusal{codes.InvalidArgument, "NESTING_TOO_DEEP", ""}},
		"32 unknown, unary":      {"Enqueue", unknown, refusal{codes.InvalidArgument, "UNKNOWN_FIELDS_TOO_LARGE", ""}},
		"32 unknown, stream":     {"Call", unknown, refusal{codes.InvalidArgument, "UNKNOWN_FIELDS_TOO_LARGE", ""}},
		"32 unknown, frame":      {"Session", unknown, refusal{codes.InvalidArgument, "UNKNOWN_FIELDS_TOO_LARGE", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := conn.NewStream(c.ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
				"/replyq.v1.QueueService/"+test.method)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(test.bytes); err != nil {
				t.Fatal(err)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			var answer []byte
			err = stream.RecvMsg(&answer)
			if got := refusalOf(t, err, stream.Trailer()); got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
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
