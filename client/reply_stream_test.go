package client_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// streamNumbers is a handler that streams the numbers below n, and answers with "end".
func streamNumbers(n int) client.Handler {
	return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		stream := d.ReplyStream(ctx)
		for i := range n {
			if err := stream.Send(client.Answer{Payload: strconv.AppendInt(nil, int64(i), 10)}); err != nil {
				return nil, err
			}
		}
		return &client.Answer{Payload: []byte("end")}, nil
	}
}

// A stream's replies arrive in order and complete, whatever room the pipe has and however slow its reader is.
func TestReplyStream(t *testing.T) {
	for _, test := range []struct {
		name    string
		n       int
		options client.PipeOptions
		pause   time.Duration // of the reader, in the middle
	}{
		{name: "quick", n: 5000},
		{name: "little room", n: 1000, options: client.PipeOptions{CapacityReplies: 70}},
		{name: "reader that pauses", n: 600, options: client.PipeOptions{CapacityReplies: 100}, pause: 14 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
				work(t, c, client.WorkConfig{}, streamNumbers(test.n), "jobs")
				got := 0
				for reply, err := range c.Call(testContext(t), "jobs", text("go"), client.WithPipe(test.options)).Replies() {
					if err != nil {
						t.Fatalf("after %d replies: %v", got, err)
					}
					want := strconv.Itoa(got)
					if got == test.n {
						want = "end"
					}
					if string(reply.Payload) != want {
						t.Fatalf("reply %d: got %q, want %q", got, reply.Payload, want)
					}
					if got++; got == test.n/2 && test.pause > 0 {
						<-time.After(test.pause)
					}
				}
				if got != test.n+1 {
					t.Errorf("%d replies, want %d", got, test.n+1)
				}
			})
		})
	}
}

// Neither a stream nor its end waits for the server's patience with answers that nobody is in a hurry for: in the
// bubble's time nothing takes any.
func TestReplyStreamIsNotHeldBack(t *testing.T) {
	for _, n := range []int{1, 100, 3000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T, bed *testbed.Bed, c *client.Client) {
				// The worker has a session of its own: what comes for a caller would take its answers along.
				work(t, newClient(t, bed), client.WorkConfig{}, streamNumbers(n), "jobs")
				began := time.Now()
				all, err := replies(c.Call(testContext(t), "jobs", text("go")).Replies())
				if err != nil || len(all) != n+1 {
					t.Fatalf("got %d replies and %v, want %d", len(all), err, n+1)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("%d replies took %v of time in which nothing happened", n, took)
				}
			})
		})
	}
}

// Who streams learns that nobody waits any more, or that the lease is lost, and goes on with nothing.
func TestReplyStreamFails(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(t *testing.T, c *client.Client, call *client.Call, d *client.Delivery)
		want error
	}{
		{"waiter gone", func(_ *testing.T, _ *client.Client, call *client.Call, _ *client.Delivery) { call.Cancel() }, client.ErrWaiterGone},
		{"settled elsewhere", func(t *testing.T, c *client.Client, _ *client.Call, d *client.Delivery) {
			if _, err := c.SettleLease(testContext(t), d.Lease(), client.Settlement{Action: client.SettleRetry, Delay: time.Hour}); err != nil {
				t.Error(err)
			}
		}, client.ReasonLeaseStale},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
				ctx := testContext(t)
				consumer, err := c.Consume(ctx, client.ConsumeConfig{}, "jobs")
				if err != nil {
					t.Fatal(err)
				}
				call := c.Call(ctx, "jobs", text("go"))
				d, err := consumer.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				stream := d.ReplyStream(ctx)
				if err := errors.Join(stream.Send(client.Answer{}), stream.Flush()); err != nil {
					t.Fatal(err)
				}
				test.lose(t, c, call, d)
				<-time.After(time.Second)
				_ = stream.Send(client.Answer{}) // its failure shows afterwards at the latest
				if err := stream.Flush(); !errors.Is(err, test.want) {
					t.Errorf("Flush() = %v, want %v", err, test.want)
				}
				if err := stream.Send(client.Answer{}); !errors.Is(err, test.want) {
					t.Errorf("Send() = %v, want %v", err, test.want)
				}
				call.Cancel()
			})
		})
	}
}

// Without a reply_to the work is done all the same.
func TestReplyStreamWithoutWaiter(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		done := make(chan struct{})
		work(t, c, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			defer close(done)
			return streamNumbers(10)(ctx, d)
		}, "jobs")
		if _, err := c.Enqueue(testContext(t), "jobs", text("go")); err != nil {
			t.Fatal(err)
		}
		<-done
	})
}
