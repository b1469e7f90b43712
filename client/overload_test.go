package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// TestOverloadIsWaitedFor: calls, enqueues and pipes that the server has no memory or no quota for are waited for, not
// failed; work goes on meanwhile, and makes the room.
func TestOverloadIsWaitedFor(t *testing.T) {
	const limit, size = 8 << 20, 256 << 10
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory(), testbed.WithBroker(func(cfg *broker.Config) {
			cfg.MemoryLimit, cfg.Quota.Pipes = limit, 100
		}))
		c := newClient(t, bed)
		ctx := t.Context()
		const calls = 3 * limit / size
		answers := make(chan error, calls)
		for range calls {
			go func() {
				_, err := c.Call(ctx, "jobs", client.Message{Payload: make([]byte, size)}).One()
				answers <- err
			}()
		}
		<-time.After(10 * time.Second)
		select {
		case err := <-answers:
			t.Fatalf("Call() = %v while nobody works", err)
		default:
		}
		if used := bed.Broker.MemoryUsed(); used > limit*70/100 {
			t.Errorf("%d of %d bytes are used, want at most 70 %%", used, limit)
		}
		if u := bed.Broker.Usage(1); u.Pipes > 100 || u.Pipes < limit*7/10/size*4/5 {
			t.Errorf("%d calls wait in the server, want as many as there is room for", u.Pipes)
		}
		work(t, c, client.WorkConfig{Concurrency: 4}, func(_ context.Context, _ *client.Delivery) (*client.Answer, error) {
			return &client.Answer{Payload: []byte("done")}, nil
		}, "jobs")
		for range calls {
			if err := <-answers; err != nil {
				t.Fatalf("Call() = %v, want its answer when there was room", err)
			}
		}
	})
}

// TestPipeQuotaIsWaitedFor: so is a pipe, until the context of the caller ends.
func TestPipeQuotaIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory(), testbed.WithBroker(func(cfg *broker.Config) { cfg.Quota.Pipes = 1 }))
		c := newClient(t, bed)
		ctx := t.Context()
		first, err := c.OpenPipe(ctx, client.PipeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := c.OpenPipe(short, client.PipeOptions{}); !errors.Is(err, client.ReasonPipeQuota) {
			t.Errorf("OpenPipe() over the quota = %v after 10 s, want PIPE_QUOTA", err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := c.OpenPipe(ctx, client.PipeOptions{})
			done <- err
		}()
		<-time.After(time.Minute)
		if _, _, err := c.Cancel(ctx, first.Receive, ""); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("OpenPipe() = %v, want a pipe when there was room", err)
		}
	})
}
