package broker_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A pipe is full by bytes as it is by count; its room counts from what every reader has passed.
func TestCapacityInBytes(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{CapacityBytes: 100})
		forty := bytes.Repeat([]byte("x"), 40)
		more := &broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: forty, More: true}
		for range 2 {
			p.send(more, broker.ReplyBuffered)
		}
		p.refused(p.do(more), broker.ReasonPipeFull, "handle")
		slow, quick := p.receive(receive, 1), p.receive(receive, 1)
		held := p.doWith(broker.Op{Timeout: 10 * time.Second, Request: more})
		p.s.Credit(quick, 1)
		p.quiet(held) // one reader has not passed it
		p.s.Credit(slow, 1)
		if r := expect[*broker.ReplyResult](p, held); r.Outcome != broker.ReplyDelivered || r.Sequence != 3 {
			t.Errorf("held reply: got %+v, want 3, delivered", r)
		}
		// One reply larger than the whole pipe must go through all the same, when there is no other.
		send, _ = p.pipe(broker.PipeOptions{CapacityBytes: 10})
		p.send(&broker.Reply{Handle: send, Body: forty, More: true}, broker.ReplyBuffered)
	})
}

// Replies are trimmed only when their room is needed, and who asks for one that is gone is told where to begin.
func TestTrimmedRepliesAreNamed(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{CapacityReplies: 3})
		read := p.receive(receive, 1)
		reply := &broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("x"), More: true}
		for n := range uint64(3) {
			p.send(reply, broker.ReplyDelivered)
			p.replies(read, n+1, "x")
		}
		p.s.Credit(read, 3)
		q := b.attach("q")
		late := q.receive(receive, 1)
		q.replies(late, 1, "x") // passed by all, but there is room
		q.s.Detach(late)
		for range 2 {
			q.send(reply, broker.ReplyDelivered)
		}
		err := expect[*broker.Error](q, q.do(&broker.Receive{Handle: receive, FromSequence: 2}))
		if err.Code != broker.CodeOutOfRange || err.Reason != broker.ReasonRepliesTrimmed || err.Metadata["first_sequence"] != "3" {
			t.Errorf("got %v %v, want REPLIES_TRIMMED and first_sequence 3", err, err.Metadata)
		}
		q.replies(q.receive(receive, 3), 3, "x")
	})
}

// Only the pipe of a Call is abandoned. Leaving a Receive only detaches.
func TestOtherPipesAreNeverAbandoned(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, late := b.attach("p"), b.attach("late")
		_, opened := p.pipe(broker.PipeOptions{Timeout: 48 * time.Hour, DisconnectGrace: time.Second})
		e := &broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{Timeout: 48 * time.Hour, DisconnectGrace: time.Second}}
		enqueued := b.keys.Mint(expect[*broker.Receipt](p, p.do(e)).Receive)
		p.receive(opened, 1)
		p.receive(enqueued, 1)
		p.s.Close()
		<-time.After(47 * time.Hour)
		late.quiet(late.receive(opened, 1))
		late.quiet(late.receive(enqueued, 1))
	})
}

// While something carries a handle of it, a pipe that has ended is not forgotten: whoever gets the handle sees the end.
func TestEndIsKeptWhileAHandleTravels(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		send, receive := p.pipe(broker.PipeOptions{Timeout: time.Minute})
		p.enqueue("parcels", handles.Handle{}, receive)
		read := p.receive(receive, 1)
		p.send(&broker.Reply{Handle: send, Body: []byte("v")}, broker.ReplyDelivered)
		p.replies(read, 1, "v")
		p.ends(read, broker.EndOK)
		p.s.Passed(read)
		p.s.Flush()
		p.s.Close()
		<-time.After(30 * 24 * time.Hour)
		d := w.delivered(w.consume("parcels"))
		if b.shards == 1 && (len(d.Ended) != 1 || d.Ended[0] != "h0") { // shards know it of their own pipes alone
			t.Errorf("delivery: got ended %v, want h0", d.Ended)
		}
		read = w.receive(receive, 1)
		w.replies(read, 1, "v")
		w.ends(read, broker.EndOK)
		w.s.Passed(read)
		w.s.Flush()
		w.settle(d.Delivery, broker.Ack)
		w.s.Close()
		<-time.After(time.Hour)
		q := b.attach("q")
		q.refused(q.do(&broker.Receive{Handle: receive}), broker.ReasonHandleUnknown, "handle")
	})
}
