package badinput

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
)

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

// enqueueRows are what is wrong with where, when and how a message is to be stored.
func enqueueRows() []Row {
	rows := []Row{
		refused("expiry of 0", &queuepb.EnqueueRequest{Queue: "q", Expiry: seconds(0)}, invalid("EXPIRY_INVALID", "expiry")),
		refused("expiry below 0", &queuepb.EnqueueRequest{Queue: "q", Expiry: seconds(-1)}, invalid("EXPIRY_INVALID", "expiry")),
		refused("expiry of 366 days", &queuepb.EnqueueRequest{Queue: "q", Expiry: seconds(366 * 86400)}, invalid("EXPIRY_INVALID", "expiry")),
		refused("delay below 0", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(-1)}, invalid("DELAY_INVALID", "delay")),
		refused("delay of 366 days", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(366 * 86400)}, invalid("DELAY_INVALID", "delay")),
		refused("delay twice", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(1), DeliverAt: timestamppb.Now()}, invalid("DELAY_INVALID", "deliver_at")),
		refused("deliver_at in 200 years", &queuepb.EnqueueRequest{Queue: "q", DeliverAt: &timestamppb.Timestamp{Seconds: 8_000_000_000}}, invalid("DELAY_INVALID", "deliver_at")),
		refused("delay longer than the expiry", &queuepb.EnqueueRequest{Queue: "q", Delay: seconds(20), Expiry: seconds(10)}, invalid("DELAY_INVALID", "delay")),
		refused("priority 10", &queuepb.EnqueueRequest{Queue: "q", Priority: 10}, invalid("PRIORITY_INVALID", "priority")),
		refused("priority 2^32-1", &queuepb.EnqueueRequest{Queue: "q", Priority: 1<<32 - 1}, invalid("PRIORITY_INVALID", "priority")),
		refused("group of 129 bytes", &queuepb.EnqueueRequest{Queue: "q", Group: strings.Repeat("g", 129)}, invalid("GROUP_INVALID", "group")),
		refused("idempotency key of 129 bytes", &queuepb.EnqueueRequest{Queue: "q", IdempotencyKey: strings.Repeat("k", 129)}, invalid("IDEMPOTENCY_KEY_INVALID", "idempotency_key")),
		refused("batch of none", &queuepb.EnqueueBatchRequest{}, invalid("BATCH_EMPTY", "items")),
		refused("batch of 1,001", &queuepb.EnqueueBatchRequest{
			Items: slices.Repeat([]*queuepb.EnqueueRequest{{Queue: "q"}}, 1001),
		}, invalid("BATCH_TOO_LARGE", "items")),
		refused("batch of 5 MiB", &queuepb.EnqueueBatchRequest{
			Items: []*queuepb.EnqueueRequest{{Queue: "q", Message: &queuepb.Message{Payload: make([]byte, 5<<20)}}},
		}, invalid("BATCH_TOO_LARGE", "items")),
	}
	for _, name := range []string{
		"", strings.Repeat("a", 129), ".a", "a.", "a..b", "..", "A", "a b", "a*", "a>", "$JS.x", "$SYS", "a/b", "a\\b",
		"a\x00", "a\n", "a\r\n", "a%2e", "\u0430bc" /* Cyrillic */, "a\u200b", "a\u0301", "\u212a" /* Kelvin */, "\U0001f980",
	} {
		rows = append(rows, refused(fmt.Sprintf("queue name %+q", name), &queuepb.EnqueueRequest{Queue: name}, invalid("QUEUE_NAME_INVALID", "queue")))
	}
	for _, name := range []string{".", "a b"} {
		rows = append(rows,
			refused(fmt.Sprintf("queue name %q in Call", name), &queuepb.CallRequest{Queue: name}, invalid("QUEUE_NAME_INVALID", "queue")),
			refused(fmt.Sprintf("queue name %q in Consume", name), &queuepb.ConsumeRequest{Queues: []string{"q", name}}, invalid("QUEUE_NAME_INVALID", "queues[1]")),
			refused(fmt.Sprintf("queue name %q in OpenPipe", name), &queuepb.OpenPipeRequest{Queue: name}, invalid("QUEUE_NAME_INVALID", "queue")),
			refused(fmt.Sprintf("queue name %q in GetQueue", name), &queuepb.GetQueueRequest{Name: name}, invalid("QUEUE_NAME_INVALID", "name")),
		)
	}
	return rows
}

// messageRows are what is wrong with a message's content.
func messageRows(f *Fixture) []Row {
	inQueue := func(m *queuepb.Message) *queuepb.EnqueueRequest {
		return &queuepb.EnqueueRequest{Queue: "q", Message: m}
	}
	withHeaders := func(n int, key, value string) *queuepb.EnqueueRequest {
		return inQueue(&queuepb.Message{Headers: headers(n, key, value)})
	}
	return []Row{
		refused("payload of 1 MiB and 1", inQueue(&queuepb.Message{Payload: make([]byte, 1<<20+1)}), invalid("PAYLOAD_TOO_LARGE", "message.payload")),
		refused("payload of 1 MiB and 1 in Call", &queuepb.CallRequest{Queue: "q", Message: &queuepb.Message{Payload: make([]byte, 1<<20+1)}}, invalid("PAYLOAD_TOO_LARGE", "message.payload")),
		refused("65 headers", withHeaders(65, "a", ""), invalid("HEADER_INVALID", "message.headers")),
		refused("headers of 8 KiB and 1", withHeaders(1, "a", strings.Repeat("v", 8<<10)), invalid("HEADER_INVALID", "message.headers")),
		refused("header key A", withHeaders(1, "A", ""), invalid("HEADER_INVALID", `message.headers["A"]`)),
		refused("header key a_b", withHeaders(1, "a_b", ""), invalid("HEADER_INVALID", `message.headers["a_b"]`)),
		refused("header key, none", withHeaders(1, "", ""), invalid("HEADER_INVALID", `message.headers[""]`)),
		refused("header key in capitals, reserved", withHeaders(1, "REPLYQ-X", ""), invalid("HEADER_INVALID", `message.headers["REPLYQ-X"]`)),
		refused("header value with CR and LF", withHeaders(1, "a", "x\r\nEvil: 1"), invalid("HEADER_INVALID", `message.headers["a"]`)),
		refused("header value with NUL", withHeaders(1, "a", "\x00"), invalid("HEADER_INVALID", `message.headers["a"]`)),
		refused("header value with DEL", withHeaders(1, "a", "\x7f"), invalid("HEADER_INVALID", `message.headers["a"]`)),
		refused("header value with a C1 control", withHeaders(1, "a", "\u0085"), invalid("HEADER_INVALID", `message.headers["a"]`)),
		refused("content type of 129 bytes", inQueue(&queuepb.Message{ContentType: strings.Repeat("x", 129)}), invalid("HEADER_INVALID", "message.content_type")),
		refused("content type with LF", inQueue(&queuepb.Message{ContentType: "a\nb"}), invalid("HEADER_INVALID", "message.content_type")),
		refused("header replyq-x", withHeaders(1, "replyq-x", ""), invalid("HEADER_RESERVED", `message.headers["replyq-x"]`)),
		refused("header grpc-x", withHeaders(1, "grpc-x", ""), invalid("HEADER_RESERVED", `message.headers["grpc-x"]`)),
		refused("reply_to and pipe", &queuepb.EnqueueRequest{
			Queue: "q", Message: &queuepb.Message{ReplyTo: f.Pipe.Send}, Pipe: &queuepb.PipeOptions{},
		}, invalid("REPLY_TO_AND_PIPE", "pipe")),
		refused("reply_to in Call", &queuepb.CallRequest{Queue: "q", Message: &queuepb.Message{ReplyTo: f.Pipe.Send}}, invalid("REPLY_TO_AND_PIPE", "message.reply_to")),
		refused("33 handles", inQueue(&queuepb.Message{Handles: named(33, "a", f.Pipe.Send, f)}), invalid("HANDLES_TOO_MANY", "message.handles")),
		refused("handle name with a blank", inQueue(&queuepb.Message{Handles: named(1, "a b", f.Pipe.Send, f)}), invalid("HANDLE_NAME_INVALID", `message.handles["a b"]`)),
		refused("handle name, none", inQueue(&queuepb.Message{Handles: named(1, "", f.Pipe.Send, f)}), invalid("HANDLE_NAME_INVALID", `message.handles[""]`)),
		refused("handle name of 65 characters", inQueue(&queuepb.Message{
			Handles: named(1, strings.Repeat("a", 65), f.Pipe.Send, f),
		}), invalid("HANDLE_NAME_INVALID", `message.handles["`+strings.Repeat("a", 32)+`..."]`)),
	}
}

// headers are n headers, of which one is this.
func headers(n int, key, value string) map[string]string {
	all := map[string]string{key: value}
	for i := 1; i < n; i++ {
		all[fmt.Sprint("h", i)] = "v"
	}
	return all
}

// named are n handles, all good but for this one.
func named(n int, name string, h *queuepb.Handle, f *Fixture) map[string]*queuepb.Handle {
	all := map[string]*queuepb.Handle{name: h}
	for i := 1; i < n; i++ {
		all[fmt.Sprint("h", i)] = f.Pipe.Send
	}
	return all
}

// pipeRows are what is wrong with the options of a pipe.
func pipeRows(f *Fixture) []Row {
	open := func(name string, o *queuepb.PipeOptions, field string) Row {
		return refused("pipe: "+name, &queuepb.OpenPipeRequest{Pipe: o}, invalid("PIPE_OPTIONS_INVALID", "pipe."+field))
	}
	parent := func(name string, h *queuepb.Handle, want Refusal) Row {
		return refused("pipe: parent, "+name, &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Parent: h}}, want)
	}
	return []Row{
		open("timeout of 25 h", &queuepb.PipeOptions{Timeout: durationpb.New(25 * time.Hour)}, "timeout"),
		open("timeout of 0", &queuepb.PipeOptions{Timeout: seconds(0)}, "timeout"),
		open("timeout below 0", &queuepb.PipeOptions{Timeout: seconds(-1)}, "timeout"),
		open("retain below 0", &queuepb.PipeOptions{Retain: seconds(-1)}, "retain"),
		open("retain of 25 h", &queuepb.PipeOptions{Retain: durationpb.New(25 * time.Hour)}, "retain"),
		open("capacity of 65,537 replies", &queuepb.PipeOptions{CapacityReplies: 65537}, "capacity_replies"),
		open("capacity of 65 MiB", &queuepb.PipeOptions{CapacityBytes: 65 << 20}, "capacity_bytes"),
		refused("pipe: grace of 1 h and 1 s", &queuepb.CallRequest{
			Queue: "q", Pipe: &queuepb.PipeOptions{DisconnectGrace: seconds(3601)},
		}, invalid("PIPE_OPTIONS_INVALID", "pipe.disconnect_grace")),
		parent("damaged", flipped(f.Pipe.Send), invalid("HANDLE_INVALID", "pipe.parent")),
		parent("a lease", f.Lease, invalid("HANDLE_KIND", "pipe.parent")),
		parent("unknown", f.unknown(1), notFound("HANDLE_UNKNOWN", "pipe.parent")),
		parent("another tenant's", f.foreign(2), notFound("HANDLE_UNKNOWN", "pipe.parent")),
		parent("expired", f.expired(1), failed("HANDLE_EXPIRED", "pipe.parent")),
	}
}

func millis(n int64) *durationpb.Duration {
	return durationpb.New(time.Duration(n) * time.Millisecond)
}
