package integration_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// refusalOf reads an error of a stub's call.
func refusalOf(t *testing.T, err error, trailer metadata.MD) badinput.Refusal {
	t.Helper()
	if err == nil {
		t.Error("it was not refused")
		return badinput.Refusal{}
	}
	refusal, wrong := badinput.RefusalOf(err, trailer)
	if wrong != nil {
		t.Error(wrong)
	}
	return refusal
}

// plain makes a plain call with a request, and returns the refusal.
func (s *target) plain(ctx context.Context, t *testing.T, method string, request proto.Message) badinput.Refusal {
	t.Helper()
	b, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	_, refusal, err := badinput.Plain(ctx, s.conn, method, b)
	if err != nil {
		t.Error(err)
	}
	return refusal
}

// streamEnd reads a stream to its end, and returns the refusal.
func streamEnd[T any](t *testing.T, stream grpc.ServerStreamingClient[T]) badinput.Refusal {
	t.Helper()
	for {
		if _, err := stream.Recv(); err != nil {
			return refusalOf(t, err, stream.Trailer())
		}
	}
}

// A consumer id and a session id belong to whoever came last with them, of the same principal.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	stub := queuepb.NewQueueServiceClient(s.conn)
	consume := func() grpc.ServerStreamingClient[queuepb.ConsumeResponse] {
		stream, err := stub.Consume(s.ctx, &queuepb.ConsumeRequest{Queues: []string{"q"}, ConsumerId: "me"})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	want := badinput.Refusal{Code: codes.Aborted, Reason: "CONSUMER_TAKEN_OVER", Field: "consumer_id"}
	older, newer := consume(), consume()
	if got := streamEnd(t, older); got != want {
		t.Errorf("the older Consume has ended with %v, want %v", got, want)
	}

	hello := &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("a session's own id")}
	first := s.rawSession(s.ctx, t, hello)
	first.do(&queuepb.Operation{Id: 1, Request: &queuepb.Operation_Consume{
		Consume: &queuepb.ConsumeRequest{Queues: []string{"q"}, ConsumerId: "me"},
	}})
	if r := first.result(1); r.GetConsume().GetStarted() == nil {
		t.Fatalf("Consume in a session: %v", r)
	}
	if got := streamEnd(t, newer); got != want {
		t.Errorf("the Consume has ended with %v when a session took its id over, want %v", got, want)
	}
	newest := consume()
	if e := first.result(1).GetError(); e.GetReason() != "CONSUMER_TAKEN_OVER" || codes.Code(e.GetCode()) != codes.Aborted {
		t.Errorf("the session's Consume: %v, want CONSUMER_TAKEN_OVER", e)
	}

	second := s.rawSession(s.ctx, t, hello)
	want = badinput.Refusal{Code: codes.Aborted, Reason: "SESSION_TAKEN_OVER"}
	if got := first.end(); got != want {
		t.Errorf("the older session has ended with %v, want %v", got, want)
	}
	stranger := s.rawSession(s.others, t, hello) // another principal's session of this id is another session
	for _, raw := range []*rawSession{second, stranger} {
		raw.do(info(9))
		if raw.result(9).GetGetServerInfo() == nil {
			t.Error("a session that nobody took over is not answered")
		}
	}
	if err := s.plain(s.ctx, t, queuepb.QueueService_StopConsuming_FullMethodName, &queuepb.StopConsumingRequest{ConsumerId: "me"}); err != (badinput.Refusal{}) {
		t.Errorf("StopConsuming of the newest: %v", err)
	}
	for {
		if _, err := newest.Recv(); err != nil {
			break
		}
	}
}

// A pipe that is full refuses replies when they have waited, and tells who reads too late from where to read.
func TestPipeBounds(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	stub := queuepb.NewQueueServiceClient(s.conn)
	pipe, err := stub.OpenPipe(s.ctx, &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{CapacityReplies: 2}})
	if err != nil {
		t.Fatal(err)
	}
	reply := func(ctx context.Context) badinput.Refusal {
		return s.plain(ctx, t, queuepb.QueueService_Reply_FullMethodName, &queuepb.ReplyRequest{
			Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{}, More: true,
		})
	}
	for range 2 {
		if got := reply(s.ctx); got != (badinput.Refusal{}) {
			t.Fatalf("a reply within the capacity: %v", got)
		}
	}
	brief, stop := context.WithTimeout(s.ctx, time.Second)
	defer stop()
	if got, want := reply(brief), (badinput.Refusal{Code: codes.ResourceExhausted, Reason: "PIPE_FULL", Field: "handle"}); got != want {
		t.Errorf("a reply beyond the capacity: %v, want %v", got, want)
	}

	reader, err := stub.Receive(s.ctx, &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // attached, and two replies
		if _, err := reader.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // which the reader has passed: they make room
		if got := reply(s.ctx); got != (badinput.Refusal{}) {
			t.Fatalf("a reply to a pipe that is read: %v", got)
		}
	}
	late := &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle, FromSequence: 1}
	want := badinput.Refusal{Code: codes.OutOfRange, Reason: "REPLIES_TRIMMED", Field: "from_sequence"}
	if got := s.plain(s.ctx, t, queuepb.QueueService_Receive_FullMethodName, late); got != want {
		t.Errorf("Receive from a reply that is not kept: %v, want %v", got, want)
	}
	raw := s.rawSession(s.ctx, t, version1())
	raw.do(&queuepb.Operation{Id: 1, Request: &queuepb.Operation_Receive{Receive: late}})
	if e := raw.result(1).GetError(); e.GetReason() != want.Reason || e.GetMetadata()["first_sequence"] != "3" {
		t.Errorf("in a session: %v, want %v from sequence 3", e, want)
	}
}

// After a restart the handles of before are lost where the key is known, and no handles where it is not.
func TestHandlesAfterRestart(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	f, stop := s.prepare(t)
	defer stop()
	s.kill()
	again := &target{server: startServer(t, s.flags...), ctx: s.ctx}
	again.conn = again.dial(t)
	lost := badinput.Refusal{Code: codes.Aborted, Reason: "LOST"}
	stub := queuepb.NewQueueServiceClient(again.conn)
	reader, err := stub.Receive(again.ctx, &queuepb.ReceiveRequest{Handle: f.Pipe.Receive})
	if err != nil {
		t.Fatal(err)
	}
	if got := streamEnd(t, reader); got != lost {
		t.Errorf("Receive has ended with %v, want %v", got, lost)
	}
	res, err := stub.Reply(again.ctx, &queuepb.ReplyRequest{Handle: f.Pipe.Send})
	if r := res.GetResult(); err != nil || r.Outcome != queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED || r.EndReason != queuepb.EndReason_END_REASON_LOST {
		t.Errorf("Reply = %v, %v, want the outcome ENDED, LOST", res, err)
	}
	want := badinput.Refusal{Code: codes.NotFound, Reason: "LEASE_UNKNOWN", Field: "lease"}
	if got := again.plain(again.ctx, t, queuepb.QueueService_Settle_FullMethodName, &queuepb.SettleRequest{Lease: f.Lease}); got != want {
		t.Errorf("Settle: %v, want %v", got, want)
	}

	keyless := &target{server: startServer(t, s.flags[:2]...), ctx: s.ctx}
	keyless.conn = keyless.dial(t)
	want = badinput.Refusal{Code: codes.InvalidArgument, Reason: "HANDLE_INVALID", Field: "handle"}
	for method, request := range map[string]proto.Message{
		queuepb.QueueService_Receive_FullMethodName: &queuepb.ReceiveRequest{Handle: f.Pipe.Receive},
		queuepb.QueueService_Reply_FullMethodName:   &queuepb.ReplyRequest{Handle: f.Pipe.Send},
	} {
		if got := keyless.plain(keyless.ctx, t, method, request); got != want {
			t.Errorf("%s on a server with another key: %v, want %v", method, got, want)
		}
	}
}

// Where queues are not made by use, what names none that there is makes none.
func TestUnknownQueues(t *testing.T) {
	t.Parallel()
	s := &target{server: startServer(t, "--no-auto-create"), ctx: t.Context()}
	s.conn = s.dial(t)
	for method, request := range map[string]proto.Message{
		queuepb.QueueService_Enqueue_FullMethodName: &queuepb.EnqueueRequest{Queue: "nobody"},
		queuepb.QueueService_Call_FullMethodName:    &queuepb.CallRequest{Queue: "nobody"},
	} {
		want := badinput.Refusal{Code: codes.NotFound, Reason: "QUEUE_NOT_FOUND", Field: "queue"}
		if got := s.plain(s.ctx, t, method, request); got != want {
			t.Errorf("%s: %v, want %v", method, got, want)
		}
	}
	want := badinput.Refusal{Code: codes.NotFound, Reason: "QUEUE_NOT_FOUND", Field: "queues[0]"}
	if got := s.plain(s.ctx, t, queuepb.QueueService_Consume_FullMethodName, &queuepb.ConsumeRequest{Queues: []string{"nobody"}}); got != want {
		t.Errorf("Consume: %v, want %v", got, want)
	}
	if queues := s.queues(s.ctx, t); len(queues) != 0 {
		t.Errorf("queues %v were made", queues)
	}
}
