package server_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// TestPromise2FailInTheProducer: a bad handle is refused where it is sent, wherever in a request it stands and by either
// face, with its reason and the path of the field; and nothing of the request is stored.
func TestPromise2FailInTheProducer(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	good, token := pipe.SendHandle, pipe.SendHandle.Token
	invalid := refusal{codes.InvalidArgument, "HANDLE_INVALID", ""}
	unknown := refusal{codes.NotFound, "HANDLE_UNKNOWN", ""}
	kind := refusal{codes.InvalidArgument, "HANDLE_KIND", ""}
	bad := map[string]struct {
		handle *queuepb.Handle
		want   refusal
	}{
		"none":             {&queuepb.Handle{}, invalid},
		"damaged":          {&queuepb.Handle{Token: token[:40] + flip(token[40]) + token[41:]}, invalid},
		"cut off":          {&queuepb.Handle{Token: token[:60]}, invalid},
		"another tenant's": {c.mint(t, 77, time.Now().Unix()+1000), unknown},
		"never was":        {c.mint(t, 1, time.Now().Unix()+1000), unknown},
		"expired":          {c.mint(t, 1, time.Now().Unix()-1000), refusal{codes.FailedPrecondition, "HANDLE_EXPIRED", ""}},
		"a lease":          {c.mintOf(handles.Lease, c.bed.Broker.Store(), 1, 1), kind},
		"the other end":    {pipe.ReceiveHandle, kind},
	}
	places := map[string]func(*queuepb.Handle) *queuepb.EnqueueRequest{
		"message.reply_to": func(h *queuepb.Handle) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Message: &queuepb.Message{ReplyTo: h, Handles: map[string]*queuepb.Handle{"good": good}}}
		},
		`message.handles["audit"]`: func(h *queuepb.Handle) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Message: &queuepb.Message{
				ReplyTo: good, Handles: map[string]*queuepb.Handle{"audit": h, "good": good}}}
		},
		"pipe.parent": func(h *queuepb.Handle) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Pipe: &queuepb.PipeOptions{Parent: h}}
		},
	}
	s := c.openSession(&queuepb.Hello{})
	id := uint64(0)
	for name, b := range bad {
		for place, request := range places {
			if name == "the other end" && place != "message.reply_to" {
				continue // both ends of a pipe may travel, and be parents
			}
			want := b.want
			want.Field = place
			r := request(b.handle)
			r.Queue = "work"
			check := func(how string, got refusal) {
				t.Helper()
				if got != want {
					t.Errorf("%s in %s, %s: got %v, want %v", name, place, how, got, want)
				}
			}
			var trailer metadata.MD
			_, err := c.Enqueue(c.ctx, r, grpc.Trailer(&trailer))
			check("Enqueue", refusalOf(t, err, trailer))
			id++
			s.do(operationOf(id, r))
			e := s.next(id).GetError()
			check("enqueue in a session", refusal{codes.Code(e.GetCode()), e.GetReason(), e.GetField()})
			batch := must[*queuepb.EnqueueBatchResponse](t)(c.EnqueueBatch(c.ctx, &queuepb.EnqueueBatchRequest{
				Items: []*queuepb.EnqueueRequest{r}}))
			e = batch.Results[0].GetError()
			want.Field = "items[0]." + place
			check("EnqueueBatch", refusal{codes.Code(e.GetCode()), e.GetReason(), e.GetField()})
			if want.Field = place; place == "message.reply_to" {
				continue // a Call has none
			}
			call := &queuepb.CallRequest{Queue: "work", Message: &queuepb.Message{Handles: r.Message.GetHandles()}, Pipe: r.Pipe}
			stream, err := c.Call(c.ctx, call)
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			check("Call", refusalOf(t, err, stream.Trailer()))
		}
		if name == "the other end" {
			continue
		}
		reply := &queuepb.ReplyRequest{
			Handle: good, Body: payload("x"), Handles: map[string]*queuepb.Handle{"audit": b.handle, "good": good}}
		var trailer metadata.MD
		_, err := c.Reply(c.ctx, reply, grpc.Trailer(&trailer))
		want := b.want
		want.Field = `handles["audit"]`
		if got := refusalOf(t, err, trailer); got != want {
			t.Errorf("%s in a reply: got %v, want %v", name, got, want)
		}
	}
	if l := must[*queuepb.ListQueuesResponse](t)(c.admin().ListQueues(c.ctx, &queuepb.ListQueuesRequest{})); len(l.Queues) != 0 {
		t.Errorf("the refused requests have left %v", l.Queues)
	}
	if d := c.describeBoth(pipe.ReceiveHandle); d.NextSequence != 1 || len(d.Carriers) != 0 || d.End != nil {
		t.Errorf("the refused requests have left their mark on the pipe: %v", d)
	}
}

// TestP18NestedHandlesKeepWhatTheyAre sends both handles of a pipe through messages and replies, ten times round and by
// turns on the two faces: they stay the tokens that they were, work in the end, and only as what they are.
func TestP18NestedHandlesKeepWhatTheyAre(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	send, receive := pipe.SendHandle, pipe.ReceiveHandle
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
	for i := range 10 {
		carried := map[string]*queuepb.Handle{"to": send, "from": receive}
		call := &queuepb.CallRequest{Queue: "work", Message: &queuepb.Message{Handles: carried}}
		var next func() *queuepb.CallResponse
		if i%2 == 0 {
			stream, err := c.Call(c.ctx, call)
			if err != nil {
				t.Fatal(err)
			}
			next = func() *queuepb.CallResponse { return must[*queuepb.CallResponse](t)(stream.Recv()) }
		} else {
			s := c.openSession(&queuepb.Hello{}, operationOf(1, call))
			next = func() *queuepb.CallResponse { return s.next(1).GetCall() }
		}
		next() // the receipt
		d := c.delivery(consumer)
		repliers := c.repliers()
		result := repliers[i/2%2](&queuepb.ReplyRequest{
			Handle: d.Message.ReplyTo, Lease: d.Lease, Ack: true, Body: payload("back"), Handles: d.Message.Handles})
		if result.GetOutcome() != queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED {
			t.Fatalf("Reply() = %v", result)
		}
		reply := next().GetReply()
		send, receive = reply.GetHandles()["to"], reply.GetHandles()["from"]
		if send.GetToken() != pipe.SendHandle.Token || receive.GetToken() != pipe.ReceiveHandle.Token {
			t.Fatalf("round %d: got other tokens than were sent", i)
		}
	}
	var trailer metadata.MD
	_, err := c.Reply(c.ctx, &queuepb.ReplyRequest{Handle: receive, Body: payload("x")}, grpc.Trailer(&trailer))
	if got := refusalOf(t, err, trailer); got.Reason != "HANDLE_KIND" {
		t.Errorf("Reply(receive handle) = %v, want HANDLE_KIND", err)
	}
	stranger, err := c.Receive(c.ctx, &queuepb.ReceiveRequest{Handle: send})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stranger.Recv()
	if got := refusalOf(t, err, stranger.Trailer()); got.Reason != "HANDLE_KIND" {
		t.Errorf("Receive(send handle) = %v, want HANDLE_KIND", err)
	}
	must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{Handle: send, Body: payload("at last")}))
	got := waitPlain(t, c, nil, &queuepb.ReceiveRequest{Handle: receive}).end()
	if len(got.replies) != 1 || got.replies[0] != "at last" || got.GetReason() != queuepb.EndReason_END_REASON_OK {
		t.Errorf("got %v, %v, want the reply and OK", got.replies, got.End)
	}
}
