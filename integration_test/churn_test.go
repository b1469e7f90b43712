package integration_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// TestChurn: clients connect, make one request, and leave, some without a word. When what is remembered for them has had
// its time, the server has as many goroutines, and counts as many bytes, as before, and its heap has not grown.
func TestChurn(t *testing.T) {
	var offset atomic.Int64 // the server's clock is so much ahead
	bed := testbed.New(t, testbed.WithClock(func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	worker, err := client.New(bed.Addr)
	if err != nil {
		t.Fatal(err)
	}
	working := make(chan error, 1)
	go func() {
		working <- worker.Work(ctx, client.WorkConfig{Concurrency: 16},
			func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				return &client.Answer{Payload: d.Payload}, nil
			}, "work")
	}()
	churn := func(n int) {
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				for i := range n / 10 {
					visit(ctx, t, bed.Addr, i)
				}
			})
		}
		group.Wait()
	}
	// state is what is left when everything that has a time has had it.
	state := func() (goroutines int, counted int64, heap uint64) {
		offset.Add(int64(2 * time.Hour))
		if _, err := worker.ServerInfo(ctx); err != nil { // the server looks at its clock
			t.Fatal(err)
		}
		bed.Broker.QueueStatistics(1, "")
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), bed.Broker.MemoryUsed(), m.HeapAlloc
	}
	churn(200) // what is made once, pools and slabs, is there then
	var goroutines int
	var counted int64
	var heap uint64
	eventually(t, "the first connections are gone", func() bool {
		before := goroutines
		goroutines, counted, heap = state()
		return goroutines == before
	})
	// What the worker's own session remembers may have got longer meanwhile; a session or connection that was forgotten is
	// more.
	const slack = 32 << 10
	n := scaled(t, 1000)
	churn(n)
	eventually(t, "the goroutines of clients that have left have ended", func() bool {
		g, c, _ := state()
		return g <= goroutines && c <= counted+slack
	})
	g, c, h := state()
	t.Logf("after %d visits: %d goroutines (before %d), %d bytes counted (%d), %d KiB of heap (%d)", n, g, goroutines, c, counted, h>>10, heap>>10)
	if h > heap+heap/20+1<<20 {
		t.Errorf("the heap has %d KiB, %d before: something is kept of each visit", h>>10, heap>>10)
	}
	stop()
	if err := errors.Join(<-working, worker.Close()); err != nil {
		t.Error(err)
	}
}

// visit connects, makes one request, and leaves: on the plain face and in a session in turn, and every third time without
// awaiting the answer.
func visit(ctx context.Context, t *testing.T, address string, i int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if i%2 == 0 {
		c, err := client.New(address)
		if err != nil {
			t.Error(err)
			return
		}
		call := c.Call(ctx, "work", client.Message{Payload: []byte("x")})
		if _, err := call.Receipt(); err != nil {
			t.Errorf("Call() = %v", err)
		}
		if i%3 != 0 {
			if _, err := call.One(); err != nil {
				t.Errorf("Call() = %v", err)
			}
		}
		_ = c.Close() // with a call that is under way, or not
		return
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }() // cuts the call that is not awaited
	call, err := queuepb.NewQueueServiceClient(conn).Call(ctx, &queuepb.CallRequest{Queue: "work"})
	if err != nil {
		t.Error(err)
		return
	}
	for events := 0; events < 3 && (i%3 != 0 || events == 0); events++ { // receipt, reply, end
		if _, err := call.Recv(); err != nil {
			t.Errorf("Call() = %v", err)
			return
		}
	}
}
