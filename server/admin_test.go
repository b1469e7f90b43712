package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/replyq/replyq/api/queuepb"
)

func (c *client) admin() queuepb.AdminServiceClient {
	c.t.Helper()
	return queuepb.NewAdminServiceClient(must[*grpc.ClientConn](c.t)(c.bed.Dial()))
}

// createQueue makes a queue with a configuration.
func (c *client) createQueue(name string, config *queuepb.QueueConfig) *queuepb.Queue {
	c.t.Helper()
	req := &queuepb.CreateQueueRequest{Name: name, Config: config}
	return must[*queuepb.CreateQueueResponse](c.t)(c.admin().CreateQueue(c.ctx, req)).Queue
}

func TestQueueConfig(t *testing.T) {
	c := newClient(t)
	admin := c.admin()
	config := &queuepb.QueueConfig{
		MaxLength: 10, MaxBytes: 1000, Overflow: queuepb.Overflow_OVERFLOW_DROP_OLDEST, DefaultExpiry: seconds(60),
		LeaseTime: seconds(5), MaxFailures: 3, Backoff: seconds(1), MaxBackoff: seconds(8), GroupConcurrency: 1, MaxDead: 7,
	}
	got := c.createQueue("jobs", config)
	if diff := cmp.Diff(config, got.Config, protocmp.Transform()); diff != "" {
		t.Errorf("CreateQueue (-want +got):\n%s", diff)
	}
	updated := must[*queuepb.UpdateQueueResponse](t)(admin.UpdateQueue(c.ctx, &queuepb.UpdateQueueRequest{
		Name: "jobs", Config: &queuepb.QueueConfig{Paused: true, MaxLength: 99},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"paused", "overflow"}},
	}))
	config.Paused, config.Overflow = true, queuepb.Overflow_OVERFLOW_REFUSE
	if diff := cmp.Diff(config, updated.Queue.Config, protocmp.Transform()); diff != "" {
		t.Errorf("UpdateQueue (-want +got):\n%s", diff)
	}
	got = must[*queuepb.GetQueueResponse](t)(admin.GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "jobs"})).Queue
	if diff := cmp.Diff(config, got.Config, protocmp.Transform()); diff != "" {
		t.Errorf("GetQueue (-want +got):\n%s", diff)
	}
	// Without a mask, what is unset is set to its default.
	updated = must[*queuepb.UpdateQueueResponse](t)(admin.UpdateQueue(c.ctx, &queuepb.UpdateQueueRequest{Name: "jobs"}))
	defaults := &queuepb.QueueConfig{
		Overflow: queuepb.Overflow_OVERFLOW_REFUSE, LeaseTime: seconds(30), MaxFailures: 20, MaxBackoff: seconds(600), MaxDead: 1000,
	}
	if diff := cmp.Diff(defaults, updated.Queue.Config, protocmp.Transform()); diff != "" {
		t.Errorf("UpdateQueue to the defaults (-want +got):\n%s", diff)
	}
}

// TestEveryConfigFieldCanBeUpdated: what the contract has, a mask can name.
func TestEveryConfigFieldCanBeUpdated(t *testing.T) {
	c := newClient(t)
	c.createQueue("jobs", nil)
	fields := (&queuepb.QueueConfig{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		if _, err := c.admin().UpdateQueue(c.ctx, &queuepb.UpdateQueueRequest{
			Name: "jobs", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{name}},
		}); err != nil {
			t.Errorf("UpdateQueue of %s = %v", name, err)
		}
	}
}

// TestBadAdminInput has the bad requests to the AdminService.
func TestBadAdminInput(t *testing.T) {
	c := newClient(t)
	c.createQueue("jobs", nil)
	id := must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "jobs"})).Receipt.MessageId
	byHandle := func(h *queuepb.Handle) *queuepb.EndPipeRequest {
		return &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: h}}
	}
	byMessage := func(id string) *queuepb.EndPipeRequest {
		return &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_MessageId{MessageId: id}}
	}
	invalid := func(reason, field string) refusal { return refusal{codes.InvalidArgument, reason, field} }
	missing := func(field string) refusal { return refusal{codes.NotFound, "QUEUE_NOT_FOUND", field} }
	config := func(config *queuepb.QueueConfig) *queuepb.CreateQueueRequest {
		return &queuepb.CreateQueueRequest{Name: "new", Config: config}
	}
	for _, row := range []struct {
		name string
		req  proto.Message
		want refusal
	}{
		{"create, bad name", &queuepb.CreateQueueRequest{Name: "A"}, invalid("QUEUE_NAME_INVALID", "name")},
		{"create, there", &queuepb.CreateQueueRequest{Name: "jobs"}, refusal{codes.AlreadyExists, "QUEUE_EXISTS", "name"}},
		{"overflow", config(&queuepb.QueueConfig{Overflow: 9}), invalid("ENUM_UNKNOWN", "config.overflow")},
		{"failures", config(&queuepb.QueueConfig{MaxFailures: 1001}), invalid("QUEUE_CONFIG_INVALID", "config.max_failures")},
		{"dead", config(&queuepb.QueueConfig{MaxDead: 10_001}), invalid("QUEUE_CONFIG_INVALID", "config.max_dead")},
		{"lease", config(&queuepb.QueueConfig{LeaseTime: seconds(0)}), invalid("QUEUE_CONFIG_INVALID", "config.lease_time")},
		{"expiry", config(&queuepb.QueueConfig{DefaultExpiry: seconds(0)}), invalid("QUEUE_CONFIG_INVALID", "config.default_expiry")},
		{"backoff", config(&queuepb.QueueConfig{Backoff: seconds(-1)}), invalid("QUEUE_CONFIG_INVALID", "config.backoff")},
		{"max backoff", config(&queuepb.QueueConfig{MaxBackoff: seconds(366 * 86400)}), invalid("QUEUE_CONFIG_INVALID", "config.max_backoff")},
		{"duration", config(&queuepb.QueueConfig{Backoff: &durationpb.Duration{Nanos: 1e9}}), invalid("DURATION_INVALID", "config.backoff")},
		{"update, none", &queuepb.UpdateQueueRequest{Name: "none"}, missing("name")},
		{"update, mask", &queuepb.UpdateQueueRequest{Name: "jobs", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"paused", "name"}}}, invalid("MASK_INVALID", "update_mask.paths[1]")},
		{"update, config", &queuepb.UpdateQueueRequest{Name: "jobs", Config: &queuepb.QueueConfig{MaxDead: 1 << 30}}, invalid("QUEUE_CONFIG_INVALID", "config.max_dead")},
		{"get, none", &queuepb.GetQueueRequest{Name: "none"}, missing("name")},
		{"list, page", &queuepb.ListQueuesRequest{PageSize: 1001}, invalid("PAGE_INVALID", "page_size")},
		{"list, token", &queuepb.ListQueuesRequest{PageToken: "x"}, invalid("PAGE_INVALID", "page_token")},
		{"delete, bad name", &queuepb.DeleteQueueRequest{}, invalid("QUEUE_NAME_INVALID", "name")},
		{"delete, none", &queuepb.DeleteQueueRequest{Name: "none"}, missing("name")},
		{"delete, not empty", &queuepb.DeleteQueueRequest{Name: "jobs"}, refusal{codes.FailedPrecondition, "QUEUE_NOT_EMPTY", "name"}},
		{"purge, bad name", &queuepb.PurgeQueueRequest{Name: "a b"}, invalid("QUEUE_NAME_INVALID", "name")},
		{"purge, none", &queuepb.PurgeQueueRequest{Name: "none"}, missing("name")},
		{"purge, in flight", &queuepb.PurgeQueueRequest{Name: "jobs", State: queuepb.MessageState_MESSAGE_STATE_IN_FLIGHT}, invalid("ENUM_UNKNOWN", "state")},
		{"purge, unknown", &queuepb.PurgeQueueRequest{Name: "jobs", State: 77}, invalid("ENUM_UNKNOWN", "state")},
		{"messages, bad name", &queuepb.ListMessagesRequest{Queue: "."}, invalid("QUEUE_NAME_INVALID", "queue")},
		{"messages, none", &queuepb.ListMessagesRequest{Queue: "none"}, missing("queue")},
		{"messages, state", &queuepb.ListMessagesRequest{Queue: "jobs", State: 9}, invalid("ENUM_UNKNOWN", "state")},
		{"messages, page", &queuepb.ListMessagesRequest{Queue: "jobs", PageSize: 1001}, invalid("PAGE_INVALID", "page_size")},
		{"messages, payload", &queuepb.ListMessagesRequest{Queue: "jobs", PayloadBytes: 65537}, invalid("PAGE_INVALID", "payload_bytes")},
		{"messages, token", &queuepb.ListMessagesRequest{Queue: "jobs", PageToken: "bTE6"}, invalid("PAGE_INVALID", "page_token")},
		{"delete messages, none", &queuepb.DeleteMessagesRequest{Queue: "jobs"}, invalid("MESSAGE_IDS_INVALID", "message_ids")},
		{"delete messages, many", &queuepb.DeleteMessagesRequest{Queue: "jobs", MessageIds: make([]string, 1001)}, invalid("MESSAGE_IDS_INVALID", "message_ids")},
		{"delete messages, form", &queuepb.DeleteMessagesRequest{Queue: "jobs", MessageIds: []string{id, "x"}}, invalid("MESSAGE_IDS_INVALID", "message_ids[1]")},
		{"delete messages, no queue", &queuepb.DeleteMessagesRequest{Queue: "none", MessageIds: []string{id}}, missing("queue")},
		{"redrive, bad name", &queuepb.RedriveMessagesRequest{Queue: "jobs", TargetQueue: "A"}, invalid("QUEUE_NAME_INVALID", "target_queue")},
		{"redrive, form", &queuepb.RedriveMessagesRequest{Queue: "jobs", MessageIds: []string{""}}, invalid("MESSAGE_IDS_INVALID", "message_ids[0]")},
		{"redrive, none", &queuepb.RedriveMessagesRequest{Queue: "none"}, missing("queue")},
		{"end, nothing", &queuepb.EndPipeRequest{}, invalid("SUBJECT_MISSING", "subject")},
		{"end, no handle", byHandle(&queuepb.Handle{Token: "x"}), invalid("HANDLE_INVALID", "handle")},
		{"end, another tenant's", byHandle(c.mint(t, 2, 1<<40)), refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}},
		{"end, unknown handle", byHandle(c.mint(t, 1, 1<<40)), refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}},
		{"end, unknown message", byMessage(id[:22] + "0"), refusal{codes.NotFound, "MESSAGE_UNKNOWN", "message_id"}},
		{"end, no message", byMessage("x"), refusal{codes.NotFound, "MESSAGE_UNKNOWN", "message_id"}},
		{"end, nobody waits", byMessage(id), refusal{codes.NotFound, "MESSAGE_UNKNOWN", "message_id"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			trailer, err := administer(c.ctx, c.admin(), row.req)
			if got := refusalOf(t, err, trailer); got != row.want {
				t.Errorf("%v: got %v (%v), want %v", row.req, got, err, row.want)
			}
		})
	}
	if _, err := c.admin().GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "new"}); err == nil {
		t.Error("a refused CreateQueue made the queue")
	}
}

// administer sends a request to the RPC of the AdminService that takes it.
func administer(ctx context.Context, admin queuepb.AdminServiceClient, req proto.Message) (trailer metadata.MD, err error) {
	options := grpc.Trailer(&trailer)
	switch r := req.(type) {
	case *queuepb.CreateQueueRequest:
		_, err = admin.CreateQueue(ctx, r, options)
	case *queuepb.UpdateQueueRequest:
		_, err = admin.UpdateQueue(ctx, r, options)
	case *queuepb.GetQueueRequest:
		_, err = admin.GetQueue(ctx, r, options)
	case *queuepb.ListQueuesRequest:
		_, err = admin.ListQueues(ctx, r, options)
	case *queuepb.DeleteQueueRequest:
		_, err = admin.DeleteQueue(ctx, r, options)
	case *queuepb.PurgeQueueRequest:
		_, err = admin.PurgeQueue(ctx, r, options)
	case *queuepb.ListMessagesRequest:
		_, err = admin.ListMessages(ctx, r, options)
	case *queuepb.DeleteMessagesRequest:
		_, err = admin.DeleteMessages(ctx, r, options)
	case *queuepb.RedriveMessagesRequest:
		_, err = admin.RedriveMessages(ctx, r, options)
	case *queuepb.EndPipeRequest:
		_, err = admin.EndPipe(ctx, r, options)
	default:
		err = fmt.Errorf("%T has no RPC here", req)
	}
	return trailer, err
}

// TestPromise8FullQueue: both faces are told to wait; what a Settle carries is stored.
func TestPromise8FullQueue(t *testing.T) {
	c := newClient(t)
	c.createQueue("jobs", &queuepb.QueueConfig{MaxLength: 1})
	d := func() *queuepb.Delivery {
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "other"}))
		return c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"other"}}))
	}()
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "jobs"}))
	var trailer metadata.MD
	_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "jobs"}, grpc.Trailer(&trailer))
	want := refusal{codes.ResourceExhausted, "QUEUE_FULL", "queue"}
	if got := refusalOf(t, err, trailer); got != want {
		t.Errorf("plain: got %v, want %v", got, want)
	}
	s := c.openSession(&queuepb.Hello{}, opEnqueue(1, "jobs"))
	e := s.next(1).GetError()
	if got := (refusal{codes.Code(e.GetCode()), e.GetReason(), e.GetField()}); got != want || e.GetRetryAfter().AsDuration() < time.Millisecond {
		t.Errorf("session: got %v, want %v and when to come back", e, want)
	}
	res := must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
		Lease: d.Lease, Messages: []*queuepb.EnqueueRequest{{Queue: "jobs"}},
	}))
	if len(res.Receipts) != 1 {
		t.Errorf("Settle() = %v, want a receipt", res)
	}
}

// TestConsumerOfADeletedQueue: its stream says so.
func TestConsumerOfADeletedQueue(t *testing.T) {
	c := newClient(t)
	stream := c.consume(&queuepb.ConsumeRequest{Queues: []string{"jobs"}})
	s := c.openSession(&queuepb.Hello{}, opConsume(1, "jobs", 1))
	s.next(1)
	must[*queuepb.DeleteQueueResponse](t)(c.admin().DeleteQueue(c.ctx, &queuepb.DeleteQueueRequest{Name: "jobs", Force: true}))
	_, err := stream.Recv()
	want := refusal{codes.NotFound, "QUEUE_NOT_FOUND", "queues"}
	if got := refusalOf(t, err, stream.Trailer()); got != want {
		t.Errorf("plain: got %v, want %v", got, want)
	}
	r := s.next(1)
	if e := r.GetError(); e.GetReason() != "QUEUE_NOT_FOUND" || !r.Done {
		t.Errorf("session: got %v, want QUEUE_NOT_FOUND", r)
	}
}

// TestPriorityAndGroup: both faces pass them on, and they rule the order.
func TestPriorityAndGroup(t *testing.T) {
	c := newClient(t)
	s := c.openSession(&queuepb.Hello{})
	for i, priority := range []uint32{0, 9} {
		request := &queuepb.EnqueueRequest{Queue: "jobs", Priority: priority, Group: fmt.Sprint("plain-", priority)}
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, request))
		request = &queuepb.EnqueueRequest{Queue: "jobs", Priority: priority, Group: fmt.Sprint("session-", priority)}
		s.do(&queuepb.Operation{Id: uint64(i + 1), Request: &queuepb.Operation_Enqueue{Enqueue: request}})
		s.next(uint64(i + 1))
	}
	stream := c.consume(&queuepb.ConsumeRequest{Queues: []string{"jobs"}, MaxInFlight: 2})
	var got []string
	for range 2 {
		d := c.delivery(stream)
		got = append(got, fmt.Sprint(d.Priority, " ", d.Group))
	}
	s.do(opConsume(10, "jobs", 2)) // only now: a plain stream gets its deliveries one after the other
	s.next(10)
	for range 2 {
		d := s.next(10).GetConsume().GetDelivery()
		got = append(got, fmt.Sprint(d.GetPriority(), " ", d.GetGroup()))
	}
	want := []string{"9 plain-9", "9 session-9", "0 plain-0", "0 session-0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

// TestRetryWithoutDelay: an explicit delay of 0 is not the queue's backoff.
func TestRetryWithoutDelay(t *testing.T) {
	c := newClient(t)
	c.createQueue("jobs", &queuepb.QueueConfig{Backoff: seconds(3600)})
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "jobs"}))
	stream := c.consume(&queuepb.ConsumeRequest{Queues: []string{"jobs"}})
	retry := func(delay *durationpb.Duration) {
		must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
			Lease: c.delivery(stream).Lease, Action: queuepb.SettleAction_SETTLE_ACTION_RETRY, Delay: delay,
		}))
	}
	retry(seconds(0))
	retry(nil)
	q := must[*queuepb.GetQueueResponse](t)(c.admin().GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "jobs"})).Queue
	if q.Statistics.Delayed != 1 {
		t.Errorf("GetQueue() = %v, want the message held back by the backoff", q.Statistics)
	}
}
