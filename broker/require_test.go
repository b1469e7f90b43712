package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// requires calls with a message that requires a consumer.
func (c *client) requires(delay time.Duration) uint64 {
	c.t.Helper()
	op := c.do(&broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{}, Call: true, RequireConsumer: true, Delay: delay})
	expect[*broker.Receipt](c, op)
	return op
}

func TestLastConsumerLeaves(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, v := b.attach("p"), b.attach("w"), b.attach("v")
		first := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "first"})
		expect[*broker.Started](w, first)
		second := v.do(&broker.Consume{Queues: []string{"q", "q.x"}, MaxInFlight: 1})
		expect[*broker.Started](v, second)
		held, heldToo := p.requires(0), p.requires(0)
		waits, delayed := p.requires(0), p.requires(time.Minute)
		plain, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(first)
		v.delivered(second)
		v.s.Close()
		p.quiet(waits)
		expect[*broker.Stopping](w, w.do(&broker.StopConsuming{ConsumerID: "first"}))
		p.quiet(waits)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("v"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		// The last one has left: who has not been delivered yet is withdrawn.
		p.ends(waits, broker.EndNoConsumer)
		p.ends(delayed, broker.EndNoConsumer)
		p.replies(held, 1, "v")
		p.ends(held, broker.EndOK)
		p.quiet(heldToo) // came back: it was delivered before
		p.quiet(plain)
		p.refused(p.do(&broker.Enqueue{Queue: "q", RequireConsumer: true}), broker.ReasonNoConsumer, "require_consumer")
	})
}

func TestConsumerThatIsAwayHasNotLeft(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		busy := func(c *client) uint64 {
			op := c.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "me", Grace: 10 * time.Second})
			expect[*broker.Started](c, op)
			return op
		}
		op := busy(w)
		p.enqueue("q", handles.Handle{})
		w.delivered(op)
		waits := p.requires(0)
		w.s.Close()
		<-time.After(9 * time.Second)
		w = b.attach("w2")
		op = busy(w)
		w.delivered(op) // what it had before
		w.s.Close()
		start := time.Now()
		p.ends(waits, broker.EndNoConsumer)
		if since := time.Since(start); since < 10*time.Second || since > 10*time.Second+10*time.Millisecond {
			t.Errorf("withdrawn after %v, want 10s", since)
		}
	})
}

// TestTakingOverIsNotLeaving: a stream that takes a consumer's id over is there in its place.
func TestTakingOverIsNotLeaving(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, w2 := b.attach("p"), b.attach("w"), b.attach("w2")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "me"})
		expect[*broker.Started](w, op)
		p.enqueue("q", handles.Handle{})
		d := w.delivered(op)
		waits := p.requires(0)
		op = w2.consumeAs("me", d.lease)
		w2.delivered(op)
		p.quiet(waits)
	})
}

// TestRequiredAfterARestart: the consumers have five seconds to come back.
func TestRequiredAfterARestart(t *testing.T) {
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
		stop := func(b *bed) {
			synctest.Wait()
			if err := b.b.Close(); err != nil {
				t.Fatal(err)
			}
		}
		b := start()
		p := b.attach("p")
		w := b.attach("w")
		expect[*broker.Started](w, w.do(&broker.Consume{Queues: []string{"q", "r"}, MaxInFlight: 1}))
		p.enqueue("r", handles.Handle{}) // keeps it busy
		var receipts []*broker.Receipt
		for _, queue := range []string{"q", "r"} {
			receipts = append(receipts, expect[*broker.Receipt](p, p.do(&broker.Enqueue{
				Queue: queue, Pipe: &broker.PipeOptions{}, RequireConsumer: true,
			})))
		}
		stop(b)

		b = start()
		began := time.Now()
		p, w = b.attach("p2"), b.attach("w2")
		withdrawn, stays := p.receive(keys.Mint(receipts[0].Receive), 1), p.receive(keys.Mint(receipts[1].Receive), 1)
		w.delivered(w.consume("r"))
		p.ends(withdrawn, broker.EndNoConsumer)
		if since := time.Since(began); since < 5*time.Second || since > 5100*time.Millisecond {
			t.Errorf("withdrawn after %v, want 5s", since)
		}
		p.quiet(stays)
		stop(b)
	})
}
