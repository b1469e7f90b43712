package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// list lists all messages of a queue in a state, in pages of two.
func (c *client) list(queue string, state broker.MessageState) (all []broker.MessageInfo) {
	c.t.Helper()
	after := broker.Cursor{}
	for {
		r := &broker.ListMessages{Queue: queue, State: state, After: after, Limit: 2}
		list := expect[*broker.MessageList](c, c.do(r))
		all = append(all, list.Messages...)
		if !list.More {
			return all
		}
		if len(list.Messages) != 2 {
			c.t.Fatalf("a page of %d messages with more behind it, want 2", len(list.Messages))
		}
		after = list.Next
	}
}

func listedBodies(list []broker.MessageInfo) (all []string) {
	for _, m := range list {
		all = append(all, string(m.Body))
	}
	return all
}

func TestListMessages(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.put("rejected", 0, "")
		p.put("leased", 0, "")
		_, held := w.holds(2)
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: held[0].lease, Action: broker.Reject, Reason: "no good"}))
		for i, priority := range []uint8{0, 9, 5} {
			p.put(fmt.Sprint("ready-", priority), priority, []string{"", "g", "h"}[i])
		}
		for _, delay := range []time.Duration{time.Hour, time.Minute} {
			e := &broker.Enqueue{Queue: "q", Body: []byte(delay.String()), Delay: delay}
			expect[*broker.Receipt](p, p.do(e))
		}
		p.update("q", broker.QueueConfig{Paused: true}, broker.ConfigPaused)
		// What came into the second free place is still with the consumer.
		ready := []string{"ready-9", "ready-5"}
		all := p.list("q", 0)
		want := append(slices.Clone(ready), "1m0s", "1h0m0s", "leased", "ready-0", "rejected")
		if got := listedBodies(all); !slices.Equal(got, want) {
			t.Fatalf("all: got %q, want %q", got, want)
		}
		for state, want := range map[broker.MessageState][]string{
			broker.MessageReady: ready, broker.MessageDelayed: {"1m0s", "1h0m0s"},
			broker.MessageInFlight: {"leased", "ready-0"}, broker.MessageDead: {"rejected"},
		} {
			if got := listedBodies(p.list("q", state)); !slices.Equal(got, want) {
				t.Errorf("state %d: got %q, want %q", state, got, want)
			}
		}
		if m := all[0]; m.Priority != 9 || m.Group != "g" || m.State != broker.MessageReady || m.Attempts != 0 {
			t.Errorf("the first one: got %+v", m)
		}
		dead := all[len(all)-1]
		if dead.DeadReason != broker.EndRejected || dead.State != broker.MessageDead || dead.Until == 0 || dead.Attempts != 1 {
			t.Errorf("the dead one: got %+v", dead)
		}
		if h := dead.History; len(h) != 1 || h[0].Text != "rejected: no good" || h[0].Attempt != 1 || h[0].ConsumerID == "" ||
			h[0].DeliveredAt == 0 || h[0].EndedAt == 0 {
			t.Errorf("its history: got %+v", h)
		}
		p.refused(p.do(&broker.ListMessages{Queue: "none", Limit: 1}), broker.ReasonQueueNotFound, "queue")
	})
}

func TestHistoryTellsEachAttempt(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.put("m", 0, "")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "first", LeaseTime: time.Second})
		expect[*broker.Started](w, op)
		d := w.delivered(op)
		start := time.Now()
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Retry, Reason: "busy"}))
		w.settle(w.delivered(op).Delivery, broker.Release)
		w.delivered(op)
		expect[*broker.LeaseLost](w, op)
		w.delivered(op)
		w.s.Close()
		got := p.list("q", broker.MessageReady)[0].History
		var texts []string
		for i, a := range got {
			texts = append(texts, a.Text)
			if a.Attempt != uint32(i+1) || a.ConsumerID != "first" {
				t.Errorf("attempt %d: got %+v", i+1, a)
			}
		}
		want := []string{"retried: busy", "released", "the lease expired", "its consumer was lost"}
		if !slices.Equal(texts, want) {
			t.Errorf("got %q, want %q", texts, want)
		}
		if got[2].DeliveredAt != broker.TimeOf(start) || got[2].EndedAt.Std().Sub(start) < time.Second {
			t.Errorf("times: got %+v, want a second from %v", got[2], start)
		}
		p.update("q", broker.QueueConfig{MaxFailures: 4}, broker.ConfigMaxFailures)
		if m := p.list("q", broker.MessageReady)[0]; m.Failures != 3 || m.Attempts != 4 {
			t.Errorf("got %d failures and %d attempts, want 3 and 4", m.Failures, m.Attempts)
		}
		w = b.attach("w2")
		op = w.consume("q")
		for range 20 {
			w.settle(w.delivered(op).Delivery, broker.Release)
		}
		if got := p.list("q", broker.MessageInFlight)[0].History; len(got) != 16 || got[15].Attempt != 24 {
			t.Errorf("got %d attempts, the last %+v, want the last 16", len(got), got[len(got)-1])
		}
		w.settle(w.delivered(op).Delivery, broker.Retry)
		if m := p.list("q", broker.MessageDead)[0]; m.Failures != 4 || m.DeadReason != broker.EndDeadLettered {
			t.Errorf("dead: got %d failures and %v, want 4 and DEAD_LETTERED", m.Failures, m.DeadReason)
		}
	})
}

func TestDeleteMessages(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		leased, first := p.call("q", "leased", broker.PipeOptions{})
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		w.delivered(op)
		ready, second := p.call("q", "ready", broker.PipeOptions{})
		stays, _ := p.call("q", "stays", broker.PipeOptions{})
		_, other := p.call("other", "m", broker.PipeOptions{})
		ids := []broker.MessageID{first.Message, second.Message, other.Message, second.Message, {Store: 1, Slot: 1, Tag: 1}}
		p.removes(&broker.DeleteMessages{Queue: "q", Messages: ids}, 2)
		p.ends(leased, broker.EndPurged)
		p.ends(ready, broker.EndPurged)
		p.quiet(stays)
		expect[*broker.LeaseLost](w, op)
		if d := w.delivered(op); string(d.Body) != "stays" {
			t.Errorf("delivered %q, want what was not deleted", d.Body)
		}
		p.refused(p.do(&broker.DeleteMessages{Queue: "none"}), broker.ReasonQueueNotFound, "queue")
	})
}

func TestRedrive(t *testing.T) {
	for _, target := range []string{"", "q.same", "elsewhere"} {
		t.Run("target "+target, func(t *testing.T) {
			eachPlacement(t, func(t *testing.T, b *bed) { testRedrive(t, b, target) })
		})
	}
}

func testRedrive(t *testing.T, b *bed, target string) {
	p, w := b.attach("p"), b.attach("w")
	open, future := p.pipe(broker.PipeOptions{Timeout: 2 * time.Hour})
	reader := p.receive(future, 1)
	consumer := w.consume("q")
	reject := func() {
		d := w.delivered(consumer)
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Reject, KeepHandles: true}))
	}
	call, _ := p.call("q", "called", broker.PipeOptions{})
	reject()
	p.ends(call, broker.EndRejected)
	carrying := p.enqueue("q", handles.Handle{}, open)
	reject()
	p.put("third", 7, "g")
	reject()
	<-time.After(time.Minute)
	if target != "" {
		p.removes(&broker.RedriveMessages{Queue: "q", Messages: []broker.MessageID{carrying.Message}, Target: target}, 1)
	}
	p.removes(&broker.RedriveMessages{Queue: "q", Target: target}, map[bool]uint64{true: 3, false: 2}[target == ""])
	p.removes(&broker.RedriveMessages{Queue: "q", Target: target}, 0)
	if target != "" {
		consumer = w.consume(target)
	}
	got := make(map[string]delivery)
	for range 3 {
		d := w.delivered(consumer)
		got[string(d.Body)] = d
		if d.Failures != 0 {
			t.Errorf("%q: %d failures, want 0", d.Body, d.Failures)
		}
	}
	if d := got["third"]; d.Priority != 7 || d.Group != "g" {
		t.Errorf("third: got priority %d and group %q", d.Priority, d.Group)
	}
	// No pipe is revived.
	if d := got["called"]; !slices.Equal(d.Ended, []string{"reply_to"}) {
		t.Errorf("called: got ended handles %q, want reply_to", d.Ended)
	}
	w.send(&broker.Reply{Handle: got["called"].replyTo, Body: []byte("late")}, broker.ReplyEnded)
	// A pipe that is open is carried again, and can be answered.
	if d := got["m"]; len(d.Ended) != 0 {
		t.Errorf("m: got ended handles %q, want none", d.Ended)
	}
	if d := expect[*broker.Description](p, p.do(&broker.Describe{Handle: future})); len(d.Carriers) != 1 {
		t.Errorf("describe: got carriers %+v, want the redriven message", d.Carriers)
	}
	w.send(&broker.Reply{Handle: open, Body: []byte("answer")}, broker.ReplyDelivered)
	p.replies(reader, 1, "answer")
	for _, d := range got {
		w.settle(d.Delivery, broker.Ack)
	}
}

// TestRedrivenReplyTo: if the pipe of the reply_to is still open, it ends with the redriven message at the latest.
func TestRedrivenReplyTo(t *testing.T) {
	for _, target := range []string{"", "elsewhere"} {
		eachPlacement(t, func(t *testing.T, b *bed) {
			p, w := b.attach("p"), b.attach("w")
			call, _ := p.call("start", "m", broker.PipeOptions{})
			start := w.delivered(w.consume("start"))
			// Two copies: one dies, the other keeps the pipe open.
			e := &broker.Enqueue{Queue: "q", ReplyTo: start.replyTo, Body: []byte("copy")}
			expect[*broker.Receipt](w, w.do(e))
			op := w.consume("q")
			w.settle(w.delivered(op).Delivery, broker.Reject)
			p.quiet(call)
			p.removes(&broker.RedriveMessages{Queue: "q", Target: target}, 1)
			if target != "" {
				op = w.consume(target)
			}
			again := w.delivered(op)
			w.settle(start.Delivery, broker.Ack)
			p.quiet(call) // the redriven copy may still answer
			w.settle(again.Delivery, broker.Ack)
			p.ends(call, broker.EndBroken)
		})
	}
}

// TestRedriveAfterThePipeHasEnded: wherever the pipe is, the message comes back and stays.
func TestRedriveAfterThePipeHasEnded(t *testing.T) {
	for _, target := range []string{"", "elsewhere"} {
		eachPlacement(t, func(t *testing.T, b *bed) {
			p, w := b.attach("p"), b.attach("w")
			send, receive := p.pipe(broker.PipeOptions{})
			p.enqueue("q", send)
			op := w.consume("q")
			w.settle(w.delivered(op).Delivery, broker.Reject)
			expect[*broker.Cancelled](p, p.do(&broker.Cancel{Handle: receive}))
			p.removes(&broker.RedriveMessages{Queue: "q", Target: target}, 1)
			if target != "" {
				op = w.consume(target)
			}
			w.settle(w.delivered(op).Delivery, broker.Ack)
		})
	}
}

func TestP17EndPipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		revoke := func(r *broker.EndPipe, want broker.Cancelled) {
			t.Helper()
			if got := expect[*broker.Cancelled](p, p.do(r)); *got != want {
				t.Errorf("EndPipe: got %+v, want %+v", got, want)
			}
		}
		now := broker.Cancelled{Now: true, Reason: broker.EndRevoked}
		send, receive := p.pipe(broker.PipeOptions{})
		reader := p.receive(receive, 1)
		revoke(&broker.EndPipe{Handle: send, Text: "enough"}, now)
		if end := p.ends(reader, broker.EndRevoked); end.Text != "enough" {
			t.Errorf("end: got %q", end.Text)
		}
		revoke(&broker.EndPipe{Handle: receive}, broker.Cancelled{Reason: broker.EndRevoked})
		// By a message: what waits is withdrawn, who works is told.
		queued, first := p.call("queued", "m", broker.PipeOptions{})
		revoke(&broker.EndPipe{Message: first.Message}, now)
		p.ends(queued, broker.EndRevoked)
		leased, second := p.call("q", "m", broker.PipeOptions{})
		op := w.consume("q")
		w.delivered(op)
		revoke(&broker.EndPipe{Message: second.Message}, now)
		p.ends(leased, broker.EndRevoked)
		if gone := expect[*broker.WaiterGone](w, op); gone.Reason != broker.EndRevoked {
			t.Errorf("the consumer was told %v", gone.Reason)
		}
		// A forwarded one, whose pipe may be in another shard.
		forwarded, _ := p.call("start", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("start"))
		third := expect[*broker.Settled](w, w.do(&broker.Settle{
			Lease: d.lease, Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: "end", ReplyTo: d.replyTo}},
		})).Receipts[0]
		revoke(&broker.EndPipe{Message: third.Message}, now)
		p.ends(forwarded, broker.EndRevoked)
		p.refused(p.do(&broker.EndPipe{Message: first.Message}), broker.ReasonMessageUnknown, "message_id")
		p.refused(p.do(&broker.EndPipe{Message: broker.MessageID{Shard: 99, Slot: 1, Tag: 1}}), broker.ReasonMessageUnknown, "message_id")
		silent := p.enqueue("silent", handles.Handle{})
		p.refused(p.do(&broker.EndPipe{Message: silent.Message}), broker.ReasonMessageUnknown, "message_id")
	})
}
