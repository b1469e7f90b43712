package server_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
)

// waits are what a pipe can wait for: how each state comes about, by a pipe's handles, and what Describe says of it.
var waits = map[queuepb.WaitState]struct { //nolint:gochecknoglobals // a table
	bring   func(c *client, p *queuepb.OpenPipeResponse)
	summary string
	want    *queuepb.CarrierInfo // of the only carrier: what of it is the same in each run
}{
	queuepb.WaitState_WAIT_STATE_OUTSIDE: {
		bring: func(*client, *queuepb.OpenPipeResponse) {}, summary: "somebody outside may",
	},
	queuepb.WaitState_WAIT_STATE_NO_CONSUMER: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			must[*queuepb.EnqueueResponse](c.t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "secret"}))
			c.carry(p, &queuepb.EnqueueRequest{})
		},
		summary: "nobody consumes the queue",
		want:    &queuepb.CarrierInfo{Queue: "secret", State: queuepb.MessageState_MESSAGE_STATE_READY, Position: 1},
	},
	queuepb.WaitState_WAIT_STATE_QUEUED: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			busy := c.consume(&queuepb.ConsumeRequest{Queues: []string{"secret"}})
			for range 3 {
				must[*queuepb.EnqueueResponse](c.t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "secret"}))
			}
			c.delivery(busy)
			c.carry(p, &queuepb.EnqueueRequest{})
		},
		summary: "behind 2 others; its 1 consumers are busy",
		want:    &queuepb.CarrierInfo{Queue: "secret", State: queuepb.MessageState_MESSAGE_STATE_READY, Position: 2, Consumers: 1},
	},
	queuepb.WaitState_WAIT_STATE_DELAYED: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			c.carry(p, &queuepb.EnqueueRequest{Delay: seconds(1000)})
		},
		summary: "held back",
		want:    &queuepb.CarrierInfo{Queue: "secret", State: queuepb.MessageState_MESSAGE_STATE_DELAYED},
	},
	queuepb.WaitState_WAIT_STATE_PAUSED: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			c.createQueue("secret", &queuepb.QueueConfig{Paused: true})
			c.consume(&queuepb.ConsumeRequest{Queues: []string{"secret"}})
			c.carry(p, &queuepb.EnqueueRequest{})
		},
		summary: "paused",
		want:    &queuepb.CarrierInfo{Queue: "secret", State: queuepb.MessageState_MESSAGE_STATE_READY, Consumers: 1},
	},
	queuepb.WaitState_WAIT_STATE_IN_FLIGHT: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			c.carry(p, &queuepb.EnqueueRequest{})
			consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"secret"}})
			must[*queuepb.SettleResponse](c.t)(c.Settle(c.ctx, &queuepb.SettleRequest{
				Lease: c.delivery(consumer).Lease, Action: queuepb.SettleAction_SETTLE_ACTION_RETRY}))
			c.delivery(consumer)
		},
		summary: "attempt 2",
		want: &queuepb.CarrierInfo{
			Queue: "secret", State: queuepb.MessageState_MESSAGE_STATE_IN_FLIGHT, Consumers: 1, Attempts: 2, Failures: 1},
	},
	queuepb.WaitState_WAIT_STATE_IN_REPLY: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			other := must[*queuepb.OpenPipeResponse](c.t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
			must[*queuepb.ReplyResponse](c.t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
				Handle: other.SendHandle, Body: payload("later"), Handles: map[string]*queuepb.Handle{"to": p.SendHandle}}))
		},
		summary: "in a reply that nobody has read",
		want:    &queuepb.CarrierInfo{},
	},
	queuepb.WaitState_WAIT_STATE_SPLICED: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			inner := must[*queuepb.EnqueueResponse](c.t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{
				Queue: "secret", Pipe: &queuepb.PipeOptions{}})).Receipt
			must[*queuepb.ReplyResponse](c.t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
				Handle: p.SendHandle, Body: &queuepb.ReplyRequest_Splice{Splice: inner.ReceiveHandle}}))
		},
		summary: "another pipe: the message waits, and nobody consumes",
	},
	queuepb.WaitState_WAIT_STATE_ENDED: {
		bring: func(c *client, p *queuepb.OpenPipeResponse) {
			must[*queuepb.ReplyResponse](c.t)(c.Reply(c.ctx, &queuepb.ReplyRequest{Handle: p.SendHandle}))
		},
		summary: "ended, with OK",
	},
}

// carry puts a pipe's send handle into a message of queue "secret".
func (c *client) carry(p *queuepb.OpenPipeResponse, req *queuepb.EnqueueRequest) {
	c.t.Helper()
	req.Queue, req.Message = "secret", &queuepb.Message{ReplyTo: p.SendHandle}
	must[*queuepb.EnqueueResponse](c.t)(c.Enqueue(c.ctx, req))
}

// TestDescribeSaysWhyOneWaits: on both faces, for every state. Whoever holds only the send handle sees less.
func TestDescribeSaysWhyOneWaits(t *testing.T) {
	for number, name := range queuepb.WaitState_name {
		state := queuepb.WaitState(number)
		wait, ok := waits[state]
		if !ok {
			if number != 0 {
				t.Errorf("%s is not in the table", name)
			}
			continue
		}
		t.Run(strings.TrimPrefix(name, "WAIT_STATE_"), func(t *testing.T) {
			c := newClient(t)
			p := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
			wait.bring(c, p)
			full := c.describeBoth(p.ReceiveHandle)
			if full.State != state || !strings.Contains(full.Summary, wait.summary) || full.NextSequence != 1 || full.Deadline == nil {
				t.Errorf("Describe(receive) = %v, want %s, %q and the next sequence", full, name, wait.summary)
			}
			if (state == queuepb.WaitState_WAIT_STATE_ENDED) != (full.End != nil) {
				t.Errorf("Describe(receive) = %v: an end is shown of a pipe that has ended", full)
			}
			var want, less []*queuepb.CarrierInfo
			if wait.want != nil {
				outline := proto.CloneOf(wait.want)
				outline.Queue, outline.Position = "", 0
				want, less = []*queuepb.CarrierInfo{wait.want}, []*queuepb.CarrierInfo{outline}
			}
			changing := protocmp.IgnoreFields(&queuepb.CarrierInfo{}, "message_id", "until")
			if diff := cmp.Diff(want, full.Carriers, protocmp.Transform(), changing); diff != "" {
				t.Errorf("carriers (-want +got):\n%s", diff)
			}
			outline := c.describeBoth(p.SendHandle)
			if diff := cmp.Diff(less, outline.Carriers, protocmp.Transform(), changing); diff != "" {
				t.Errorf("carriers for the send handle (-want +got):\n%s", diff)
			}
			if outline.State != state || outline.NextSequence != 0 || outline.Summary == "" || strings.Contains(outline.Summary, "secret") ||
				strings.Contains(outline.Summary, "behind") {
				t.Errorf("Describe(send) = %v, want %s, and neither queue, position nor sequence", outline, name)
			}
			for _, carrier := range outline.Carriers {
				if carrier.MessageId != "" {
					t.Errorf("Describe(send) shows message %s", carrier.MessageId)
				}
			}
		})
	}
}

// describeBoth describes on both faces, which must agree.
func (c *client) describeBoth(h *queuepb.Handle) *queuepb.DescribeResponse {
	c.t.Helper()
	req := &queuepb.DescribeRequest{Handle: h}
	plain := must[*queuepb.DescribeResponse](c.t)(c.Describe(c.ctx, req))
	s := c.openSession(&queuepb.Hello{}, operationOf(1, req))
	if diff := cmp.Diff(plain, s.next(1).GetDescribe(), protocmp.Transform()); diff != "" {
		c.t.Errorf("the faces differ (-plain +session):\n%s", diff)
	}
	return plain
}

// TestDescribeLease: whoever has a delivery sees its message whole, and of its pipe what a replier may see.
func TestDescribeLease(t *testing.T) {
	c := newClient(t)
	stream, err := c.Call(c.ctx, &queuepb.CallRequest{Queue: "work"})
	if err != nil {
		t.Fatal(err)
	}
	receipt := must[*queuepb.CallResponse](t)(stream.Recv()).GetReceipt()
	d := c.taken()
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{
		Queue: "elsewhere", Message: &queuepb.Message{ReplyTo: d.Message.ReplyTo}}))
	got := c.describeBoth(d.Lease)
	if got.State != queuepb.WaitState_WAIT_STATE_IN_FLIGHT || len(got.Carriers) != 2 || got.NextSequence != 0 {
		t.Fatalf("Describe(lease) = %v, want IN_FLIGHT and two carriers", got)
	}
	for _, carrier := range got.Carriers {
		own := carrier.State == queuepb.MessageState_MESSAGE_STATE_IN_FLIGHT
		if own != (carrier.MessageId == receipt.MessageId) || own != (carrier.Queue == "work") || own != (carrier.Until != nil) {
			t.Errorf("carrier %v: its own is shown whole, others in outline", carrier)
		}
	}
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "lonely"}))
	lonely := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"lonely"}}))
	got = c.describeBoth(lonely.Lease)
	if got.State != queuepb.WaitState_WAIT_STATE_IN_FLIGHT || len(got.Carriers) != 1 || got.Carriers[0].Queue != "lonely" || got.Deadline != nil {
		t.Errorf("Describe(lease) = %v, want the message alone", got)
	}
}

// TestDescribeGroup: a message that waits for its group is not said to wait for a consumer.
func TestDescribeGroup(t *testing.T) {
	c := newClient(t)
	c.createQueue("work", &queuepb.QueueConfig{GroupConcurrency: 1})
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, MaxInFlight: 10})
	enqueue := func() *queuepb.Handle {
		return must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{
			Queue: "work", Group: "g", Pipe: &queuepb.PipeOptions{}})).Receipt.ReceiveHandle
	}
	enqueue()
	second := enqueue()
	d := c.delivery(consumer)
	if got := c.describeBoth(second); got.State != queuepb.WaitState_WAIT_STATE_QUEUED || !strings.Contains(got.Summary, "for its group: it has 1 in flight") {
		t.Errorf("Describe() = %v, want that its group is at its limit", got)
	}
	must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
		Lease: d.Lease, Action: queuepb.SettleAction_SETTLE_ACTION_RETRY, Delay: seconds(1000)}))
	if got := c.describeBoth(second); got.State != queuepb.WaitState_WAIT_STATE_QUEUED || !strings.Contains(got.Summary, "held back") {
		t.Errorf("Describe() = %v, want that a failed message of its group is held back", got)
	}
}
