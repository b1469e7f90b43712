package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/faultnet"
)

// Processes and connections that die without a word.

// A consumer is killed while it holds a hundred deliveries: at once, and not when their leases end, all of them go to
// another one, as the next attempt.
func TestKilledConsumer(t *testing.T) {
	t.Parallel()
	const held, cycles = 100, 3
	s := startServer(t)
	c := s.client(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for range held {
		if _, err := c.Enqueue(ctx, "held", client.Message{Payload: []byte(canary)}); err != nil {
			t.Fatal(err)
		}
	}
	for cycle := range uint32(cycles) {
		// The leases are longer than this test may take: what comes back, comes back for the cut.
		p := s.consumer(t, inGo, "held", "hold", "--in-flight", fmt.Sprint(held), "--lease", "3600")
		for range held {
			if e := p.await(t, "delivery"); e.Attempt != cycle+1 {
				t.Fatalf("cycle %d: delivery of attempt %d", cycle, e.Attempt)
			}
		}
		p.kill()
	}
	consumer, err := c.Consume(ctx, client.ConsumeConfig{MaxInFlight: held}, "held")
	if err != nil {
		t.Fatal(err)
	}
	for range held {
		d, err := consumer.Next(ctx)
		if err != nil || d.Attempt != cycles+1 || d.Failures != cycles {
			t.Fatalf("Next() = attempt %d after %d failures, %v, want attempt %d", d.Attempt, d.Failures, err, cycles+1)
		}
		if err := d.Ack(ctx); err != nil {
			t.Error(err)
		}
	}
}

// A server without a journal is killed while two thousand wait: each of them is told that its pipe is lost, once, when
// there is a server again; and then all goes on.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	const waiters, cycles, limit = 2000, 3, 5 * time.Second
	s := startServer(t)
	c := s.client(t, client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for range cycles {
		calls := make([]*client.Call, waiters)
		for i := range calls {
			calls[i] = c.Call(ctx, "nobody", client.Message{Payload: []byte(canary)})
		}
		for _, call := range calls {
			if _, err := call.Receipt(); err != nil {
				t.Fatal(err)
			}
		}
		var told sync.WaitGroup
		var others atomic.Int64
		for _, call := range calls {
			told.Go(func() {
				if _, err := call.One(); !errors.Is(err, client.ErrLost) {
					others.Add(1)
					t.Logf("One() = %v", err)
				}
			})
		}
		s.kill()
		s = startServerAt(t, s.addr)
		back := time.Now()
		told.Wait()
		if took := time.Since(back); took > limit {
			t.Errorf("it took %v until all were told, promised are %v", took, limit)
		}
		if n := others.Load(); n > 0 {
			t.Errorf("%d of %d waiters were told something else than LOST", n, waiters)
		}
		if _, err := c.Enqueue(ctx, "after", client.Message{}); err != nil {
			t.Errorf("Enqueue() after the restart = %v", err)
		}
	}
}

// A server is told to stop while much is under way: what it has confirmed it also ends, and it exits well in time.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	const callers, limit = 50, 10 * time.Second
	s := startServer(t, "--drain-timeout", limit.String(), "--log-level", "info")
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	worker, caller := s.client(t), s.client(t, client.WithSessions(2))
	var working, all sync.WaitGroup
	working.Go(func() {
		err := worker.Work(ctx, client.WorkConfig{Concurrency: 4, Prefetch: 4, DrainGrace: time.Second}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
			return client.NewAnswer(loadAnswer(d.Payload))
		}, "load")
		if err != nil && !errors.Is(err, client.ErrDraining) {
			t.Errorf("Work() = %v", err)
		}
	})
	var answered, ended, refused atomic.Int64
	begun := make(chan struct{})
	for i := range callers {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				queue := "load"
				if n%10 == 9 {
					queue = "nobody" // those wait until the server stops
				}
				id := fmt.Sprintf("%s %d.%d", canary, i, n)
				call := caller.Call(ctx, queue, client.Message{Payload: []byte(id)})
				_, refusal := call.Receipt()
				reply, err := call.One()
				switch end := (*client.EndError)(nil); {
				case refusal != nil:
					refused.Add(1)
				case err == nil && string(reply.Payload) == loadAnswer([]byte(id)):
					if answered.Add(1) == callers {
						close(begun)
					}
				case errors.As(err, &end) && end.Reason == client.ErrShuttingDown:
					ended.Add(1)
				default:
					t.Errorf("request %s was confirmed, and ended with %q, %v", id, reply.Payload, err)
				}
			}
		})
	}
	<-begun
	s.signal(t, syscall.SIGTERM)
	if code := s.wait(t, limit+patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	stop() // what was refused waits for another server, which there is not
	all.Wait()
	working.Wait()
	t.Logf("%d requests were answered, %d ended by the stop, %d refused", answered.Load(), ended.Load(), refused.Load())
	if ended.Load() == 0 {
		t.Error("the stop ended no request: nothing was under way")
	}
}

// A server that is told to stop while it starts, stops: by the signal itself, or as it would later.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	orderly := 0
	for i := range 12 {
		p := start(t, "queue-server", exec.Command(queueServer, "--listen", "127.0.0.1:0", "--log-format", "json"))
		if i < 11 {
			<-time.After(time.Duration(i) * 2 * time.Millisecond) // at another point of the start each time
		} else {
			eventually(t, "it serves", func() bool { return servingAddress(p.log.String()) != "" })
		}
		p.signal(t, syscall.SIGTERM)
		switch code := p.wait(t, patience); code {
		case 0:
			orderly++
		case -1: // before it listened to signals
		default:
			t.Errorf("exit code %d\n%s", code, p.log.String())
		}
	}
	t.Logf("%d of 12 stopped in good order", orderly)
	if orderly == 0 {
		t.Error("none of the servers stopped in good order")
	}
}

// A connection swallows everything, and neither side is told: waiters whose deadlines pass are told by their own side,
// and the others go on when the network is back.
func TestSwallowedConnection(t *testing.T) {
	t.Parallel()
	const waiters = 200
	s := startServer(t)
	d := &faultnet.Dialer{Dial: func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", s.addr)
	}}
	c := s.client(t, client.WithDialOptions(grpc.WithContextDialer(d.DialContext)),
		client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	short, stopShort := context.WithTimeout(ctx, 5*time.Second) // until then all have their receipts
	defer stopShort()
	var impatient, patient sync.WaitGroup
	for i := range waiters {
		limited, all := ctx, &patient
		if i%2 == 0 {
			limited, all = short, &impatient
		}
		call := c.Call(limited, "work", client.Message{Payload: []byte(canary)}, client.WithPipe(client.PipeOptions{DisconnectGrace: time.Hour}))
		if _, err := call.Receipt(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if _, err := call.One(); errors.Is(err, context.DeadlineExceeded) != (i%2 == 0) || err != nil && i%2 == 1 {
				t.Errorf("waiter %d: %v", i, err)
			}
		})
	}
	d.Swallow()
	impatient.Wait()
	d.Heal()
	// Perhaps it also gets what impatient waiters have asked, before their cancellation has come through.
	working, done := context.WithCancel(ctx)
	worked := make(chan error, 1)
	worker := s.client(t)
	go func() {
		worked <- worker.Work(working, client.WorkConfig{Concurrency: 4}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
			return client.NewAnswer(d.Payload)
		}, "work")
	}()
	patient.Wait()
	done()
	if err := <-worked; err != nil {
		t.Errorf("Work() = %v", err)
	}
}
