package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// manyQueues are in several shards, where there are several.
var manyQueues = []string{"a", "b", "c", "d", "e", "f", "g", "h"}

// fill puts n messages into each of the queues.
func (c *client) fill(n int) {
	c.t.Helper()
	for _, q := range manyQueues {
		for range n {
			c.enqueue(q, handles.Handle{})
		}
	}
}

// consumeMany registers a consumer of all the queues.
func (c *client) consumeMany(r broker.Consume, credit uint32) uint64 {
	c.t.Helper()
	r.Queues = manyQueues
	c.op++
	c.s.Submit([]broker.Op{{ID: c.op, Credit: credit, Request: &r}})
	expect[*broker.Started](c, c.op)
	return c.op
}

func (c *client) over(op uint64) {
	c.t.Helper()
	if e := c.next(op); !e.Done || e.Body != nil {
		c.t.Fatalf("operation %d: got %T %+v, want its end", op, e.Body, e.Body)
	}
}

func TestManyQueuesShareMaxInFlight(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.fill(5)
		op := w.consumeMany(broker.Consume{MaxInFlight: 3}, 0)
		seen := make(map[string]int)
		held := []delivery{w.delivered(op), w.delivered(op), w.delivered(op)}
		for range 5*len(manyQueues) - 3 {
			w.quiet(op)
			seen[held[0].Queue]++
			w.settle(held[0].Delivery, broker.Ack)
			held = append(held[1:], w.delivered(op))
		}
		for _, d := range held {
			seen[d.Queue]++
			w.settle(d.Delivery, broker.Ack)
		}
		for _, q := range manyQueues {
			if seen[q] != 5 {
				t.Errorf("queue %s: got %d messages, want 5", q, seen[q])
			}
		}
		// What comes later comes at once.
		for _, q := range manyQueues {
			p.enqueue(q, handles.Handle{})
			d := w.delivered(op)
			if d.Queue != q {
				t.Errorf("got a message of %s, want one of %s", d.Queue, q)
			}
			w.settle(d.Delivery, broker.Ack)
		}
		w.s.Detach(op)
		synctest.Wait()
		for _, q := range expect[*broker.QueueList](p, p.do(&broker.ListQueues{})).Queues {
			if q.Consumers != 0 || q.InFlight+q.Ready != 0 {
				t.Errorf("queue %s: got %+v, want nothing left", q.Name, q)
			}
		}
	})
}

func TestManyQueuesShareCredit(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.fill(1)
		op := w.consumeMany(broker.Consume{MaxInFlight: 100}, 1)
		for range manyQueues {
			w.delivered(op)
			w.quiet(op)
			w.s.Credit(op, 1)
		}
		p.fill(1)
		w.delivered(op) // of the last credit
		w.quiet(op)
	})
}

func TestManyQueuesShareTheEnd(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.fill(2)
		op := w.consumeMany(broker.Consume{MaxInFlight: 100, MaxDeliveries: 5}, 0)
		var held []delivery
		for range 5 {
			held = append(held, w.delivered(op))
		}
		w.quiet(op)
		for _, d := range held {
			w.quiet(op)
			w.settle(d.Delivery, broker.Ack)
		}
		w.over(op)

		op = w.consumeMany(broker.Consume{MaxInFlight: 100, Wait: 3 * time.Second}, 0)
		for range 2*len(manyQueues) - 5 {
			d := w.delivered(op)
			<-time.After(time.Second)
			w.settle(d.Delivery, broker.Ack)
		}
		start := time.Now()
		w.over(op)
		if since := time.Since(start); since > 3100*time.Millisecond {
			t.Errorf("ended %v after the last delivery was settled, want 3s at most", since)
		}

		op = w.consumeMany(broker.Consume{MaxInFlight: 3, ConsumerID: "me"}, 0)
		p.fill(1)
		held = []delivery{w.delivered(op), w.delivered(op), w.delivered(op)}
		if s := expect[*broker.Stopping](p, p.do(&broker.StopConsuming{ConsumerID: "me"})); s.InFlight != 3 {
			t.Errorf("stopping: got %d in flight, want 3", s.InFlight)
		}
		for _, d := range held {
			w.quiet(op)
			w.settle(d.Delivery, broker.Ack)
		}
		w.over(op)
		p.refused(p.do(&broker.StopConsuming{ConsumerID: "me"}), broker.ReasonConsumerUnknown, "consumer_id")
	})
}

// TestManyQueuesLetOthersPass: a consumer without room keeps nothing from others.
func TestManyQueuesLetOthersPass(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, other := b.attach("p"), b.attach("w"), b.attach("other")
		op := w.consumeMany(broker.Consume{MaxInFlight: 1}, 0)
		p.fill(1)
		w.delivered(op)
		left := 0
		for _, q := range manyQueues {
			takes := other.consume(q)
			synctest.Wait()
			if e, ok := other.poll(takes); ok {
				left++
				if _, ok := e.Body.(*broker.Delivery); !ok {
					t.Fatalf("got %T, want a delivery", e.Body)
				}
			}
		}
		if left != len(manyQueues)-1 {
			t.Errorf("others got %d, want %d", left, len(manyQueues)-1)
		}
	})
}

// TestManyQueuesComeBack: after a cut, by taking over, and with other queues than before.
func TestManyQueuesComeBack(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.fill(1)
		consume := func(c *client, held ...handles.Handle) uint64 {
			return c.consumeMany(broker.Consume{MaxInFlight: 8, ConsumerID: "me", Grace: time.Minute, Held: held}, 0)
		}
		op := consume(w)
		var leases []handles.Handle
		for range manyQueues {
			leases = append(leases, w.delivered(op).lease)
		}
		w.s.Close()
		w = b.attach("w2")
		op = consume(w, leases...)
		w.quiet(op)

		taker := b.attach("w3")
		again := consume(taker, leases[:6]...)
		w.refused(op, broker.ReasonConsumerTakenOver, "consumer_id")
		for range 2 {
			if d := taker.delivered(again); d.Attempt != 2 || d.Failures != 1 {
				t.Errorf("not named: got attempt %d with %d failures, want 2 with 1", d.Attempt, d.Failures)
			}
		}
		taker.quiet(again)

		last := b.attach("w4")
		one := last.do(&broker.Consume{Queues: []string{"none"}, ConsumerID: "me", MaxInFlight: 4, Held: leases[:4]})
		expect[*broker.Started](last, one)
		taker.refused(again, broker.ReasonConsumerTakenOver, "consumer_id")
		for _, lease := range leases[:4] {
			expect[*broker.Settled](last, last.do(&broker.Settle{Lease: lease, Action: broker.Ack}))
		}
		last.refused(last.do(&broker.Settle{Lease: leases[4], Action: broker.Ack}), broker.ReasonLeaseStale, "lease")
		other := b.attachAs("other", "o")
		other.refused(other.do(&broker.Consume{Queues: manyQueues, ConsumerID: "me"}), broker.ReasonConsumerTaken, "consumer_id")
		if list := expect[*broker.QueueList](p, p.do(&broker.ListQueues{Prefix: "a"})); list.Queues[0].Consumers != 0 {
			t.Errorf("queue a: got %d consumers, want none", list.Queues[0].Consumers)
		}
	})
}

func TestManyQueuesAreMade(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		w := b.attach("w")
		started := expect[*broker.Started](w, w.do(&broker.Consume{Queues: manyQueues, MaxInFlight: 1}))
		if len(started.Created) != len(manyQueues) || started.ConsumerID == "" {
			t.Errorf("started: got %+v, want an id and all queues", started)
		}
	})
	inBed(t, broker.Config{Shards: 5, NoAutoCreate: true}, func(t *testing.T, b *bed) {
		w := b.attach("w")
		for _, q := range manyQueues[:7] {
			expect[*broker.QueueList](w, w.do(&broker.CreateQueue{Queue: q}))
		}
		w.refused(w.do(&broker.Consume{Queues: manyQueues, MaxInFlight: 1}), broker.ReasonQueueNotFound, fmt.Sprintf("queues[%d]", 7))
	})
}
