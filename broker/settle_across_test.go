package broker_test

import (
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// TestSettleForwardsWhatItHasAnswered: the message comes after the reply, and nobody waits for it.
func TestSettleForwardsWhatItHasAnswered(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		expect[*broker.Settled](w, w.do(&broker.Settle{
			Lease: d.lease, Action: broker.Ack,
			Replies: []*broker.Reply{{Handle: d.replyTo, Kind: broker.ReplyPayload}},
			Messages: []*broker.Enqueue{{Queue: "r", ReplyTo: d.replyTo, Cargo: broker.Cargo{
				Handles: []broker.NamedHandle{{Name: "h", Handle: d.replyTo}},
			}}},
		}))
		p.replies(call, 1, "")
		p.ends(call, broker.EndOK)
		if got := expect[*broker.QueueList](p, p.do(&broker.ListQueues{Name: "r"})).Queues[0]; got.Waiters != 0 || got.Ready != 1 {
			t.Errorf("queue r: got %d waiters for %d messages, want none for one", got.Waiters, got.Ready)
		}
		if d := w.delivered(w.consume("r")); len(d.Ended) != 2 {
			t.Errorf("delivery: ended are %v, want both handles", d.Ended)
		}
	})
}

// TestSettleForwardsWhatItHasAnsweredElsewhere: the same wherever the message goes.
func TestSettleForwardsWhatItHasAnsweredElsewhere(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.consume("home")
		for _, from := range manyQueues {
			for _, to := range manyQueues {
				opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: from}))
				send := b.keys.Mint(opened.Send)
				p.enqueue("home", send)
				expect[*broker.Settled](w, w.do(&broker.Settle{
					Lease: w.delivered(op).lease, Action: broker.Reject, Replies: []*broker.Reply{{Handle: send, Kind: broker.ReplyPayload}},
					Messages: []*broker.Enqueue{{Queue: to, ReplyTo: send, Cargo: broker.Cargo{
						Handles: []broker.NamedHandle{{Name: "h", Handle: send}},
					}}},
				}))
				if got := p.queue(to); got.Waiters != 0 || got.Ready != 1 {
					t.Errorf("a pipe of %s, to queue %s: got %d waiters for %d messages, want none for one", from, to, got.Waiters, got.Ready)
				}
				next := w.consume(to)
				if d := w.delivered(next); from == to && len(d.Ended) != 2 {
					t.Errorf("a pipe of %s, to queue %s: ended are %v, want both handles", from, to, d.Ended)
				} else {
					w.settle(d.Delivery, broker.Ack)
				}
				w.s.Detach(next)
			}
		}
	})
}

// TestSettleSendsHandlesWhereTheyCameFrom: a message goes to the very queue whose pipe it carries a handle of, wherever
// the delivery is.
func TestSettleSendsHandlesWhereTheyCameFrom(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		home := w.consume("home")
		for _, queue := range manyQueues {
			opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			p.enqueue("home", handles.Handle{})
			expect[*broker.Settled](w, w.do(&broker.Settle{
				Lease: w.delivered(home).lease, Action: broker.Ack,
				Messages: []*broker.Enqueue{{Queue: queue, Cargo: broker.Cargo{Handles: []broker.NamedHandle{
					{Name: "future", Handle: b.keys.Mint(opened.Receive)}, {Name: "answer", Handle: b.keys.Mint(opened.Send)},
				}}}},
			}))
			if d := w.delivered(w.consume(queue)); len(d.Ended) > 0 {
				t.Errorf("queue %s: %v are shown as ended, and are open", queue, d.Ended)
			}
			at := expect[*broker.Description](p, p.do(&broker.Describe{Handle: b.keys.Mint(opened.Receive)}))
			if len(at.Carriers) != 1 {
				t.Errorf("queue %s: the pipe knows %d carriers, want the message", queue, len(at.Carriers))
			}
		}
	})
}

// TestCancelledWorkIsNotRedelivered: nobody waits for it, wherever its pipe is.
func TestCancelledWorkIsNotRedelivered(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for _, queue := range manyQueues {
			opened := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			p.enqueue("home", b.keys.Mint(opened.Send))
			op := w.consume("home")
			d := w.delivered(op)
			expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: b.keys.Mint(opened.Receive)}))
			expect[*broker.WaiterGone](w, op)
			w.settle(d.Delivery, broker.Retry)
			w.quiet(op)
			w.s.Detach(op)
		}
	})
}

// TestSettleSendsTokensInText: who reads the payload has a copy of the handle, wherever the message or the reply goes; so
// the pipe is not broken.
func TestSettleSendsTokensInText(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		home := w.consume("home")
		for _, queue := range manyQueues {
			to := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			for _, asReply := range []bool{false, true} {
				call, _ := p.call("home", "m", broker.PipeOptions{})
				d := w.delivered(home)
				r := &broker.Settle{Lease: d.lease, Action: broker.Ack}
				text := broker.Cargo{Found: []handles.Handle{d.replyTo}}
				if asReply {
					r.Replies = []*broker.Reply{{Handle: b.keys.Mint(to.Send), Kind: broker.ReplyPayload, More: true, Cargo: text}}
				} else {
					r.Messages = []*broker.Enqueue{{Queue: queue, Cargo: text}}
				}
				expect[*broker.Settled](w, w.do(r))
				p.quiet(call)
				w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("late")}, broker.ReplyDelivered)
				p.replies(call, 1, "late")
				p.ends(call, broker.EndOK)
			}
		}
	})
}

// TestSettleRepeatsAReply: a reply id has one effect, also in a Settle of another shard.
func TestSettleRepeatsAReply(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		home := w.consume("home")
		for _, queue := range manyQueues {
			to := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			reply := &broker.Reply{Handle: b.keys.Mint(to.Send), Kind: broker.ReplyPayload, More: true, ID: "once"}
			for i := range 3 {
				reply.More = i < 1
				if i == 1 {
					reply.ID = "end"
				}
				p.enqueue("home", handles.Handle{})
				want := broker.ReplyResult{Outcome: broker.ReplyBuffered, Sequence: uint64(min(i+1, 2))}
				for range 1 + i%2 {
					expect[*broker.ReplyResult](w, w.do(reply))
				}
				got := expect[*broker.Settled](w, w.do(&broker.Settle{
					Lease: w.delivered(home).lease, Action: broker.Ack, Replies: []*broker.Reply{reply},
				}))
				if got.Replies[0] != want {
					t.Errorf("queue %s, repeat of reply %q: got %+v, want %+v", queue, reply.ID, got.Replies[0], want)
				}
			}
		}
	})
}

// TestSettleRepeated: a Settle, or a Reply with an ack, that is repeated under its number gets its first outcome, also of
// what it did in other shards.
func TestSettleRepeated(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		home := w.consume("home")
		for _, queue := range manyQueues {
			to := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			reply := func() *broker.Reply {
				return &broker.Reply{Handle: b.keys.Mint(to.Send), Kind: broker.ReplyPayload, More: true}
			}
			p.enqueue("home", handles.Handle{})
			settle := &broker.Settle{
				Lease: w.delivered(home).lease, Action: broker.Ack, Replies: []*broker.Reply{reply()},
				Messages: []*broker.Enqueue{{Queue: queue}},
			}
			op := w.do(settle)
			first := expect[*broker.Settled](w, op)
			w.s.Submit([]broker.Op{{ID: op, Request: settle}})
			again := expect[*broker.Settled](w, op)
			if again.Replies[0] != first.Replies[0] || first.Replies[0].Sequence != 1 || again.Receipts[0].Message != first.Receipts[0].Message {
				t.Errorf("queue %s: got %+v at first, and %+v again", queue, *first, *again)
			}
			p.enqueue("home", handles.Handle{})
			acking := reply()
			acking.Lease, acking.Ack = w.delivered(home).lease, true
			op = w.do(acking)
			result := expect[*broker.ReplyResult](w, op)
			w.s.Submit([]broker.Op{{ID: op, Request: acking}})
			if again := expect[*broker.ReplyResult](w, op); *again != *result || result.Sequence != 2 {
				t.Errorf("queue %s: got %+v at first, and %+v again", queue, *result, *again)
			}
		}
	})
}

// TestDeliveryKnowsThatItsPipeHasEnded: somebody else has answered while the message waited, wherever its pipe lies.
func TestDeliveryKnowsThatItsPipeHasEnded(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for _, queue := range manyQueues {
			_, _ = p.call(queue, "m", broker.PipeOptions{})
			op := w.consume(queue)
			d := w.delivered(op)
			p.enqueue("home", d.replyTo)
			w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("answer"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
			home := w.consume("home")
			if d := w.delivered(home); len(d.Ended) != 1 || d.Ended[0] != "reply_to" {
				t.Errorf("queue %s: ended are %v, want reply_to", queue, d.Ended)
			}
			w.s.Detach(op)
			w.s.Detach(home)
			expect[*broker.Removed](p, p.do(&broker.DeleteQueue{Queue: "home", Force: true}))
		}
	})
}

// TestReplyRepeatedAfterItsLease: a reply that is repeated under its number gets its first outcome, although the lease that
// it named has ended meanwhile.
func TestReplyRepeatedAfterItsLease(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		home := w.consume("home")
		for _, queue := range manyQueues {
			to := expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: queue}))
			p.enqueue("home", handles.Handle{})
			d := w.delivered(home)
			r := &broker.Reply{Handle: b.keys.Mint(to.Send), Kind: broker.ReplyPayload, More: true, Lease: d.lease}
			op := w.do(r)
			first := expect[*broker.ReplyResult](w, op)
			w.settle(d.Delivery, broker.Ack)
			w.s.Submit([]broker.Op{{ID: op, Request: r}})
			if again := expect[*broker.ReplyResult](w, op); *again != *first {
				t.Errorf("queue %s: got %+v at first, and %+v again", queue, *first, *again)
			}
		}
	})
}

// TestSettleSendsToQueuesThatExist: without auto-creation a message goes to a queue of any shard that exists, and refuses
// the Settle if it does not.
func TestSettleSendsToQueuesThatExist(t *testing.T) {
	for _, shards := range []int{1, 5} {
		inBed(t, broker.Config{Shards: shards, NoAutoCreate: true}, func(t *testing.T, b *bed) {
			p, w := b.attach("p"), b.attach("w")
			for _, queue := range append(manyQueues, "home") {
				expect[*broker.QueueList](p, p.do(&broker.CreateQueue{Queue: queue}))
			}
			home := w.consume("home")
			for _, queue := range manyQueues {
				p.enqueue("home", handles.Handle{})
				lease := w.delivered(home).lease
				w.refused(w.do(&broker.Settle{Lease: lease, Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: "no-" + queue}}}),
					broker.ReasonQueueNotFound, "queue")
				expect[*broker.Settled](w, w.do(&broker.Settle{Lease: lease, Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: queue}}}))
				w.delivered(w.consume(queue))
			}
			if n := len(expect[*broker.QueueList](p, p.do(&broker.ListQueues{})).Queues); n != len(manyQueues)+1 {
				t.Errorf("there are %d queues, want %d", n, len(manyQueues)+1)
			}
		})
	}
}
