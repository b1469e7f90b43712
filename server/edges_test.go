package server_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// TestPanic: a panic ends its call, on both faces, and nothing else; the log has its type and not its value.
func TestPanic(t *testing.T) {
	var armed atomic.Bool
	out := &logs{}
	c := newClient(t, testbed.WithServer(func(cfg *server.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(out, nil))
		cfg.Now = func() time.Time {
			if armed.Swap(false) {
				panic("a secret")
			}
			return time.Now()
		}
	}))
	want := refusal{codes.Internal, "INTERNAL", ""}
	s := c.openSession(&queuepb.Hello{})
	armed.Store(true)
	var trailer metadata.MD
	_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}, grpc.Trailer(&trailer))
	if got := refusalOf(t, err, trailer); got != want {
		t.Errorf("plain: got %v, want %v", got, want)
	}
	armed.Store(true)
	s.do(opEnqueue(1, "work"))
	if got := s.end(); got != want {
		t.Errorf("session: got %v, want %v", got, want)
	}
	if _, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}); err != nil {
		t.Errorf("Enqueue() afterwards = %v, want OK", err)
	}
	if log := out.String(); strings.Count(log, "panic in a call") != 2 || !strings.Contains(log, "type=string") ||
		strings.Contains(log, "a secret") {
		t.Errorf("log = %s, want two panics with their type, and no value", log)
	}
}

// TestCallDeadline: without a timeout of its own, a call's pipe lives as long as the RPC.
func TestCallDeadline(t *testing.T) {
	c := newClient(t)
	deadline := func(ctx context.Context, o *queuepb.PipeOptions) time.Duration {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.Call(ctx, &queuepb.CallRequest{Queue: "work", Pipe: o})
		if err != nil {
			t.Fatal(err)
		}
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(e.GetReceipt().GetPipeDeadline().AsTime())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	days, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
	defer cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		o    *queuepb.PipeOptions
		want time.Duration
	}{
		{"the RPC's", ctx, nil, 100 * time.Second},
		{"the RPC's, other options set", ctx, &queuepb.PipeOptions{CapacityReplies: 1}, 100 * time.Second},
		{"its own", ctx, &queuepb.PipeOptions{Timeout: seconds(50)}, 50 * time.Second},
		{"none", t.Context(), nil, time.Hour},
		{"beyond the limit", days, nil, 24 * time.Hour},
	} {
		if got := deadline(test.ctx, test.o); got > test.want || got < test.want-20*time.Second {
			t.Errorf("%s: the pipe lives for %v, want %v", test.name, got, test.want)
		}
	}
}

// TestHandlesInText: a handle that is copied into a payload or header by hand counts as given out, so that acking the
// message without an answer does not break its pipe.
func TestHandlesInText(t *testing.T) {
	c := newClient(t)
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
	for name, message := range map[string]func(token string) *queuepb.Message{
		"payload": func(token string) *queuepb.Message { return text(`{"reply_to":"` + token + `"}`) },
		"header": func(token string) *queuepb.Message {
			return &queuepb.Message{Headers: map[string]string{"reply-to": token}}
		},
		"nowhere": func(string) *queuepb.Message { return text("x") },
	} {
		t.Run(name, func(t *testing.T) {
			pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
			// A call's pipe, whose handles were given to nobody.
			call := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(c.Call(c.ctx, &queuepb.CallRequest{Queue: "work"}))
			must[*queuepb.CallResponse](t)(call.Recv())
			d := c.delivery(consumer)
			m := message(d.Message.ReplyTo.Token)
			m.ReplyTo = d.Message.ReplyTo
			must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
				Lease: d.Lease, Messages: []*queuepb.EnqueueRequest{{Queue: "work", Message: m}},
			}))
			must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: c.delivery(consumer).Lease}))
			res := must[*queuepb.DescribeResponse](t)(c.Describe(c.ctx, &queuepb.DescribeRequest{Handle: d.Message.ReplyTo}))
			if broken := res.State == queuepb.WaitState_WAIT_STATE_ENDED; broken != (name == "nowhere") {
				t.Errorf("state = %v (%s), want ended: %v", res.State, res.Summary, name == "nowhere")
			}
			must[*queuepb.CancelResponse](t)(c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: pipe.ReceiveHandle}))
		})
	}
}

// TestExtendLeases: each lease has its own result, in its own place.
func TestExtendLeases(t *testing.T) {
	c := newClient(t)
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}))
	good := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})).Lease
	bad, foreign := &queuepb.Handle{Token: "x"}, c.mint(t, 9, time.Now().Unix()+1000)
	forged := &queuepb.Handle{Token: good.Token[:60] + flip(good.Token[60]) + good.Token[61:]}
	res := must[*queuepb.ExtendLeasesResponse](t)(c.ExtendLeases(c.ctx, &queuepb.ExtendLeasesRequest{
		Leases: []*queuepb.Handle{bad, good, forged, foreign}, LeaseTime: seconds(100),
	}))
	var got []string
	for _, r := range res.Results {
		got = append(got, r.GetError().GetReason()+"@"+r.GetError().GetField())
	}
	if want := "HANDLE_INVALID@leases[0] @ LEASE_UNKNOWN@leases[2] HANDLE_KIND@leases[3]"; strings.Join(got, " ") != want {
		t.Errorf("results = %v, want %s", got, want)
	}
	if left := time.Until(res.Results[1].GetExpiresAt().AsTime()); left > 100*time.Second || left < 80*time.Second {
		t.Errorf("the good lease lasts %v, want 100 s", left)
	}
	all := must[*queuepb.ExtendLeasesResponse](t)(c.ExtendLeases(c.ctx, &queuepb.ExtendLeasesRequest{
		Leases: []*queuepb.Handle{bad},
	}))
	if len(all.Results) != 1 || all.Results[0].GetError() == nil {
		t.Errorf("results of one bad lease = %v, want its error", all.Results)
	}
}

// TestGoneHandlesInSession: as TestPromise4GoneHandlesStopNoAck, where the answer to a settle has to become one to a reply.
func TestGoneHandlesInSession(t *testing.T) {
	c := newClient(t)
	s := c.openSession(&queuepb.Hello{}, opConsume(1, "work", 1), opEnqueue(2, "work"))
	s.next(1)
	d := s.next(1).GetConsume().GetDelivery()
	d.Message.ReplyTo = c.mint(t, 9, time.Now().Unix()+1000)
	s.do(opReply(3, d, "x", true), opReply(4, d, "x", false), opReply(5, d, "x", false))
	for id := uint64(3); id <= 5; id++ {
		if r := s.next(id); r.GetReply().GetResult().GetOutcome() != queuepb.ReplyOutcome_REPLY_OUTCOME_UNKNOWN || !r.Done {
			t.Errorf("reply %d = %v, want UNKNOWN", id, r)
		}
	}
	s.do(opEnqueue(6, "work"))
	if next := s.next(1).GetConsume().GetDelivery(); next.GetMessageId() == d.MessageId || next == nil {
		t.Errorf("next delivery = %v, want another message: the first was acked", next)
	}
}

// TestSpliceOntoNothing: in a settle, a splice onto a pipe that cannot be there does not stop the ack; the waiter gets
// an error.
func TestSpliceOntoNothing(t *testing.T) {
	clock := newClock()
	c := newClient(t, testbed.WithServer(clock.server), testbed.WithBroker(clock.broker))
	other := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Timeout: seconds(1)}}))
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, LeaseTime: seconds(12 * 3600)})
	call := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(c.Call(c.ctx, &queuepb.CallRequest{
		Queue: "work", Pipe: &queuepb.PipeOptions{Timeout: seconds(12 * 3600)},
	}))
	must[*queuepb.CallResponse](t)(call.Recv())
	d := c.delivery(consumer)
	clock.advance(time.Hour)
	splice := &queuepb.ReplyRequest{
		Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Splice{Splice: other.ReceiveHandle},
	}
	_, trailer, err := c.send(splice)
	if got, want := refusalOf(t, err, trailer), (refusal{codes.FailedPrecondition, "HANDLE_EXPIRED", "splice"}); got != want {
		t.Errorf("Reply() = %v, want %v", got, want)
	}
	must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
		Lease: d.Lease, Replies: []*queuepb.ReplyRequest{splice},
	}))
	e := must[*queuepb.CallResponse](t)(call.Recv())
	if end := e.GetEnd(); end.GetReason() != queuepb.EndReason_END_REASON_FAILED || end.GetError().GetReason() != "HANDLE_EXPIRED" {
		t.Errorf("call = %v, want the end FAILED with HANDLE_EXPIRED", e)
	}
}
