package integration_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// TestRestartKeepsLeases: a plain consumer that comes back keeps the delivery whose lease it names, and has lost the one
// that it does not name, though its lease was longer. One that does not come back is waited for, five seconds.
func TestRestartKeepsLeases(t *testing.T) {
	t.Parallel()
	eachEnd(t, func(t *testing.T, how string) {
		dir := filepath.Join(t.TempDir(), "data")
		s := startDurable(t, dir)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		stub := s.stub(t)
		request := &queuepb.ConsumeRequest{Queues: []string{"work"}, ConsumerId: "gone", MaxInFlight: 1, LeaseTime: durationpb.New(time.Hour)}
		consume := func() grpc.ServerStreamingClient[queuepb.ConsumeResponse] {
			stream, err := stub.Consume(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			if r := try[*queuepb.ConsumeResponse](t)(stream.Recv()); r.GetStarted() == nil {
				t.Fatalf("first event = %v, want started", r)
			}
			return stream
		}
		deliver := func(to grpc.ServerStreamingClient[queuepb.ConsumeResponse]) *queuepb.Delivery {
			try[*queuepb.EnqueueResponse](t)(stub.Enqueue(ctx, &queuepb.EnqueueRequest{
				Queue: "work", Message: saying(canary), Pipe: &queuepb.PipeOptions{},
			}))
			return try[*queuepb.ConsumeResponse](t)(to.Recv()).GetDelivery()
		}
		lost := deliver(consume())
		request.ConsumerId, request.MaxInFlight = "w", 3
		stream := consume()
		held := []*queuepb.Delivery{deliver(stream), deliver(stream)}
		s = s.again(t, how, dir)
		began := time.Now()
		stub = s.stub(t)
		request.HeldLeases = []*queuepb.Handle{held[0].Lease}
		stream = consume()
		extended := try[*queuepb.ExtendLeasesResponse](t)(stub.ExtendLeases(ctx, &queuepb.ExtendLeasesRequest{Leases: request.HeldLeases}))
		if extended.Results[0].GetError() != nil {
			t.Errorf("the lease that was named is not in force: %v", extended)
		}
		next := try[*queuepb.ConsumeResponse](t)(stream.Recv()).GetDelivery()
		if next.GetMessageId() != held[1].MessageId || next.GetAttempt() != 2 || next.GetFailures() != 1 {
			t.Errorf("next delivery = %v, want the one that was not named", next)
		}
		next = try[*queuepb.ConsumeResponse](t)(stream.Recv()).GetDelivery()
		if next.GetMessageId() != lost.MessageId || next.GetAttempt() != 2 || next.GetFailures() != 1 {
			t.Errorf("next delivery = %v, want the one whose consumer has not come back", next)
		}
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("it came after %v: its consumer was not waited for", took)
		}
		reply := try[*queuepb.ReplyResponse](t)(stub.Reply(ctx, &queuepb.ReplyRequest{
			Handle: held[0].Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{}, Lease: held[0].Lease, Ack: true,
		}))
		if reply.Result.Outcome != queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED {
			t.Errorf("reply under the lease of before = %v, want BUFFERED", reply)
		}
	})
}
