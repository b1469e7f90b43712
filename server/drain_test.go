package server_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// shutDown starts a Shutdown of the server that serves and returns a function that waits for it.
func shutDown(t *testing.T, bed *testbed.Bed, limit time.Duration) (cancel, wait func()) {
	ctx, cancel := context.WithTimeout(context.Background(), limit) //nolint:usetesting // outlives the test's own
	done := make(chan struct{})
	go func() {
		defer close(done)
		bed.Owner.Shutdown(ctx)
	}()
	return cancel, func() {
		t.Helper()
		select {
		case <-done:
			cancel()
		case <-time.After(15 * time.Second):
			t.Fatal("Shutdown hangs")
		}
	}
}

// TestP22Drain: a session is told, finishes what it has, and leaves; then the server is gone, and nobody waited long.
func TestP22Drain(t *testing.T) {
	bed := testbed.New(t, testbed.Volatile())
	c := dial(t, bed)
	s := c.openSession(&queuepb.Hello{}, opConsume(1, "work", 10), opCall(2, "work", "x"), opCall(3, "late", "y"))
	d := s.next(1)
	for d.GetConsume().GetDelivery() == nil {
		d = s.next(1)
	}
	health := healthpb.NewHealthClient(must[*grpc.ClientConn](t)(bed.DialOwner()))
	watch := must[grpc.ServerStreamingClient[healthpb.HealthCheckResponse]](t)(health.Watch(c.ctx, &healthpb.HealthCheckRequest{}))
	if res, err := watch.Recv(); err != nil || res.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("health = %v, %v, want SERVING", res, err)
	}
	_, wait := shutDown(t, bed, time.Minute)
	for s.away == nil {
		s.read()
	}
	if s.away.Grace.AsDuration() > 40*time.Second || s.away.Grace.AsDuration() < 30*time.Second {
		t.Errorf("grace = %v, want two thirds of a minute", s.away.Grace.AsDuration())
	}
	if res, err := watch.Recv(); err != nil || res.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health = %v, %v, want NOT_SERVING", res, err)
	}
	if err := c.drained(); err != nil {
		t.Fatal(err)
	}
	s.do(opEnqueue(4, "work"), opReply(5, d.GetConsume().GetDelivery(), "done", false))
	if e := s.next(4).GetError(); e.GetReason() != "DRAINING" || e.RetryAfter == nil {
		t.Errorf("enqueue while draining = %v, want DRAINING with retry_after", e)
	}
	if r := s.next(5); r.GetReply().GetResult().GetOutcome() != queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED {
		t.Errorf("reply while draining = %v, want DELIVERED", r)
	}
	s.next(2) // receipt
	if r := s.next(2); string(r.GetCall().GetReply().GetPayload()) != "done" {
		t.Errorf("call while draining = %v, want its reply", r)
	}
	if r := s.next(2); r.GetCall().GetEnd().GetReason() != queuepb.EndReason_END_REASON_OK {
		t.Errorf("call while draining = %v, want the end OK", r)
	}
	// Now nothing is in flight, and the server does not wait for a minute.
	s.next(3) // receipt
	if r := s.next(3); r.GetCall().GetEnd().GetReason() != queuepb.EndReason_END_REASON_SHUTTING_DOWN {
		t.Errorf("call that nobody works on = %v, want the end SHUTTING_DOWN", r)
	}
	if got, want := s.end(), (refusal{codes.Unavailable, "DRAINING", ""}); got != want {
		t.Errorf("status of the session = %v, want %v", got, want)
	}
	wait()
}

// drained waits until new work is refused: Shutdown tells sessions before it tells the broker.
func (c *client) drained() error {
	for c.ctx.Err() == nil {
		_, err := c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{})
		if status.Code(err) == codes.Unavailable {
			return nil
		}
	}
	return c.ctx.Err()
}

// TestShutdownEndsWaiters: whoever waits is told, on both faces.
func TestShutdownEndsWaiters(t *testing.T) {
	bed := testbed.New(t)
	c := dial(t, bed)
	call := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(c.Call(c.ctx, &queuepb.CallRequest{Queue: "work"}))
	if _, err := call.Recv(); err != nil {
		t.Fatal(err)
	}
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"idle"}})
	s := c.openSession(&queuepb.Hello{}, opCall(1, "work", "x"))
	s.next(1)
	cancel, wait := shutDown(t, bed, time.Hour)
	cancel() // no time to drain
	if e, err := call.Recv(); err == nil {
		if e.GetEnd().GetReason() != queuepb.EndReason_END_REASON_SHUTTING_DOWN {
			t.Errorf("call = %v, want the end SHUTTING_DOWN", e)
		}
		_, err = call.Recv()
		if got, want := refusalOf(t, err, call.Trailer()), (refusal{codes.Unavailable, "SHUTTING_DOWN", ""}); got != want {
			t.Errorf("status of the call = %v, want %v", got, want)
		}
	} else if status.Code(err) != codes.Unavailable {
		t.Errorf("call = %v, want UNAVAILABLE", err)
	}
	if _, err := consumer.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("consumer = %v, want UNAVAILABLE", err)
	}
	for {
		frame, err := s.Recv()
		if err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("session ended with %v, want UNAVAILABLE", err)
			}
			break
		}
		s.queued = append(s.queued, frame.Results...)
	}
	wait()
}

// TestShutdownWithTime lets Shutdown's own time pass: each waiter sees its End before its stream is closed.
func TestShutdownWithTime(t *testing.T) {
	bed := testbed.New(t, testbed.Volatile())
	c := dial(t, bed)
	call := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(c.Call(c.ctx, &queuepb.CallRequest{Queue: "work"}))
	if _, err := call.Recv(); err != nil {
		t.Fatal(err)
	}
	s := c.openSession(&queuepb.Hello{}, opCall(1, "work", "x"))
	s.next(1)
	_, wait := shutDown(t, bed, 2*time.Second)
	if e, err := call.Recv(); err != nil || e.GetEnd().GetReason() != queuepb.EndReason_END_REASON_SHUTTING_DOWN {
		t.Errorf("call = %v, %v, want the end SHUTTING_DOWN", e, err)
	}
	if r := s.next(1); r.GetCall().GetEnd().GetReason() != queuepb.EndReason_END_REASON_SHUTTING_DOWN {
		t.Errorf("call in a session = %v, want the end SHUTTING_DOWN", r)
	}
	if got, want := s.end(), (refusal{codes.Unavailable, "DRAINING", ""}); got != want {
		t.Errorf("status of the session = %v, want %v", got, want)
	}
	wait()
	bed.Owner.Shutdown(t.Context()) // again: at once
}

// TestClientLeaves: nothing is left of streams whose clients go without a word.
func TestClientLeaves(t *testing.T) {
	bed := testbed.New(t)
	c := dial(t, bed)
	gone := dial(t, bed)
	ctx, cancel := context.WithCancel(gone.ctx)
	gone.ctx = ctx
	s := gone.openSession(&queuepb.Hello{}, opConsume(1, "work", 10))
	s.next(1)
	s.do(opEnqueue(2, "work"))
	first := s.next(1).GetConsume().GetDelivery()
	cancel()
	d := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}}))
	if d.MessageId != first.MessageId || d.Attempt != 2 {
		t.Errorf("delivery = %v, want the message that the other consumer had", d)
	}
	if _, err := s.Recv(); errors.Is(err, io.EOF) {
		t.Error("the cancelled session ended OK")
	}
}
