package integration_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/replyq/replyq/api/queuepb"
)

// The fast face from Python and Node: all calls in one frame, and the answers in few.
func TestSession(t *testing.T) {
	t.Parallel()
	if skipPolyglot() {
		t.Skip("REPLYQ_SKIP_POLYGLOT is set")
	}
	s, key, _ := startTwoTenants(t)
	for _, l := range []language{inPython, inNode} {
		t.Run(string(l), func(t *testing.T) {
			t.Parallel()
			p := s.play(t, l, "session", "--key", key, "--queue", "calls."+string(l), "--count", "300")
			p.next(t).compare(t, p.name, event{Event: "hello", Protocol: 1, Tenant: "default"})
			done := p.next(t)
			if done.LargestFrame < 10 {
				t.Errorf("the largest frame had %d results: the server does not batch", done.LargestFrame)
			}
			done.LargestFrame = 0
			done.compare(t, p.name, event{Event: "done", Calls: 300, Right: 300})
			tell(t, p.name, p.all(t), "status OK")
		})
	}
}

// The same with the generated stub in Go: results of an operation are in order, and each is done exactly once.
func TestSessionFrames(t *testing.T) {
	t.Parallel()
	const calls = 50
	s := startServer(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stream, err := s.stub(t).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first := &queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1}, Ping: 7}
	first.Operations = append(first.Operations, &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Consume{
		Consume: &queuepb.ConsumeRequest{Queues: []string{"calls"}, MaxInFlight: calls},
	}})
	for i := range calls {
		message := &queuepb.Message{Payload: fmt.Appendf(nil, "%s %d", canary, i)}
		first.Operations = append(first.Operations, &queuepb.Operation{Id: uint64(10 + i), Request: &queuepb.Operation_Call{
			Call: &queuepb.CallRequest{Queue: "calls", Message: message},
		}})
	}
	if err := stream.Send(first); err != nil {
		t.Fatal(err)
	}

	events := make(map[uint64][]string)
	done := make(map[uint64]int)
	pong := false
	next := uint64(10 + calls)
	for left := 2 * calls; left > 0; { // every call, and every reply
		frame, err := stream.Recv()
		if err != nil {
			t.Fatalf("Recv() = %v", err)
		}
		pong = pong || frame.Pong == 7
		answers := &queuepb.SessionRequest{}
		for _, r := range frame.Results {
			if r.Done {
				done[r.Id]++
				left--
			}
			if d := r.GetConsume().GetDelivery(); d != nil {
				answers.Operations = append(answers.Operations, replyOperation(next, d))
				next++
			}
			if what := callEvent(r); what != "" {
				events[r.Id] = append(events[r.Id], what)
			}
		}
		if len(answers.Operations) > 0 {
			if err := stream.Send(answers); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !pong {
		t.Error("the ping was not answered")
	}
	for id, n := range done {
		if n != 1 || id == 1 {
			t.Errorf("operation %d was done %d times", id, n)
		}
	}
	for i := range calls {
		want := fmt.Sprintf("receipt, reply %s %d, end END_REASON_OK", strings.ToUpper(canary), i)
		if got := strings.Join(events[uint64(10+i)], ", "); got != want {
			t.Errorf("call %d: %s, want %s", i, got, want)
		}
	}

	// A clean end: leave the Consume, close this side, and the server closes the other.
	if err := stream.Send(&queuepb.SessionRequest{Detach: []uint64{1}}); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if err != io.EOF { //nolint:errorlint // gRPC returns the bare value
		t.Errorf("Recv() = %v, want the end", err)
	}
}

func replyOperation(id uint64, d *queuepb.Delivery) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_Reply{Reply: &queuepb.ReplyRequest{
		Handle: d.Message.ReplyTo, Lease: d.Lease, Ack: true,
		Body: &queuepb.ReplyRequest_Payload{Payload: []byte(strings.ToUpper(string(d.Message.Payload)))},
	}}}
}

// callEvent says what a result of a Call is.
func callEvent(r *queuepb.Result) string {
	switch e := r.GetCall().GetEvent().(type) {
	case *queuepb.CallResponse_Receipt:
		return "receipt"
	case *queuepb.CallResponse_Reply:
		return "reply " + string(e.Reply.Payload)
	case *queuepb.CallResponse_End:
		return "end " + e.End.Reason.String()
	}
	return ""
}
