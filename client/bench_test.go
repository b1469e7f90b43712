package client_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// BenchmarkCall is request and reply of 128 bytes, with server, worker and caller in this process, over loopback. The
// worker has a client of its own.
func BenchmarkCall(b *testing.B) {
	for _, load := range []struct{ inFlight, sessions int }{{1, 1}, {64, 1}, {256, 4}} {
		b.Run(fmt.Sprintf("inflight=%d/sessions=%d", load.inFlight, load.sessions), func(b *testing.B) {
			bed := testbed.New(b)
			worker := newClient(b, bed, client.WithSessions(load.sessions))
			for range load.sessions {
				work(b, worker, client.WorkConfig{Concurrency: max(2*load.inFlight/load.sessions, 1)}, echo, "echo")
			}
			caller := newClient(b, bed, client.WithSessions(load.sessions))
			message := client.Message{Payload: bytes.Repeat([]byte("x"), 128)}
			ctx := b.Context()
			if _, err := caller.Call(ctx, "echo", message).One(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			spread(b, load.inFlight, func() error {
				_, err := caller.Call(ctx, "echo", message).One()
				return err
			})
		})
	}
}

// BenchmarkEnqueue is fire and forget, with as many callers.
func BenchmarkEnqueue(b *testing.B) {
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			bed := testbed.New(b)
			c := newClient(b, bed)
			work(b, c, client.WorkConfig{Concurrency: 64}, func(context.Context, *client.Delivery) (*client.Answer, error) {
				return nil, nil
			}, "sink")
			message := client.Message{Payload: bytes.Repeat([]byte("x"), 128)}
			b.ReportAllocs()
			spread(b, inFlight, func() error {
				_, err := c.Enqueue(b.Context(), "sink", message)
				return err
			})
		})
	}
}

// spread runs f b.N times on n goroutines.
func spread(b *testing.B, n int, f func() error) {
	b.Helper()
	tokens := make(chan struct{}, n)
	done := make(chan error, n)
	b.ResetTimer()
	for range n {
		go func() {
			for range tokens {
				if err := f(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range b.N {
		select {
		case tokens <- struct{}{}:
		case err := <-done:
			b.Fatal(err)
		}
	}
	close(tokens)
	for range n {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
