package broker_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// carried is a caller's pipe whose send handle a worker has got with a message, and another pipe to send it into.
type carried struct {
	*client
	call uint64         // awaits the first pipe
	d    delivery       // has its send handle as reply_to
	into handles.Handle // the send handle of the other pipe
	read handles.Handle // its receive handle
	w    *client        // the worker
}

// eachCarried runs a test with the two pipes in all sorts of places.
func eachCarried(t *testing.T, o broker.PipeOptions, test func(t *testing.T, c carried)) {
	t.Helper()
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for i, q := range manyQueues {
			other := manyQueues[(i+3)%len(manyQueues)] + ".other"
			w := b.attach("worker of " + q)
			c := carried{client: p, w: w}
			c.call, _ = p.call(q, "m", broker.PipeOptions{})
			works := w.consume(q)
			c.d = w.delivered(works)
			r := expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: other, Pipe: &o}))
			takes := w.consume(other)
			c.into, c.read = w.delivered(takes).replyTo, b.keys.Mint(r.Receive)
			test(t, c)
			w.s.Close()
		}
	})
}

// reply is one with the carried handle.
func (c carried) reply() *broker.Reply {
	return &broker.Reply{
		Handle: c.into, Kind: broker.ReplyPayload, Body: []byte("v"), More: true,
		Cargo: broker.Cargo{Handles: []broker.NamedHandle{{Name: "h", Handle: c.d.replyTo}}},
	}
}

// forgotten checks that the first pipe ends because the reply is forgotten, long before its own deadline.
func (c carried) forgotten() {
	c.t.Helper()
	start := time.Now()
	c.ends(c.call, broker.EndExpired)
	if since := time.Since(start); since > 5*time.Minute {
		c.t.Errorf("ended after %v, want when the reply was forgotten", since)
	}
}

func TestReplyCarriesUntilItIsForgotten(t *testing.T) {
	eachCarried(t, broker.PipeOptions{Timeout: time.Minute}, func(_ *testing.T, c carried) {
		c.w.send(c.reply(), broker.ReplyBuffered)
		c.w.settle(c.d.Delivery, broker.Ack)
		c.quiet(c.call) // the reply that nobody has read has the handle
		c.forgotten()
	})
}

func TestReplyCarriesUntilItIsRead(t *testing.T) {
	eachCarried(t, broker.PipeOptions{}, func(_ *testing.T, c carried) {
		c.w.send(c.reply(), broker.ReplyBuffered)
		c.w.settle(c.d.Delivery, broker.Ack)
		c.replies(c.receive(c.read, 1), 1, "v")
		c.quiet(c.call) // now the reader has it
		c.w.send(&broker.Reply{Handle: c.d.replyTo, Body: []byte("late")}, broker.ReplyDelivered)
		c.replies(c.call, 1, "late")
		c.ends(c.call, broker.EndOK)
	})
}

func TestSettlesReplyCarries(t *testing.T) {
	eachCarried(t, broker.PipeOptions{Timeout: time.Minute}, func(t *testing.T, c carried) {
		s := expect[*broker.Settled](c.w, c.w.do(&broker.Settle{
			Lease: c.d.lease, Action: broker.Ack, Replies: []*broker.Reply{c.reply()},
		}))
		if s.Replies[0].Outcome != broker.ReplyBuffered {
			t.Errorf("reply: got outcome %d, want BUFFERED", s.Replies[0].Outcome)
		}
		c.quiet(c.call)
		c.forgotten()
	})
}

// TestReplyInVainCarriesNothing: alone, in a Settle, and after it has waited for room in vain.
func TestReplyInVainCarriesNothing(t *testing.T) {
	eachCarried(t, broker.PipeOptions{}, func(_ *testing.T, c carried) {
		expect[*broker.Cancelled](c.client, c.do(&broker.Cancel{Handle: c.read}))
		c.w.send(c.reply(), broker.ReplyEnded)
		c.w.settle(c.d.Delivery, broker.Ack)
		c.ends(c.call, broker.EndBroken)
	})
	eachCarried(t, broker.PipeOptions{}, func(t *testing.T, c carried) {
		expect[*broker.Cancelled](c.client, c.do(&broker.Cancel{Handle: c.read}))
		s := expect[*broker.Settled](c.w, c.w.do(&broker.Settle{
			Lease: c.d.lease, Action: broker.Ack, Replies: []*broker.Reply{c.reply()},
		}))
		if s.Replies[0].Outcome != broker.ReplyEnded {
			t.Errorf("reply: got outcome %d, want ENDED", s.Replies[0].Outcome)
		}
		c.ends(c.call, broker.EndBroken)
	})
	eachCarried(t, broker.PipeOptions{CapacityReplies: 1}, func(_ *testing.T, c carried) {
		c.w.send(&broker.Reply{Handle: c.into, Body: []byte("fills"), More: true}, broker.ReplyBuffered)
		waits := c.w.doWith(broker.Op{Request: c.reply(), Timeout: 5 * time.Second})
		c.w.settle(c.d.Delivery, broker.Ack)
		c.w.refused(waits, broker.ReasonPipeFull, "handle")
		c.ends(c.call, broker.EndBroken)
	})
}
