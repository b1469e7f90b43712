package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/journalflag"
)

func TestP05RepliesComeInSequence(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		for i := range 5 {
			w.send(&broker.Reply{Handle: d.replyTo, Body: fmt.Append(nil, i), Lease: d.lease, More: true}, broker.ReplyDelivered)
		}
		w.send(&broker.Reply{Handle: d.replyTo, Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		for i := range 5 {
			if r := p.replies(call, uint64(i+1), fmt.Sprint(i)); r.Source != d.Message || r.Attempt != 1 {
				t.Errorf("reply %d: got source %v attempt %d", i+1, r.Source, r.Attempt)
			}
		}
		if end := p.ends(call, broker.EndOK); end.LastSequence != 5 {
			t.Errorf("end: got last sequence %d, want 5", end.LastSequence)
		}
		r := w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("late")}, broker.ReplyEnded)
		if r.EndReason != broker.EndOK {
			t.Errorf("reply after the end: got %v", r.EndReason)
		}
	})
}

func TestErrorReplyEndsThePipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		w.send(&broker.Reply{Handle: d.replyTo, Kind: broker.ReplyError, Body: []byte("no"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		if end := p.ends(call, broker.EndFailed); string(end.Body) != "no" {
			t.Errorf("end: got body %q", end.Body)
		}
	})
}

func TestManyReadersEachGetEverything(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{})
		p.send(&broker.Reply{Handle: send, Body: []byte("a"), More: true}, broker.ReplyBuffered)
		early := p.receive(receive, 0)
		p.send(&broker.Reply{Handle: send, Body: []byte("b")}, broker.ReplyDelivered)
		late := b.attach("late")
		after := late.receive(receive, 2)
		whole := late.receive(receive, 1)
		for _, r := range []struct {
			c  *client
			op uint64
			n  uint64
		}{{p, early, 1}, {late, after, 2}, {late, whole, 1}} {
			for n := r.n; n <= 2; n++ {
				r.c.replies(r.op, n, string(rune('a'+n-1)))
			}
			r.c.ends(r.op, broker.EndOK)
		}
	})
}

func TestCreditBoundsReplies(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{})
		op := p.doWith(broker.Op{Credit: 1, Request: &broker.Receive{Handle: receive}})
		expect[*broker.Attached](p, op)
		for _, body := range []string{"a", "b", "c"} {
			p.send(&broker.Reply{Handle: send, Body: []byte(body), More: true}, broker.ReplyDelivered)
		}
		p.replies(op, 1, "a")
		p.quiet(op)
		p.s.Credit(op, 1)
		p.replies(op, 2, "b")
		p.quiet(op)
		p.s.Credit(op, 5)
		p.replies(op, 3, "c")
	})
}

func TestP20FullPipeHoldsTheReplier(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{CapacityReplies: 2})
		for range 2 {
			p.send(&broker.Reply{Handle: send, Body: []byte("x"), More: true}, broker.ReplyBuffered)
		}
		more := &broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("y"), More: true}
		p.refused(p.do(more), broker.ReasonPipeFull, "handle")
		start := time.Now()
		p.refused(p.doWith(broker.Op{Timeout: 3 * time.Second, Request: more}), broker.ReasonPipeFull, "handle")
		if since := time.Since(start); since < 3*time.Second || since > 3200*time.Millisecond {
			t.Errorf("held for %v, want 3s", since)
		}
		held := p.doWith(broker.Op{Timeout: 10 * time.Second, Request: more})
		p.quiet(held)
		read := p.receive(receive, 1)
		p.replies(read, 1, "x")
		p.replies(read, 2, "x")
		p.quiet(held) // handed out, but not passed
		p.s.Credit(read, 1)
		if r := expect[*broker.ReplyResult](p, held); r.Outcome != broker.ReplyDelivered || r.Sequence != 3 {
			t.Errorf("held reply: got %+v", r)
		}
		p.replies(read, 3, "y")
		// What ends the pipe is accepted beyond capacity.
		p.send(&broker.Reply{Handle: send, Body: []byte("z")}, broker.ReplyDelivered)
		p.refused(p.do(&broker.Receive{Handle: receive, FromSequence: 1}), broker.ReasonRepliesTrimmed, "from_sequence")
	})
}

func TestHeldReplyEndsWithItsPipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{CapacityReplies: 1})
		p.send(&broker.Reply{Handle: send, Body: []byte("x"), More: true}, broker.ReplyBuffered)
		held := p.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{Handle: send, Kind: broker.ReplyPayload, More: true}})
		expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: receive}))
		if r := expect[*broker.ReplyResult](p, held); r.Outcome != broker.ReplyEnded || r.EndReason != broker.EndCancelled {
			t.Errorf("held reply: got %+v, want ENDED CANCELLED", r)
		}
	})
}

func TestP12ReplyIDMakesRepeatsHarmless(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{})
		read := p.receive(receive, 1)
		for range 3 {
			if r := p.send(&broker.Reply{Handle: send, Body: []byte("a"), More: true, ID: "1"}, broker.ReplyDelivered); r.Sequence != 1 {
				t.Errorf("got sequence %d, want 1", r.Sequence)
			}
		}
		for range 3 {
			if r := p.send(&broker.Reply{Handle: send, Body: []byte("b"), ID: "2"}, broker.ReplyDelivered); r.Sequence != 2 {
				t.Errorf("got sequence %d, want 2", r.Sequence)
			}
		}
		p.replies(read, 1, "a")
		p.replies(read, 2, "b")
		p.ends(read, broker.EndOK)
	})
}

func TestPipeExpires(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{Timeout: 5 * time.Second})
		start := time.Now()
		p.ends(call, broker.EndExpired)
		if since := time.Since(start); since < 5*time.Second || since > 5250*time.Millisecond {
			t.Errorf("expired after %v, want 5s", since)
		}
		w.quiet(w.consume("q")) // withdrawn
	})
}

// TestAckAtTheDeadline: timers fire at whole milliseconds. A consumer that gives up at the deadline may be earlier than they.
func TestAckAtTheDeadline(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		time.Sleep(300 * time.Microsecond)
		call, receipt := p.call("q", "m", broker.PipeOptions{Timeout: 5 * time.Second})
		d := w.delivered(w.consume("q"))
		time.Sleep(time.Until(receipt.PipeDeadline.Std()))
		w.settle(d.Delivery, broker.Ack)
		p.ends(call, broker.EndExpired)
	})
}

func TestDelayBeyondTheDeadlineIsRefused(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		p.refused(p.do(&broker.Enqueue{
			Queue: "q", Delay: time.Minute, Pipe: &broker.PipeOptions{Timeout: time.Minute}, Call: true,
		}), broker.ReasonDelayInvalid, "delay")
		p.refused(p.do(&broker.Enqueue{
			Queue: "q", NotBefore: broker.TimeOf(time.Now().Add(time.Hour)), Expiry: time.Minute,
		}), broker.ReasonDelayInvalid, "deliver_at")
	})
}

func TestPromise9CancelReachesTheWork(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		working, receipt := p.call("q", "working", broker.PipeOptions{})
		queued, queuedReceipt := p.call("q", "queued", broker.PipeOptions{})
		d := w.delivered(op)
		for _, r := range []*broker.Receipt{receipt, queuedReceipt} {
			if c := expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: p.keys.Mint(r.Receive)})); !c.Now {
				t.Errorf("cancel: got %+v", c)
			}
		}
		p.ends(working, broker.EndCancelled)
		p.ends(queued, broker.EndCancelled)
		if gone := expect[*broker.WaiterGone](w, op); gone.Message != d.Message || gone.Reason != broker.EndCancelled {
			t.Errorf("waiter gone: got %+v", gone)
		}
		if r := w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("x"), Lease: d.lease, Ack: true}, broker.ReplyEnded); r.EndReason != broker.EndCancelled {
			t.Errorf("reply: got %v", r.EndReason)
		}
		w.quiet(op) // the queued one was withdrawn, and the other one acked
		if c := expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: p.keys.Mint(receipt.Receive)})); c.Now || c.Reason != broker.EndCancelled {
			t.Errorf("second cancel: got %+v", c)
		}
	})
}

func TestRetryOfACancelledMessageWithdrawsIt(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.consume("q")
		_, receipt := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(op)
		expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: p.keys.Mint(receipt.Receive)}))
		expect[*broker.WaiterGone](w, op)
		w.settle(d.Delivery, broker.Retry)
		w.quiet(op)
	})
}

func TestAbandonedCallIsWithdrawnAfterItsGrace(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		w, watcher := b.attach("w"), b.attach("watcher")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		gone := b.attach("gone")
		gone.call("q", "working", broker.PipeOptions{DisconnectGrace: 3 * time.Second})
		gone.call("q", "queued", broker.PipeOptions{DisconnectGrace: 3 * time.Second})
		gone.call("q", "kept", broker.PipeOptions{DisconnectGrace: 3 * time.Second, KeepIfAbandoned: true})
		w.delivered(op)
		start := time.Now()
		gone.s.Close()
		if g := expect[*broker.WaiterGone](w, op); g.Reason != broker.EndCancelled {
			t.Errorf("got %v", g.Reason)
		}
		if since := time.Since(start); since < 3*time.Second || since > 3250*time.Millisecond {
			t.Errorf("told after %v, want 3s", since)
		}
		q := expect[*broker.QueueList](watcher, watcher.do(&broker.ListQueues{Name: "q"})).Queues[0]
		if q.Ready != 1 || q.InFlight != 1 {
			t.Errorf("queue: got %d ready %d in flight, want the kept one and the working one", q.Ready, q.InFlight)
		}
	})
}

func TestP13CallerThatComesBackGetsEverything(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		w := b.attach("w")
		op := w.consume("q")
		first := b.attach("caller")
		_, receipt := first.call("q", "m", broker.PipeOptions{})
		d := w.delivered(op)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("a"), Lease: d.lease, More: true}, broker.ReplyDelivered)
		first.s.Close()
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("b"), Lease: d.lease, More: true}, broker.ReplyBuffered)
		<-time.After(9 * time.Second)
		back := b.attach("caller")
		read := back.receive(b.keys.Mint(receipt.Receive), 1)
		for range 4 { // longer than the grace, the lease extended meanwhile
			<-time.After(20 * time.Second)
			expect[*broker.Extended](w, w.do(&broker.ExtendLeases{Leases: []handles.Handle{d.lease}}))
		}
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("c"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		back.replies(read, 1, "a")
		back.replies(read, 2, "b")
		back.replies(read, 3, "c")
		back.ends(read, broker.EndOK)
	})
}

func TestReceiveHandleInACarrierPreventsAbandonment(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		w, p := b.attach("w"), b.attach("p")
		caller := b.attach("caller")
		call, receipt := caller.call("work", "m", broker.PipeOptions{DisconnectGrace: time.Second})
		_ = call
		p.enqueue("futures", handles.Handle{}, b.keys.Mint(receipt.Receive))
		caller.s.Close()
		<-time.After(time.Minute)
		d := w.delivered(w.consume("work"))
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("v"), Lease: d.lease, Ack: true}, broker.ReplyBuffered)
		w.delivered(w.consume("futures"))
		read := w.receive(b.keys.Mint(receipt.Receive), 1)
		w.replies(read, 1, "v")
		w.ends(read, broker.EndOK)
	})
}

func TestEndedPipeIsForgotten(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{Timeout: time.Hour})
		p.send(&broker.Reply{Handle: send, Body: []byte("v")}, broker.ReplyBuffered)
		<-time.After(59 * time.Minute) // unread: kept until its deadline and a minute more
		read := p.receive(receive, 1)
		p.replies(read, 1, "v")
		p.ends(read, broker.EndOK)
		p.s.Passed(read)
		p.s.Flush()
		<-time.After(59 * time.Second)
		p.ends(func() uint64 { op := p.receive(receive, 2); return op }(), broker.EndOK)
		p.s.Close()
		q := b.attach("q")
		<-time.After(time.Hour)
		q.refused(q.do(&broker.Receive{Handle: receive}), broker.ReasonHandleUnknown, "handle")
		q.send(&broker.Reply{Handle: send, Body: []byte("v")}, broker.ReplyUnknown)
	})
}

func TestHandlesOfAnotherStore(t *testing.T) {
	inBed(t, broker.Config{Store: 7}, func(t *testing.T, b *bed) {
		p := b.attach("p")
		claims := handles.Claims{Kind: handles.Send, Tenant: 1, Store: 6, Slot: 1, Nonce: 1, Expires: time.Now().Unix() + 100}
		send := b.keys.Mint(claims)
		claims.Kind = handles.Receive
		if r := p.send(&broker.Reply{Handle: send}, broker.ReplyEnded); r.EndReason != broker.EndLost {
			t.Errorf("reply: got %v, want LOST", r.EndReason)
		}
		p.ends(p.receive(b.keys.Mint(claims), 1), broker.EndLost)
		p.enqueue("q", send)
		if d := p.delivered(p.consume("q")); len(d.Ended) != 1 || d.Ended[0] != "reply_to" {
			t.Errorf("delivery: got ended %v, want reply_to", d.Ended)
		}
	})
}

func TestShutdownEndsEveryPipe(t *testing.T) {
	if journalflag.On() {
		t.Skip("with a journal no pipe ends because the server stops")
	}
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{})
		_, receive := p.pipe(broker.PipeOptions{})
		read := p.receive(receive, 1)
		d := w.delivered(w.consume("q"))
		b.b.Drain()
		p.refused(p.do(&broker.Enqueue{Queue: "q"}), broker.ReasonDraining, "")
		p.refused(p.do(&broker.OpenPipe{}), broker.ReasonDraining, "")
		w.refused(w.do(&broker.Consume{Queues: []string{"q"}}), broker.ReasonDraining, "")
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("still"), Lease: d.lease, More: true}, broker.ReplyDelivered)
		p.replies(call, 1, "still")
		b.b.Shutdown()
		p.ends(call, broker.EndShuttingDown)
		p.ends(read, broker.EndShuttingDown)
	})
}
