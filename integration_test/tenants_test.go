package integration_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/client"
)

// TestNoisyTenant: one tenant fills the memory with fifty times the calls of another one, who notices nothing: each of its
// calls is answered, and how long they took is shown beside what they took without the noise.
func TestNoisyTenant(t *testing.T) {
	const limit, perSecond = 128 << 20, 100
	s, quietKey, noisyKey := startTwoTenants(t, "--memory-limit", fmt.Sprint(limit), "--log-level", "info")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	quiet := s.client(t, client.WithAPIKey(quietKey))
	working := make(chan error, 1)
	go func() {
		working <- quiet.Work(ctx, client.WorkConfig{Concurrency: 16},
			func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				return &client.Answer{Payload: d.Payload}, nil
			}, "work")
	}()
	length := time.Duration(scaled(t, 3)) * time.Second
	alone := pace(ctx, t, quiet, perSecond, length)
	noise := gather(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+noisyKey), t, s, 8<<10)
	offered := make(chan struct{})
	go func() {
		defer close(offered)
		noise.offer(t, 50*perSecond, length)
	}()
	beside := pace(ctx, t, quiet, perSecond, length)
	<-offered
	t.Logf("alone: p50 %v, p99 %v; beside the noise: p50 %v, p99 %v", alone[len(alone)/2], alone[len(alone)*99/100],
		beside[len(beside)/2], beside[len(beside)*99/100])
	t.Logf("the longest took %v alone, and %v beside the noise; a refusal would be repeated after a second", alone[len(alone)-1], beside[len(beside)-1])
	t.Logf("noise: %d offered, %d accepted, %d refused", noise.offered.Load(), noise.accepted.Load(), noise.refused.Load())
	if noise.refused.Load() == 0 {
		t.Error("nothing of the noise was refused: there was room for it, and the test proves nothing")
	}
	s.checkMemory(t, limit)
	stop()
	<-noise.over
	if err := <-working; err != nil {
		t.Errorf("Work() = %v", err)
	}
}

// pace makes so many calls a second for a while, each of which must be answered, and returns how long they took, sorted.
func pace(ctx context.Context, t *testing.T, c *client.Client, perSecond int, d time.Duration) []time.Duration {
	t.Helper()
	var (
		mu    sync.Mutex
		took  []time.Duration
		calls sync.WaitGroup
	)
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for range int(d.Seconds() * float64(perSecond)) {
		<-ticker.C
		calls.Go(func() {
			began := time.Now()
			limited, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			_, err := c.Call(limited, "work", client.Message{Payload: []byte("x")}).One()
			mu.Lock()
			defer mu.Unlock()
			if took = append(took, time.Since(began)); err != nil {
				t.Errorf("Call() of the quiet tenant = %v", err)
			}
		})
	}
	calls.Wait()
	slices.Sort(took)
	return took
}
