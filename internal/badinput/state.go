package badinput

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/replyq/replyq/api/queuepb"
)

// stateRows are good requests that do not fit what there is.
func stateRows(f *Fixture) []Row {
	reused := Refusal{codes.AlreadyExists, "IDEMPOTENCY_KEY_REUSED", "idempotency_key"}
	keyed := func(m *queuepb.Message) *queuepb.EnqueueRequest {
		return &queuepb.EnqueueRequest{Queue: keyedQueue, IdempotencyKey: usedKey, Message: m}
	}
	return []Row{
		refused("key reused: another payload", keyed(&queuepb.Message{Payload: []byte("x")}), reused),
		refused("key reused: another content type", keyed(&queuepb.Message{ContentType: "x"}), reused),
		refused("key reused: a reply_to", keyed(&queuepb.Message{ReplyTo: f.Pipe.Send}), reused),
		refused("key reused: another handle", keyed(&queuepb.Message{Handles: named(1, "a", f.Pipe.Send, f)}), reused),
		refused("key reused: a pipe", &queuepb.CallRequest{Queue: keyedQueue, IdempotencyKey: usedKey}, reused),
		refused("queue is full", &queuepb.EnqueueRequest{Queue: fullQueue}, Refusal{codes.ResourceExhausted, "QUEUE_FULL", "queue"}),
		refused("queue is full, for a call", &queuepb.CallRequest{Queue: fullQueue}, Refusal{codes.ResourceExhausted, "QUEUE_FULL", "queue"}),
		refused("no consumer", &queuepb.EnqueueRequest{Queue: fullQueue, RequireConsumer: true}, Refusal{codes.Unavailable, "NO_CONSUMER", "require_consumer"}),
		refused("no consumer and no queue", &queuepb.CallRequest{Queue: "nobody", RequireConsumer: true}, Refusal{codes.Unavailable, "NO_CONSUMER", "require_consumer"}),
	}
}

// adminRows are what is wrong with an administrator's requests.
func adminRows() []Row {
	missing := notFound("QUEUE_NOT_FOUND", "name")
	inQueue := notFound("QUEUE_NOT_FOUND", "queue")
	ids := func(n int) []string { return slices.Repeat([]string{"m"}, n) }
	config := func(name string, c *queuepb.QueueConfig, field string) Row {
		return refused("configuration: "+name, &queuepb.CreateQueueRequest{Name: "q", Config: c}, invalid("QUEUE_CONFIG_INVALID", "config."+field))
	}
	return []Row{
		refused("create what exists", &queuepb.CreateQueueRequest{Name: fullQueue}, Refusal{codes.AlreadyExists, "QUEUE_EXISTS", "name"}),
		refused("create with a bad name", &queuepb.CreateQueueRequest{Name: "A"}, invalid("QUEUE_NAME_INVALID", "name")),
		config("1,001 failures", &queuepb.QueueConfig{MaxFailures: 1001}, "max_failures"),
		config("10,001 dead", &queuepb.QueueConfig{MaxDead: 10_001}, "max_dead"),
		config("lease time of 0", &queuepb.QueueConfig{LeaseTime: seconds(0)}, "lease_time"),
		config("expiry of 0", &queuepb.QueueConfig{DefaultExpiry: seconds(0)}, "default_expiry"),
		config("backoff below 0", &queuepb.QueueConfig{Backoff: seconds(-1)}, "backoff"),
		refused("configuration: unknown enum", &queuepb.CreateQueueRequest{Name: "q", Config: &queuepb.QueueConfig{Overflow: 9}}, invalid("ENUM_UNKNOWN", "config.overflow")),
		refused("get what is not there", &queuepb.GetQueueRequest{Name: "nobody"}, missing),
		refused("update what is not there", &queuepb.UpdateQueueRequest{Name: "nobody"}, missing),
		refused("update a field that is none", &queuepb.UpdateQueueRequest{
			Name: fullQueue, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"nonsense"}},
		}, invalid("MASK_INVALID", "update_mask.paths[0]")),
		refused("delete what is not there", &queuepb.DeleteQueueRequest{Name: "nobody"}, missing),
		refused("delete what is not empty", &queuepb.DeleteQueueRequest{Name: fullQueue}, failed("QUEUE_NOT_EMPTY", "name")),
		refused("purge what is not there", &queuepb.PurgeQueueRequest{Name: "nobody"}, missing),
		refused("purge what is in flight", &queuepb.PurgeQueueRequest{Name: fullQueue, State: queuepb.MessageState_MESSAGE_STATE_IN_FLIGHT}, invalid("ENUM_UNKNOWN", "state")),
		refused("list 1,001 queues", &queuepb.ListQueuesRequest{PageSize: 1001}, invalid("PAGE_INVALID", "page_size")),
		refused("list from a bad page", &queuepb.ListQueuesRequest{PageToken: "x"}, invalid("PAGE_INVALID", "page_token")),
		refused("list messages of no queue", &queuepb.ListMessagesRequest{Queue: "nobody"}, inQueue),
		refused("list 1,001 messages", &queuepb.ListMessagesRequest{Queue: fullQueue, PageSize: 1001}, invalid("PAGE_INVALID", "page_size")),
		refused("list 64 KiB and 1 of payloads", &queuepb.ListMessagesRequest{Queue: fullQueue, PayloadBytes: 65_537}, invalid("PAGE_INVALID", "payload_bytes")),
		refused("list messages from a bad page", &queuepb.ListMessagesRequest{Queue: fullQueue, PageToken: "x"}, invalid("PAGE_INVALID", "page_token")),
		refused("list messages of an unknown state", &queuepb.ListMessagesRequest{Queue: fullQueue, State: 9}, invalid("ENUM_UNKNOWN", "state")),
		refused("delete no message", &queuepb.DeleteMessagesRequest{Queue: fullQueue}, invalid("MESSAGE_IDS_INVALID", "message_ids")),
		refused("delete 1,001 messages", &queuepb.DeleteMessagesRequest{Queue: fullQueue, MessageIds: ids(1001)}, invalid("MESSAGE_IDS_INVALID", "message_ids")),
		refused("delete what is no id", &queuepb.DeleteMessagesRequest{Queue: fullQueue, MessageIds: ids(1)}, invalid("MESSAGE_IDS_INVALID", "message_ids[0]")),
		refused("redrive 1,001 messages", &queuepb.RedriveMessagesRequest{Queue: fullQueue, MessageIds: ids(1001)}, invalid("MESSAGE_IDS_INVALID", "message_ids")),
		refused("redrive of no queue", &queuepb.RedriveMessagesRequest{Queue: "nobody"}, inQueue),
		refused("redrive to a bad name", &queuepb.RedriveMessagesRequest{Queue: fullQueue, TargetQueue: "A"}, invalid("QUEUE_NAME_INVALID", "target_queue")),
		refused("end no pipe", &queuepb.EndPipeRequest{}, invalid("SUBJECT_MISSING", "subject")),
		refused("end the pipe of no message", &queuepb.EndPipeRequest{
			Subject: &queuepb.EndPipeRequest_MessageId{MessageId: "m"},
		}, notFound("MESSAGE_UNKNOWN", "message_id")),
		refused("watch every 99 ms", &queuepb.WatchQueuesRequest{Interval: millis(99)}, invalid("INTERVAL_INVALID", "interval")),
		refused("watch every 2 h", &queuepb.WatchQueuesRequest{Interval: seconds(7200)}, invalid("INTERVAL_INVALID", "interval")),
		refused("watch a bad name", &queuepb.WatchQueuesRequest{Prefix: "A"}, invalid("QUEUE_NAME_INVALID", "prefix")),
	}
}
