package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestDeadlineOfAnRPC: a little before it passes, the server ends the RPC by itself, a call with the End of its pipe.
func TestDeadlineOfAnRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		opened := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
		const timeout = 2 * time.Second
		began := time.Now()
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		call, err := c.Call(ctx, &queuepb.CallRequest{Queue: "nobody"})
		if err != nil {
			t.Fatal(err)
		}
		receive, err := c.Receive(ctx, &queuepb.ReceiveRequest{Handle: opened.ReceiveHandle})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := call.Recv(); err != nil {
			t.Fatal(err)
		}
		if e, err := call.Recv(); e.GetEnd().GetReason() != queuepb.EndReason_END_REASON_EXPIRED {
			t.Errorf("the call's last event = %v, %v, want the end EXPIRED", e, err)
		}
		if _, err := call.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the call's status = %v, want DEADLINE_EXCEEDED", err)
		}
		if _, err := receive.Recv(); err != nil {
			t.Fatal(err)
		}
		if e, err := receive.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the other's = %v, %v, want DEADLINE_EXCEEDED and no event", e, err)
		}
		if took := time.Since(began); took >= timeout || took < timeout-100*time.Millisecond {
			t.Errorf("the server ended them after %v of %v", took, timeout)
		}
	})
}
