package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
)

// key is a key of requests whose content is named.
func key(id, content string) *broker.Key {
	k := &broker.Key{}
	copy(k.ID[:], id)
	copy(k.Content[:], content)
	return k
}

// callAgain makes a call with a key.
func (c *client) callAgain(body string, k *broker.Key, from uint64) (op uint64, r *broker.Receipt) {
	c.t.Helper()
	op = c.do(&broker.Enqueue{Queue: "q", Body: []byte(body), Pipe: &broker.PipeOptions{}, Call: true, Key: k, FromSequence: from})
	return op, expect[*broker.Receipt](c, op)
}

func TestP03SameKeySameMessageAndPipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, first := p.callAgain("m", key("k", "m"), 0)
		if first.Duplicate {
			t.Error("first call: duplicate is set")
		}
		works := w.consume("q")
		d := w.delivered(works)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("one"), More: true}, broker.ReplyDelivered)
		p.replies(call, 1, "one")
		p.s.Close()

		p = b.attach("p2")
		call, again := p.callAgain("m", key("k", "m"), 0)
		if !again.Duplicate || again.Message != first.Message || again.Receive != first.Receive || again.PipeDeadline != first.PipeDeadline {
			t.Errorf("again: got %+v, want %+v as duplicate", again, first)
		}
		p.replies(call, 1, "one")
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("two"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		p.replies(call, 2, "two")
		p.ends(call, broker.EndOK)

		// The message is acked and the pipe has ended: the key still leads there.
		call, again = p.callAgain("m", key("k", "m"), 2)
		if !again.Duplicate || again.Message != first.Message {
			t.Errorf("after the end: got %+v, want %+v as duplicate", again, first)
		}
		p.replies(call, 2, "two")
		p.ends(call, broker.EndOK)
		w.quiet(works)
	})
}

func TestKeyOfAForgottenPipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, first := p.callAgain("m", key("k", "m"), 0)
		d := w.delivered(w.consume("q"))
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("one"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		p.replies(call, 1, "one")
		p.ends(call, broker.EndOK)
		p.s.Passed(call)
		p.s.Flush()
		<-time.After(2 * time.Minute)
		call, again := p.callAgain("m", key("k", "m"), 0)
		if !again.Duplicate || again.Message != first.Message {
			t.Errorf("again: got %+v, want %+v as duplicate", again, first)
		}
		p.refused(call, broker.ReasonHandleUnknown, "")
	})
}

func TestKeyReused(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, other := b.attach("p"), b.attachAs("other", "o")
		enqueue := func(c *client, queue, content string) uint64 {
			return c.do(&broker.Enqueue{Queue: queue, Key: key("k", content)})
		}
		first := expect[*broker.Receipt](p, enqueue(p, "q", "m"))
		p.refused(enqueue(p, "q", "n"), broker.ReasonKeyReused, "idempotency_key")
		if r := expect[*broker.Receipt](p, enqueue(p, "q2", "n")); r.Duplicate || r.Message == first.Message {
			t.Errorf("the key in another queue: got %+v, want a message of its own", r)
		}
		// Without a pipe there is nothing to come back to: the message is stored once, whoever asks.
		if r := expect[*broker.Receipt](other, enqueue(other, "q", "m")); !r.Duplicate || r.Message != first.Message {
			t.Errorf("another principal: got %+v, want the first message", r)
		}
		p.callAgain("m", key("call", "m"), 0)
		other.refused(other.do(&broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{}, Call: true, Key: key("call", "m")}),
			broker.ReasonKeyReused, "idempotency_key")
	})
}

func TestKeyIsForgottenAfterItsWindow(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		enqueue := func(id string) *broker.Receipt {
			return expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Key: key(id, "m")}))
		}
		first := enqueue("a")
		<-time.After(5 * time.Minute)
		second := enqueue("b")
		<-time.After(5*time.Minute - time.Millisecond)
		if r := enqueue("a"); !r.Duplicate || r.Message != first.Message {
			t.Errorf("within the window: got %+v, want the first message", r)
		}
		<-time.After(time.Millisecond)
		if r := enqueue("a"); r.Duplicate {
			t.Error("after the window: duplicate is set")
		}
		if r := enqueue("b"); !r.Duplicate || r.Message != second.Message {
			t.Errorf("the other key: got %+v, want its message", r)
		}
	})
}

func TestKeysAreBounded(t *testing.T) {
	inBed(t, broker.Config{MaxKeys: 2}, func(t *testing.T, b *bed) {
		p := b.attach("p")
		enqueue := func(id string) uint64 { return p.do(&broker.Enqueue{Queue: "q", Key: key(id, "m")}) }
		expect[*broker.Receipt](p, enqueue("a"))
		<-time.After(time.Minute)
		expect[*broker.Receipt](p, enqueue("b"))
		err := expect[*broker.Error](p, enqueue("c"))
		if err.Reason != broker.ReasonKeyQuota || err.RetryAfter != 9*time.Minute {
			t.Errorf("a third key: got %v, after %v; want KEY_QUOTA after 9m", err, err.RetryAfter)
		}
		if r := expect[*broker.Receipt](p, enqueue("a")); !r.Duplicate {
			t.Error("a known key: want a duplicate")
		}
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q"}))
		<-time.After(err.RetryAfter)
		expect[*broker.Receipt](p, enqueue("c"))
	})
}

// TestKeyKeepsNothingElsewhere: a repeat whose handles are of other shards leaves no carrier there.
func TestKeyKeepsNothingElsewhere(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for i := range 5 {
			// The pipe has no copy outside: its handle came to the worker with a message.
			call, _ := p.call("origin", "m", broker.PipeOptions{})
			origin := w.consume("origin")
			d := w.delivered(origin)
			w.s.Detach(origin)
			forward := &broker.Enqueue{Queue: "q", ReplyTo: d.replyTo, Key: key(string(rune('a'+i)), "m")}
			for range 2 {
				expect[*broker.Receipt](p, p.do(forward))
			}
			works := w.consume("q")
			w.settle(w.delivered(works).Delivery, broker.Ack)
			origin = w.consume("origin")
			w.settle(w.delivered(origin).Delivery, broker.Ack)
			w.s.Detach(origin)
			w.s.Detach(works)
			p.ends(call, broker.EndBroken)
		}
		synctest.Wait()
	})
}
