package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// TestConsumerComesBack: on both faces, a consumer that is cut has its deliveries wait for it, keeps what it names, and is
// given the rest again at once.
func TestConsumerComesBack(t *testing.T) {
	request := func(held ...*queuepb.Handle) *queuepb.ConsumeRequest {
		return &queuepb.ConsumeRequest{
			Queues: []string{"work"}, MaxInFlight: 2, ConsumerId: "me", DisconnectGrace: seconds(60), HeldLeases: held,
		}
	}
	plain := func(c *client, held ...*queuepb.Handle) (next func() *queuepb.Delivery, cut func()) {
		ctx, cancel := context.WithCancel(c.ctx)
		one := *c
		one.ctx = ctx
		stream := one.consume(request(held...))
		return func() *queuepb.Delivery { return one.delivery(stream) }, cancel
	}
	inSession := func(c *client, held ...*queuepb.Handle) (next func() *queuepb.Delivery, cut func()) {
		s := c.openSession(&queuepb.Hello{}, operationOf(1, request(held...)))
		if started := s.next(1); started.GetConsume().GetStarted() == nil {
			t.Fatalf("first result = %v, want started", started)
		}
		return func() *queuepb.Delivery { return s.next(1).GetConsume().GetDelivery() },
			func() { s.write(&queuepb.SessionRequest{Detach: []uint64{1}}) }
	}
	for name, open := range map[string]func(*client, ...*queuepb.Handle) (func() *queuepb.Delivery, func()){
		"plain": plain, "session": inSession,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, testbed.InMemory())
				for range 2 {
					must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work"}))
				}
				next, cut := open(c)
				kept, dropped := next(), next()
				cut()
				<-time.After(5 * time.Second)
				next, cut = open(c, kept.Lease)
				defer cut()
				if again := next(); again.MessageId != dropped.MessageId || again.Attempt != 2 || again.Failures != 1 {
					t.Errorf("came again: %v, want %s, which was not named", again, dropped.MessageId)
				}
				must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: kept.Lease}))
			})
		})
	}
}
