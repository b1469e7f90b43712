package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// Everybody who waits with a deadline has an end at the latest 2 s after it, whatever becomes of the message, of its
// consumer and of the server: calls with a deadline of their context or of their pipe, futures with one of their context.
func TestP11NoWaiterHangs(t *testing.T) {
	for name, dies := range map[string]func(*testbed.Bed, *lifeline){
		"the server lives":        nil,
		"the server stops":        func(bed *testbed.Bed, _ *lifeline) { _ = bed.Close() }, // its error is of no interest
		"the server dies":         func(_ *testbed.Bed, l *lifeline) { l.cut(false) },
		"the connections are cut": func(_ *testbed.Bed, l *lifeline) { l.cut(true) },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(10) {
				synctest.Test(t, func(t *testing.T) { waiters(t, seed, dies) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// lifeline is the clients' way to the server.
type lifeline struct {
	bed *testbed.Bed

	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func (l *lifeline) dial(ctx context.Context, _ string) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, errors.New("nobody there")
	}
	conn, err := l.bed.DialMemory(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return conn, nil
}

// cut cuts all connections; for good, or so that new ones can be made at once.
func (l *lifeline) cut(again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = !again
	for _, conn := range l.conns {
		_ = conn.Close() // fails only for one that is closed
	}
	l.conns = nil
}

func waiters(t *testing.T, seed uint64, dies func(*testbed.Bed, *lifeline)) {
	random := rand.New(rand.NewPCG(seed, 0))
	bed := testbed.New(t, testbed.InMemory())
	line := &lifeline{bed: bed}
	through := client.WithDialOptions(grpc.WithContextDialer(line.dial))
	c, worker := newClient(t, bed, through), newClient(t, bed, through)
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() {
		worked <- worker.Work(ctx, client.WorkConfig{Concurrency: 100, DrainGrace: time.Second}, fate, "work")
	}()

	type ended struct {
		what string
		late time.Duration
		err  error
	}
	ends := make(chan ended)
	const n = 60
	for i := range n {
		within := time.Duration(1+random.IntN(20)) * time.Second
		fates := []string{"answer", "half", "fail", "retry", "reject", "hold", "ack"}
		what := fates[random.IntN(len(fates))]
		ctx, cancel := context.WithCancel(t.Context())
		pipe := client.PipeOptions{Timeout: within}
		if i%2 == 0 || i%3 == 0 { // the deadline is the context's, else the pipe's
			ctx, cancel = context.WithTimeout(t.Context(), within)
			pipe.Timeout = time.Hour
		}
		go func() {
			defer cancel()
			began := time.Now()
			var err error
			if i%3 == 0 {
				var receipt client.Receipt
				if receipt, err = c.Enqueue(ctx, "work", text(what), client.WithPipe(pipe)); err == nil {
					_, err = client.NewFuture[string](c, receipt.ReceiveHandle).Await(ctx)
				}
			} else {
				_, err = c.Call(ctx, "work", text(what), client.WithPipe(pipe)).One()
			}
			ends <- ended{what, time.Since(began) - within, err}
		}()
	}
	if dies != nil {
		<-time.After(time.Duration(random.IntN(5000)) * time.Millisecond)
		dies(bed, line)
	}
	for range n {
		e := <-ends
		if e.late > 2*time.Second {
			t.Errorf("a waiter for %q learned %v only %v after its deadline", e.what, e.err, e.late)
		}
	}
	stop()
	if err := <-worked; err != nil {
		t.Logf("Work: %v", err) // mostly that handlers had to be stopped
	}
}

// fate is what a worker does with a message: what the message says.
func fate(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
	switch string(d.Payload) {
	case "answer":
		return &client.Answer{Payload: d.Payload}, nil
	case "half":
		_, err := d.ReplyMore(ctx, client.Answer{Payload: []byte("half")})
		<-ctx.Done()
		return nil, err
	case "fail":
		return nil, &client.Error{Code: 5, Reason: "NOTHING"}
	case "retry":
		return nil, d.Retry(ctx, time.Second, "again")
	case "reject":
		return nil, d.Reject(ctx, "no")
	case "ack":
		return nil, d.Ack(ctx)
	default:
		<-ctx.Done()
		return nil, ctx.Err()
	}
}
