package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
)

// TestP14RepliersLearnTheTruth: on both faces, a reply is answered with what became of it, and whatever became of its
// pipe, that is no error and its ack is done.
func TestP14RepliersLearnTheTruth(t *testing.T) {
	for name, test := range endings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, testbed.InMemory())
				receive, _ := test.bringAbout(c, waitPlain)
				h, err := handles.Parse(receive.Token)
				if err != nil {
					t.Fatal(err)
				}
				c.learns(c.mintOf(handles.Send, h.Store(), h.Slot(), h.Nonce()), &queuepb.ReplyResult{
					Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED, EndReason: test.want,
				})
			})
		})
	}
	t.Run("DELIVERED and BUFFERED", func(t *testing.T) {
		c := newClient(t)
		pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
		more := func(outcome queuepb.ReplyOutcome, first uint64) {
			t.Helper()
			for i, send := range c.repliers() {
				req := &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: payload("x"), More: true}
				want := &queuepb.ReplyResult{Outcome: outcome, Sequence: first + uint64(i)}
				if diff := cmp.Diff(want, send(req), protocmp.Transform()); diff != "" {
					t.Errorf("replier %d (-want +got):\n%s", i, diff)
				}
			}
		}
		more(queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED, 1)
		w := waitInSession(t, c, nil, &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle})
		more(queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED, 3)
		w.leave()
		c.awaitReaders(pipe.ReceiveHandle, 0)
		more(queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED, 5)
	})
	t.Run("UNKNOWN", func(t *testing.T) {
		c := newClient(t)
		unknown := &queuepb.ReplyResult{Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_UNKNOWN}
		c.learns(c.mintOf(handles.Send, c.bed.Broker.Store(), 4711, 42), unknown)
		c.learns(c.mint(t, 77, time.Now().Unix()+1000), unknown) // another tenant's looks the same
	})
}

// learns replies on either face, first by the handle alone, then with the ack of a delivery, and checks the outcome and
// that the delivery is settled.
func (c *client) learns(send *queuepb.Handle, want *queuepb.ReplyResult) {
	c.t.Helper()
	running := want.EndReason != queuepb.EndReason_END_REASON_SHUTTING_DOWN // else it takes nothing new
	for i, reply := range c.repliers() {
		check := func(how string, got *queuepb.ReplyResult) {
			c.t.Helper()
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				c.t.Errorf("replier %d, %s (-want +got):\n%s", i, how, diff)
			}
		}
		check("alone", reply(&queuepb.ReplyRequest{Handle: send, Body: payload("x")}))
		if !running {
			continue
		}
		must[*queuepb.EnqueueResponse](c.t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "others"}))
		d := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"others"}, MaxDeliveries: 1}))
		check("with an ack", reply(&queuepb.ReplyRequest{Handle: send, Body: payload("x"), Lease: d.Lease, Ack: true}))
		if res, err := c.Settle(c.ctx, &queuepb.SettleRequest{Lease: d.Lease}); err != nil || !res.Already {
			c.t.Errorf("replier %d: Settle() after the ack = %v, %v, want already", i, res, err)
		}
	}
}

// repliers are the ways to reply: by plain RPC and in a session.
func (c *client) repliers() []func(*queuepb.ReplyRequest) *queuepb.ReplyResult {
	c.t.Helper()
	s := c.openSession(&queuepb.Hello{})
	id := uint64(0)
	return []func(*queuepb.ReplyRequest) *queuepb.ReplyResult{
		func(r *queuepb.ReplyRequest) *queuepb.ReplyResult {
			c.t.Helper()
			return must[*queuepb.ReplyResponse](c.t)(c.Reply(c.ctx, r)).Result
		},
		func(r *queuepb.ReplyRequest) *queuepb.ReplyResult {
			id++
			s.do(operationOf(id, r))
			return s.next(id).GetReply().GetResult()
		},
	}
}

// awaitReaders waits until a pipe has so many readers.
func (c *client) awaitReaders(receive *queuepb.Handle, n uint32) {
	c.t.Helper()
	for {
		d := must[*queuepb.DescribeResponse](c.t)(c.Describe(c.ctx, &queuepb.DescribeRequest{Handle: receive}))
		if d.Readers == n {
			return
		}
	}
}
