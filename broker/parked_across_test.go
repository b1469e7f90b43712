package broker_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
)

// What settles a delivery takes along what its consumer has waiting for room in the pipe that it answers, wherever the
// pipe is.
func TestSettleTakesWaitingRepliesAlong(t *testing.T) {
	for name, settle := range map[string]func(d delivery) broker.Request{
		"last reply with ack": func(d delivery) broker.Request {
			return &broker.Reply{Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("last"), Lease: d.lease, Ack: true}
		},
		"settle with the last reply": func(d delivery) broker.Request {
			return &broker.Settle{Lease: d.lease, Action: broker.Ack, Replies: []*broker.Reply{
				{Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("last")},
			}}
		},
		"ack": func(d delivery) broker.Request { return &broker.Settle{Lease: d.lease, Action: broker.Ack} },
	} {
		t.Run(name, func(t *testing.T) {
			eachPlacement(t, func(t *testing.T, b *bed) {
				p, w := b.attach("p"), b.attach("w")
				for _, queue := range manyQueues {
					opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue, Options: broker.PipeOptions{CapacityReplies: 1}}))
					p.enqueue("home", b.keys.Mint(opened.Send))
					op := w.consume("home")
					d := w.delivered(op)
					d.replyTo = b.keys.Mint(opened.Send)
					w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("first"), Lease: d.lease, More: true}, broker.ReplyBuffered)
					waits := w.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{
						Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("second"), Lease: d.lease, More: true,
					}})
					w.quiet(waits)
					w.next(w.do(settle(d)))
					if r := expect[*broker.ReplyResult](w, waits); r.Outcome != broker.ReplyBuffered || r.Sequence != 2 {
						t.Fatalf("queue %s: the reply that waited: got %+v, want it buffered as the second", queue, r)
					}
					read := p.receive(b.keys.Mint(opened.Receive), 1)
					p.replies(read, 1, "first")
					p.replies(read, 2, "second")
					if name != "ack" {
						p.replies(read, 3, "last")
						p.ends(read, broker.EndOK)
					}
					w.s.Detach(op)
				}
			})
		})
	}
}

// Nobody waits for a message any more that was answered, by whomever, wherever the pipe is.
func TestAnsweredMessageHasNoWaiter(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.consume("home")
		for _, queue := range manyQueues {
			opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			send := b.keys.Mint(opened.Send)
			p.enqueue("home", send)
			w.delivered(op)
			if n := p.queue("home").Waiters; n != 1 {
				t.Fatalf("queue %s: got %d waiters for a message, want 1", queue, n)
			}
			p.send(&broker.Reply{Handle: send, Body: []byte("from somebody else")}, broker.ReplyBuffered)
			w.quiet(op)
			if n := p.queue("home").Waiters; n != 0 {
				t.Errorf("queue %s: got %d waiters for a message that was answered, want none", queue, n)
			}
		}
	})
}
