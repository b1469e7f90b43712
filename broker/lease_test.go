package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

func TestFirstDeliveriesComeInOrder(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		var ids []broker.MessageID
		for range 50 {
			ids = append(ids, p.enqueue("q", handles.Handle{}).Message)
		}
		op := w.consume("q")
		for i, id := range ids {
			if d := w.delivered(op); d.Message != id || d.Attempt != 1 {
				t.Fatalf("delivery %d: got %v attempt %d, want %v attempt 1", i, d.Message, d.Attempt, id)
			}
		}
	})
}

func TestConsumersAreServedInTurn(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		first, second := w.consume("q"), w.consume("q")
		for range 10 {
			p.enqueue("q", handles.Handle{})
		}
		for range 5 {
			w.delivered(first)
			w.delivered(second)
		}
		w.quiet(first)
	})
}

func TestMaxInFlightBoundsDeliveries(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 2})
		expect[*broker.Started](w, op)
		for range 3 {
			p.enqueue("q", handles.Handle{})
		}
		d := w.delivered(op)
		w.delivered(op)
		w.quiet(op)
		w.settle(d.Delivery, broker.Ack)
		w.delivered(op)
	})
}

func TestP09RetryReturnsAfterItsDelay(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("q", handles.Handle{})
		op := w.consume("q")
		d := w.delivered(op)
		start := time.Now()
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Retry, Delay: 1500 * time.Millisecond}))
		again := w.delivered(op)
		if late := time.Since(start) - 1500*time.Millisecond; late < 0 || late > 10*time.Millisecond {
			t.Errorf("retry came %v after its delay, want 0 to 10ms", late)
		}
		if again.Attempt != 2 || again.Failures != 1 || again.Message != d.Message {
			t.Errorf("got attempt %d, failures %d, want 2 and 1", again.Attempt, again.Failures)
		}
	})
}

func TestReleaseCountsNoFailure(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		first, second := p.enqueue("q", handles.Handle{}), p.enqueue("q", handles.Handle{})
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		d := w.delivered(op)
		w.settle(d.Delivery, broker.Release)
		d = w.delivered(op)
		if d.Message != first.Message || d.Failures != 0 || d.Attempt != 2 {
			t.Errorf("got %v failures %d attempt %d, want the first message again with 0 and 2", d.Message, d.Failures, d.Attempt)
		}
		w.settle(d.Delivery, broker.Ack)
		if d = w.delivered(op); d.Message != second.Message {
			t.Errorf("got %v, want the second message", d.Message)
		}
	})
}

func TestP07LeaseExpiresAndIsFenced(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("q", handles.Handle{})
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, LeaseTime: 2 * time.Second})
		expect[*broker.Started](w, op)
		d := w.delivered(op)
		start := time.Now()
		if lost := expect[*broker.LeaseLost](w, op); lost.Message != d.Message || lost.Attempt != 1 {
			t.Errorf("lease lost: got %+v", lost)
		}
		again := w.delivered(op)
		if since := time.Since(start); since < 2*time.Second || since > 2100*time.Millisecond {
			t.Errorf("redelivered after %v, want 2s", since)
		}
		if again.Attempt != 2 || again.Failures != 1 {
			t.Errorf("got attempt %d failures %d, want 2 and 1", again.Attempt, again.Failures)
		}
		w.refused(w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack}), broker.ReasonLeaseStale, "lease")
		w.settle(again.Delivery, broker.Ack)
		w.refused(w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack}), broker.ReasonLeaseStale, "lease")
	})
}

func TestExtendKeepsALease(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("q", handles.Handle{})
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, LeaseTime: 2 * time.Second})
		expect[*broker.Started](w, op)
		d := w.delivered(op)
		for range 5 {
			<-time.After(time.Second)
			x := expect[*broker.Extended](w, w.do(&broker.ExtendLeases{Leases: []handles.Handle{d.lease}}))
			if got := time.Until(x.Leases[0].Expires.Std()); x.Leases[0].Err != nil || got != 2*time.Second {
				t.Fatalf("extend: got %v (%v), want 2s", got, x.Leases[0].Err)
			}
		}
		w.quiet(op)
		x := expect[*broker.Extended](w, w.do(&broker.ExtendLeases{Leases: []handles.Handle{d.lease}, LeaseTime: 25 * time.Hour}))
		if x.Leases[0].Err == nil || x.Leases[0].Err.Reason != broker.ReasonLeaseInvalid {
			t.Errorf("extend beyond 24 h: got %+v, want LEASE_INVALID", x.Leases[0])
		}
	})
}

func TestSettleTwice(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("q", handles.Handle{})
		op := w.consume("q")
		d := w.delivered(op)
		if s := w.settle(d.Delivery, broker.Ack); s.Already {
			t.Error("first ack: already set")
		}
		if s := w.settle(d.Delivery, broker.Ack); !s.Already {
			t.Error("second ack: already not set")
		}
		w.refused(w.do(&broker.Settle{Lease: d.lease, Action: broker.Retry}), broker.ReasonLeaseStale, "lease")
		<-time.After(61 * time.Second)
		p.enqueue("q", handles.Handle{})
		w.settle(w.delivered(op).Delivery, broker.Ack) // ages the memory of settled leases
		w.refused(w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack}), broker.ReasonLeaseUnknown, "lease")
	})
}

func TestLeaseOfAnotherPrincipal(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attachAs("other", "w")
		p.enqueue("q", handles.Handle{})
		d := w.delivered(w.consume("q"))
		p.refused(p.do(&broker.Settle{Lease: d.lease, Action: broker.Ack}), broker.ReasonLeaseNotYours, "lease")
		w.settle(d.Delivery, broker.Ack)
	})
}

func TestLostConsumerGivesBackInOrder(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, lost, w := b.attach("p"), b.attach("lost"), b.attach("w")
		var ids []broker.MessageID
		for range 20 {
			ids = append(ids, p.enqueue("q", handles.Handle{}).Message)
		}
		op := lost.consume("q")
		for range ids {
			lost.delivered(op)
		}
		lost.s.Close()
		op = w.consume("q")
		for i, id := range ids {
			if d := w.delivered(op); d.Message != id || d.Failures != 1 || d.Attempt != 2 {
				t.Fatalf("delivery %d: got %v failures %d attempt %d, want %v 1 2", i, d.Message, d.Failures, d.Attempt, id)
			}
		}
	})
}

func TestP10FailingTooOftenMakesADeadMessage(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "poison", broker.PipeOptions{})
		op := w.consume("q")
		for i := range 20 {
			s := w.settle(w.delivered(op).Delivery, broker.Retry)
			if s.Dead != (i == 19) {
				t.Fatalf("retry %d: dead is %v", i+1, s.Dead)
			}
		}
		p.ends(call, broker.EndDeadLettered)
		q := expect[*broker.QueueList](p, p.do(&broker.ListQueues{Name: "q"})).Queues[0]
		if q.Dead != 1 || q.Ready+q.InFlight+q.Delayed != 0 {
			t.Errorf("queue: got %+v, want one dead message", q)
		}
	})
}

func TestRejectMakesADeadMessage(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "bad", broker.PipeOptions{})
		if s := w.settle(w.delivered(w.consume("q")).Delivery, broker.Reject); !s.Dead {
			t.Error("reject: dead not set")
		}
		p.ends(call, broker.EndRejected)
	})
}

func TestStopConsuming(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 5, ConsumerID: "me"})
		expect[*broker.Started](w, op)
		p.enqueue("q", handles.Handle{})
		d := w.delivered(op)
		if s := expect[*broker.Stopping](w, w.do(&broker.StopConsuming{ConsumerID: "me"})); s.InFlight != 1 {
			t.Errorf("stopping: got %d in flight, want 1", s.InFlight)
		}
		p.enqueue("q", handles.Handle{})
		w.quiet(op)
		w.settle(d.Delivery, broker.Ack)
		if e := w.next(op); !e.Done || e.Body != nil {
			t.Errorf("got %+v, want the end of the consumer", e)
		}
		w.refused(w.do(&broker.StopConsuming{ConsumerID: "me"}), broker.ReasonConsumerUnknown, "consumer_id")
		w.delivered(w.consume("q"))
	})
}

func TestConsumerIDs(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		a, again, other := b.attach("a"), b.attach("b"), b.attachAs("other", "c")
		op := a.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "id"})
		expect[*broker.Started](a, op)
		other.refused(other.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "id"}), broker.ReasonConsumerTaken, "consumer_id")
		expect[*broker.Started](again, again.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "id"}))
		a.refused(op, broker.ReasonConsumerTakenOver, "consumer_id")
	})
}

func TestConsumerEndsByItself(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for range 3 {
			p.enqueue("q", handles.Handle{})
		}
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 10, MaxDeliveries: 2})
		expect[*broker.Started](w, op)
		for range 2 {
			w.settle(w.delivered(op).Delivery, broker.Ack)
		}
		if e := w.next(op); !e.Done {
			t.Fatalf("after max_deliveries: got %+v, want the end", e)
		}
		op = w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 10, Wait: 3 * time.Second})
		expect[*broker.Started](w, op)
		start := time.Now()
		w.settle(w.delivered(op).Delivery, broker.Ack)
		if e := w.next(op); !e.Done {
			t.Fatalf("after wait: got %+v, want the end", e)
		}
		if since := time.Since(start); since < 3*time.Second || since > 4*time.Second {
			t.Errorf("waited %v, want 3s", since)
		}
	})
}

func TestDelayedMessagesComeInAtTheirTime(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		start := time.Now()
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("late"), Delay: time.Hour}))
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("at"), NotBefore: broker.TimeOf(start.Add(time.Minute))}))
		p.enqueue("q", handles.Handle{})
		op := w.consume("q")
		for i, want := range []struct {
			body string
			at   time.Duration
		}{{"m", 0}, {"at", time.Minute}, {"late", time.Hour}} {
			d := w.delivered(op)
			if late := time.Since(start) - want.at; string(d.Body) != want.body || late < 0 || late > 250*time.Millisecond {
				t.Errorf("delivery %d: got %q, %v after its time; want %q", i, d.Body, late, want.body)
			}
			w.settle(d.Delivery, broker.Ack)
		}
	})
}

func TestExpiredMessageIsWithdrawn(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := p.do(&broker.Enqueue{Queue: "q", Body: []byte("m"), Expiry: time.Minute, Pipe: &broker.PipeOptions{}, Call: true})
		expect[*broker.Receipt](p, op)
		start := time.Now()
		p.ends(op, broker.EndExpired)
		if since := time.Since(start); since < time.Minute || since > time.Minute+250*time.Millisecond {
			t.Errorf("ended after %v, want 1m", since)
		}
		w.quiet(w.consume("q"))
		if q := p.queue("q"); q.Dead != 0 || q.Bytes != 0 {
			t.Errorf("got %+v, want that nothing is kept of it", q)
		}
	})
}

func TestP09TenThousandLeasesOverThirtyDays(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		const n = 10_000
		start := time.Now()
		due := make(map[string]time.Time)
		for i := range n {
			delay := time.Duration(i) * (30 * 24 * time.Hour / n)
			body := fmt.Sprint(i)
			due[body] = start.Add(delay)
			p.do(&broker.Enqueue{Queue: "q", Body: []byte(body), Delay: delay})
		}
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: n, LeaseTime: 12 * time.Hour})
		expect[*broker.Started](w, op)
		for range n {
			e := w.nextWithin(op, 31*24*time.Hour)
			d, ok := e.Body.(*broker.Delivery)
			if !ok {
				t.Fatalf("got %T, want a delivery", e.Body)
			}
			if late := time.Since(due[string(d.Body)]); late < 0 || late > 250*time.Millisecond {
				t.Fatalf("message %s came %v after its time", d.Body, late)
			}
			w.settle(d, broker.Ack)
		}
		synctest.Wait()
	})
}

func (c *client) nextWithin(op uint64, d time.Duration) broker.Event {
	c.t.Helper()
	deadline := time.After(d)
	for {
		if e, ok := c.poll(op); ok {
			return e
		}
		select {
		case <-c.s.Ready():
		case <-deadline:
			c.t.Fatalf("operation %d: no event in %v", op, d)
		}
	}
}

// A lease that only looks as if it were of another shard is one that nobody knows: its key has signed it, but for another
// store or for a server with more shards, as there are before a restart and behind the same key file.
func TestLeasesOfElsewhereAreUnknown(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		w := b.attach("w")
		send, _ := w.pipe(broker.PipeOptions{})
		far := time.Now().Add(time.Hour).Unix()
		for _, claims := range []handles.Claims{
			{Store: b.b.Store() + 1, Shard: send.Shard() + 1},
			{Store: b.b.Store() + 1, Shard: send.Shard()},
			{Store: b.b.Store(), Shard: 60_000},
		} {
			claims.Kind, claims.Tenant, claims.Nonce, claims.Attempt, claims.Expires = handles.Lease, 1, 42, 1, far
			lease := b.keys.Mint(claims)
			for _, ack := range []bool{false, true} {
				w.refused(w.do(&broker.Reply{Handle: send, Lease: lease, Ack: ack, More: true}), broker.ReasonLeaseUnknown, "lease")
			}
			w.refused(w.do(&broker.Settle{Lease: lease, Action: broker.Ack}), broker.ReasonLeaseUnknown, "lease")
		}
	})
}

// TestLeaseOfARemovedMessageIsStale: who had a message last learns that it lost it, although the message is gone.
func TestLeaseOfARemovedMessageIsStale(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		r := p.enqueue("q", handles.Handle{})
		op := w.consume("q")
		d := w.delivered(op)
		w.s.Detach(op) // the message is back in its queue
		expect[*broker.Removed](p, p.do(&broker.DeleteMessages{Queue: "q", Messages: []broker.MessageID{r.Message}}))
		w.refused(w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack}), broker.ReasonLeaseStale, "lease")
	})
}
