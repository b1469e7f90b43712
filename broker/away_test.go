package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// consumeAs registers a consumer that may be away for a minute, with the leases it still has.
func (c *client) consumeAs(id string, held ...handles.Handle) uint64 {
	c.t.Helper()
	op := c.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 3, ConsumerID: id, Held: held, Grace: time.Minute})
	expect[*broker.Started](c, op)
	return op
}

func TestConsumerComesBackWithItsLeases(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		other := b.attach("other")
		for range 5 {
			p.enqueue("q", handles.Handle{})
		}
		op := w.consumeAs("me")
		kept, dropped, settled := w.delivered(op), w.delivered(op), w.delivered(op)
		w.s.Close()

		// While it is away its deliveries wait for it, and can be settled.
		w = b.attach("w2")
		w.settle(settled.Delivery, broker.Ack)
		takes := other.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 2})
		expect[*broker.Started](other, takes)
		other.delivered(takes)
		other.delivered(takes)
		other.quiet(takes)

		// What it names it keeps, the rest returns at once.
		op = w.consumeAs("me", kept.lease, settled.lease)
		again := w.delivered(op)
		if again.Message != dropped.Message || again.Attempt != 2 || again.Failures != 1 {
			t.Errorf("not named: got %v attempt %d failures %d, want %v again", again.Message, again.Attempt, again.Failures, dropped.Message)
		}
		w.settle(kept.Delivery, broker.Ack)
		w.quiet(op)
	})
}

func TestConsumerIsAwayTooLong(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, other := b.attach("p"), b.attach("w"), b.attach("other")
		p.enqueue("q", handles.Handle{})
		op := w.do(&broker.Consume{Queues: []string{"q"}, ConsumerID: "me", MaxInFlight: 1, Grace: 10 * time.Second})
		expect[*broker.Started](w, op)
		d := w.delivered(op)
		start := time.Now()
		w.s.Detach(op)
		takes := other.consume("q")
		again := other.delivered(takes)
		if since := time.Since(start); again.Failures != 1 || since < 10*time.Second || since > 10*time.Second+10*time.Millisecond {
			t.Errorf("came again after %v with %d failures, want after 10s with 1", since, again.Failures)
		}
		// It is told of the lease that it has lost.
		op = w.consumeAs("me", d.lease)
		if lost := expect[*broker.LeaseLost](w, op); lost.Message != d.Message || lost.Attempt != 1 {
			t.Errorf("lease lost: got %+v, want attempt 1 of %v", lost, d.Message)
		}
		other.settle(again.Delivery, broker.Ack)
	})
}

func TestConsumerTakesOverItsLeases(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("q", handles.Handle{})
		p.enqueue("q", handles.Handle{})
		older := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 2, ConsumerID: "me"}) // without grace
		expect[*broker.Started](w, older)
		kept, dropped := w.delivered(older), w.delivered(older)
		w2 := b.attach("w2")
		op := w2.consumeAs("me", kept.lease)
		w.refused(older, broker.ReasonConsumerTakenOver, "consumer_id")
		if again := w2.delivered(op); again.Message != dropped.Message || again.Failures != 1 {
			t.Errorf("not named: got %v with %d failures, want %v with 1", again.Message, again.Failures, dropped.Message)
		}
		w2.settle(kept.Delivery, broker.Ack)
	})
}

// TestLeasesOfOthersAreNotKept: naming a lease does not take it from whoever has it.
func TestLeasesOfOthersAreNotKept(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, thief, same := b.attach("p"), b.attach("w"), b.attachAs("thief", "t"), b.attach("same")
		p.enqueue("q", handles.Handle{})
		works := w.consume("q")
		d := w.delivered(works)
		op := thief.consumeAs("me", d.lease)
		if lost := expect[*broker.LeaseLost](thief, op); lost.Message != d.Message {
			t.Errorf("another principal: got %+v, want word that %v is not its own", lost, d.Message)
		}
		thief.s.Close()
		same.quiet(same.consumeAs("me", d.lease))
		w.settle(d.Delivery, broker.Ack)
		w.quiet(works)
	})
}

func TestAwayConsumerHearsOfItsWaiters(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		_, receipt := p.call("q", "m", broker.PipeOptions{})
		op := w.consumeAs("me")
		d := w.delivered(op)
		w.s.Close()
		expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: b.keys.Mint(receipt.Receive)}))
		synctest.Wait()
		w = b.attach("w2")
		op = w.consumeAs("me", d.lease)
		if gone := expect[*broker.WaiterGone](w, op); gone.Message != d.Message || gone.Reason != broker.EndCancelled {
			t.Errorf("waiter gone: got %+v", gone)
		}
	})
}

// TestAwayIDIsFree: another principal may take the id of a consumer that is away, and has nothing of it.
func TestAwayIDIsFree(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, other := b.attach("p"), b.attach("w"), b.attachAs("other", "o")
		p.enqueue("q", handles.Handle{})
		d := w.delivered(w.consumeAs("me"))
		w.s.Close()
		op := other.consumeAs("me")
		other.quiet(op)
		w = b.attach("w2")
		w.refused(w.do(&broker.Consume{Queues: []string{"q"}, ConsumerID: "me", Held: []handles.Handle{d.lease}}),
			broker.ReasonConsumerTaken, "consumer_id")
		other.s.Close()
		w.quiet(w.consumeAs("me", d.lease))
		w.settle(d.Delivery, broker.Ack)
	})
}

// TestLeasesWaitAfterARestart: a lease of before waits five seconds for its consumer, or its grace; then it counts as
// failed.
func TestLeasesWaitAfterARestart(t *testing.T) {
	j := &journal.Memory{}
	cfg := broker.Config{Store: 3, Journal: func(uint16) (journal.Journal, error) { return keptOpen{j}, nil }}
	synctest.Test(t, func(t *testing.T) {
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		start := func() *bed {
			b, err := broker.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return &bed{t, b, keys, 1}
		}
		b := start()
		p := b.attach("p")
		names := map[broker.MessageID]string{}
		lease := map[string]handles.Handle{}
		for _, test := range []struct {
			name         string
			grace, lease time.Duration
		}{
			{"kept", 0, 10 * time.Second}, {"five", 0, time.Hour}, {"grace", 20 * time.Second, time.Hour},
			{"expires", time.Minute, 12 * time.Second},
		} {
			w := b.attach(test.name)
			names[p.enqueue("q", handles.Handle{}).Message] = test.name
			op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, LeaseTime: test.lease, Grace: test.grace})
			expect[*broker.Started](w, op)
			lease[test.name] = w.delivered(op).lease
		}
		synctest.Wait()
		if err := b.b.Close(); err != nil { // a crash, as far as the journal knows
			t.Fatal(err)
		}
		<-time.After(4 * time.Second)

		b = start()
		began := time.Now()
		w, back := b.attach("w"), b.attach("back")
		<-time.After(4 * time.Second)
		keeps := back.do(&broker.Consume{Queues: []string{"other"}, MaxInFlight: 2, Held: []handles.Handle{lease["kept"]}, LeaseTime: time.Minute})
		expect[*broker.Started](back, keeps)
		expect[*broker.Extended](back, back.do(&broker.ExtendLeases{Leases: []handles.Handle{lease["kept"]}}))
		op := w.consume("q")
		for _, want := range []struct {
			name  string
			after time.Duration
		}{{"five", 5 * time.Second}, {"expires", 8 * time.Second}, {"grace", 20 * time.Second}} {
			d := w.delivered(op)
			if since := time.Since(began).Truncate(100 * time.Millisecond); names[d.Message] != want.name || since != want.after || d.Failures != 1 {
				t.Errorf("got %q after %v with %d failures, want %q after %v with 1", names[d.Message], since, d.Failures, want.name, want.after)
			}
		}
		expect[*broker.Settled](back, back.do(&broker.Settle{Lease: lease["kept"], Action: broker.Ack}))
		if err := b.b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestUnnamedLeasesReturnAfterARestart: who comes back after a restart keeps the lease that it names, and another one that
// it had returns at once. Those of others wait for them: of another id, and of another principal under the same id.
func TestUnnamedLeasesReturnAfterARestart(t *testing.T) {
	for _, shards := range []int{1, 5} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			kept := make([]journal.Memory, shards)
			cfg := broker.Config{Shards: shards, Store: 5, Journal: func(n uint16) (journal.Journal, error) { return keptOpen{&kept[n]}, nil }}
			var keys *handles.KeyRing
			lease := map[string]handles.Handle{}
			names := map[broker.MessageID]string{}
			inBed(t, cfg, func(t *testing.T, b *bed) {
				keys = b.keys
				p := b.attach("p")
				for _, of := range []struct{ principal, id string }{{"o", "me"}, {"p", "me"}, {"p", "me"}, {"p", "you"}} {
					name := fmt.Sprintf("%s as %s, %d", of.principal, of.id, len(names))
					names[p.enqueue("q", handles.Handle{}).Message] = name
					w := b.attachAs(of.principal, name)
					take := &broker.Consume{Queues: []string{"q"}, MaxInFlight: 2, ConsumerID: of.id, LeaseTime: time.Hour, Grace: time.Minute}
					if len(names) == 3 { // it had the one before
						take.Held = []handles.Handle{lease["p as me, 1"]}
					}
					op := w.do(take)
					expect[*broker.Started](w, op)
					lease[name] = w.delivered(op).lease
					w.s.Close()
				}
			})
			inBed(t, cfg, func(t *testing.T, b *bed) {
				b.keys = keys
				began := time.Now()
				w, other := b.attach("w"), b.attach("other")
				op := other.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 9, LeaseTime: time.Hour})
				expect[*broker.Started](other, op)
				other.quiet(op)
				back := w.do(&broker.Consume{
					Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "me", LeaseTime: time.Hour, Held: []handles.Handle{lease["p as me, 1"]},
				})
				expect[*broker.Started](w, back)
				for _, want := range []struct {
					name  string
					after time.Duration
				}{{"p as me, 2", 0}, {"o as me, 0", time.Minute}, {"p as you, 3", time.Minute}} {
					d := other.delivered(op)
					if since := time.Since(began); names[d.Message] != want.name || since.Truncate(time.Second) != want.after || d.Failures != 1 {
						t.Errorf("got %q after %v with %d failures, want %q after %v with 1", names[d.Message], since, d.Failures, want.name, want.after)
					}
				}
				other.quiet(op)
				expect[*broker.Settled](w, w.do(&broker.Settle{Lease: lease["p as me, 1"], Action: broker.Ack}))
			})
		})
	}
}

// TestUnnamedLeasesElsewhereReturnAfterARestart: so do those of queues, in other shards too, that it does not consume any more.
func TestUnnamedLeasesElsewhereReturnAfterARestart(t *testing.T) {
	kept := make([]journal.Memory, 5)
	cfg := broker.Config{Shards: 5, Store: 5, Journal: func(n uint16) (journal.Journal, error) { return keptOpen{&kept[n]}, nil }}
	inBed(t, cfg, func(t *testing.T, b *bed) {
		w := b.attach("w")
		op := w.consumeMany(broker.Consume{MaxInFlight: 8, ConsumerID: "me", LeaseTime: time.Hour, Grace: time.Minute}, 0)
		b.attach("p").fill(1)
		for range manyQueues {
			w.delivered(op)
		}
	})
	inBed(t, cfg, func(t *testing.T, b *bed) {
		w, other := b.attach("w"), b.attach("other")
		op := other.consumeMany(broker.Consume{MaxInFlight: 8}, 0)
		other.quiet(op)
		expect[*broker.Started](w, w.do(&broker.Consume{Queues: []string{"none"}, MaxInFlight: 1, ConsumerID: "me"}))
		began := time.Now()
		for range manyQueues {
			if d := other.delivered(op); d.Attempt != 2 || d.Failures != 1 {
				t.Errorf("attempt %d after %d failures, want the second after one", d.Attempt, d.Failures)
			}
		}
		if since := time.Since(began); since != 0 {
			t.Errorf("the deliveries came after %v, want at once", since)
		}
	})
}
