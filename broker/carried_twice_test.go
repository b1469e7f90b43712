package broker_test

import (
	"testing"

	"github.com/replyq/replyq/broker"
)

// A message may carry a pipe's send handle twice, as its reply_to and by a name. A reply under its lease counts for both:
// acking it ends the pipe OK, wherever the pipe lies.
func TestReplyCountsForEachCopy(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		first := p.consume("first")
		for _, queue := range []string{"a", "b", "c", "d", "e", "f"} { // some are in another shard than the pipe
			call, _ := p.call("first", "m", broker.PipeOptions{})
			d := p.delivered(first)
			expect[*broker.Settled](p, p.do(&broker.Settle{Lease: d.lease, Action: broker.Ack, Messages: []*broker.Enqueue{{
				Queue: queue, Body: []byte("forwarded"), ReplyTo: d.replyTo,
				Cargo: broker.Cargo{Handles: []broker.NamedHandle{{Name: "again", Handle: d.replyTo}}},
			}}}))
			second := p.delivered(p.consume(queue))
			p.send(&broker.Reply{
				Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("x"), More: true, Lease: second.lease, Ack: true,
			}, broker.ReplyDelivered)
			p.replies(call, 1, "x")
			p.ends(call, broker.EndOK)
		}
	})
}
