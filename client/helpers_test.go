package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// testTime bounds every test that meets a real network.
const testTime = 20 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	t.Cleanup(cancel)
	return ctx
}

// newClient makes a client of a bed, closed with the test.
func newClient(t testing.TB, bed *testbed.Bed, options ...client.Option) *client.Client {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	options = append([]client.Option{client.WithDialOptions(bed.DialOptions()...), client.WithLogger(log)}, options...)
	c, err := client.New(bed.Addr, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// inBubble runs a test with a bed and a client in fake time.
func inBubble(t *testing.T, f func(t *testing.T, bed *testbed.Bed, c *client.Client), options ...client.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory())
		f(t, bed, newClient(t, bed, options...))
	})
}

// work runs a Work until the test, or stop, ends it.
func work(t testing.TB, c *client.Client, config client.WorkConfig, h client.Handler, queues ...string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Work(ctx, config, h, queues...) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, client.ErrClosed) {
			t.Errorf("Work(%q): %v", queues, err)
		}
	})
	return stop
}

func echo(_ context.Context, d *client.Delivery) (*client.Answer, error) {
	return &client.Answer{Payload: d.Payload}, nil
}

func text(s string) client.Message { return client.Message{Payload: []byte(s)} }

// nextDelivery waits for a delivery.
func nextDelivery(ctx context.Context, t testing.TB, s *client.Consumer) *client.Delivery {
	t.Helper()
	d, err := s.Next(ctx)
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return d
}

func consume(ctx context.Context, t testing.TB, c *client.Client, config client.ConsumeConfig, queues ...string) *client.Consumer {
	t.Helper()
	s, err := c.Consume(ctx, config, queues...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// replies collects the replies of a pipe as text.
func replies(seq func(func(client.Reply, error) bool)) (all []string, err error) {
	for r, e := range seq {
		if e != nil {
			return all, e
		}
		all = append(all, string(r.Payload))
	}
	return all, nil
}
