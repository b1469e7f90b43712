package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// busy is a refusal that asks for patience.
func busy(reason Reason) *queuepb.Error {
	return &queuepb.Error{
		Code: int32(codes.ResourceExhausted), Reason: string(reason), RetryAfter: durationpb.New(time.Second), Message: "not now"}
}

// batchResult answers a batch with a receipt for each empty text, and an error with the reason otherwise.
func batchResult(op *queuepb.Operation, results ...*queuepb.Error) *queuepb.Result {
	response := &queuepb.EnqueueBatchResponse{}
	for i, refusal := range results {
		item := &queuepb.EnqueueBatchResult{Result: &queuepb.EnqueueBatchResult_Error{Error: refusal}}
		if refusal == nil {
			item.Result = &queuepb.EnqueueBatchResult_Receipt{Receipt: &queuepb.Receipt{
				MessageId: "m-" + string(op.GetEnqueueBatch().GetItems()[i].GetMessage().GetPayload())}}
		}
		response.Results = append(response.Results, item)
	}
	return &queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_EnqueueBatch{EnqueueBatch: response}}
}

func payloads(op *queuepb.Operation) (all []string) {
	for _, item := range op.GetEnqueueBatch().GetItems() {
		all = append(all, string(item.GetMessage().GetPayload()))
	}
	return all
}

// Of a batch, what is refused for the moment is sent again, and nothing else; in the end each item has its own result.
func TestBatchIsPatient(t *testing.T) {
	tooLarge := &queuepb.Error{Code: int32(codes.InvalidArgument), Reason: "PAYLOAD_TOO_LARGE", Message: "no"}
	item := func(text string) Item { return Item{Queue: "q", Message: Message{Payload: []byte(text)}} }
	withFake(t, func(t *testing.T, c *Client) {
		began := time.Now()
		results, err := c.EnqueueBatch(t.Context(), item("a"), item("b"), item("c"), item("d"))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"m-a", "m-b", "", "m-d"} {
			if results[i].Receipt.MessageID != want || (results[i].Err != nil) != (want == "") {
				t.Errorf("item %d: got %+v, want %q", i, results[i], want)
			}
		}
		if !errors.Is(results[2].Err, ReasonPayloadTooLarge) {
			t.Errorf("item 2: %v", results[2].Err)
		}
		if took := time.Since(began); took < 1600*time.Millisecond {
			t.Errorf("sent again twice within %v", took)
		}
		ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		results, err = c.EnqueueBatch(ctx, item("a"), item("b"))
		if err != nil || results[0].Err != nil {
			t.Fatal(results, err)
		}
		if err := results[1].Err; !errors.Is(err, ReasonQueueFull) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("item 1: %v, want QUEUE_FULL and the deadline", err)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		full := busy(ReasonQueueFull)
		for _, round := range []struct {
			want    []string
			results []*queuepb.Error
		}{
			{[]string{"a", "b", "c", "d"}, []*queuepb.Error{nil, full, tooLarge, full}},
			{[]string{"b", "d"}, []*queuepb.Error{full, nil}},
			{[]string{"b"}, []*queuepb.Error{nil}},
			{[]string{"a", "b"}, []*queuepb.Error{nil, full}},
		} {
			op := s.op()
			if got := payloads(op); !slices.Equal(got, round.want) {
				t.Errorf("got the batch %q, want %q", got, round.want)
			}
			s.results(batchResult(op, round.results...))
		}
		return s.drain()
	})
}

// A worker's answer that is refused for the moment is sent again, and the waiter learns nothing of it.
func TestWorkIsPatient(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		began := time.Now()
		err := c.Work(t.Context(), WorkConfig{MaxDeliveries: 1}, func(context.Context, *Delivery) (*Answer, error) {
			return &Answer{Payload: []byte("answer")}, nil
		}, "jobs")
		if err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 1600*time.Millisecond {
			t.Errorf("sent again twice within %v", took)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		consume := s.op()
		s.results(started(consume), delivered(consume, &queuepb.Delivery{
			MessageId: "m", Attempt: 1, Lease: &queuepb.Handle{Token: "lease"},
			Message: &queuepb.Message{ReplyTo: &queuepb.Handle{Token: "reply-to"}}}))
		for range 2 {
			op := s.op()
			if string(op.GetReply().GetPayload()) != "answer" || !op.GetReply().GetAck() {
				t.Errorf("got %v, want the answer", op)
			}
			s.results(refusal(op, busy(ReasonServerOverloaded)))
		}
		op := s.op()
		s.results(&queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_Reply{Reply: &queuepb.ReplyResponse{
			Result: &queuepb.ReplyResult{Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED, Sequence: 1}}}},
			&queuepb.Result{Id: consume.GetId(), Done: true})
		return s.drain()
	})
}
