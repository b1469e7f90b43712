package server_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

func (c *client) messages(req *queuepb.ListMessagesRequest) []*queuepb.MessageInfo {
	c.t.Helper()
	var all []*queuepb.MessageInfo
	for {
		res := must[*queuepb.ListMessagesResponse](c.t)(c.admin().ListMessages(c.ctx, req))
		all = append(all, res.Messages...)
		if req.PageToken = res.NextPageToken; req.PageToken == "" {
			return all
		}
	}
}

// TestListMessages: what a message shows, and that no token is among it, wherever it stood.
func TestListMessages(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	token := pipe.SendHandle.Token
	payload := "see " + token + " there" + strings.Repeat(".", 100)
	request := &queuepb.EnqueueRequest{
		Queue: "jobs", Priority: 3, Group: "g", Pipe: &queuepb.PipeOptions{},
		Message: &queuepb.Message{
			Payload: []byte(payload), ContentType: "text/plain", Headers: map[string]string{"also": token, "plain": "x"},
			Handles: map[string]*queuepb.Handle{"audit": pipe.SendHandle, "future": pipe.ReceiveHandle},
		},
	}
	receipt := must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, request)).Receipt
	d := c.delivery(c.consume(&queuepb.ConsumeRequest{Queues: []string{"jobs"}, ConsumerId: "me"}))
	must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
		Lease: d.Lease, Action: queuepb.SettleAction_SETTLE_ACTION_REJECT, Reason: "no good",
	}))
	all := c.messages(&queuepb.ListMessagesRequest{Queue: "jobs"})
	if len(all) != 1 {
		t.Fatalf("ListMessages() = %v, want one message", all)
	}
	m := all[0]
	if text := m.String(); strings.Contains(text, token[5:30]) || strings.Contains(text, pipe.ReceiveHandle.Token[5:30]) ||
		strings.Contains(text, d.Message.ReplyTo.Token[5:30]) {
		t.Errorf("a token is shown: %s", text)
	}
	printOf := func(h *queuepb.Handle) string { return must[handles.Handle](t)(handles.Parse(h.Token)).Fingerprint() }
	want := map[string]string{
		"audit": printOf(pipe.SendHandle), "future": printOf(pipe.ReceiveHandle), "reply_to": printOf(d.Message.ReplyTo),
	}
	for name, fingerprint := range want {
		if got := m.HandleFingerprints[name]; got != fingerprint {
			t.Errorf("fingerprint of %s = %q, want %q", name, got, fingerprint)
		}
	}
	if m.MessageId != receipt.MessageId || m.State != queuepb.MessageState_MESSAGE_STATE_DEAD || m.Priority != 3 || m.Group != "g" ||
		m.DeadReason != queuepb.EndReason_END_REASON_REJECTED || m.Attempts != 1 || m.Headers["plain"] != "x" ||
		m.ContentType != "text/plain" || m.EnqueuedAt == nil || m.Until == nil {
		t.Errorf("ListMessages() = %v", m)
	}
	if int(m.PayloadLength) != len(payload) || len(m.Payload) != len(payload) || !strings.HasPrefix(string(m.Payload), "see qh1s_#"+want["audit"]) {
		t.Errorf("payload = %d bytes of %d, %s, want the token masked", len(m.Payload), m.PayloadLength, m.Payload)
	}
	if len(m.History) != 1 || m.History[0].Message != "rejected: no good" || m.History[0].ConsumerId != "me" {
		t.Errorf("history = %v", m.History)
	}
	short := c.messages(&queuepb.ListMessagesRequest{Queue: "jobs", PayloadBytes: 20})[0]
	if string(short.Payload) != string(m.Payload[:20]) {
		t.Errorf("20 bytes of the payload = %q, want the token masked although it is cut", short.Payload)
	}
}

// TestListMessagesPages: pages end by number or by size, and together have every message once.
func TestListMessagesPages(t *testing.T) {
	c := newClient(t)
	const n = 150
	var want []string
	large := make([]byte, 64<<10)
	for range n {
		res := must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{
			Queue: "jobs", Message: &queuepb.Message{Payload: large},
		}))
		want = append(want, res.Receipt.MessageId)
	}
	for _, req := range []*queuepb.ListMessagesRequest{
		{Queue: "jobs"},
		{Queue: "jobs", PageSize: 7},
		{Queue: "jobs", PageSize: 1000, PayloadBytes: 64 << 10},
		{Queue: "jobs", State: queuepb.MessageState_MESSAGE_STATE_READY, PageSize: n},
	} {
		var got []string
		for _, m := range c.messages(req) {
			got = append(got, m.MessageId)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: got %d messages, want all %d in order", req, len(got), n)
		}
	}
	res := must[*queuepb.ListMessagesResponse](t)(c.admin().ListMessages(c.ctx, &queuepb.ListMessagesRequest{
		Queue: "jobs", PageSize: 1000, PayloadBytes: 64 << 10,
	}))
	if size := proto.Size(res); size > 4<<20 || res.NextPageToken == "" {
		t.Errorf("a page has %d bytes and the token %q, want less than a client takes, and a next page", size, res.NextPageToken)
	}
}

func TestDeleteAndRedriveMessages(t *testing.T) {
	c := newClient(t)
	stream := c.consume(&queuepb.ConsumeRequest{Queues: []string{"jobs"}})
	var ids []string
	for range 3 {
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "jobs"}))
		d := c.delivery(stream)
		ids = append(ids, d.MessageId)
		must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{
			Lease: d.Lease, Action: queuepb.SettleAction_SETTLE_ACTION_REJECT,
		}))
	}
	deleted := must[*queuepb.DeleteMessagesResponse](t)(c.admin().DeleteMessages(c.ctx, &queuepb.DeleteMessagesRequest{
		Queue: "jobs", MessageIds: ids[:1],
	}))
	if deleted.DeletedMessages != 1 {
		t.Errorf("DeleteMessages() = %v, want 1", deleted)
	}
	redriven := must[*queuepb.RedriveMessagesResponse](t)(c.admin().RedriveMessages(c.ctx, &queuepb.RedriveMessagesRequest{
		Queue: "jobs", MessageIds: ids,
	}))
	if redriven.RedrivenMessages != 2 {
		t.Errorf("RedriveMessages() = %v, want the 2 that are left", redriven)
	}
	for _, want := range ids[1:] {
		d := c.delivery(stream)
		if d.MessageId != want || d.Failures != 0 || d.Attempt != 2 {
			t.Errorf("got %v, want %s again", d, want)
		}
		must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: d.Lease}))
	}
}

// TestEndPipe: the waiters of both faces get REVOKED.
func TestEndPipe(t *testing.T) {
	c := newClient(t)
	stream := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(c.Call(c.ctx, &queuepb.CallRequest{Queue: "jobs"}))
	receipt := must[*queuepb.CallResponse](t)(stream.Recv()).GetReceipt()
	s := c.openSession(&queuepb.Hello{}, opCall(1, "jobs", "x"))
	other := s.next(1).GetCall().GetReceipt()
	end := func(req *queuepb.EndPipeRequest, now bool) {
		t.Helper()
		res := must[*queuepb.EndPipeResponse](t)(c.admin().EndPipe(c.ctx, req))
		if res.Ended != now || res.Reason != queuepb.EndReason_END_REASON_REVOKED {
			t.Errorf("EndPipe() = %v, want ended %v", res, now)
		}
	}
	byMessage := &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_MessageId{MessageId: receipt.MessageId}, Message: "enough"}
	byHandle := &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: other.ReceiveHandle}}
	end(byMessage, true)
	end(byHandle, true)
	end(byHandle, false)
	if e := must[*queuepb.CallResponse](t)(stream.Recv()).GetEnd(); e.GetReason() != queuepb.EndReason_END_REASON_REVOKED ||
		e.GetError().GetMessage() != "enough" {
		t.Errorf("plain: got %v, want REVOKED and why", e)
	}
	_, err := stream.Recv()
	if got, want := refusalOf(t, err, stream.Trailer()), (refusal{codes.FailedPrecondition, "REVOKED", ""}); got != want {
		t.Errorf("plain: status %v, want %v", got, want)
	}
	if e := s.next(1).GetCall().GetEnd(); e.GetReason() != queuepb.EndReason_END_REASON_REVOKED {
		t.Errorf("session: got %v, want REVOKED", e)
	}
}
