package integration_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// A server that goes down refuses new work and takes what ends old work, on both faces.
func TestP22Draining(t *testing.T) {
	t.Parallel()
	s := startTarget(t, "--drain-timeout", "6s")
	fixture, stop := s.prepare(t) // holds leases, for which the server waits
	defer stop()
	raw := s.rawSession(s.ctx, t, version1())
	s.signal(t, syscall.SIGTERM)
	for away := false; !away; {
		away = raw.next().GoingAway != nil
	}
	raw.do(enqueueTo(1, "q"))
	e := raw.result(1).GetError()
	if codes.Code(e.GetCode()) != codes.Unavailable || e.GetReason() != "DRAINING" || e.GetRetryAfter() == nil {
		t.Errorf("an operation: %v, want UNAVAILABLE, DRAINING, retry_after", e)
	}
	want := badinput.Refusal{Code: codes.Unavailable, Reason: "DRAINING"}
	if got := s.plain(s.ctx, t, queuepb.QueueService_Enqueue_FullMethodName, &queuepb.EnqueueRequest{Queue: "q"}); got != want {
		t.Errorf("a plain Enqueue: %v, want %v", got, want)
	}
	raw.do(&queuepb.Operation{Id: 2, Request: &queuepb.Operation_Reply{Reply: &queuepb.ReplyRequest{Handle: fixture.Pipe.Send}}})
	if got := raw.result(2).GetReply().GetResult().GetOutcome(); got != queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED {
		t.Errorf("a reply: outcome %v, want BUFFERED", got)
	}
	raw.do(&queuepb.Operation{Id: 3, Request: &queuepb.Operation_Settle{Settle: &queuepb.SettleRequest{Lease: fixture.Lease}}})
	if got := raw.result(3).GetSettle(); got == nil {
		t.Error("an ack is refused")
	}
	if got := raw.end(); got.Reason != "DRAINING" && got != (badinput.Refusal{}) {
		t.Errorf("the session has ended with %v", got)
	}
	if code := s.wait(t, patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A client that closes its side gets the answers of what is under way, and then OK.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	raw := s.rawSession(s.ctx, t, version1())
	frame := &queuepb.SessionRequest{}
	const n = 500
	for id := range uint64(n) {
		frame.Operations = append(frame.Operations, enqueueTo(id+1, fmt.Sprint("q", id%7)))
	}
	raw.send(frameOf(t, frame))
	if err := raw.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	receipts := 0
	for {
		response, err := raw.receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the session has ended with %v, want OK", err)
			}
			break
		}
		for _, r := range response.Results {
			if r.GetEnqueue().GetReceipt() != nil && r.Done {
				receipts++
			}
		}
	}
	if receipts != n {
		t.Errorf("%d receipts for %d operations", receipts, n)
	}
}

// A session that does not read what it has given credit for is cut after a while, and its deliveries go to others at once.
func TestP21SlowSession(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	stub := queuepb.NewQueueServiceClient(s.conn)
	const messages = 20
	for range messages {
		if _, err := stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{
			Queue: "slow", Message: &queuepb.Message{Payload: make([]byte, 100_000)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	raw := s.rawSession(s.ctx, t, &queuepb.Hello{ProtocolVersion: 1, CreditBytes: 64 << 20})
	raw.do(&queuepb.Operation{Id: 1, Request: &queuepb.Operation_Consume{
		Consume: &queuepb.ConsumeRequest{Queues: []string{"slow"}, MaxInFlight: messages},
	}})
	inFlight := func() uint64 { return s.queues(s.ctx, t)[0].Statistics.InFlight }
	eventually(t, "the messages are in flight", func() bool { return inFlight() == messages })
	eventually(t, "the messages are back", func() bool { return inFlight() == 0 })
	want := badinput.Refusal{Code: codes.ResourceExhausted, Reason: "SLOW_CONSUMER"}
	if got := raw.end(); got != want {
		t.Errorf("the session has ended with %v, want %v", got, want)
	}
	s.checkWorks(s.ctx, t)
}

// TestP21SlowSessionsTakeLittle: what a session is given and does not read costs the server at most 4 MiB, however much
// credit it gave; and who reads is served meanwhile.
func TestP21SlowSessionsTakeLittle(t *testing.T) {
	t.Parallel()
	const sessions, each, size, most = 8, 40, 200_000, 4 << 20
	s := startServer(t, "--memory-limit", fmt.Sprint(512<<20), "--log-level", "info")
	target := &target{server: s, conn: s.dial(t), ctx: t.Context()}
	stub := queuepb.NewQueueServiceClient(target.conn)
	for range sessions * each {
		if _, err := stub.Enqueue(t.Context(), &queuepb.EnqueueRequest{
			Queue: "slow", Message: &queuepb.Message{Payload: make([]byte, size)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	before := s.memory(t, "VmRSS:")
	raws := make([]*rawSession, sessions)
	for i := range raws {
		raws[i] = target.rawSession(t.Context(), t, &queuepb.Hello{ProtocolVersion: 1, CreditBytes: 64 << 20})
		raws[i].do(&queuepb.Operation{Id: 1, Request: &queuepb.Operation_Consume{
			Consume: &queuepb.ConsumeRequest{Queues: []string{"slow"}, MaxInFlight: each},
		}, Credit: 1000})
	}
	eventually(t, "the messages are in flight", func() bool { return s.statistics(t, "slow").InFlight == sessions*each })
	target.checkWorks(t.Context(), t)
	stalled := s.memory(t, "VmRSS:")
	eventually(t, "the messages are back", func() bool {
		stalled = max(stalled, s.memory(t, "VmRSS:"))
		return s.statistics(t, "slow").InFlight == 0
	})
	took := (stalled - before) / sessions
	t.Logf("a session that was given %d KB and read nothing took %d KiB", each*size/1000, took>>10)
	if took > most && os.Getenv("REPLYQ_RACE") == "" {
		t.Errorf("it took %d KiB, want at most %d", took>>10, most>>10)
	}
	want := badinput.Refusal{Code: codes.ResourceExhausted, Reason: "SLOW_CONSUMER"}
	for _, raw := range raws {
		if got := raw.end(); got != want {
			t.Errorf("a session has ended with %v, want %v", got, want)
		}
	}
}
