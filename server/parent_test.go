package server_test

import (
	"testing"

	"github.com/replyq/replyq/api/queuepb"
)

// TestParent: on both faces, what was opened under a pipe is cancelled with it.
func TestParent(t *testing.T) {
	c := newClient(t)
	parent := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	request := func(h *queuepb.Handle) *queuepb.CallRequest {
		return &queuepb.CallRequest{Queue: "work", Pipe: &queuepb.PipeOptions{Parent: h}}
	}
	plain, err := c.Call(c.ctx, request(parent.SendHandle))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := plain.Recv(); err != nil || e.GetReceipt() == nil {
		t.Fatalf("first event = %v, %v, want a receipt", e, err)
	}
	s := c.openSession(&queuepb.Hello{}, operationOf(1, request(parent.ReceiveHandle)))
	if r := s.next(1); r.GetCall().GetReceipt() == nil {
		t.Fatalf("first result = %v, want a receipt", r)
	}
	must[*queuepb.CancelResponse](t)(c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: parent.ReceiveHandle}))
	if e, err := plain.Recv(); err != nil || e.GetEnd().GetReason() != queuepb.EndReason_END_REASON_CANCELLED {
		t.Errorf("plain: got %v, %v, want CANCELLED", e, err)
	}
	if r := s.next(1); r.GetCall().GetEnd().GetReason() != queuepb.EndReason_END_REASON_CANCELLED {
		t.Errorf("session: got %v, want CANCELLED", r)
	}
}
