package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestEndIsKeptUntilItIsConfirmed: a client that confirms results finds the end again although it was written to it, until
// it has confirmed it; then the pipe is kept for its retain only.
func TestEndIsKeptUntilItIsConfirmed(t *testing.T) {
	for _, test := range []struct {
		name     string
		confirms bool
		received uint64 // results: the receipt, the reply, the end
		kept     bool
	}{
		{"confirmed", true, 3, false},
		{"end not confirmed", true, 2, true},
		{"client that does not confirm", false, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, testbed.InMemory())
				s := c.openSession(&queuepb.Hello{ConfirmsResults: test.confirms}, &queuepb.Operation{
					Id: 1, Request: &queuepb.Operation_Call{Call: &queuepb.CallRequest{
						Queue: "work", Message: text("x"), Pipe: &queuepb.PipeOptions{Retain: seconds(2)},
					}},
				})
				handle := s.next(1).GetCall().GetReceipt().GetReceiveHandle()
				d := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}}))
				must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
					Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("v")}, Lease: d.Lease, Ack: true,
				}))
				if reply, end := s.next(1), s.next(1); reply.Done || !end.Done {
					t.Fatalf("got %v and %v, want the reply and the end", reply, end)
				}
				if err := s.Send(&queuepb.SessionRequest{Ping: 1, ResultsReceived: test.received}); err != nil {
					t.Fatal(err)
				}
				<-time.After(10 * time.Second)
				stream, err := c.Receive(c.ctx, &queuepb.ReceiveRequest{Handle: handle})
				if err != nil {
					t.Fatal(err)
				}
				_, err = stream.Recv()
				if kept := err == nil; kept != test.kept {
					t.Errorf("kept is %v (%v), want %v", kept, err, test.kept)
				}
				if !test.kept {
					if got := refusalOf(t, err, stream.Trailer()); got != (refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}) {
						t.Errorf("Receive() = %v", got)
					}
				}
			})
		})
	}
}
