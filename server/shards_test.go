package server_test

import (
	"testing"
	"testing/synctest"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/testbed"
)

// TestConsumeOverShards: on both faces, one consumer of queues in several shards has no more in flight than it asked for.
func TestConsumeOverShards(t *testing.T) {
	queues := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, face := range []string{"plain", "session"} {
		t.Run(face, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, testbed.InMemory(), testbed.WithBroker(func(cfg *broker.Config) { cfg.Shards = 5 }))
				for _, q := range queues {
					must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: q}))
				}
				request := &queuepb.ConsumeRequest{Queues: queues, MaxInFlight: 2}
				var next func() *queuepb.Delivery
				if face == "plain" {
					stream := c.consume(request)
					next = func() *queuepb.Delivery { return c.delivery(stream) }
				} else {
					s := c.openSession(&queuepb.Hello{}, operationOf(1, request))
					if r := s.next(1); r.GetConsume().GetStarted() == nil {
						t.Fatalf("first result = %v, want started", r)
					}
					next = func() *queuepb.Delivery { return s.next(1).GetConsume().GetDelivery() }
				}
				seen := make(map[string]bool)
				held := []*queuepb.Delivery{next(), next()}
				for range len(queues) - 2 {
					synctest.Wait()
					if n := c.bed.Broker.InFlight(); n != 2 {
						t.Fatalf("%d in flight, want 2", n)
					}
					seen[held[0].Queue] = true
					must[*queuepb.SettleResponse](t)(c.Settle(c.ctx, &queuepb.SettleRequest{Lease: held[0].Lease}))
					held = append(held[1:], next())
				}
				seen[held[0].Queue], seen[held[1].Queue] = true, true
				if len(seen) != len(queues) {
					t.Errorf("deliveries of %v, want each of %v", seen, queues)
				}
			})
		})
	}
}
