package client_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

func TestWorkResults(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	var attempts atomic.Int32
	work(t, c, client.WorkConfig{Concurrency: 4}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
		switch string(d.Payload) {
		case "status":
			return nil, status.Error(codes.NotFound, "no such thing")
		case "plain":
			return nil, errors.New("plain text")
		case "retry":
			if d.Attempt == 1 {
				return nil, client.Retry(errors.New("later"), time.Millisecond)
			}
		case "panic":
			if d.Attempt == 1 {
				panic("secret")
			}
		case "reject":
			return nil, client.Reject(errors.New("never"))
		case "big":
			return &client.Answer{Payload: make([]byte, 2<<20)}, nil
		case "forget": // no reply_to
			attempts.Add(1)
			if d.Attempt == 1 {
				return nil, errors.New("nobody hears this")
			}
			return nil, nil
		}
		return client.NewAnswer("done")
	}, "jobs")

	for _, test := range []struct {
		payload string
		want    error
		code    codes.Code
		text    string
	}{
		{"status", client.ErrFailed, codes.NotFound, "no such thing"},
		{"plain", client.ErrFailed, codes.Unknown, "plain text"},
		{"retry", nil, codes.OK, ""},
		{"panic", nil, codes.OK, ""},
		{"reject", client.ErrRejected, codes.FailedPrecondition, ""},
		{"big", client.ReasonPayloadTooLarge, codes.InvalidArgument, "refused"},
	} {
		t.Run(test.payload, func(t *testing.T) {
			reply, err := c.Call(ctx, "jobs", text(test.payload)).One()
			if test.want == nil {
				if err != nil || string(reply.Payload) != "done" || reply.Attempt != 2 {
					t.Errorf("One() = %q in attempt %d, %v; want done in 2", reply.Payload, reply.Attempt, err)
				}
				return
			}
			if !errors.Is(err, test.want) || status.Code(err) != test.code || !strings.Contains(err.Error(), test.text) {
				t.Errorf("One() = %v; want %v, %v", err, test.want, test.code)
			}
		})
	}
	s := consume(ctx, t, c, client.ConsumeConfig{}, "witness")
	enqueue(ctx, t, c, "jobs", text("forget"))
	if _, err := c.Call(ctx, "jobs", text("")).One(); err != nil {
		t.Error(err)
	}
	s.Close()
}

func TestWorkFunc(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	type sum struct{ A, B int }
	work(t, c, client.WorkConfig{}, client.Func(func(_ context.Context, in sum) (int, error) { return in.A + in.B, nil }), "sum")
	message, err := client.NewMessage(sum{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := c.Call(ctx, "sum", message).One()
	if err != nil || string(reply.Payload) != "3" || reply.ContentType != client.ContentTypeJSON {
		t.Errorf("One() = %q (%s), %v", reply.Payload, reply.ContentType, err)
	}
	if _, err = c.Call(ctx, "sum", text("{")).One(); !errors.Is(err, client.ReasonPayloadInvalid) {
		t.Errorf("bad payload: got %v", err)
	}
}

// A handler that takes longer than its lease keeps it.
func TestWorkExtendsLeases(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		work(t, c, client.WorkConfig{LeaseTime: 3 * time.Second}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			select {
			case <-time.After(time.Minute):
				return client.NewAnswer(int(d.Attempt))
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}, "long")
		reply, err := c.Call(t.Context(), "long", text("")).One()
		if err != nil || string(reply.Payload) != "1" {
			t.Errorf("One() = attempt %q, %v; want 1", reply.Payload, err)
		}
	})
}

func TestWorkHandlerDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		left := make(chan time.Duration, 1)
		work(t, c, client.WorkConfig{}, func(ctx context.Context, _ *client.Delivery) (*client.Answer, error) {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			<-ctx.Done()
			return nil, ctx.Err()
		}, "jobs")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Call(ctx, "jobs", text("")).One()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("One() = %v", err)
		}
		if d := <-left; d < 4900*time.Millisecond || d > 5*time.Second {
			t.Errorf("the handler had %v, want 5s", d)
		}
	})
}

func TestWorkDrains(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		began := make(chan string, 10)
		stop := work(t, c, client.WorkConfig{Concurrency: 1, Prefetch: 1}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
			began <- string(d.Payload)
			time.Sleep(5 * time.Second)
			return client.NewAnswer("finished")
		}, "jobs")
		first, second := c.Call(t.Context(), "jobs", text("1")), c.Call(t.Context(), "jobs", text("2"))
		if got := <-began; got != "1" {
			t.Fatalf("began with %q", got)
		}
		if err := stop(); err != nil {
			t.Errorf("Work() = %v", err)
		}
		if r, err := first.One(); err != nil || string(r.Payload) != "finished" {
			t.Errorf("running handler: got %q, %v", r.Payload, err)
		}
		if len(began) != 0 {
			t.Error("a handler was begun while draining")
		}
		// The other message was given back: it counts no failure.
		s := consume(t.Context(), t, c, client.ConsumeConfig{}, "jobs")
		d := nextDelivery(t.Context(), t, s)
		if string(d.Payload) != "2" || d.Failures != 0 {
			t.Errorf("given back: got %q with %d failures", d.Payload, d.Failures)
		}
		if _, err := d.Reply(t.Context(), client.Answer{}); err != nil {
			t.Error(err)
		}
		if _, err := second.One(); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkDrainGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		began := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- c.Work(ctx, client.WorkConfig{DrainGrace: time.Second}, func(ctx context.Context, _ *client.Delivery) (*client.Answer, error) {
				close(began)
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}, "jobs")
		}()
		enqueue(t.Context(), t, c, "jobs", text(""))
		<-began
		cancel()
		if err := <-done; !errors.Is(err, client.ErrDraining) {
			t.Errorf("Work() = %v, want ErrDraining", err)
		}
		s := consume(t.Context(), t, c, client.ConsumeConfig{}, "jobs")
		if d := nextDelivery(t.Context(), t, s); d.Failures != 0 {
			t.Errorf("stopped handler's message has %d failures, want 0", d.Failures)
		}
	})
}

func TestDeliveryContextIsAContext(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "value")
		ctx, cancel := context.WithCancel(ctx)
		done, called := make(chan error), make(chan struct{})
		go func() {
			done <- c.Work(ctx, client.WorkConfig{}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				defer close(called)
				if v := ctx.Value(key{}); v != "value" {
					t.Errorf("Value() = %v", v)
				}
				child, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				if _, _, err := d.Client().Cancel(ctx, mustHandle(t, d), ""); err != nil {
					t.Error(err)
				}
				<-child.Done() // ends with its parent
				if err := context.Cause(child); !errors.Is(err, client.ErrWaiterGone) {
					t.Errorf("cause of a child: %v", err)
				}
				return nil, child.Err()
			}, "jobs")
		}()
		pipe, err := c.OpenPipe(t.Context(), client.PipeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := client.Message{ReplyTo: pipe.Send, Handles: map[string]handle{"cancel": pipe.Receive}}
		enqueue(t.Context(), t, c, "jobs", m)
		<-called
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
