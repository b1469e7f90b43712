package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// Queues "a" to "f" lie in several shards where there are several, so that forwarding and nesting cross them.

func TestPromise5AckWithoutReplyBreaksThePipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		w.settle(w.delivered(w.consume("q")).Delivery, broker.Ack)
		p.ends(call, broker.EndBroken)
	})
}

func TestAckAfterARepliedStreamEndsItOK(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("part"), Lease: d.lease, More: true}, broker.ReplyDelivered)
		w.settle(d.Delivery, broker.Ack)
		p.replies(call, 1, "part")
		p.ends(call, broker.EndOK)
	})
}

func TestPromise7HalfStreamOfALostConsumer(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		op := w.consume("q")
		d := w.delivered(op)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("half"), Lease: d.lease, More: true}, broker.ReplyDelivered)
		w.settle(d.Delivery, broker.Retry)
		w.settle(w.delivered(op).Delivery, broker.Ack)
		p.replies(call, 1, "half")
		p.ends(call, broker.EndBroken)
	})
}

func TestForwardedHandleKeepsThePipeOpen(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		for _, next := range []string{"a", "b", "c", "d", "e", "f"} {
			p, w := b.attach("p"+next), b.attach("w"+next)
			call, _ := p.call("first", "m", broker.PipeOptions{})
			d := w.delivered(w.consume("first"))
			replyTo := d.replyTo
			// Tail-forward: the message and the ack in one step.
			s := expect[*broker.Settled](w, w.do(&broker.Settle{
				Lease: d.lease, Action: broker.Ack,
				Messages: []*broker.Enqueue{{Queue: next, Body: []byte("forwarded"), ReplyTo: d.replyTo}},
			}))
			p.quiet(call)
			d = w.delivered(w.consume(next))
			if string(d.Body) != "forwarded" || d.Message != s.Receipts[0].Message {
				t.Fatalf("to %q: got %q %v, want the forwarded message %v", next, d.Body, d.Message, s.Receipts[0].Message)
			}
			w.send(&broker.Reply{Handle: replyTo, Body: []byte("v"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
			p.replies(call, 1, "v")
			p.ends(call, broker.EndOK)
			w.s.Close()
			p.s.Close()
		}
	})
}

func TestForwardedToNobodyWhoRepliesBreaks(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		for _, next := range []string{"a", "b", "c", "d", "e", "f"} {
			p, w := b.attach("p"+next), b.attach("w"+next)
			call, _ := p.call("first", "m", broker.PipeOptions{})
			d := w.delivered(w.consume("first"))
			w.enqueue(next, d.replyTo)
			w.settle(d.Delivery, broker.Ack)
			p.quiet(call)
			w.settle(w.delivered(w.consume(next)).Delivery, broker.Ack)
			p.ends(call, broker.EndBroken)
			w.s.Close()
			p.s.Close()
		}
	})
}

func TestPromise5OnlyTheLastCopyDecides(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("first", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("first"))
		queues := []string{"a", "b", "c", "d"}
		for _, q := range queues {
			w.enqueue(q, d.replyTo)
		}
		w.settle(d.Delivery, broker.Ack)
		for i, q := range queues {
			p.quiet(call)
			action := broker.Reject
			if i == len(queues)-1 {
				action = broker.Ack
			}
			w.settle(w.delivered(w.consume(q)).Delivery, action)
		}
		p.ends(call, broker.EndBroken)
	})
}

func TestHandleOutOfCustody(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		send, receive := p.pipe(broker.PipeOptions{Timeout: time.Hour})
		read := p.receive(receive, 1)
		p.enqueue("q", handles.Handle{}, send)
		op := w.consume("q")
		w.settle(w.delivered(op).Delivery, broker.Ack)
		p.quiet(read) // OpenPipe gave the handle out: an ack breaks nothing
		p.enqueue("q", handles.Handle{}, send)
		w.settle(w.delivered(op).Delivery, broker.Reject)
		p.quiet(read) // and neither does another fate, if it was not the reply_to
		p.enqueue("q", send)
		w.settle(w.delivered(op).Delivery, broker.Reject)
		p.ends(read, broker.EndRejected)
	})
}

func TestKeepHandles(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack, KeepHandles: true}))
		p.quiet(call)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("much later")}, broker.ReplyDelivered)
		p.replies(call, 1, "much later")
	})
}

func TestTokenInAPayloadPutsItOutOfCustody(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		e := &broker.Enqueue{Queue: "a", Cargo: broker.Cargo{Found: []handles.Handle{d.replyTo}}}
		expect[*broker.Receipt](w, w.do(e))
		w.settle(d.Delivery, broker.Ack)
		p.quiet(call)
	})
}

func TestHandleInAReply(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		inner, _ := p.call("a", "inner", broker.PipeOptions{})
		d := w.delivered(w.consume("a"))
		send, receive := w.pipe(broker.PipeOptions{Timeout: time.Minute})
		w.send(&broker.Reply{Handle: send, Body: []byte("here"), Cargo: broker.Cargo{
			Handles: []broker.NamedHandle{{Name: "back", Handle: d.replyTo}},
		}}, broker.ReplyBuffered)
		w.settle(d.Delivery, broker.Ack)
		p.quiet(inner) // the handle waits in the reply
		read := w.receive(receive, 1)
		w.replies(read, 1, "here")
		w.ends(read, broker.EndOK)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("v")}, broker.ReplyDelivered)
		p.replies(inner, 1, "v")
		p.ends(inner, broker.EndOK)
	})
}

func TestReplyForgottenUnreadExpiresItsHandles(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		inner, _ := p.call("a", "inner", broker.PipeOptions{Timeout: time.Hour})
		d := w.delivered(w.consume("a"))
		send, _ := w.pipe(broker.PipeOptions{Timeout: time.Minute})
		w.send(&broker.Reply{Handle: send, Body: []byte("here"), Cargo: broker.Cargo{
			Handles: []broker.NamedHandle{{Name: "back", Handle: d.replyTo}},
		}}, broker.ReplyBuffered)
		w.settle(d.Delivery, broker.Ack)
		start := time.Now()
		p.ends(inner, broker.EndExpired)
		if since := time.Since(start); since < 2*time.Minute || since > 3*time.Minute {
			t.Errorf("ended after %v, want the pipe's deadline and a minute", since)
		}
	})
}

func TestUnknownHandleIsRefusedNamingTheField(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, _ := p.pipe(broker.PipeOptions{})
		never := b.keys.Mint(handles.Claims{
			Kind: handles.Send, Tenant: 1, Shard: send.Shard(), Store: send.Store(), Slot: send.Slot(), Nonce: send.Nonce() + 1,
			Expires: time.Now().Unix() + 100,
		})
		p.refused(p.do(&broker.Enqueue{Queue: "q", ReplyTo: never}), broker.ReasonHandleUnknown, "message.reply_to")
		p.refused(p.do(&broker.Enqueue{Queue: "q", Cargo: broker.Cargo{Handles: []broker.NamedHandle{
			{Name: "good", Handle: send}, {Name: "audit", Handle: never},
		}}}), broker.ReasonHandleUnknown, `message.handles["audit"]`)
		if l := expect[*broker.QueueList](p, p.do(&broker.ListQueues{})); len(l.Queues) != 0 {
			t.Errorf("a refused message made a queue: %+v", l.Queues)
		}
		// What was held for it elsewhere is given back: the pipe has no carrier.
		if d := expect[*broker.Description](p, p.do(&broker.Describe{Handle: send})); len(d.Carriers) != 0 {
			t.Errorf("carriers left: %+v", d.Carriers)
		}
	})
}

func TestEndedHandleIsShownOnDelivery(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		ended, _ := p.pipe(broker.PipeOptions{})
		p.send(&broker.Reply{Handle: ended}, broker.ReplyBuffered)
		open, _ := p.pipe(broker.PipeOptions{})
		p.enqueue("q", ended, open, ended)
		d := w.delivered(w.consume("q"))
		if len(d.Ended) != 2 || d.Ended[0] != "h1" || d.Ended[1] != "reply_to" {
			t.Errorf("got ended %v, want h1 and reply_to", d.Ended)
		}
	})
}

func TestExpiryOfAForwardedMessageEndsThePipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		for _, next := range []string{"a", "b", "c", "d"} {
			p, w := b.attach("p"+next), b.attach("w"+next)
			call, _ := p.call("first", "m", broker.PipeOptions{})
			d := w.delivered(w.consume("first"))
			expect[*broker.Receipt](w, w.do(&broker.Enqueue{Queue: next, ReplyTo: d.replyTo, Expiry: time.Second}))
			w.settle(d.Delivery, broker.Ack)
			p.ends(call, broker.EndExpired)
			w.s.Close()
			p.s.Close()
		}
	})
}

func TestCancelWithdrawsAForwardedMessage(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		for _, next := range []string{"a", "b", "c", "d"} {
			p, w := b.attach("p"+next), b.attach("w"+next)
			call, receipt := p.call("first", "m", broker.PipeOptions{})
			d := w.delivered(w.consume("first"))
			w.enqueue(next, d.replyTo)
			w.settle(d.Delivery, broker.Ack)
			expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: b.keys.Mint(receipt.Receive)}))
			p.ends(call, broker.EndCancelled)
			synctest.Wait()
			w.quiet(w.consume(next))
			w.s.Close()
			p.s.Close()
		}
	})
}

// TestLastOfThoseThatGoAtOnceDecides: a consumer is cut that holds one carrier, and another one, which needs a consumer, is
// withdrawn for that.
func TestLastOfThoseThatGoAtOnceDecides(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{MaxFailures: 1})
		call, _ := p.call("q", "m", broker.PipeOptions{})
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		d := w.delivered(op)
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("waits"), ReplyTo: d.replyTo, RequireConsumer: true}))
		w.s.Detach(op)
		p.ends(call, broker.EndNoConsumer)
	})
}

// TestReplyToDecidesAmongCopiesOfOneMessage: with a copy out of custody, only the fate of a reply_to ends the pipe.
func TestReplyToDecidesAmongCopiesOfOneMessage(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		send, receive := p.pipe(broker.PipeOptions{})
		read := p.receive(receive, 1)
		p.enqueue("q", send, send)
		w.settle(w.delivered(w.consume("q")).Delivery, broker.Reject)
		p.ends(read, broker.EndRejected)
	})
}
