package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/testbed"
)

// What the two sides of a half-open connection, where nothing arrives and nobody is told, make of it: with the real
// keepalive times, for time costs nothing here.
const (
	clientTells = 2 * time.Second  // after a deadline
	serverFrees = 35 * time.Second // what a client held that is not heard of
)

// TestHalfOpen has a client's connection swallow everything. Those of its waiters whose deadline passes meanwhile are told
// in time; the others get their answers when the network is back; what the client held is given to another one.
func TestHalfOpen(t *testing.T) {
	const waiters = 200
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory())
		d := &faultnet.Dialer{Dial: bed.DialMemory}
		lost := memoryClient(t, bed, client.WithDialOptions(grpc.WithContextDialer(d.DialContext)))
		other := memoryClient(t, bed)
		ctx := t.Context()

		held, err := lost.Consume(ctx, client.ConsumeConfig{MaxInFlight: 10, LeaseTime: time.Hour}, "held")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := other.Enqueue(ctx, "held", client.Message{}); err != nil {
				t.Fatal(err)
			}
			if _, err := held.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		answered := make(chan string, waiters)
		for i := range waiters {
			// Half of them end while the connection is half-open.
			limit := time.Duration(1+i) * time.Second
			limited, stop := context.WithTimeout(ctx, limit)
			began := time.Now()
			call := lost.Call(limited, "work", client.Message{Payload: fmt.Append(nil, i)}, client.WithPipe(client.PipeOptions{DisconnectGrace: time.Hour}))
			if _, err := call.Receipt(); err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer stop()
				reply, err := call.One()
				if late := time.Since(began) - limit; late > clientTells {
					t.Errorf("waiter %d was told %v after its deadline", i, late)
				}
				switch {
				case err == nil:
					answered <- string(reply.Payload)
				case !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("waiter %d: %v", i, err)
				}
			})
		}
		began := time.Now()
		d.Swallow()
		taken, err := other.Consume(ctx, client.ConsumeConfig{MaxInFlight: 10}, "held")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if delivery, err := taken.Next(ctx); err != nil || delivery.Attempt != 2 {
				t.Fatalf("Next() = %+v, %v, want the second attempt", delivery, err)
			}
		}
		if took := time.Since(began); took > serverFrees {
			t.Errorf("the server gave up the session after %v, want at most %v", took, serverFrees)
		}
		taken.Close()
		time.Sleep(waiters/2*time.Second - time.Since(began))
		d.Heal()
		working, stop := context.WithCancel(ctx)
		var worker sync.WaitGroup
		worker.Go(func() {
			if err := other.Work(working, client.WorkConfig{}, echo, "work"); err != nil {
				t.Errorf("Work() = %v", err)
			}
		})
		all.Wait()
		stop()
		worker.Wait()
		if n := len(answered); n < waiters/2-10 {
			t.Errorf("%d waiters got an answer when the network was back, want the %d whose deadlines had not passed", n, waiters/2)
		}
	})
}

// TestSlowReaderIsCutAlone has one of many sessions stop reading what it gave credit for: it is cut, what it held is
// given to others, and meanwhile none of the others waits.
func TestSlowReaderIsCutAlone(t *testing.T) {
	const others = 31
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory())
		ctx, stop := context.WithCancel(t.Context())
		working, stopWork := context.WithCancel(t.Context())
		producer := memoryClient(t, bed)
		var callers, workers sync.WaitGroup
		for i := range others {
			c := memoryClient(t, bed)
			queue := fmt.Sprint("other.", i)
			workers.Go(func() {
				if err := c.Work(working, client.WorkConfig{}, echo, queue); err != nil {
					t.Errorf("Work() = %v", err)
				}
			})
			callers.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					began := time.Now()
					reply, err := c.Call(t.Context(), queue, client.Message{Payload: fmt.Append(nil, n)}).One()
					if err != nil || string(reply.Payload) != fmt.Sprint(n) {
						t.Errorf("One() = %q, %v", reply.Payload, err)
					}
					if took := time.Since(began); took > 0 {
						t.Errorf("beside a slow reader a call took %v", took)
					}
					select {
					case <-ctx.Done():
					case <-time.After(250 * time.Millisecond):
					}
				}
			})
		}
		conn, err := bed.Dial()
		if err != nil {
			t.Fatal(err)
		}
		slow, err := queuepb.NewQueueServiceClient(conn).Session(t.Context())
		if err == nil {
			err = slow.Send(&queuepb.SessionRequest{
				Hello:      &queuepb.Hello{ProtocolVersion: 1},
				Operations: []*queuepb.Operation{{Id: 1, Request: &queuepb.Operation_Consume{Consume: &queuepb.ConsumeRequest{Queues: []string{"slow"}, MaxInFlight: 1000}}}},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		for range 100 {
			if _, err := producer.Enqueue(ctx, "slow", client.Message{Payload: make([]byte, 100<<10)}); err != nil {
				t.Fatal(err)
			}
		}
		s, err := producer.Consume(ctx, client.ConsumeConfig{MaxInFlight: 100}, "slow")
		if err != nil {
			t.Fatal(err)
		}
		for again := 0; again == 0; {
			d, err := s.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d.Attempt > 1 {
				again++
			}
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("the slow reader's deliveries came back after %v, want 10 s to 12 s", took)
		}
		for err = error(nil); err == nil; {
			_, err = slow.Recv()
		}
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("the slow reader was told %v", err)
		}
		stop()
		callers.Wait()
		stopWork()
		workers.Wait()
	})
}

func echo(_ context.Context, d *client.Delivery) (*client.Answer, error) {
	return &client.Answer{Payload: d.Payload}, nil
}

// memoryClient makes a client of a bed in memory, closed with the test.
func memoryClient(t *testing.T, bed *testbed.Bed, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(bed.Addr, append([]client.Option{client.WithDialOptions(bed.DialOptions()...)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return c
}
