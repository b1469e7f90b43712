package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestP21SlowConsumer: a session that does not read what it gave credit for is cut after 10 s, its leases go back, and
// others notice nothing.
func TestP21SlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		slow := dial(t, c.bed)
		s := slow.openSession(&queuepb.Hello{}, opConsume(1, "work", 100))
		started := time.Now()
		for range 20 {
			must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{
				Queue: "work", Message: &queuepb.Message{Payload: make([]byte, 100<<10)},
			}))
		}
		consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
		if d := c.delivery(consumer); d.Attempt != 2 {
			t.Errorf("delivery = attempt %d, want the second", d.Attempt)
		}
		if waited := time.Since(started); waited < 10*time.Second || waited > 12*time.Second {
			t.Errorf("the lease came back after %v, want 10 s to 12 s", waited)
		}
		if got, want := s.end(), (refusal{codes.ResourceExhausted, "SLOW_CONSUMER", ""}); got != want {
			t.Errorf("status = %v, want %v", got, want)
		}
	})
}

// TestClientNeverReads sends and does not read: the window stops it after at most as many operations as fit into it and
// into the transport's buffers. The receiver does not wait for the sender meanwhile.
func TestClientNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		s := c.openSession(&queuepb.Hello{})
		const each = 100
		sent := make(chan int, 1)
		go func() {
			n := 0
			defer func() { sent <- n }()
			for ; n < 400_000; n += each {
				frame := &queuepb.SessionRequest{}
				for i := range each {
					frame.Operations = append(frame.Operations, opCall(uint64(n+i+1), "work", "x"))
				}
				if s.Send(frame) != nil {
					return
				}
			}
		}()
		synctest.Wait() // it is stuck, or stopped
		if got, want := s.end(), (refusal{codes.ResourceExhausted, "WINDOW_EXCEEDED", "operations"}); got != want {
			t.Errorf("status = %v, want %v", got, want)
		}
		if n := <-sent; n >= 400_000 {
			t.Errorf("%d operations were taken from a client that reads no answers", n)
		}
	})
}
