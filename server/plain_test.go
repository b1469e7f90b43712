package server_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestCall goes once around: call, delivery, streamed replies, end.
func TestCall(t *testing.T) {
	c := newClient(t)
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, MaxInFlight: 1})
	call := must[interface {
		Recv() (*queuepb.CallResponse, error)
		Trailer() metadata.MD
	}](t)(c.Call(c.ctx, &queuepb.CallRequest{
		Queue: "work",
		Message: &queuepb.Message{
			Payload: []byte("hello"), ContentType: "text/plain", Headers: map[string]string{"x-id": "7"},
		},
	}))
	if e, err := call.Recv(); err != nil || e.GetReceipt().GetReceiveHandle() == nil || e.GetReceipt().Consumers != 1 {
		t.Fatalf("first event = %v, %v, want a receipt with a receive handle and one consumer", e, err)
	}
	d := c.delivery(consumer)
	if got := d.Message; string(got.Payload) != "hello" || got.ContentType != "text/plain" || got.Headers["x-id"] != "7" {
		t.Errorf("delivered message = %v, want what was sent", got)
	}
	if d.Queue != "work" || d.Attempt != 1 || d.Lease.GetToken() == "" || d.Message.ReplyTo.GetToken() == "" {
		t.Errorf("delivery = %v, want queue, attempt, lease and reply_to", d)
	}
	for i, more := range []bool{true, false} {
		res, err := c.Reply(c.ctx, &queuepb.ReplyRequest{
			Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{Payload: []byte{'a' + byte(i)}},
			More: more, Lease: d.Lease, Ack: !more, Headers: map[string]string{"n": "1"},
		})
		if err != nil || res.Result.Outcome != queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED {
			t.Fatalf("Reply(more: %v) = %v, %v, want DELIVERED", more, res, err)
		}
	}
	for i, want := range []string{"a", "b"} {
		e, err := call.Recv()
		if r := e.GetReply(); err != nil || string(r.GetPayload()) != want || r.Sequence != uint64(i+1) ||
			r.Attempt != 1 || r.SourceMessageId != d.MessageId || r.Headers["n"] != "1" {
			t.Fatalf("reply = %v, %v, want %q with sequence, attempt, source and headers", e, err, want)
		}
	}
	if e, err := call.Recv(); err != nil || e.GetEnd().GetReason() != queuepb.EndReason_END_REASON_OK ||
		e.GetEnd().LastSequence != 2 {
		t.Fatalf("last event = %v, %v, want the end OK after sequence 2", e, err)
	}
	if _, err := call.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("status = %v, want OK", err)
	}
}

// TestStatusRepeatsTheEnd checks the status of streams whose pipes end otherwise than OK.
func TestStatusRepeatsTheEnd(t *testing.T) {
	c := newClient(t)
	open := must[*queuepb.OpenPipeResponse](t)
	receive := func(h *queuepb.Handle) (*queuepb.End, refusal) {
		stream, err := c.Receive(c.ctx, &queuepb.ReceiveRequest{Handle: h})
		if err != nil {
			t.Fatal(err)
		}
		var end *queuepb.End
		for {
			e, err := stream.Recv()
			if err != nil {
				return end, refusalOf(t, err, stream.Trailer())
			}
			end = e.GetEnd()
		}
	}
	t.Run("a replier's error", func(t *testing.T) {
		pipe := open(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
		own := &queuepb.Error{Code: int32(codes.NotFound), Reason: "NO_SUCH_ROW", Message: "no row 7", Metadata: map[string]string{"row": "7"}}
		_, err := c.Reply(c.ctx, &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Error{Error: own}})
		if err != nil {
			t.Fatal(err)
		}
		end, got := receive(pipe.ReceiveHandle)
		want := &queuepb.End{Reason: queuepb.EndReason_END_REASON_FAILED, Error: own}
		if diff := cmp.Diff(want, end, protocmp.Transform()); diff != "" {
			t.Errorf("end (-want +got):\n%s", diff)
		}
		if want := (refusal{codes.NotFound, "NO_SUCH_ROW", ""}); got != want {
			t.Errorf("status = %v, want %v", got, want)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		pipe := open(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
		res, err := c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: pipe.ReceiveHandle, Message: "not needed"})
		if err != nil || !res.Cancelled {
			t.Fatalf("Cancel() = %v, %v, want cancelled", res, err)
		}
		end, got := receive(pipe.ReceiveHandle)
		if end.GetError().GetReason() != "CANCELLED" || end.Error.Code != int32(codes.Canceled) {
			t.Errorf("end = %v, want error CANCELLED", end)
		}
		if want := (refusal{codes.Canceled, "CANCELLED", ""}); got != want {
			t.Errorf("status = %v, want %v", got, want)
		}
	})
}

// TestEnqueueBatch checks that each item has its own result, and the path of its error.
func TestEnqueueBatch(t *testing.T) {
	c := newClient(t)
	res, err := c.EnqueueBatch(c.ctx, &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{
		{Queue: "a", Message: text("1"), Pipe: &queuepb.PipeOptions{}},
		{Queue: "B"},
		{Queue: "a"},
	}})
	if err != nil || len(res.GetResults()) != 3 {
		t.Fatalf("EnqueueBatch() = %v, %v, want three results", res, err)
	}
	if r := res.Results[0].GetReceipt(); r.GetReceiveHandle().GetToken() == "" || !r.QueueCreated {
		t.Errorf("result 0 = %v, want a receipt with a receive handle", res.Results[0])
	}
	if e := res.Results[1].GetError(); e.GetReason() != "QUEUE_NAME_INVALID" || e.Field != "items[1].queue" {
		t.Errorf("result 1 = %v, want QUEUE_NAME_INVALID at items[1].queue", res.Results[1])
	}
	if r := res.Results[2].GetReceipt(); r.GetMessageId() == "" || r.ReceiveHandle != nil {
		t.Errorf("result 2 = %v, want a receipt without a handle", res.Results[2])
	}
}

// TestPlainConsumerGetsOneAtATime: although it asks for ten, a plain stream that does not read holds few leases.
func TestPlainConsumerCredit(t *testing.T) {
	c := newClient(t)
	for range 10 {
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work", Message: text("x")}))
	}
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, MaxInFlight: 3})
	leases := []*queuepb.Handle{}
	for range 3 {
		leases = append(leases, c.delivery(consumer).Lease)
	}
	must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: leases[0]}))
	if d := c.delivery(consumer); slices.Contains(leases, d.Lease) {
		t.Error("the same lease again, want the next message")
	}
	res, err := c.Settle(c.ctx, &queuepb.SettleRequest{Lease: leases[0]})
	if err != nil || !res.Already {
		t.Errorf("second Settle = %v, %v, want already", res, err)
	}
}

// TestPromise4GoneHandlesStopNoAck: a reply through a handle whose pipe cannot be there any more is an outcome, and its ack
// is done.
func TestPromise4GoneHandlesStopNoAck(t *testing.T) {
	clock := newClock()
	c := newClient(t, testbed.WithServer(clock.server), testbed.WithBroker(clock.broker))
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, LeaseTime: seconds(12 * 3600)})
	for _, test := range []struct {
		name   string
		handle func(t *testing.T) *queuepb.Handle
		want   *queuepb.ReplyResult
	}{
		{"foreign", func(t *testing.T) *queuepb.Handle { return c.mint(t, 77, clock.now().Unix()+1000) },
			&queuepb.ReplyResult{Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_UNKNOWN}},
		{"never was", func(t *testing.T) *queuepb.Handle { return c.mint(t, 1, clock.now().Unix()+1000) },
			&queuepb.ReplyResult{Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_UNKNOWN}},
		{"expired", func(t *testing.T) *queuepb.Handle { return c.mint(t, 1, clock.now().Unix()-100) },
			&queuepb.ReplyResult{
				Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED, EndReason: queuepb.EndReason_END_REASON_EXPIRED,
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work", Message: text("x")}))
			d := c.delivery(consumer)
			req := &queuepb.ReplyRequest{
				Handle: test.handle(t), Body: &queuepb.ReplyRequest_Payload{}, Lease: d.Lease,
			}
			for _, ack := range []bool{false, true} {
				req.Ack = ack
				res, err := c.Reply(c.ctx, req)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, res.Result, protocmp.Transform()); diff != "" {
					t.Errorf("Reply(ack: %v) (-want +got):\n%s", ack, diff)
				}
			}
			res, err := c.Settle(c.ctx, &queuepb.SettleRequest{Lease: d.Lease})
			if err != nil || !res.Already {
				t.Errorf("Settle() after the ack = %v, %v, want already", res, err)
			}
		})
	}
	t.Run("in a settle", func(t *testing.T) {
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work", Message: text("x")}))
		pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
		foreign, expired := c.mint(t, 77, clock.now().Unix()+1000), c.mint(t, 1, clock.now().Unix()-100)
		reply := func(h *queuepb.Handle) *queuepb.ReplyRequest {
			return &queuepb.ReplyRequest{
				Handle: h, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("x")},
				Handles: map[string]*queuepb.Handle{"foreign": foreign, "expired": expired},
			}
		}
		res, err := c.Settle(c.ctx, &queuepb.SettleRequest{
			Lease:   c.delivery(consumer).Lease,
			Replies: []*queuepb.ReplyRequest{reply(foreign), reply(pipe.SendHandle), reply(expired)},
			Messages: []*queuepb.EnqueueRequest{{Queue: "next", Message: &queuepb.Message{
				ReplyTo: expired, Handles: map[string]*queuepb.Handle{"foreign": foreign},
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []queuepb.ReplyOutcome
		for _, r := range res.Replies {
			got = append(got, r.Outcome)
		}
		want := []queuepb.ReplyOutcome{
			queuepb.ReplyOutcome_REPLY_OUTCOME_UNKNOWN,
			queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED,
			queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED,
		}
		if !slices.Equal(got, want) || len(res.Receipts) != 1 {
			t.Errorf("Settle() = %v, want outcomes %v and one receipt", res, want)
		}
		next := c.consume(&queuepb.ConsumeRequest{Queues: []string{"next"}})
		if d := c.delivery(next); !slices.Contains(d.EndedHandles, "reply_to") {
			t.Errorf("ended_handles = %v, want reply_to", d.EndedHandles)
		}
	})
}

// TestQueues walks the pages of ListQueues.
func TestQueues(t *testing.T) {
	bed := testbed.New(t)
	c := dial(t, bed)
	admin := queuepb.NewAdminServiceClient(must[*connT](t)(bed.Dial()))
	for _, name := range []string{"b", "a", "c"} {
		res, err := admin.CreateQueue(c.ctx, &queuepb.CreateQueueRequest{Name: name})
		if err != nil || res.Queue.Name != name || res.Queue.Config.MaxFailures != 20 {
			t.Fatalf("CreateQueue(%s) = %v, %v, want the queue", name, res, err)
		}
	}
	if _, err := admin.CreateQueue(c.ctx, &queuepb.CreateQueueRequest{Name: "a"}); status.Code(err) != codes.AlreadyExists {
		t.Errorf("CreateQueue(a) again = %v, want AlreadyExists", err)
	}
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "b"}))
	if res, err := admin.GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "b"}); err != nil || res.Queue.Statistics.Ready != 1 {
		t.Errorf("GetQueue(b) = %v, %v, want one message ready", res, err)
	}
	if _, err := admin.GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "nope"}); status.Code(err) != codes.NotFound {
		t.Errorf("GetQueue(nope) = %v, want NotFound", err)
	}
	var names []string
	for token := ""; ; {
		res, err := admin.ListQueues(c.ctx, &queuepb.ListQueuesRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range res.Queues {
			names = append(names, q.Name)
		}
		if token = res.NextPageToken; token == "" {
			break
		}
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(names, want) {
		t.Errorf("ListQueues() = %v, want %v", names, want)
	}
}
