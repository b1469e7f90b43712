package broker_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A Settle is carried out as a whole or not at all: a bad part refuses it, names itself, and leaves no trace of the
// others, nor of what was held for them in other shards.
func TestSettleIsOneStep(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, receipt := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		send, receive := p.pipe(broker.PipeOptions{})
		other := p.receive(receive, 1)
		parts := func(more ...*broker.Reply) *broker.Settle {
			return &broker.Settle{
				Lease: d.lease, Action: broker.Ack,
				Replies: append([]*broker.Reply{
					{Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("answer")},
					{Handle: send, Kind: broker.ReplyPayload, Body: []byte("note"), More: true},
				}, more...),
				Messages: []*broker.Enqueue{
					{Queue: "first", Body: []byte("1")},
					{Queue: "second", Body: []byte("2"), Cargo: broker.Cargo{Handles: []broker.NamedHandle{{Name: "h", Handle: send}}}},
				},
			}
		}
		stale := parts()
		stale.Lease = b.keys.Mint(handles.Claims{
			Kind: handles.Lease, Tenant: 1, Shard: d.lease.Shard(), Store: d.lease.Store(), Slot: d.lease.Slot(), Nonce: d.lease.Nonce(),
			Attempt: d.lease.Attempt() + 1, Expires: time.Now().Unix() + 100,
		})
		w.refused(w.do(stale), broker.ReasonLeaseStale, "lease")
		cycle := &broker.Reply{Handle: d.replyTo, Kind: broker.ReplySplice, Splice: b.keys.Mint(receipt.Receive)}
		w.refused(w.do(parts(cycle)), broker.ReasonHandleCycle, "replies[2].splice")
		p.quiet(call)
		p.quiet(other)
		if l := expect[*broker.QueueList](p, p.do(&broker.ListQueues{})); len(l.Queues) != 1 || l.Queues[0].InFlight != 1 {
			t.Errorf("after refusals: got queues %+v, want q alone with its message in flight", l.Queues)
		}
		s := expect[*broker.Settled](w, w.do(parts()))
		if len(s.Replies) != 2 || len(s.Receipts) != 2 || s.Replies[0].Outcome != broker.ReplyDelivered || s.Replies[1].Outcome != broker.ReplyDelivered {
			t.Errorf("got %+v, want two replies delivered and two receipts", s)
		}
		p.replies(call, 1, "answer")
		p.ends(call, broker.EndOK)
		p.replies(other, 1, "note")
		for _, q := range []string{"first", "second"} {
			w.delivered(w.consume(q))
		}
	})
}

// What a Settle carries is stored whatever the room: the capacity of a pipe holds back a Reply, not a Settle.
func TestSettleNeedsNoRoom(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		send, receive := p.pipe(broker.PipeOptions{CapacityReplies: 1})
		p.send(&broker.Reply{Handle: send, Body: []byte("a"), More: true}, broker.ReplyBuffered)
		p.refused(p.do(&broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("b"), More: true}), broker.ReasonPipeFull, "handle")
		p.enqueue("q", send)
		d := w.delivered(w.consume("q"))
		s := expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack, Replies: []*broker.Reply{
			{Handle: send, Kind: broker.ReplyPayload, Body: []byte("b"), More: true},
			{Handle: send, Kind: broker.ReplyPayload, Body: []byte("c"), More: true},
		}}))
		if s.Replies[0].Sequence != 2 || s.Replies[1].Sequence != 3 {
			t.Errorf("got %+v, want sequences 2 and 3", s.Replies)
		}
		read := p.receive(receive, 1)
		for n, body := range []string{"a", "b", "c"} {
			p.replies(read, uint64(n+1), body)
		}
	})
}

// A reply that names its lease is fenced by it; one that names none is not, whoever sends it.
func TestBareHandleIsNotFenced(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, lost, w := b.attach("p"), b.attach("lost"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		op := lost.consume("q")
		old := lost.delivered(op)
		<-time.After(31 * time.Second) // the lease is over
		lost.s.Detach(op)
		current := w.delivered(w.consume("q"))
		if current.Attempt < 2 {
			t.Fatalf("attempt %d, want a later one", current.Attempt)
		}
		more := broker.Reply{Handle: old.replyTo, Kind: broker.ReplyPayload, Body: []byte("x"), More: true}
		fenced := more
		fenced.Lease = old.lease
		lost.refused(lost.do(&fenced), broker.ReasonLeaseStale, "lease")
		lost.send(&more, broker.ReplyDelivered)
		if r := p.replies(call, 1, "x"); r.Attempt != 0 || !r.Source.IsZero() {
			t.Errorf("got attempt %d of %v, want none: no lease was named", r.Attempt, r.Source)
		}
		named := more
		named.Lease = current.lease
		w.send(&named, broker.ReplyDelivered)
		if r := p.replies(call, 2, "x"); r.Attempt != current.Attempt || r.Source != current.Message {
			t.Errorf("got attempt %d of %v, want %d of %v", r.Attempt, r.Source, current.Attempt, current.Message)
		}
	})
}
