package server_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/replyq/replyq/api/queuepb"
)

// A waiter waits for the end of a call's pipe, or of one that it receives from, on one of the two faces.
type waiter struct {
	receipt *queuepb.Receipt // of a call
	// end waits for the End, and checks that nothing follows it.
	end func() ended
	// leave cuts it off.
	leave func()
}

// ended is what a waiter sees of a pipe.
type ended struct {
	replies []string
	*queuepb.End
	status *refusal // of a plain stream
}

// waiting begins to wait: by a Call, or if that is nil by a Receive.
type waiting func(t *testing.T, c *client, call *queuepb.CallRequest, receive *queuepb.ReceiveRequest) waiter

// faces are the two ways to wait.
var faces = map[string]waiting{"plain": waitPlain, "session": waitInSession} //nolint:gochecknoglobals // a table

// waitPlain waits by a plain stream.
func waitPlain(t *testing.T, c *client, call *queuepb.CallRequest, receive *queuepb.ReceiveRequest) (w waiter) {
	t.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	w.leave = cancel
	var next func() (*queuepb.Reply, *queuepb.End, error)
	var status func(error) refusal
	if call != nil {
		stream, err := c.Call(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		w.receipt = first.GetReceipt()
		next = func() (*queuepb.Reply, *queuepb.End, error) {
			e, err := stream.Recv()
			return e.GetReply(), e.GetEnd(), err
		}
		status = func(err error) refusal { return refusalOf(t, err, stream.Trailer()) }
	} else {
		stream, err := c.Receive(ctx, receive)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := stream.Recv(); err != nil || first.GetAttached() == nil {
			t.Fatalf("first event of Receive = %v, %v, want attached", first, err)
		}
		next = func() (*queuepb.Reply, *queuepb.End, error) {
			e, err := stream.Recv()
			return e.GetReply(), e.GetEnd(), err
		}
		status = func(err error) refusal { return refusalOf(t, err, stream.Trailer()) }
	}
	w.end = func() (e ended) {
		defer cancel()
		for {
			reply, end, err := next()
			switch {
			case errors.Is(err, io.EOF):
				e.status = &refusal{}
				return e
			case err != nil:
				got := status(err)
				e.status = &got
				return e
			case e.End != nil:
				t.Errorf("%v, %v after the end", reply, end)
			case reply != nil:
				e.replies = append(e.replies, string(reply.Payload))
			default:
				e.End = end
			}
		}
	}
	return w
}

// waitInSession waits by an operation.
func waitInSession(t *testing.T, c *client, call *queuepb.CallRequest, receive *queuepb.ReceiveRequest) (w waiter) {
	t.Helper()
	s := c.openSession(&queuepb.Hello{})
	w.leave = func() { s.write(&queuepb.SessionRequest{Detach: []uint64{1}}) }
	if call != nil {
		s.do(operationOf(1, call))
		w.receipt = s.next(1).GetCall().GetReceipt()
	} else {
		s.do(operationOf(1, receive))
		if first := s.next(1); first.GetReceive().GetAttached() == nil {
			t.Fatalf("first result of Receive = %v, want attached", first)
		}
	}
	w.end = func() (e ended) {
		for {
			r := s.next(1)
			reply, end := r.GetCall().GetReply(), r.GetCall().GetEnd()
			if call == nil {
				reply, end = r.GetReceive().GetReply(), r.GetReceive().GetEnd()
			}
			switch {
			case reply != nil:
				e.replies = append(e.replies, string(reply.Payload))
			case end == nil:
				t.Fatalf("%v while waiting for the end", r)
			case !r.Done:
				t.Error("the end is not the last result")
			}
			if end == nil {
				continue
			}
			e.End = end
			// What the session is told later must come after everything of the operation: nothing more of it may.
			s.write(&queuepb.SessionRequest{Ping: 1})
			for pong := uint64(0); pong == 0; {
				pong = s.read().Pong
			}
			for _, r := range s.queued {
				t.Errorf("%v after the end", r)
			}
			return e
		}
	}
	return w
}
