package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
)

func enqueue(ctx context.Context, t testing.TB, c *client.Client, queue string, m client.Message, o ...client.EnqueueOption) client.Receipt {
	t.Helper()
	r, err := c.Enqueue(ctx, queue, m, o...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConsumeAndSettle(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	s := consume(ctx, t, c, client.ConsumeConfig{MaxInFlight: 10}, "jobs")

	receipt := enqueue(ctx, t, c, "jobs", client.Message{
		Payload: []byte("a"), ContentType: "text/x", Headers: map[string]string{"k": "v"}})
	d := nextDelivery(ctx, t, s)
	if d.MessageID != receipt.MessageID || d.Queue != "jobs" || d.Attempt != 1 || string(d.Payload) != "a" ||
		d.ContentType != "text/x" || d.Headers["k"] != "v" || d.HasReplyTo() || d.LeaseExpiresAt.IsZero() {
		t.Errorf("delivery: got %+v", d)
	}
	if err := d.Retry(ctx, 0, "not yet"); err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(ctx); !errors.Is(err, client.ErrSettled) {
		t.Errorf("second settle: got %v", err)
	}
	d = nextDelivery(ctx, t, s)
	if d.Attempt != 2 || d.Failures != 1 {
		t.Errorf("retried: got attempt %d, failures %d", d.Attempt, d.Failures)
	}
	if err := d.Release(ctx); err != nil {
		t.Fatal(err)
	}
	d = nextDelivery(ctx, t, s)
	if d.Attempt != 3 || d.Failures != 1 {
		t.Errorf("released: got attempt %d, failures %d", d.Attempt, d.Failures)
	}
	if err := d.Extend(ctx, time.Minute); err != nil {
		t.Error(err)
	}
	if err := d.Reject(ctx, "no good"); err != nil {
		t.Fatal(err)
	}

	enqueue(ctx, t, c, "jobs", text("b"))
	d = nextDelivery(ctx, t, s)
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(ctx); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Next(ctx); !errors.Is(err, client.ErrStopped) {
		t.Errorf("Next after Stop: got %v, %v", d, err)
	}
}

func TestConsumeForwardsAndSplices(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	first := consume(ctx, t, c, client.ConsumeConfig{}, "first")
	second := consume(ctx, t, c, client.ConsumeConfig{}, "second")

	call := c.Call(ctx, "first", text("x"))
	d := nextDelivery(ctx, t, first)
	result, err := d.Settle(ctx, client.Settlement{Messages: []client.Item{{Queue: "second", Message: d.Message()}}})
	if err != nil || len(result.Receipts) != 1 || result.Receipts[0].MessageID == "" {
		t.Fatalf("Settle() = %+v, %v", result, err)
	}
	d = nextDelivery(ctx, t, second)
	outcome, err := d.Reply(ctx, client.Answer{Payload: []byte("from second")})
	if err != nil || outcome.Gone() || outcome.Sequence != 1 {
		t.Errorf("Reply() = %+v, %v", outcome, err)
	}
	if r, err := call.One(); err != nil || string(r.Payload) != "from second" {
		t.Errorf("forwarded call: got %q, %v", r.Payload, err)
	}

	pipe, err := c.OpenPipe(ctx, client.PipeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	call = c.Call(ctx, "first", text("x"))
	if _, err := nextDelivery(ctx, t, first).Splice(ctx, pipe.Receive); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reply(ctx, pipe.Send, client.Answer{Payload: []byte("spliced")}); err != nil {
		t.Fatal(err)
	}
	if r, err := call.One(); err != nil || string(r.Payload) != "spliced" {
		t.Errorf("spliced call: got %q, %v", r.Payload, err)
	}
}

func TestLeaseLost(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		ctx := t.Context()
		s := consume(ctx, t, c, client.ConsumeConfig{LeaseTime: time.Second, MaxInFlight: 2}, "jobs")
		enqueue(ctx, t, c, "jobs", text("a"))
		d := nextDelivery(ctx, t, s)
		handled := d.Context()
		again := nextDelivery(ctx, t, s)
		if again.Attempt != 2 {
			t.Errorf("attempt: got %d, want 2", again.Attempt)
		}
		<-handled.Done()
		if cause := context.Cause(handled); !errors.Is(cause, client.ErrLeaseLost) {
			t.Errorf("cause: got %v", cause)
		}
		if err := d.Ack(ctx); !errors.Is(err, client.ReasonLeaseStale) {
			t.Errorf("Ack with a lost lease: got %v", err)
		}
		if err := again.Ack(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestConsumeEnds(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)

	_, err := c.Consume(ctx, client.ConsumeConfig{}, "BAD NAME")
	if !errors.Is(err, client.ReasonQueueNameInvalid) {
		t.Errorf("bad name: got %v", err)
	}

	own, cancel := context.WithCancel(ctx)
	s := consume(own, t, c, client.ConsumeConfig{}, "jobs")
	enqueue(ctx, t, c, "jobs", text("a"))
	nextDelivery(ctx, t, s)
	cancel() // gives the delivery back
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next after its context: got %v", err)
	}
	s = consume(ctx, t, c, client.ConsumeConfig{MaxDeliveries: 1}, "jobs")
	n := 0
	for d, err := range s.Deliveries(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if err := d.Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("got %d deliveries, want 1", n)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	s = consume(ctx, t, c, client.ConsumeConfig{}, "empty")
	if _, err := s.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next on an empty queue: got %v", err)
	}
	s.Close()
	if _, err := s.Next(ctx); !errors.Is(err, client.ErrStopped) {
		t.Errorf("Next after Close: got %v", err)
	}
}

func TestDeliveryAnswers(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	s := consume(ctx, t, c, client.ConsumeConfig{}, "jobs")

	call := c.Call(ctx, "jobs", text(""))
	d := nextDelivery(ctx, t, s)
	if d.ReplyTo().Kind() != handles.Send || d.Lease().Kind() != handles.Lease || d.Client() != c {
		t.Errorf("handles of a delivery: %v, %v", d.ReplyTo(), d.Lease())
	}
	if outcome, err := d.ReplyMore(ctx, client.Answer{Payload: []byte("1")}); err != nil || outcome.Gone() {
		t.Errorf("ReplyMore() = %+v, %v", outcome, err)
	}
	if outcome, err := d.ReplyError(ctx, &client.Error{Code: 8, Reason: "TIRED"}); err != nil || outcome.Gone() {
		t.Errorf("ReplyError() = %+v, %v", outcome, err)
	}
	if got, err := replies(call.Replies()); len(got) != 1 || !errors.Is(err, client.Reason("TIRED")) {
		t.Errorf("Replies() = %q, %v", got, err)
	}
	if _, err := d.Reply(ctx, client.Answer{}); !errors.Is(err, client.ErrSettled) {
		t.Errorf("Reply() of a settled delivery: %v", err)
	}

	call = c.Call(ctx, "jobs", text(""))
	d = nextDelivery(ctx, t, s)
	call.Cancel()
	<-d.Context().Done()
	if cause := context.Cause(d.Context()); !errors.Is(cause, client.ErrWaiterGone) {
		t.Errorf("cause: %v", cause)
	}
	if outcome, err := d.ReplyMore(ctx, client.Answer{}); err != nil || !outcome.Gone() || outcome.Status.String() != "ended" {
		t.Errorf("ReplyMore() to a cancelled call = %+v, %v", outcome, err)
	}
	// That nobody waits is no reason against settling.
	if outcome, err := d.Reply(ctx, client.Answer{}); err != nil || outcome.Reason != client.ErrCancelled {
		t.Errorf("Reply() to a cancelled call = %+v, %v", outcome, err)
	}

	enqueue(ctx, t, c, "jobs", text("no reply_to"))
	d = nextDelivery(ctx, t, s)
	if _, err := d.ReplyMore(ctx, client.Answer{}); err != nil {
		t.Error(err)
	}
	if _, err := d.Reply(ctx, client.Answer{}); err != nil {
		t.Error(err)
	}

	outer, inner := openPipe(ctx, t, c, client.PipeOptions{}), openPipe(ctx, t, c, client.PipeOptions{})
	if _, err := c.Splice(ctx, outer.Send, inner.Receive); err != nil {
		t.Error(err)
	}
	if _, err := c.Reply(ctx, inner.Send, client.Answer{Payload: []byte("in")}); err != nil {
		t.Error(err)
	}
	f := client.NewFuture[string](c, outer.Receive)
	encoded, err := f.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var decoded client.Future[string]
	if err := decoded.UnmarshalText(encoded); err != nil || decoded.Handle() != outer.Receive {
		t.Errorf("UnmarshalText() = %v, %v", decoded.Handle(), err)
	}
	if v, err := decoded.Bind(c).Await(ctx); err != nil || v != "in" {
		t.Errorf("Await() = %q, %v", v, err)
	}
}
