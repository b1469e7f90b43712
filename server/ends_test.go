package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
)

// An ending is one way in which the pipe of a call to queue "work" can end.
type ending struct {
	want queuepb.EndReason
	// status is the code and the reason of the end's error, and of the stream's status.
	status  refusal
	replies []string
	// config, if not nil, is the queue's; before is done before the call, and after it what that returns.
	config *queuepb.QueueConfig
	before func(*client) (after func())
	// call is the request, besides its queue. Without one there is no call, but a pipe of an earlier run.
	call *queuepb.CallRequest
	// alone: there is no other reader than the caller.
	alone bool
	cause func(*client, waiter)
}

// TestPromise1EveryEndHasItsReason brings about every end of a pipe in every way there is, on either face, and looks at
// what is seen of it: by the caller, by a reader beside it, and by one who comes later.
func TestPromise1EveryEndHasItsReason(t *testing.T) {
	covered := make(map[queuepb.EndReason]bool)
	for name, test := range endings() {
		covered[test.want] = true
		for face, wait := range faces {
			t.Run(name+"/"+face, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newClient(t, testbed.InMemory())
					receive, waiters := test.bringAbout(c, wait)
					// One who comes when all is over sees the same.
					test.check(t, append(waiters, wait(t, c, nil, &queuepb.ReceiveRequest{Handle: receive})))
				})
			})
		}
	}
	for number, name := range queuepb.EndReason_name {
		if number != 0 && !covered[queuepb.EndReason(number)] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// bringAbout makes the call, and what ends it. It returns the pipe's receive handle, and those who were waiting.
func (e ending) bringAbout(c *client, wait waiting) (receive *queuepb.Handle, waiters []waiter) {
	t := c.t
	t.Helper()
	if e.call == nil {
		return c.mintOf(handles.Receive, c.bed.Broker.Store()+1, 1, 1), nil
	}
	if e.config != nil {
		c.createQueue("work", e.config)
	}
	after := func() {}
	if e.before != nil {
		after = e.before(c)
	}
	e.call.Queue = "work"
	w := wait(t, c, e.call, nil)
	receive = w.receipt.ReceiveHandle
	if !e.alone {
		waiters = append(waiters, w, wait(t, c, nil, &queuepb.ReceiveRequest{Handle: receive}))
	}
	after()
	if e.cause != nil {
		e.cause(c, w)
	}
	return receive, waiters
}

// mintOf makes a genuine handle of the first tenant.
func (c *client) mintOf(kind handles.Kind, store, slot uint32, nonce uint64) *queuepb.Handle {
	h := c.bed.Keys.Mint(handles.Claims{
		Kind: kind, Tenant: 1, Store: store, Slot: slot, Nonce: nonce, Expires: time.Now().Add(time.Hour).Unix(),
	})
	return &queuepb.Handle{Token: h.Text()}
}

// check compares what waiters see.
func (e ending) check(t *testing.T, waiters []waiter) {
	t.Helper()
	var first *queuepb.End
	for _, w := range waiters {
		got := w.end()
		if got.GetReason() != e.want {
			t.Fatalf("end = %v, want %v", got.End, e.want)
		}
		of := got.GetError()
		if got := (refusal{codes.Code(of.GetCode()), of.GetReason(), of.GetField()}); got != e.status {
			t.Errorf("error of the end = %v, want %v", got, e.status)
		}
		if e.status.Code != codes.OK && of.GetMessage() == "" {
			t.Error("the end has no sentence")
		}
		if got.LastSequence != uint64(len(e.replies)) {
			t.Errorf("last_sequence = %d, want %d", got.LastSequence, len(e.replies))
		}
		if diff := cmp.Diff(e.replies, got.replies); diff != "" {
			t.Errorf("replies (-want +got):\n%s", diff)
		}
		if got.status != nil && *got.status != e.status {
			t.Errorf("status = %v, want %v", *got.status, e.status)
		}
		if first == nil {
			first = got.End
		}
		if diff := cmp.Diff(first, got.End, protocmp.Transform()); diff != "" {
			t.Errorf("another waiter sees another end (-first +this):\n%s", diff)
		}
	}
}

// endings are all ways in which a pipe can end, by name.
func endings() map[string]ending {
	var (
		anyCall = func() *queuepb.CallRequest { return &queuepb.CallRequest{} }
		later   = func(seconds time.Duration) func(*client, waiter) {
			return func(*client, waiter) { <-time.After(seconds * time.Second) }
		}
		aborted = func(reason string) refusal { return refusal{codes.Aborted, reason, ""} }
	)
	return map[string]ending{
		"OK by the last reply": {
			want: queuepb.EndReason_END_REASON_OK, call: anyCall(), replies: []string{"one", "two"},
			cause: func(c *client, _ waiter) {
				d := c.taken()
				c.reply(d, &queuepb.ReplyRequest{Body: payload("one"), More: true})
				c.reply(d, &queuepb.ReplyRequest{Body: payload("two")})
			},
		},
		"OK by an ack after a reply": {
			want: queuepb.EndReason_END_REASON_OK, call: anyCall(), replies: []string{"one"},
			cause: func(c *client, _ waiter) {
				d := c.taken()
				c.reply(d, &queuepb.ReplyRequest{Body: payload("one"), More: true})
				must[*queuepb.SettleResponse](c.t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: d.Lease}))
			},
		},
		"FAILED by the replier": {
			want: queuepb.EndReason_END_REASON_FAILED, call: anyCall(), replies: []string{"half"},
			status: refusal{codes.NotFound, "NO_SUCH_ROW", ""},
			cause: func(c *client, _ waiter) {
				d := c.taken()
				c.reply(d, &queuepb.ReplyRequest{Body: payload("half"), More: true})
				c.reply(d, &queuepb.ReplyRequest{Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{
					Code: int32(codes.NotFound), Reason: "NO_SUCH_ROW", Message: "no row 7",
				}}})
			},
		},
		"EXPIRED by the pipe's deadline": {
			want: queuepb.EndReason_END_REASON_EXPIRED, status: refusal{codes.DeadlineExceeded, "EXPIRED", ""},
			call: &queuepb.CallRequest{Pipe: &queuepb.PipeOptions{Timeout: seconds(5)}}, cause: later(5),
		},
		"EXPIRED with the last carrier": {
			want: queuepb.EndReason_END_REASON_EXPIRED, status: refusal{codes.DeadlineExceeded, "EXPIRED", ""},
			call:  &queuepb.CallRequest{Pipe: &queuepb.PipeOptions{Timeout: seconds(3600)}, Expiry: seconds(5)},
			cause: later(5),
		},
		"CANCELLED by a holder of the receive handle": {
			want: queuepb.EndReason_END_REASON_CANCELLED, status: refusal{codes.Canceled, "CANCELLED", ""}, call: anyCall(),
			cause: func(c *client, w waiter) {
				must[*queuepb.CancelResponse](c.t)(c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: w.receipt.ReceiveHandle}))
			},
		},
		"CANCELLED because it was abandoned": {
			want: queuepb.EndReason_END_REASON_CANCELLED, status: refusal{codes.Canceled, "CANCELLED", ""}, alone: true,
			call:  &queuepb.CallRequest{Pipe: &queuepb.PipeOptions{DisconnectGrace: seconds(2)}},
			cause: func(_ *client, w waiter) { w.leave(); <-time.After(3 * time.Second) },
		},
		"NO_CONSUMER when the last one leaves": {
			want: queuepb.EndReason_END_REASON_NO_CONSUMER, status: refusal{codes.Unavailable, "NO_CONSUMER", ""},
			call: &queuepb.CallRequest{RequireConsumer: true, Delay: seconds(5)},
			before: func(c *client) func() {
				one := *c
				ctx, cancel := context.WithCancel(c.ctx)
				one.ctx = ctx
				one.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
				return func() { cancel(); synctest.Wait() }
			},
		},
		"REJECTED by a consumer": {
			want: queuepb.EndReason_END_REASON_REJECTED, status: refusal{codes.FailedPrecondition, "REJECTED", ""},
			call: anyCall(), cause: settled(queuepb.SettleAction_SETTLE_ACTION_REJECT, 1),
		},
		"DEAD_LETTERED after its attempts": {
			want: queuepb.EndReason_END_REASON_DEAD_LETTERED, status: refusal{codes.FailedPrecondition, "DEAD_LETTERED", ""},
			call: anyCall(), cause: settled(queuepb.SettleAction_SETTLE_ACTION_RETRY, 20),
		},
		"PURGED with its queue": {
			want: queuepb.EndReason_END_REASON_PURGED, status: aborted("PURGED"), call: anyCall(),
			cause: func(c *client, _ waiter) {
				res := must[*queuepb.PurgeQueueResponse](c.t)(c.admin().PurgeQueue(c.ctx, &queuepb.PurgeQueueRequest{Name: "work"}))
				if res.PurgedMessages != 1 {
					c.t.Errorf("PurgeQueue() = %v, want 1", res)
				}
			},
		},
		"PURGED by DeleteMessages": {
			want: queuepb.EndReason_END_REASON_PURGED, status: aborted("PURGED"), call: anyCall(),
			cause: func(c *client, w waiter) { c.deleteMessage(w) },
		},
		"PURGED by DeleteMessages while in flight": {
			want: queuepb.EndReason_END_REASON_PURGED, status: aborted("PURGED"), call: anyCall(),
			cause: func(c *client, w waiter) { c.taken(); c.deleteMessage(w) },
		},
		"QUEUE_DELETED with its queue": {
			want: queuepb.EndReason_END_REASON_QUEUE_DELETED, status: aborted("QUEUE_DELETED"), call: anyCall(),
			cause: func(c *client, _ waiter) {
				req := &queuepb.DeleteQueueRequest{Name: "work", Force: true}
				res := must[*queuepb.DeleteQueueResponse](c.t)(c.admin().DeleteQueue(c.ctx, req))
				if res.DeletedMessages != 1 {
					c.t.Errorf("DeleteQueue() = %v, want 1", res)
				}
			},
		},
		"DROPPED from a full queue": {
			want: queuepb.EndReason_END_REASON_DROPPED, status: aborted("DROPPED"), call: anyCall(),
			config: &queuepb.QueueConfig{MaxLength: 1, Overflow: queuepb.Overflow_OVERFLOW_DROP_OLDEST},
			cause: func(c *client, _ waiter) {
				must[*queuepb.EnqueueResponse](c.t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}))
			},
		},
		"BROKEN by an ack without a reply": {
			want: queuepb.EndReason_END_REASON_BROKEN, status: aborted("BROKEN"), call: anyCall(),
			cause: settled(queuepb.SettleAction_SETTLE_ACTION_ACK, 1),
		},
		"REVOKED by an administrator": {
			want: queuepb.EndReason_END_REASON_REVOKED, status: refusal{codes.FailedPrecondition, "REVOKED", ""}, call: anyCall(),
			cause: func(c *client, w waiter) {
				req := &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: w.receipt.ReceiveHandle}}
				must[*queuepb.EndPipeResponse](c.t)(c.admin().EndPipe(c.ctx, req))
			},
		},
		"SHUTTING_DOWN with the server": {
			want: queuepb.EndReason_END_REASON_SHUTTING_DOWN, status: refusal{codes.Unavailable, "SHUTTING_DOWN", ""},
			call: anyCall(), cause: func(c *client, _ waiter) { c.bed.Broker.Shutdown() },
		},
		"LOST with an earlier run": {want: queuepb.EndReason_END_REASON_LOST, status: aborted("LOST")},
	}
}

// taken takes the call's message.
func (c *client) taken() *queuepb.Delivery {
	c.t.Helper()
	return c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}}))
}

// settled takes the call's message and settles it, n times.
func settled(action queuepb.SettleAction, n int) func(*client, waiter) {
	return func(c *client, _ waiter) {
		consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
		for range n {
			req := &queuepb.SettleRequest{Lease: c.delivery(consumer).Lease, Action: action}
			must[*queuepb.SettleResponse](c.t)(c.Settle(c.ctx, req))
		}
	}
}

func payload(s string) *queuepb.ReplyRequest_Payload {
	return &queuepb.ReplyRequest_Payload{Payload: []byte(s)}
}

// reply answers a delivery.
func (c *client) reply(d *queuepb.Delivery, r *queuepb.ReplyRequest) {
	c.t.Helper()
	r.Handle, r.Lease = d.Message.ReplyTo, d.Lease
	must[*queuepb.ReplyResponse](c.t)(c.Reply(c.ctx, r))
}

// deleteMessage removes the message of a call.
func (c *client) deleteMessage(w waiter) {
	c.t.Helper()
	req := &queuepb.DeleteMessagesRequest{Queue: "work", MessageIds: []string{w.receipt.MessageId}}
	res := must[*queuepb.DeleteMessagesResponse](c.t)(c.admin().DeleteMessages(c.ctx, req))
	if res.DeletedMessages != 1 {
		c.t.Errorf("DeleteMessages() = %v, want 1", res)
	}
}

// TestNoConsumerRefuses: a message that requires a consumer is refused on both faces where nobody consumes, and neither
// it nor a pipe is stored.
func TestNoConsumerRefuses(t *testing.T) {
	c := newClient(t)
	c.createQueue("work", nil)
	want := refusal{codes.Unavailable, "NO_CONSUMER", "require_consumer"}
	s := c.openSession(&queuepb.Hello{})
	enqueue := &queuepb.EnqueueRequest{Queue: "work", RequireConsumer: true, Pipe: &queuepb.PipeOptions{}}
	call := &queuepb.CallRequest{Queue: "work", RequireConsumer: true}
	s.do(operationOf(1, enqueue), operationOf(2, call))
	for id := range uint64(2) {
		r := s.next(id + 1)
		e := r.GetError()
		if got := (refusal{codes.Code(e.GetCode()), e.GetReason(), e.GetField()}); got != want || !r.Done {
			t.Errorf("session: operation %d: got %v, want %v", id+1, r, want)
		}
		if e.GetOutcome() != queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED {
			t.Errorf("session: operation %d: outcome %v, want NOT_APPLIED", id+1, e.GetOutcome())
		}
	}
	stream, err := c.Call(c.ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if got := refusalOf(t, err, stream.Trailer()); got != want {
		t.Errorf("plain: got %v, want %v", got, want)
	}
	q := must[*queuepb.GetQueueResponse](t)(c.admin().GetQueue(c.ctx, &queuepb.GetQueueRequest{Name: "work"})).Queue.Statistics
	if q.Ready != 0 || q.Waiters != 0 || q.EnqueuedTotal != 0 {
		t.Errorf("GetQueue() = %v, want that nothing was stored", q)
	}
}
