package badinput

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
)

// decodingRows are bytes that are no request, and parts of one that no field can have.
func decodingRows(f *Fixture) []Row {
	malformed := invalid("FRAME_MALFORMED", "")
	rows := []Row{
		raw("garbage", queuepb.QueueService_Enqueue_FullMethodName, []byte("\xff\xff\xff\xff"), malformed),
		raw("garbage, to a stream", queuepb.QueueService_Call_FullMethodName, []byte("\xff\xff\xff\xff"), malformed),
		raw("garbage, to an administrator's RPC", queuepb.AdminService_GetQueue_FullMethodName, []byte("\xff\xff\xff\xff"), malformed),
		raw("request cut short", queuepb.QueueService_Enqueue_FullMethodName, []byte{1<<3 | 2, 10, 'a'}, malformed),
		raw("length of 2^63", queuepb.QueueService_Enqueue_FullMethodName,
			protowire.AppendVarint([]byte{1<<3 | 2}, 1<<63), malformed),
		raw("varint without an end", queuepb.QueueService_Enqueue_FullMethodName,
			append([]byte{7 << 3}, strings.Repeat("\xff", 11)...), malformed),
		raw("field number 0", queuepb.QueueService_Enqueue_FullMethodName, []byte{0, 1}, malformed),
		raw("field of the wrong type", queuepb.QueueService_Enqueue_FullMethodName, []byte{1 << 3, 1}, malformed),
		raw("group that nobody closes", queuepb.QueueService_Enqueue_FullMethodName, []byte{100<<3&0x7f | 0x80 | 3, 100 >> 4}, malformed),

		badText("queue", &queuepb.EnqueueRequest{}, 1, invalid("QUEUE_NAME_INVALID", "queue")),
		badText("group", &queuepb.EnqueueRequest{Queue: "q"}, 8, invalid("GROUP_INVALID", "group")),
		badText("idempotency key", &queuepb.EnqueueRequest{Queue: "q"}, 9, invalid("IDEMPOTENCY_KEY_INVALID", "idempotency_key")),
		badText("consumer id", &queuepb.ConsumeRequest{Queues: []string{"q"}}, 4, invalid("CONSUMER_ID_INVALID", "consumer_id")),
		badText("reply id", &queuepb.ReplyRequest{Handle: f.Pipe.Send}, 11, invalid("REPLY_ID_INVALID", "reply_id")),
		badText("content type", &queuepb.ReplyRequest{
			Handle: f.Pipe.Send, More: true, Body: &queuepb.ReplyRequest_Payload{},
		}, 5, invalid("HEADER_INVALID", "content_type")),
		badText("handle", &queuepb.Handle{}, 1, Refusal{}),
	}
	// Inside a message, which takes a few bytes of wrapping.
	last := &rows[len(rows)-1]
	handle := last.Request
	*last = raw(last.Name, queuepb.QueueService_Cancel_FullMethodName,
		protowire.AppendBytes([]byte{1<<3 | 2}, handle), invalid("HANDLE_INVALID", "handle"))

	return append(rows,
		refused("duration of 10^9 nanos", &queuepb.EnqueueRequest{Queue: "q", Delay: &durationpb.Duration{Nanos: 1_000_000_000}}, invalid("DURATION_INVALID", "delay")),
		refused("duration of mixed signs", &queuepb.EnqueueRequest{Queue: "q", Expiry: &durationpb.Duration{Seconds: 1, Nanos: -1}}, invalid("DURATION_INVALID", "expiry")),
		refused("duration of 10,001 years", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Timeout: &durationpb.Duration{Seconds: 1 << 40}}}, invalid("DURATION_INVALID", "pipe.timeout")),
		refused("time in the year 10000", &queuepb.EnqueueRequest{Queue: "q", DeliverAt: &timestamppb.Timestamp{Seconds: 253402300800}}, invalid("TIMESTAMP_INVALID", "deliver_at")),
		refused("time before 1970", &queuepb.EnqueueRequest{Queue: "q", DeliverAt: &timestamppb.Timestamp{Seconds: -1}}, invalid("TIMESTAMP_INVALID", "deliver_at")),
		refused("time of negative nanos", &queuepb.EnqueueRequest{Queue: "q", DeliverAt: &timestamppb.Timestamp{Nanos: -1}}, invalid("TIMESTAMP_INVALID", "deliver_at")),
		refused("unknown enum: if_abandoned", &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{IfAbandoned: 7}}, invalid("ENUM_UNKNOWN", "pipe.if_abandoned")),
		refused("unknown enum: action", &queuepb.SettleRequest{Lease: f.Lease, Action: 9}, invalid("ENUM_UNKNOWN", "action")),
		refused("unknown enum: negative", &queuepb.SettleRequest{Lease: f.Lease, Action: -1}, invalid("ENUM_UNKNOWN", "action")),
	)
}

// badText adds a text field that is not valid UTF-8, which no encoder would.
func badText(what string, request proto.Message, field protowire.Number, want Refusal) Row {
	r := refused("bad UTF-8: "+what, request, want)
	text := protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), "a\xff")
	method := r.Method
	if method == "" {
		method = queuepb.QueueService_Cancel_FullMethodName
	}
	return raw(r.Name, method, append(r.Request, text...), want)
}
