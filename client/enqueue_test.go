package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
)

// Messages are on their way before anybody waits for a receipt, in their order; each has its own outcome, however often it
// is asked for.
func TestEnqueueAsync(t *testing.T) {
	tooLarge := &queuepb.Error{Code: int32(codes.InvalidArgument), Reason: "PAYLOAD_TOO_LARGE", Message: "no"}
	const n = 5
	withFake(t, func(t *testing.T, c *Client) {
		var all []*PendingEnqueue
		for i := range n {
			all = append(all, c.EnqueueAsync(t.Context(), fmt.Sprint("q", i), Message{}))
		}
		for i, p := range all {
			for range 2 {
				r, err := p.Receipt()
				switch {
				case i == 2:
					if !errors.Is(err, ReasonPayloadTooLarge) || err.Error()[:12] != `enqueue "q2"` {
						t.Errorf("receipt %d: %v, want PAYLOAD_TOO_LARGE of q2", i, err)
					}
				case err != nil || r.MessageID != fmt.Sprint("m-q", i):
					t.Errorf("receipt %d: %+v, %v", i, r, err)
				}
			}
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		var results []*queuepb.Result
		for i := range n { // none is answered before all are there
			op := s.op()
			if got, want := op.GetEnqueue().GetQueue(), fmt.Sprint("q", i); got != want {
				t.Errorf("operation %d is for %s, want %s", i, got, want)
			}
			if i == 2 {
				results = append(results, refusal(op, tooLarge))
			} else {
				results = append([]*queuepb.Result{enqueued(op, "m-"+op.GetEnqueue().GetQueue())}, results...)
			}
		}
		s.results(results...)
		return s.drain()
	})
}

// What is refused for the moment is sent again, by whoever waits for the receipt; what is under way when the connection is
// lost, by itself.
func TestEnqueueAsyncIsSentAgain(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		began := time.Now()
		p := c.EnqueueAsync(t.Context(), "q", Message{})
		if r, err := p.Receipt(); err != nil || r.MessageID != "m" {
			t.Errorf("receipt: %+v, %v", r, err)
		}
		if took := time.Since(began); took < 800*time.Millisecond {
			t.Errorf("sent again within %v", took)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		s.op()
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error {
		s.greet("1")
		s.results(refusal(s.op(), busy(ReasonQueueFull)))
		s.results(enqueued(s.op(), "m"))
		return s.drain()
	})
}

// The context ends before the message is sent, or before its receipt comes: the outcome says which.
func TestEnqueueAsyncContext(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		ctx, stop := context.WithCancel(t.Context())
		sent := c.EnqueueAsync(ctx, "q", Message{})
		synctest.Wait()
		stop()
		for p, want := range map[*PendingEnqueue]ErrorOutcome{sent: OutcomeUnknown, c.EnqueueAsync(ctx, "q", Message{}): OutcomeNotApplied} {
			_, err := p.Receipt()
			var e *Error
			if !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.Outcome != want {
				t.Errorf("receipt: %v, want the context's end, and the outcome %v", err, want)
			}
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		s.op()
		return s.drain()
	})
}

// Close does not wait for messages that are on their way: their receipts say that the outcome is not known.
func TestEnqueueAsyncAndClose(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		under := c.EnqueueAsync(t.Context(), "q", Message{})
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for p, want := range map[*PendingEnqueue]ErrorOutcome{
			under: OutcomeUnknown, c.EnqueueAsync(t.Context(), "q", Message{}): OutcomeNotApplied,
		} {
			_, err := p.Receipt()
			var e *Error
			if !errors.Is(err, ErrClosed) || !errors.As(err, &e) || e.Outcome != want {
				t.Errorf("receipt: %v, want ErrClosed, and the outcome %v", err, want)
			}
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		s.op()
		return s.drain()
	})
}
