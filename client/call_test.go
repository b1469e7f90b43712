package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

func TestCallOne(t *testing.T) {
	c := newClient(t, testbed.New(t))
	work(t, c, client.WorkConfig{}, echo, "echo")
	ctx := testContext(t)
	call := c.Call(ctx, "echo", text("hello"))
	reply, err := call.One()
	if err != nil || string(reply.Payload) != "hello" || reply.Sequence != 1 || reply.Attempt != 1 {
		t.Fatalf("One() = %+v, %v; want hello", reply, err)
	}
	receipt, err := call.Receipt()
	if err != nil || receipt.MessageID != reply.SourceMessageID || receipt.ReceiveHandle.IsZero() {
		t.Errorf("Receipt() = %+v, %v; want message %s", receipt, err, reply.SourceMessageID)
	}
}

func TestCallReplies(t *testing.T) {
	c := newClient(t, testbed.New(t))
	work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		for i := range 3 {
			if _, err := d.ReplyMore(ctx, client.Answer{Payload: fmt.Append(nil, i)}); err != nil {
				return nil, err
			}
		}
		return nil, nil // the ack ends the pipe OK, since there was a reply
	}, "stream")
	ctx := testContext(t)
	got, err := replies(c.Call(ctx, "stream", text("")).Replies())
	if err != nil || !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("Replies() = %q, %v", got, err)
	}
	reply, err := c.Call(ctx, "stream", text("")).One()
	if err != nil || string(reply.Payload) != "2" {
		t.Errorf("One() = %q, %v; want the last reply", reply.Payload, err)
	}
}

func TestCallErrors(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	work(t, c, client.WorkConfig{}, func(context.Context, *client.Delivery) (*client.Answer, error) {
		return nil, &client.Error{Code: 9, Reason: "NO_STOCK", Message: "sold out", Metadata: map[string]string{"left": "0"}}
	}, "fails")
	work(t, c, client.WorkConfig{}, func(context.Context, *client.Delivery) (*client.Answer, error) {
		return nil, nil
	}, "breaks")

	_, err := c.Call(ctx, "fails", text("")).One()
	var e *client.Error
	if !errors.Is(err, client.ErrFailed) || !errors.Is(err, client.Reason("NO_STOCK")) || !errors.As(err, &e) ||
		e.Code != 9 || e.Message != "sold out" || e.Metadata["left"] != "0" {
		t.Errorf("replier's error: got %v", err)
	}
	if _, err = c.Call(ctx, "breaks", text("")).One(); !errors.Is(err, client.ErrBroken) {
		t.Errorf("acked without a reply: got %v, want BROKEN", err)
	}
	if _, err = c.Call(ctx, "nobody", text(""), client.WithRequireConsumer()).One(); !errors.Is(err, client.ErrNoConsumer) {
		t.Errorf("consumer required: got %v, want NO_CONSUMER", err)
	}
	if _, err = c.Call(ctx, "No such Queue", text("")).Receipt(); !errors.Is(err, client.ReasonQueueNameInvalid) ||
		!errors.As(err, &e) || e.Field != "queue" {
		t.Errorf("bad name: got %v, want QUEUE_NAME_INVALID on queue", err)
	}
	for _, err := range c.Call(ctx, "breaks", text("")).Replies() {
		if !errors.Is(err, client.ErrBroken) {
			t.Errorf("Replies() gave %v", err)
		}
	}
}

func TestCallContextEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		began, ended := make(chan struct{}), make(chan error, 1)
		work(t, c, client.WorkConfig{}, func(ctx context.Context, _ *client.Delivery) (*client.Answer, error) {
			close(began)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil, ctx.Err()
		}, "slow")
		ctx, cancel := context.WithCancel(t.Context())
		call := c.Call(ctx, "slow", text(""))
		<-began
		start := time.Now()
		cancel() // nobody waits for the call, the handler learns of it all the same
		if err := <-ended; !errors.Is(err, client.ErrWaiterGone) {
			t.Errorf("cause of the handler's context: %v", err)
		}
		if d := time.Since(start); d > 300*time.Millisecond {
			t.Errorf("that took %v", d)
		}
		if _, err := call.One(); !errors.Is(err, context.Canceled) {
			t.Errorf("One() = %v, want context canceled", err)
		}
	})
}

func TestCallDeadlineIsThePipes(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		call := c.Call(ctx, "nobody", text(""))
		receipt, err := call.Receipt()
		if d := time.Until(receipt.PipeDeadline); err != nil || d < 2900*time.Millisecond || d > 3*time.Second {
			t.Errorf("pipe expires in %v, %v; want 3s", d, err)
		}
		if _, err := call.One(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("One() = %v, want a deadline", err)
		}
	})
}

func TestCallCancel(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	for range 20 { // before and after the receipt
		call := c.Call(ctx, "nobody", text(""))
		call.Cancel()
		if _, err := call.One(); !errors.Is(err, client.ErrCancelled) {
			t.Fatalf("One() = %v, want CANCELLED", err)
		}
	}
}

func TestCallsAtOnce(t *testing.T) {
	c := newClient(t, testbed.New(t), client.WithSessions(3))
	work(t, c, client.WorkConfig{Concurrency: 8}, echo, "echo")
	ctx := testContext(t)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				want := fmt.Sprint(g, i)
				reply, err := c.Call(ctx, "echo", text(want)).One()
				if err != nil || string(reply.Payload) != want {
					t.Errorf("One() = %q, %v; want %q", reply.Payload, err, want)
					return
				}
			}
		})
	}
	var calls []*client.Call
	for i := range 2000 { // all under way, awaited afterwards
		calls = append(calls, c.Call(ctx, "echo", text(fmt.Sprint(i))))
	}
	for i, call := range calls {
		if reply, err := call.One(); err != nil || string(reply.Payload) != fmt.Sprint(i) {
			t.Fatalf("One() of %d = %q, %v", i, reply.Payload, err)
		}
	}
	wg.Wait()
}

// A reader that does not take its replies holds up its own replier only.
func TestSlowReaderBlocksNobody(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	sent := make(chan struct{})
	work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		payload := make([]byte, 10<<10)
		for i := range 2000 {
			if i == 256 {
				close(sent)
			}
			if _, err := d.ReplyMore(ctx, client.Answer{Payload: payload}); err != nil {
				return nil, err
			}
		}
		return &client.Answer{Payload: []byte("end")}, nil
	}, "much")
	work(t, c, client.WorkConfig{}, echo, "echo")
	slow := c.Call(ctx, "much", text(""))
	<-sent
	for range 50 {
		if _, err := c.Call(ctx, "echo", text("x")).One(); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range slow.Replies() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2001 {
		t.Errorf("got %d replies, want 2001", n)
	}
}

func TestNoServer(t *testing.T) {
	c, err := client.New("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = c.Enqueue(ctx, "q", text(""))
	var e *client.Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Outcome != client.OutcomeNotApplied {
		t.Errorf("Enqueue() = %v", err)
	}
	t.Log(err)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = c.Call(ctx, "q", text("")).One(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("One() = %v", err)
	}
	t.Log(err)
}

// A call that is cancelled before its receipt has come is cancelled all the same, also if the client closes at once: its
// message does not wait for the grace of a caller who was cut.
func TestCancelBeforeTheReceipt(t *testing.T) {
	inBubble(t, func(t *testing.T, bed *testbed.Bed, c *client.Client) {
		for range 20 { // whichever comes first
			hasty := newClient(t, bed)
			if _, err := hasty.ServerInfo(testContext(t)); err != nil { // it has a connection now, and will send at once
				t.Fatal(err)
			}
			call := hasty.Call(testContext(t), "jobs", text("go"))
			call.Cancel()
			if err := hasty.Close(); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Second)
		queue, err := c.Queue(testContext(t), "jobs")
		if err != nil && !errors.Is(err, client.ReasonQueueNotFound) {
			t.Fatal(err)
		}
		if n := queue.GetStatistics().GetReady(); n != 0 {
			t.Errorf("%d messages of cancelled calls wait", n)
		}
	})
}
