package server_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// TestSettleTakesHandlesThatAreGone: a Settle is not refused for a handle that may have come with the delivery, whatever
// became of its pipe, and nobody learns from it whether another tenant's pipe is there: both count as ended.
func TestSettleTakesHandlesThatAreGone(t *testing.T) {
	c := newClient(t)
	far := time.Now().Add(time.Hour).Unix()
	mint := func(kind handles.Kind, tenant, store uint32) *queuepb.Handle {
		return &queuepb.Handle{Token: c.bed.Keys.Mint(handles.Claims{
			Kind: kind, Tenant: tenant, Store: store, Slot: 4711, Nonce: 1, Expires: far,
		}).Text()}
	}
	store := c.bed.Broker.Store()
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, MaxInFlight: 10})
	forwarded := c.consume(&queuepb.ConsumeRequest{Queues: []string{"next"}, MaxInFlight: 10})
	for name, at := range map[string]struct{ tenant, store uint32 }{
		"forgotten":           {1, store},
		"another tenant's":    {9, store},
		"of an earlier run":   {1, store + 1},
		"another's, long ago": {9, store + 1},
	} {
		t.Run(name, func(t *testing.T) {
			send, receive := mint(handles.Send, at.tenant, at.store), mint(handles.Receive, at.tenant, at.store)
			pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
			must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}))
			must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
				Lease:   c.delivery(consumer).Lease,
				Replies: []*queuepb.ReplyRequest{{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Splice{Splice: receive}}},
				Messages: []*queuepb.EnqueueRequest{{Queue: "next", Message: &queuepb.Message{
					ReplyTo: send, Handles: map[string]*queuepb.Handle{"future": receive},
				}}},
			}))
			d := c.delivery(forwarded)
			slices.Sort(d.EndedHandles)
			if want := []string{"future", "reply_to"}; !slices.Equal(d.EndedHandles, want) {
				t.Errorf("ended handles %v, want %v", d.EndedHandles, want)
			}
			if d.Message.ReplyTo.GetToken() != send.Token || d.Message.Handles["future"].GetToken() != receive.Token {
				t.Error("the handles have not come through as they were")
			}
			end := must[*queuepb.DescribeResponse](t)(c.Describe(c.ctx, &queuepb.DescribeRequest{Handle: pipe.ReceiveHandle})).End
			if e := end.GetError(); end.GetReason() != queuepb.EndReason_END_REASON_FAILED ||
				codes.Code(e.Code) != codes.NotFound || e.Reason != "HANDLE_UNKNOWN" {
				t.Errorf("the pipe that was to go on has ended %v, want FAILED with HANDLE_UNKNOWN", end)
			}
		})
	}
}
