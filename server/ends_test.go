package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
)

// A waiter waits for the end of a call's pipe, or of one that it receives from.
type waiter struct {
	receipt *queuepb.Receipt // of a call
	// end waits for the End. status is that of the stream; in a session there is none.
	end func() (end *queuepb.End, status refusal)
}

// waitPlain waits by a plain stream.
func waitPlain(t *testing.T, c *client, call *queuepb.CallRequest, receive *queuepb.ReceiveRequest) (w waiter) {
	t.Helper()
	var next func() (*queuepb.End, error)
	var status func(error) refusal
	if receive != nil {
		stream, err := c.Receive(c.ctx, receive)
		if err != nil {
			t.Fatal(err)
		}
		next = func() (*queuepb.End, error) { e, err := stream.Recv(); return e.GetEnd(), err }
		status = func(err error) refusal { return refusalOf(t, err, stream.Trailer()) }
	} else {
		stream, err := c.Call(c.ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		w.receipt = first.GetReceipt()
		next = func() (*queuepb.End, error) { e, err := stream.Recv(); return e.GetEnd(), err }
		status = func(err error) refusal { return refusalOf(t, err, stream.Trailer()) }
	}
	w.end = func() (end *queuepb.End, _ refusal) {
		for {
			e, err := next()
			if err != nil {
				if got := status(err); end.GetReason() != queuepb.EndReason_END_REASON_OK {
					return end, got
				}
				return end, refusal{} // io.EOF is the status OK
			}
			if end != nil {
				t.Errorf("%v after the end", e)
			}
			end = e
		}
	}
	return w
}

// waitInSession waits by an operation.
func waitInSession(t *testing.T, c *client, call *queuepb.CallRequest, receive *queuepb.ReceiveRequest) (w waiter) {
	t.Helper()
	s := c.openSession(&queuepb.Hello{})
	if receive != nil {
		s.do(operationOf(1, receive))
	} else {
		s.do(operationOf(1, call))
		w.receipt = s.next(1).GetCall().GetReceipt()
	}
	w.end = func() (*queuepb.End, refusal) {
		for {
			r := s.next(1)
			end := r.GetCall().GetEnd()
			if receive != nil {
				end = r.GetReceive().GetEnd()
			}
			if end == nil {
				continue
			}
			if !r.Done {
				t.Error("the end is not the last result")
			}
			return end, refusal{}
		}
	}
	return w
}

// TestEveryEndHasItsReason brings about every end of a pipe, and looks at what its waiter sees on either face.
func TestEveryEndHasItsReason(t *testing.T) {
	// settle takes the call's message and settles it n times.
	settle := func(action queuepb.SettleAction, n int) func(*client, waiter) {
		return func(c *client, _ waiter) {
			consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
			for range n {
				must[*queuepb.SettleResponse](c.t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: c.delivery(consumer).Lease, Action: action}))
			}
		}
	}
	reply := func(r *queuepb.ReplyRequest) func(*client, waiter) {
		return func(c *client, _ waiter) {
			r.Handle = c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})).Message.ReplyTo
			must[*queuepb.ReplyResponse](c.t)(c.Reply(c.ctx, r))
		}
	}
	tests := map[queuepb.EndReason]struct {
		call  *queuepb.CallRequest // besides its queue
		cause func(*client, waiter)
		want  refusal
		// before is done before the call, and returns what ends its effect.
		before func(*client) (end func())
		// earlier: the pipe is of an earlier run.
		earlier bool
	}{
		queuepb.EndReason_END_REASON_OK: {
			cause: reply(&queuepb.ReplyRequest{Body: &queuepb.ReplyRequest_Payload{Payload: []byte("v")}}),
		},
		queuepb.EndReason_END_REASON_FAILED: {
			cause: reply(&queuepb.ReplyRequest{Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{
				Code: int32(codes.NotFound), Reason: "NO_SUCH_ROW", Message: "no row 7",
			}}}),
			want: refusal{codes.NotFound, "NO_SUCH_ROW", ""},
		},
		queuepb.EndReason_END_REASON_EXPIRED: {
			call:  &queuepb.CallRequest{Pipe: &queuepb.PipeOptions{Timeout: seconds(5)}},
			cause: func(*client, waiter) { <-time.After(5 * time.Second) },
			want:  refusal{codes.DeadlineExceeded, "EXPIRED", ""},
		},
		queuepb.EndReason_END_REASON_CANCELLED: {
			cause: func(c *client, w waiter) {
				must[*queuepb.CancelResponse](c.t)(c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: w.receipt.ReceiveHandle}))
			},
			want: refusal{codes.Canceled, "CANCELLED", ""},
		},
		queuepb.EndReason_END_REASON_NO_CONSUMER: {
			call: &queuepb.CallRequest{RequireConsumer: true, Delay: seconds(1)},
			before: func(c *client) func() {
				ctx, cancel := context.WithCancel(c.ctx)
				one := *c
				one.ctx = ctx
				one.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
				return cancel
			},
			want: refusal{codes.Unavailable, "NO_CONSUMER", ""},
		},
		queuepb.EndReason_END_REASON_REJECTED: {
			cause: settle(queuepb.SettleAction_SETTLE_ACTION_REJECT, 1),
			want:  refusal{codes.FailedPrecondition, "REJECTED", ""},
		},
		queuepb.EndReason_END_REASON_DEAD_LETTERED: {
			cause: settle(queuepb.SettleAction_SETTLE_ACTION_RETRY, 20),
			want:  refusal{codes.FailedPrecondition, "DEAD_LETTERED", ""},
		},
		queuepb.EndReason_END_REASON_BROKEN: {
			cause: settle(queuepb.SettleAction_SETTLE_ACTION_ACK, 1),
			want:  refusal{codes.Aborted, "BROKEN", ""},
		},
		queuepb.EndReason_END_REASON_SHUTTING_DOWN: {
			cause: func(c *client, _ waiter) { c.bed.Broker.Shutdown() },
			want:  refusal{codes.Unavailable, "SHUTTING_DOWN", ""},
		},
		queuepb.EndReason_END_REASON_LOST: {earlier: true, want: refusal{codes.Aborted, "LOST", ""}},
	}
	// These are brought about by administrators, and by queues with a limit.
	elsewhere := map[queuepb.EndReason]bool{
		queuepb.EndReason_END_REASON_PURGED: true, queuepb.EndReason_END_REASON_QUEUE_DELETED: true,
		queuepb.EndReason_END_REASON_DROPPED: true, queuepb.EndReason_END_REASON_REVOKED: true,
	}
	for number, name := range queuepb.EndReason_name {
		reason := queuepb.EndReason(number)
		test, ok := tests[reason]
		if !ok && !elsewhere[reason] && number != 0 {
			t.Errorf("%s is not in the table", name)
		}
		if !ok {
			continue
		}
		for face, wait := range map[string]func(*testing.T, *client, *queuepb.CallRequest, *queuepb.ReceiveRequest) waiter{
			"plain": waitPlain, "session": waitInSession,
		} {
			t.Run(name[len("END_REASON_"):]+"/"+face, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newClient(t, testbed.InMemory())
					var w waiter
					if test.earlier {
						h := c.bed.Keys.Mint(handles.Claims{
							Kind: handles.Receive, Tenant: 1, Store: c.bed.Broker.Store() + 1, Slot: 1, Nonce: 1,
							Expires: time.Now().Add(time.Hour).Unix(),
						})
						w = wait(t, c, nil, &queuepb.ReceiveRequest{Handle: &queuepb.Handle{Token: h.Text()}})
					} else {
						call := test.call
						if call == nil {
							call = &queuepb.CallRequest{}
						}
						call.Queue = "work"
						end := func() {}
						if test.before != nil {
							end = test.before(c)
						}
						w = wait(t, c, call, nil)
						end()
					}
					if test.cause != nil {
						test.cause(c, w)
					}
					end, status := w.end()
					if end.GetReason() != reason {
						t.Fatalf("end = %v, want %s", end, name)
					}
					want := test.want
					if got := (refusal{codes.Code(end.GetError().GetCode()), end.GetError().GetReason(), ""}); got != want {
						t.Errorf("error of the end = %v, want %v", got, want)
					}
					if want.Code != codes.OK && end.Error.Message == "" {
						t.Error("the end has no sentence")
					}
					if face == "plain" && status != want {
						t.Errorf("status = %v, want %v", status, want)
					}
				})
			})
		}
	}
}
