package broker_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

func TestParentCancelsItsChildren(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		send, receive := p.pipe(broker.PipeOptions{})
		// By either handle, by OpenPipe, Enqueue and Call, wherever they are.
		_, opened := p.pipe(broker.PipeOptions{Parent: send})
		reads := p.receive(opened, 1)
		waits, _ := p.call("a", "m", broker.PipeOptions{Parent: receive})
		worked, _ := p.call("b", "m", broker.PipeOptions{Parent: send})
		r := expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "c", Pipe: &broker.PipeOptions{Parent: receive}}))
		grandchild, _ := p.call("d", "m", broker.PipeOptions{Parent: b.keys.Mint(r.Receive)})
		works := w.consume("b")
		d := w.delivered(works)

		w.send(&broker.Reply{Handle: send, Kind: broker.ReplyError, Body: []byte("failed")}, broker.ReplyBuffered)
		end := p.ends(reads, broker.EndCancelled)
		if end.Text != "the pipe under which it was opened ended FAILED" {
			t.Errorf("text: got %q", end.Text)
		}
		p.ends(waits, broker.EndCancelled)
		p.ends(worked, broker.EndCancelled)
		p.ends(grandchild, broker.EndCancelled)
		if gone := expect[*broker.WaiterGone](w, works); gone.Message != d.Message || gone.Reason != broker.EndCancelled {
			t.Errorf("waiter gone: got %+v", gone)
		}
		for _, queue := range []string{"a", "c", "d"} {
			w.quiet(w.consume(queue)) // withdrawn
		}
	})
}

func TestParentThatEndsWellLeavesItsChildren(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		send, receive := p.pipe(broker.PipeOptions{})
		call, _ := p.call("a", "m", broker.PipeOptions{Parent: receive})
		w.send(&broker.Reply{Handle: send, Body: []byte("v")}, broker.ReplyBuffered)
		later, _ := p.call("a", "m", broker.PipeOptions{Parent: receive}) // under one that has ended
		p.quiet(call)
		p.quiet(later)
		works := w.consume("a")
		for range 2 {
			d := w.delivered(works)
			w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("v"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		}
		p.replies(call, 1, "v")
		p.ends(call, broker.EndOK)
	})
}

func TestParentThatHasFailed(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		_, receive := p.pipe(broker.PipeOptions{})
		expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: receive}))
		for _, queue := range []string{"a", "b", "c"} {
			call, _ := p.call(queue, "m", broker.PipeOptions{Parent: receive})
			p.ends(call, broker.EndCancelled)
			w.quiet(w.consume(queue))
		}
		lost := b.keys.Mint(handles.Claims{
			Kind: handles.Send, Tenant: 1, Store: b.b.Store() + 1, Shard: 99, Slot: 1, Nonce: 1, Expires: time.Now().Add(time.Hour).Unix(),
		})
		call, _ := p.call("a", "m", broker.PipeOptions{Parent: lost})
		p.ends(call, broker.EndCancelled)
		unknown := b.keys.Mint(handles.Claims{
			Kind: handles.Send, Tenant: 1, Store: b.b.Store(), Slot: 4711, Nonce: 1, Expires: time.Now().Add(time.Hour).Unix(),
		})
		for _, r := range []broker.Request{
			&broker.Enqueue{Queue: "a", Pipe: &broker.PipeOptions{Parent: unknown}},
			&broker.OpenPipe{Options: broker.PipeOptions{Parent: unknown}},
			&broker.OpenPipe{Options: broker.PipeOptions{Parent: unknown}, Queue: "b"},
		} {
			p.refused(p.do(r), broker.ReasonHandleUnknown, "pipe.parent")
		}
	})
}

func TestParentsDeadline(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		_, receive := p.pipe(broker.PipeOptions{Timeout: time.Minute})
		start := time.Now()
		for _, test := range []struct{ timeout, want time.Duration }{{0, time.Minute}, {time.Hour, time.Minute}, {time.Second, time.Second}} {
			_, r := p.call("q", "m", broker.PipeOptions{Parent: receive, Timeout: test.timeout})
			if got := r.PipeDeadline.Std().Sub(start); got != test.want {
				t.Errorf("timeout %v: got a deadline after %v, want %v", test.timeout, got, test.want)
			}
		}
		p.refused(p.do(&broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{Parent: receive}, Delay: 2 * time.Minute}),
			broker.ReasonDelayInvalid, "delay")
	})
}

// TestParentAndChildExpireTogether: a pipe that took over its parent's deadline ends by it, not by its parent's end.
func TestParentAndChildExpireTogether(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		_, parent := p.pipe(broker.PipeOptions{Timeout: time.Minute})
		_, child := p.pipe(broker.PipeOptions{Parent: parent})
		op := p.receive(child, 1)
		p.ends(op, broker.EndExpired)
	})
}
