package integration_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// The server is stopped: every waiter has its end, and the server exits with 0 within its drain time.
func TestStoryKStop(t *testing.T) {
	t.Parallel()
	const drain = 3 * time.Second
	s := startServer(t, "--drain-timeout", drain.String())
	var callers, waiters []*process
	for _, l := range languages() {
		queue := "reports." + string(l)
		worker := s.consumer(t, l, queue, "hold")
		caller := s.play(t, l.next(), "producer", "--queue", queue, "--payload", canary, "--wait")
		caller.await(t, "receipt")
		callers = append(callers, caller)
		worker.await(t, "delivery")
		pipe := openPipe(t, s, "")
		waiters = append(waiters, s.play(t, l, "waiter", "--handle", pipe.receive))
		s.awaitReaders(t, pipe.receive, 1)
	}
	queued := s.play(t, inGo, "producer", "--queue", "nobody", "--payload", canary, "--wait")
	queued.await(t, "receipt")
	callers = append(callers, queued)

	began := time.Now()
	s.signal(t, syscall.SIGTERM)
	if code := s.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(began); took > drain+2*time.Second {
		t.Errorf("the stop took %v, want at most %v", took, drain)
	}
	for _, p := range append(callers, waiters...) {
		tell(t, p.name, p.all(t), "end SHUTTING_DOWN", "status UNAVAILABLE")
	}
}

// While it stops, what is under way may be finished, and nothing new is begun.
func TestStoryKFinish(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t, "--drain-timeout", "60s")
		stub, health := s.stub(t), healthpb.NewHealthClient(s.dial(t))
		d, lease := s.deliver(t, stub, "reports", l)
		s.signal(t, syscall.SIGTERM)
		eventually(t, "health says NOT_SERVING", func() bool {
			res, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
			return err == nil && res.Status == healthpb.HealthCheckResponse_NOT_SERVING
		})
		refused := s.stub(t)
		if _, err := refused.Enqueue(t.Context(), &queuepb.EnqueueRequest{Queue: "reports"}); status.Code(err) != codes.Unavailable {
			t.Errorf("Enqueue() = %v, want UNAVAILABLE", err)
		}
		reply := &queuepb.ReplyRequest{
			Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("in time")}, Lease: lease, Ack: true,
		}
		if _, err := stub.Reply(t.Context(), reply); err != nil {
			t.Fatalf("Reply() = %v", err)
		}
	})
}

// deliver has a program call a queue, and returns the delivery. In the end the caller must have its answer.
func (s *server) deliver(t *testing.T, stub queuepb.QueueServiceClient, queue string, l language) (*queuepb.Delivery, *queuepb.Handle) {
	t.Helper()
	caller := s.play(t, l, "producer", "--queue", queue, "--payload", canary, "--wait")
	t.Cleanup(func() {
		tell(t, caller.name, caller.all(t), "receipt", "reply in time", "end OK", "status OK")
	})
	stream, err := stub.Consume(t.Context(), &queuepb.ConsumeRequest{Queues: []string{queue}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		res, err := stream.Recv()
		if err != nil {
			t.Fatalf("Consume() = %v", err)
		}
		if d := res.GetDelivery(); d != nil {
			return d, d.Lease
		}
	}
}

// A second signal ends the stop at once, with an exit code of its own.
func TestStoryKSecondSignal(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--drain-timeout", "60s")
	caller := s.play(t, inGo, "producer", "--queue", "reports", "--payload", canary, "--wait")
	caller.await(t, "receipt")
	health := healthpb.NewHealthClient(s.dial(t))
	s.signal(t, syscall.SIGTERM)
	eventually(t, "health says NOT_SERVING", func() bool {
		res, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err == nil && res.Status == healthpb.HealthCheckResponse_NOT_SERVING
	})
	s.signal(t, syscall.SIGTERM)
	if code := s.wait(t, 5*time.Second); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

// The server is killed and comes back without its memory: waiters of the Go client learn that their pipes are lost.
func TestP01WaitersOfAKilledServerLearnIt(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.client(t)
	pipe, err := c.OpenPipe(t.Context(), client.PipeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	call := c.Call(t.Context(), "reports", client.Message{Payload: []byte(canary)})
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	future := client.NewFuture[string](c, pipe.Receive)
	awaiting := future.Done()
	s.awaitReaders(t, pipe.Receive.Text(), 1)

	s.kill()
	startServerAt(t, s.addr)
	restarted := time.Now()
	var end *client.EndError
	if reply, err := call.One(); !errors.As(err, &end) || !errors.Is(err, client.ErrLost) {
		t.Errorf("One() = %v, %v, want %v", reply, err, client.ErrLost)
	}
	select {
	case <-awaiting:
	case <-time.After(patience):
		t.Fatal("the future hangs")
	}
	if text, err := future.Await(t.Context()); !errors.Is(err, client.ErrLost) {
		t.Errorf("Await() = %q, %v, want %v", text, err, client.ErrLost)
	}
	if took := time.Since(restarted); took > 10*time.Second {
		t.Errorf("the waiters learned it %v after the restart, want within seconds", took)
	}
	// And the client goes on working.
	if _, err := c.Enqueue(t.Context(), "reports", client.Message{}); err != nil {
		t.Errorf("Enqueue() = %v", err)
	}
}

// The server is killed and does not come back: plain waiters have a clear status, and a Go waiter its context's.
func TestStoryKKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var plain []*process
	for _, l := range languages() {
		if l != inGo {
			p := s.play(t, l, "producer", "--queue", "reports", "--payload", canary, "--wait")
			p.await(t, "receipt")
			plain = append(plain, p)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	call := s.client(t).Call(ctx, "reports", client.Message{})
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	s.kill()
	for _, p := range plain {
		tell(t, p.name, p.all(t), "status UNAVAILABLE")
	}
	if _, err := call.One(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("One() = %v, want the context's end", err)
	}
}
