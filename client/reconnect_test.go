package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// cutter makes connections that can be cut.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
	cuts  int
}

func (c *cutter) option() client.Option {
	return client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns = append(c.conns, conn)
		return conn, nil
	}))
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
		c.cuts++
	}
	c.conns = nil
}

// keepCutting cuts at random times until the test is over.
func (c *cutter) keepCutting(t *testing.T) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-time.After(5*time.Millisecond + rand.N(40*time.Millisecond)):
				c.cut()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		t.Logf("%d connections were cut", c.cuts)
	})
}

var quick = client.WithBackoff(client.Backoff{Initial: time.Millisecond, Max: 20 * time.Millisecond})

// Every call gets its replies, all of them and none twice, though the caller's connections are cut all the time.
func TestCallsSurviveCuts(t *testing.T) {
	bed := testbed.New(t)
	worker := newClient(t, bed)
	var handled atomic.Int64
	work(t, worker, client.WorkConfig{Concurrency: 16}, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		handled.Add(1)
		for i := range 3 {
			if _, err := d.ReplyMore(ctx, client.Answer{Payload: fmt.Append(nil, string(d.Payload), " ", i)}); err != nil {
				return nil, err
			}
			time.Sleep(rand.N(3 * time.Millisecond))
		}
		return &client.Answer{Payload: fmt.Append(nil, string(d.Payload), " end")}, nil
	}, "jobs")
	var cuts cutter
	caller := newClient(t, bed, client.WithSessions(2), cuts.option(), quick)
	cuts.keepCutting(t)
	ctx := testContext(t)
	var wg sync.WaitGroup
	var calls int64
	for g := range 16 {
		calls += 60
		wg.Go(func() {
			for i := range 60 {
				name := fmt.Sprint(g, ".", i)
				got, err := replies(caller.Call(ctx, "jobs", text(name)).Replies())
				want := []string{name + " 0", name + " 1", name + " 2", name + " end"}
				if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("call %s: got %q, %v", name, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := handled.Load(); n != calls {
		t.Errorf("%d messages were handled for %d calls", n, calls)
	}
}

// Every message is settled and every waiter served though the worker's connections are cut all the time.
func TestWorkSurvivesCuts(t *testing.T) {
	for _, grace := range []time.Duration{0, 10 * time.Second} {
		t.Run(fmt.Sprint("grace ", grace), func(t *testing.T) {
			bed := testbed.New(t)
			var cuts cutter
			worker := newClient(t, bed, cuts.option(), quick)
			var again atomic.Int64 // handlers for what a handler had begun before
			var begun sync.Map
			work(t, worker, client.WorkConfig{Concurrency: 16, DisconnectGrace: grace}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				if _, before := begun.LoadOrStore(string(d.Payload), true); before {
					again.Add(1)
				}
				time.Sleep(rand.N(3 * time.Millisecond))
				return &client.Answer{Payload: d.Payload}, nil
			}, "jobs")
			caller := newClient(t, bed)
			cuts.keepCutting(t)
			ctx := testContext(t)
			var wg sync.WaitGroup
			for g := range 16 {
				wg.Go(func() {
					for i := range 60 {
						name := fmt.Sprint(g, ".", i)
						reply, err := caller.Call(ctx, "jobs", text(name)).One()
						if err != nil || string(reply.Payload) != name {
							t.Errorf("call %s: got %q, %v", name, reply.Payload, err)
							return
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d handlers were run again", again.Load())
			// What was on its way when a connection was cut comes again; what the worker had, it keeps.
			if grace > 0 && again.Load() > 0 {
				t.Errorf("%d handlers were run again within the grace", again.Load())
			}
		})
	}
}

// Each enqueue has one effect though the connection is cut.
func TestEnqueuesSurviveCuts(t *testing.T) {
	bed := testbed.New(t)
	var cuts cutter
	c := newClient(t, bed, cuts.option(), quick)
	cuts.keepCutting(t)
	ctx := testContext(t)
	const n = 400
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range n / 8 {
				enqueue(ctx, t, c, "jobs", text(fmt.Sprint(g, ".", i)))
				time.Sleep(rand.N(2 * time.Millisecond))
			}
		})
	}
	wg.Wait()
	steady := newClient(t, bed)
	s := consume(ctx, t, steady, client.ConsumeConfig{MaxInFlight: 100, IdleTime: 100 * time.Millisecond}, "jobs")
	seen := map[string]int{}
	for d, err := range s.Deliveries(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		seen[string(d.Payload)]++
		if err := d.Ack(ctx); err != nil {
			t.Error(err)
		}
		if len(seen) == n {
			break
		}
	}
	if len(seen) != n {
		t.Errorf("got %d messages, want %d", len(seen), n)
	}
	for name, times := range seen {
		if times != 1 {
			t.Errorf("message %s came %d times", name, times)
		}
	}
}

// A server without a journal that is started anew has lost the pipes: their waiters learn it, and all else goes on.
func TestServerStartedAnew(t *testing.T) {
	first, second := testbed.New(t), testbed.New(t)
	var now atomic.Pointer[testbed.Bed]
	now.Store(first)
	c := newClient(t, second, quick, client.WithDialOptions(
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", now.Load().Addr)
		})))
	ctx := testContext(t)
	work(t, c, client.WorkConfig{}, echo, "echo")
	call := c.Call(ctx, "nobody", text(""))
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	now.Store(second)
	soon, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	first.Server.Shutdown(soon)
	if _, err := call.One(); !errors.Is(err, client.ErrShuttingDown) && !errors.Is(err, client.ErrLost) {
		t.Errorf("One() = %v, want SHUTTING_DOWN or LOST", err)
	}
	if reply, err := c.Call(ctx, "echo", text("again")).One(); err != nil || string(reply.Payload) != "again" {
		t.Errorf("One() = %q, %v", reply.Payload, err)
	}
}

func TestClose(t *testing.T) {
	bed := testbed.New(t)
	c, err := client.New(bed.Addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	call := c.Call(ctx, "nobody", text(""))
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	s := consume(ctx, t, c, client.ConsumeConfig{}, "jobs")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := call.One(); !errors.Is(err, client.ErrClosed) {
			t.Errorf("One() = %v", err)
		}
	})
	wg.Go(func() {
		if _, err := s.Next(ctx); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Next() = %v", err)
		}
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Enqueue(ctx, "q", text("")); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Enqueue() = %v", err)
	}
	never, err := client.New(bed.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := never.Close(); err != nil { // before anything was done
		t.Error(err)
	}
}
