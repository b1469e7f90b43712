package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestReceiveFromASequence: on both faces one may begin with a later reply; and where that one is not kept any more, one
// is told where to begin.
func TestReceiveFromASequence(t *testing.T) {
	for face, wait := range faces {
		t.Run(face, func(t *testing.T) {
			c := newClient(t)
			pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{
				Pipe: &queuepb.PipeOptions{CapacityReplies: 3}}))
			first := wait(t, c, nil, &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle})
			reply := func(text string, more bool) {
				must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
					Handle: pipe.SendHandle, Body: payload(text), More: more}))
			}
			for _, text := range []string{"a", "b"} {
				reply(text, true)
			}
			later := wait(t, c, nil, &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle, FromSequence: 2})
			reply("c", false)
			if diff := cmp.Diff([]string{"a", "b", "c"}, first.end().replies); diff != "" {
				t.Errorf("from the start (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"b", "c"}, later.end().replies); diff != "" {
				t.Errorf("from 2 (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRepliesTrimmed: who asks for a reply that was trimmed learns on both faces which is the first that is kept.
func TestRepliesTrimmed(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{
		Pipe: &queuepb.PipeOptions{CapacityReplies: 2}}))
	s := c.openSession(&queuepb.Hello{}, &queuepb.Operation{Id: 1, Credit: 10, Request: &queuepb.Operation_Receive{
		Receive: &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle}}})
	s.next(1) // attached
	for range 4 {
		must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: payload("x"), More: true}))
		s.next(1)
		s.write(&queuepb.SessionRequest{Credits: []*queuepb.Credit{{OperationId: 1, Items: 1}}}) // it has passed that one
	}
	request := &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle, FromSequence: 1}
	stream, err := c.Receive(c.ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if got, want := refusalOf(t, err, stream.Trailer()), (refusal{codes.OutOfRange, "REPLIES_TRIMMED", "from_sequence"}); got != want {
		t.Fatalf("plain: got %v, want %v", got, want)
	}
	first := ""
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			first = info.Metadata["first_sequence"]
		}
	}
	s.do(operationOf(2, request))
	e := s.next(2).GetError()
	if e.GetCode() != int32(codes.OutOfRange) || e.GetReason() != "REPLIES_TRIMMED" || e.GetField() != "from_sequence" ||
		e.GetMetadata()["first_sequence"] != first || first != "3" {
		t.Errorf("session: got %v, plain said first_sequence %q; want REPLIES_TRIMMED and 3 in both", e, first)
	}
}

// TestIfAbandonedKeep: a call that says so leaves its message in the queue when its caller is gone for good, and its pipe
// open; another's message is withdrawn.
func TestIfAbandonedKeep(t *testing.T) {
	for face, wait := range faces {
		t.Run(face, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, testbed.InMemory())
				kept := wait(t, c, &queuepb.CallRequest{Queue: "work", Pipe: &queuepb.PipeOptions{
					DisconnectGrace: seconds(1), IfAbandoned: queuepb.IfAbandoned_IF_ABANDONED_KEEP}}, nil)
				other := wait(t, c, &queuepb.CallRequest{Queue: "work", Pipe: &queuepb.PipeOptions{DisconnectGrace: seconds(1)}}, nil)
				kept.leave()
				other.leave()
				<-time.After(5 * time.Second)
				d := c.taken()
				if d.MessageId != kept.receipt.MessageId {
					t.Errorf("got message %s, want %s, that of the caller who wanted it kept", d.MessageId, kept.receipt.MessageId)
				}
				c.reply(d, &queuepb.ReplyRequest{Body: payload("late")})
				late := wait(t, c, nil, &queuepb.ReceiveRequest{Handle: kept.receipt.ReceiveHandle}).end()
				if len(late.replies) != 1 || late.GetReason() != queuepb.EndReason_END_REASON_OK {
					t.Errorf("got %v, %v, want the reply and OK", late.replies, late.End)
				}
			})
		})
	}
}
