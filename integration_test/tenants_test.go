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
// calls is answered, as many as before and about as fast.
func TestNoisyTenant(t *testing.T) {
	const limit, size, perSecond = 128 << 20, 8 << 10, 100
	s, quietKey, noisyKey := startTwoTenants(t, "--memory-limit", fmt.Sprint(limit), "--log-level", "info")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	quiet := s.client(t, client.WithAPIKey(quietKey))
	working := make(chan error, 1)
	go func() {
		working <- quiet.Work(ctx, client.WorkConfig{Concurrency: 16},
			func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				<-time.After(10 * time.Millisecond) // what the work takes
				return &client.Answer{Payload: d.Payload}, nil
			}, "work")
	}()
	noise := gather(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+noisyKey), t, s, size)
	for noise.refused.Load() == 0 && noise.offered.Load() < 2*limit/size {
		noise.offer(t, 50*perSecond, 200*time.Millisecond)
	}
	compared(t, func(t *testing.T) (string, bool) {
		var alone, beside paces
		for range scaled(t, 4) {
			alone.add(pace(ctx, t, quiet, perSecond, time.Second))
			made := make(chan struct{})
			go func() {
				defer close(made)
				noise.offer(t, 50*perSecond, time.Second)
			}()
			beside.add(pace(ctx, t, quiet, perSecond, time.Second))
			<-made
		}
		return fmt.Sprintf("alone %v; beside the noise %v; want at most three times the p99 and 90 %% of the calls", alone, beside),
			median(beside.p99) <= 3*median(alone.p99) && median(beside.perSecond) >= 0.9*median(alone.perSecond)
	})
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

// paces are the figures of several times in which calls were made at one pace.
type paces struct {
	p50, p99  []time.Duration
	perSecond []float64
}

func (p *paces) add(took []time.Duration, perSecond float64) {
	p.p50, p.p99 = append(p.p50, took[len(took)/2]), append(p.p99, took[len(took)*99/100])
	p.perSecond = append(p.perSecond, perSecond)
}

func (p paces) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, %.0f calls/s",
		median(p.p50).Round(time.Microsecond), median(p.p99).Round(time.Microsecond), median(p.perSecond))
}

// pace makes so many calls a second for a while, each of which must be answered. It returns how long they took, sorted, and
// how many were answered in a second.
func pace(
	ctx context.Context, t *testing.T, c *client.Client, perSecond int, d time.Duration,
) (took []time.Duration, answered float64) {
	t.Helper()
	var (
		mu    sync.Mutex
		calls sync.WaitGroup
	)
	start := time.Now()
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
	return took, float64(len(took)) / time.Since(start).Seconds()
}
