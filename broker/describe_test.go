package broker_test

import (
	"testing"

	"github.com/replyq/replyq/broker"
)

// A carrier in another shard than the pipe is a message of which no more is known than that it is there.
func TestDescribeAcrossShards(t *testing.T) {
	inBed(t, broker.Config{Shards: 5}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		_, receipt := p.call("a", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("a"))
		elsewhere := false
		for _, next := range []string{"b", "c", "d", "e", "f"} {
			forwarded := w.enqueue(next, d.replyTo)
			if forwarded.Message.Shard == d.Message.Shard {
				continue
			}
			elsewhere = true
			got := expect[*broker.Description](p, p.do(&broker.Describe{Handle: b.keys.Mint(receipt.Receive)}))
			last := got.Carriers[len(got.Carriers)-1]
			if last.Message != forwarded.Message || last.State != 0 || got.State != broker.WaitInFlight {
				t.Errorf("got %+v, want the carrier %v, and that the call waits for its own message", got, forwarded.Message)
			}
		}
		if !elsewhere {
			t.Fatal("all queues are in one shard: the test tests nothing")
		}
		w.settle(d.Delivery, broker.Ack)
		got := expect[*broker.Description](p, p.do(&broker.Describe{Handle: b.keys.Mint(receipt.Receive)}))
		if got.State == broker.WaitInReply {
			t.Errorf("got %+v: no reply has the handle", got)
		}
	})
}
