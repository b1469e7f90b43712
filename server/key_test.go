package server_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
)

// TestPromise3OneEffectForOneKey: what is compared, and what is not, the same on both faces.
func TestPromise3OneEffectForOneKey(t *testing.T) {
	c := newClient(t)
	open := must[*queuepb.OpenPipeResponse](t)
	one, two := open(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{})), open(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	handles := func(names ...string) map[string]*queuepb.Handle {
		m := make(map[string]*queuepb.Handle)
		for _, name := range names {
			m[name] = one.SendHandle
		}
		return m
	}
	request := func(change func(r *queuepb.EnqueueRequest)) *queuepb.EnqueueRequest {
		r := &queuepb.EnqueueRequest{Queue: "work", IdempotencyKey: "k", Message: &queuepb.Message{
			Payload: []byte("x"), ContentType: "text/plain", ReplyTo: one.SendHandle, Handles: handles("a", "b", "c", "d"),
		}}
		change(r)
		return r
	}
	first := must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, request(func(*queuepb.EnqueueRequest) {}))).Receipt
	if first.Duplicate {
		t.Error("first: duplicate is set")
	}
	reused := refusal{codes.AlreadyExists, "IDEMPOTENCY_KEY_REUSED", "idempotency_key"}
	s := c.openSession(&queuepb.Hello{})
	for i, test := range []struct {
		name   string
		change func(r *queuepb.EnqueueRequest)
		want   refusal
	}{
		{"the same", func(*queuepb.EnqueueRequest) {}, refusal{}},
		{"other options", func(r *queuepb.EnqueueRequest) { r.Delay, r.RequireConsumer = seconds(5), true }, refusal{}},
		{"other headers", func(r *queuepb.EnqueueRequest) { r.Message.Headers = map[string]string{"traceparent": "1"} }, refusal{}},
		{"payload", func(r *queuepb.EnqueueRequest) { r.Message.Payload = []byte("y") }, reused},
		{"content type", func(r *queuepb.EnqueueRequest) { r.Message.ContentType = "" }, reused},
		{"reply_to", func(r *queuepb.EnqueueRequest) { r.Message.ReplyTo = two.SendHandle }, reused},
		{"no reply_to", func(r *queuepb.EnqueueRequest) { r.Message.ReplyTo = nil }, reused},
		{"handle names", func(r *queuepb.EnqueueRequest) { r.Message.Handles = handles("a", "b", "c", "e") }, reused},
		{"handle", func(r *queuepb.EnqueueRequest) { r.Message.Handles["a"] = two.SendHandle }, reused},
		{"a pipe", func(r *queuepb.EnqueueRequest) { r.Message.ReplyTo, r.Pipe = nil, &queuepb.PipeOptions{} }, reused},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := request(test.change)
			var trailer metadata.MD
			res, err := c.Enqueue(c.ctx, req, grpc.Trailer(&trailer))
			if err != nil {
				if got := refusalOf(t, err, trailer); got != test.want {
					t.Errorf("plain: got %v, want %v", got, test.want)
				}
			} else if r := res.Receipt; !r.Duplicate || r.MessageId != first.MessageId || test.want != (refusal{}) {
				t.Errorf("plain: got %v, want %v", r, test.want)
			}
			s.do(operationOf(uint64(i+1), req))
			result := s.next(uint64(i + 1))
			if e := result.GetError(); e != nil {
				if got := (refusal{codes.Code(e.Code), e.Reason, e.Field}); got != test.want {
					t.Errorf("session: got %v, want %v", got, test.want)
				}
			} else if r := result.GetEnqueue().GetReceipt(); !r.GetDuplicate() || r.MessageId != first.MessageId || test.want != (refusal{}) {
				t.Errorf("session: got %v, want %v", r, test.want)
			}
		})
	}
}

// TestIdempotencyKeyInBatch: the items of a batch have keys of their own.
func TestIdempotencyKeyInBatch(t *testing.T) {
	c := newClient(t)
	item := func(key, payload string) *queuepb.EnqueueRequest {
		return &queuepb.EnqueueRequest{Queue: "work", IdempotencyKey: key, Message: text(payload), Pipe: &queuepb.PipeOptions{}}
	}
	res := must[*queuepb.EnqueueBatchResponse](t)(c.EnqueueBatch(c.ctx, &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{
		item("a", "1"), item("b", "2"), item("a", "1"), item("b", "3"),
	}}))
	first, again := res.Results[0].GetReceipt(), res.Results[2].GetReceipt()
	if !again.GetDuplicate() || again.MessageId != first.GetMessageId() || again.ReceiveHandle.GetToken() != first.ReceiveHandle.GetToken() {
		t.Errorf("same key: got %v, want %v as duplicate", again, first)
	}
	if e := res.Results[3].GetError(); e.GetReason() != "IDEMPOTENCY_KEY_REUSED" || e.Field != "items[3].idempotency_key" {
		t.Errorf("other payload: got %v, want IDEMPOTENCY_KEY_REUSED", res.Results[3])
	}
}

// TestCallAgain: a call that is repeated with its key has its replies from the start, or from where it asks.
func TestCallAgain(t *testing.T) {
	c := newClient(t)
	call := func(from uint64) (payloads []string) {
		stream, err := c.Call(c.ctx, &queuepb.CallRequest{Queue: "work", Message: text("x"), IdempotencyKey: "k", FromSequence: from})
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case e.GetReply() != nil:
				payloads = append(payloads, string(e.GetReply().Payload))
			case e.GetEnd() != nil:
				return payloads
			}
		}
	}
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
	done := make(chan []string)
	go func() { done <- call(0) }()
	d := c.delivery(consumer)
	for i, more := range []bool{true, true, false} {
		must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
			Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{Payload: []byte{'a' + byte(i)}},
			Lease: d.Lease, More: more, Ack: !more,
		}))
	}
	if got := <-done; len(got) != 3 {
		t.Errorf("first call: got %q, want three replies", got)
	}
	if got := call(0); len(got) != 3 || got[0] != "a" {
		t.Errorf("again: got %q, want three replies", got)
	}
	if got := call(3); len(got) != 1 || got[0] != "c" {
		t.Errorf("again from 3: got %q, want the third reply", got)
	}
}
