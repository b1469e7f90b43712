package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestQueueFigures: a queue with something in every figure, by GetQueue, ListQueues and WatchQueues.
func TestQueueFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
		settle := func(action queuepb.SettleAction, delay *durationpb.Duration) {
			t.Helper()
			must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}))
			req := &queuepb.SettleRequest{Lease: c.delivery(consumer).Lease, Action: action, Delay: delay}
			must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, req))
		}
		settle(queuepb.SettleAction_SETTLE_ACTION_ACK, nil)
		settle(queuepb.SettleAction_SETTLE_ACTION_RETRY, seconds(1000))
		settle(queuepb.SettleAction_SETTLE_ACTION_REJECT, nil)
		held := waitPlain(t, c, &queuepb.CallRequest{Queue: "work", Message: text("held")}, nil)
		c.delivery(consumer)
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work", Pipe: &queuepb.PipeOptions{}}))
		<-time.After(5 * time.Second)
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}))

		want := &queuepb.QueueStatistics{
			Queue: "work", Ready: 2, InFlight: 1, Delayed: 1, Dead: 1, Consumers: 1, Waiters: 2, OldestAge: seconds(5),
			EnqueuedTotal: 6, DeliveredTotal: 4, AckedTotal: 1, FailedTotal: 1, EnqueueRate: 0.6, AckRate: 0.1,
		}
		compare := func(how string, got *queuepb.QueueStatistics) {
			t.Helper()
			if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "bytes")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", how, diff)
			}
		}
		get := func() *queuepb.QueueStatistics {
			return must[*queuepb.GetQueueResponse](t)(c.admin().GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "work"})).Queue.Statistics
		}
		got := get()
		compare("GetQueue", got)
		fields := got.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if !got.ProtoReflect().Has(fields.Get(i)) {
				t.Errorf("%s is 0: the test says nothing of it", fields.Get(i).Name())
			}
		}
		compare("ListQueues", must[*queuepb.ListQueuesResponse](t)(c.admin().ListQueues(c.ctx, &queuepb.ListQueuesRequest{})).Queues[0].Statistics)
		stream := must[grpc.ServerStreamingClient[queuepb.WatchQueuesResponse]](t)(c.admin().WatchQueues(c.ctx, &queuepb.WatchQueuesRequest{}))
		compare("WatchQueues", must[*queuepb.WatchQueuesResponse](t)(stream.Recv()).Queues[0])

		// Who has gone waits no more; and what waited longest leaves, so that the age is that of the next.
		must[*queuepb.CancelResponse](t)(c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: held.receipt.ReceiveHandle}))
		held.end()
		bytes := got.Bytes
		must[*queuepb.DeleteMessagesResponse](t)(c.admin().DeleteMessages(c.ctx, &queuepb.DeleteMessagesRequest{
			Queue: "work", MessageIds: []string{held.receipt.MessageId},
		}))
		gone, lost := must[*queuepb.ConsumeResponse](t)(consumer.Recv()), must[*queuepb.ConsumeResponse](t)(consumer.Recv())
		if gone.GetWaiterGone() == nil || lost.GetLeaseLost() == nil {
			t.Errorf("the consumer hears %v and %v, want that the waiter has gone, and the lease", gone, lost)
		}
		d := c.delivery(consumer)
		if d.Message.ReplyTo == nil {
			t.Fatalf("got %v, want the older message", d)
		}
		got = get()
		if got.Waiters != 1 || got.Ready != 1 || got.InFlight != 1 || got.OldestAge.AsDuration() != 0 || got.Bytes >= bytes {
			t.Errorf("GetQueue() = %v, want one waiter, the youngest message ready, and less than %d bytes", got, bytes)
		}
	})
}
