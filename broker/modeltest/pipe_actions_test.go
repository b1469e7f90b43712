package modeltest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// TestPipesAreAsModelled: replies, sequences, ends, carriers, handles in messages and replies, forwarding, splices,
// cancelling, abandonment, parents, broken promises, readers that come and go, capacity, and messages that require a
// consumer; in one shard and in several.
func TestPipesAreAsModelled(t *testing.T) {
	for _, shards := range []int{1, 3} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) { inBed(t, shards, pipeActions) })
	}
}

func pipeActions(d *bed) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"call":          d.callOne,
		"call another":  d.callOne,
		"send":          d.send,
		"send another":  d.send,
		"open":          d.openOne,
		"receive":       d.receiveOne,
		"credit":        d.creditReader,
		"credit again":  d.creditReader,
		"pass":          d.passEnd,
		"detach":        d.detachReader,
		"reply":         d.replyOne,
		"reply again":   d.replyOne,
		"reply to work": d.answer,
		"splice":        d.spliceOne,
		"settle":        d.settlePlainly,
		"settle more":   d.settleWithMore,
		"cancel":        d.cancelOne,
		"revoke":        d.revokeOne,
		"consume":       d.consumePlainly,
		"cut":           d.cut,
		"come back":     d.comeBack,
		"configure":     d.configure,
		"purge":         d.purge,
		"remove":        d.removeMessages,
		"delete queue":  d.deleteQueue,
		"redrive":       d.redrive,
		"repeat":        d.repeat,
		"wait":          d.wait,
		"wait long":     d.waitLong,
	}
}

// pipes lists those that were opened and are not long forgotten, with a send handle that somebody has or without.
func (d *bed) pipes(withSend bool) (some []*pipe) {
	for _, p := range d.m.pipes {
		if p.receive != (handles.Handle{}) && (!withSend || p.send != (handles.Handle{})) && p.checkAt.Add(5*time.Minute) > d.now() || p.state < ended && (!withSend || p.send != (handles.Handle{})) {
			some = append(some, p)
		}
	}
	return some
}

// cargo draws the handles that a message or a reply brings along.
func (d *bed) cargo(t *rapid.T) (c broker.Cargo) {
	for i := range rapid.IntRange(0, 2).Draw(t, "handles") {
		if some := d.pipes(false); len(some) > 0 {
			p := pick(t, "pipe", some)
			h := p.receive
			if p.send != (handles.Handle{}) && chance(t, "send handle", 70) {
				h = p.send
			}
			c.Handles = append(c.Handles, broker.NamedHandle{Name: fmt.Sprintf("h%d", i), Handle: h})
		}
	}
	if some := d.pipes(true); len(some) > 0 && chance(t, "found", 5) {
		c.Found = append(c.Found, pick(t, "pipe", some).send)
	}
	return c
}

func (d *bed) options(t *rapid.T) *broker.PipeOptions {
	o := &broker.PipeOptions{
		Timeout: draw(t, "timeout", 0, 0, 7019*time.Millisecond, 90023*time.Millisecond), DisconnectGrace: draw(t, "grace", 0, 2029*time.Millisecond),
		KeepIfAbandoned: chance(t, "keep", 20), CapacityReplies: draw[uint32](t, "capacity", 0, 1, 2), CapacityBytes: draw[uint64](t, "bytes", 0, 0, 12),
		Retain: draw(t, "retain", 0, 3037*time.Millisecond),
	}
	if some := d.pipes(false); len(some) > 0 && chance(t, "parent", 15) {
		if p := pick(t, "parent", some); p.state < ended { // what comes of a dead parent is tested with OpenPipe
			o.Parent = p.receive
		}
	}
	return o
}

func (d *bed) callOne(t *rapid.T) {
	r := &broker.Enqueue{
		Queue: draw(t, "queue", queueNames...), Body: []byte("call"), Pipe: d.options(t), Call: chance(t, "attached", 75), Cargo: d.cargo(t),
		RequireConsumer: chance(t, "requires a consumer", 20), Expiry: draw(t, "expiry", expiries...), Delay: draw(t, "delay", delays...),
	}
	op := broker.Op{Request: r}
	if r.Call {
		op.Credit = rapid.Uint32Range(0, 3).Draw(t, "credit")
	}
	d.m.applyEnqueue(d.producer.do(op), r)
	d.settle()
}

// send enqueues a message with a reply_to that somebody holds, or without one.
func (d *bed) send(t *rapid.T) {
	r := &broker.Enqueue{Queue: draw(t, "queue", queueNames...), Body: []byte("message"), Cargo: d.cargo(t), Delay: draw(t, "delay", delays...)}
	if some := d.pipes(true); len(some) > 0 && chance(t, "reply_to", 60) {
		r.ReplyTo = pick(t, "reply_to", some).send
	}
	d.m.applyEnqueue(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) openOne(t *rapid.T) {
	r := &broker.OpenPipe{Options: *d.options(t), Queue: draw(t, "queue", "", "a", "b")}
	if some := d.pipes(false); len(some) > 0 && chance(t, "any parent", 15) {
		r.Options.Parent = pick(t, "parent", some).receive
	}
	d.m.applyOpenPipe(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) receiveOne(t *rapid.T) {
	p := pick(t, "pipe", d.pipes(false))
	r := &broker.Receive{Handle: p.receive, FromSequence: rapid.Uint64Range(0, 3).Draw(t, "from")}
	d.m.applyReceive(d.producer.do(broker.Op{Request: r, Credit: rapid.Uint32Range(0, 3).Draw(t, "credit")}), p, r)
	d.settle()
}

func (d *bed) readers(ended bool) (some []*reader) {
	for _, p := range d.m.pipes {
		for _, r := range p.readers {
			if r.ended == ended {
				some = append(some, r)
			}
		}
	}
	return some
}

func (d *bed) creditReader(t *rapid.T) {
	r := pick(t, "reader", d.readers(false))
	n := rapid.Uint32Range(1, 3).Draw(t, "credit")
	d.producer.s.Credit(r.call.op.ID, n)
	d.m.credit(r, n)
	d.settle()
}

func (d *bed) passEnd(t *rapid.T) {
	r := pick(t, "reader", d.readers(true))
	d.producer.s.Passed(r.call.op.ID)
	d.producer.s.Flush()
	d.m.passed(r)
	d.settle()
}

func (d *bed) detachReader(t *rapid.T) {
	r := pick(t, "reader", append(d.readers(false), d.readers(true)...))
	d.producer.s.Detach(r.call.op.ID)
	delete(d.producer.calls, r.call.op.ID)
	d.m.dropReader(r)
	d.settle()
}

// body draws what a reply says.
func (d *bed) body(t *rapid.T, r *broker.Reply) {
	r.Kind = draw(t, "kind", broker.ReplyPayload, broker.ReplyPayload, broker.ReplyPayload, broker.ReplyError, broker.ReplyNothing)
	switch r.Kind {
	case broker.ReplyPayload:
		r.Body, r.More = make([]byte, rapid.IntRange(0, 9).Draw(t, "size")), chance(t, "more", 70)
		r.Cargo = d.cargo(t)
	case broker.ReplyError:
		r.Body = []byte("error")
	}
	r.ID = draw(t, "id", "", "", "x", "y")
}

// replyOne replies through a handle that somebody holds; perhaps with a lease, of this work or of another.
func (d *bed) replyOne(t *rapid.T) {
	r := &broker.Reply{Handle: pick(t, "pipe", d.pipes(true)).send}
	d.body(t, r)
	if some := append(d.leases(false), d.leases(true)...); len(some) > 0 && chance(t, "leased", 30) {
		r.Lease = pick(t, "lease", some).token
		r.Ack = chance(t, "ack", 40)
	}
	d.reply(t, r)
}

// answer replies to a message that a consumer has.
func (d *bed) answer(t *rapid.T) {
	var some []*lease
	for _, l := range d.leases(false) {
		if l.m.replyTo != nil && l.m.replyTo.pipe.send != (handles.Handle{}) {
			some = append(some, l)
		}
	}
	l := pick(t, "lease", some)
	r := &broker.Reply{Handle: l.m.replyTo.pipe.send, Lease: l.token, Ack: chance(t, "ack", 50)}
	d.body(t, r)
	d.reply(t, r)
}

func (d *bed) reply(t *rapid.T, r *broker.Reply) {
	if d.shards > 1 && r.Ack { // see settleWithMore
		r.Cargo.Handles = nil
	}
	op := broker.Op{Request: r} // without patience: what waits for room is tested elsewhere
	d.m.tryReply(d.producer.do(op), r)
	d.settle()
}

func (d *bed) spliceOne(t *rapid.T) {
	r := &broker.Reply{Handle: pick(t, "outer", d.pipes(true)).send, Kind: broker.ReplySplice, Splice: pick(t, "inner", d.pipes(false)).receive}
	d.reply(t, r)
}

func (d *bed) settlePlainly(t *rapid.T) {
	l := pick(t, "lease", d.leases(false))
	r := &broker.Settle{
		Lease: l.token, Action: draw(t, "action", broker.Ack, broker.Ack, broker.Ack, broker.Retry, broker.Reject, broker.Release),
		KeepHandles: chance(t, "keeps handles", 20),
	}
	d.m.applySettle(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

// settleWithMore settles with replies and messages in the same step; a message with the reply_to of the delivery is a
// forwarding.
func (d *bed) settleWithMore(t *rapid.T) {
	l := pick(t, "lease", d.leases(false))
	r := &broker.Settle{Lease: l.token, Action: draw(t, "action", broker.Ack, broker.Ack, broker.Retry, broker.Reject)}
	replies := 2
	if d.shards > 1 { // what the first one ends may have reached the second one's pipe or not
		replies = 1
	}
	for range rapid.IntRange(0, replies).Draw(t, "replies") {
		reply := &broker.Reply{Handle: pick(t, "pipe", d.pipes(true)).send}
		d.body(t, reply)
		if d.shards > 1 { // with several, handles in a reply that is in vain have been carried all the same, and are lost later
			reply.Cargo.Handles = nil
		}
		r.Replies = append(r.Replies, reply)
	}
	for range rapid.IntRange(0, 2).Draw(t, "messages") {
		e := &broker.Enqueue{Queue: draw(t, "queue", queueNames...), Body: []byte("forwarded"), Cargo: d.cargo(t)}
		if some := d.pipes(true); len(some) > 0 && chance(t, "reply_to", 70) {
			e.ReplyTo = pick(t, "reply_to", some).send
		}
		if own := l.m.replyTo; own != nil && own.pipe.send != (handles.Handle{}) && chance(t, "forward", 50) {
			e.ReplyTo = own.pipe.send
		}
		r.Messages = append(r.Messages, e)
	}
	d.m.applySettle(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) cancelOne(t *rapid.T) {
	p := pick(t, "pipe", d.pipes(false))
	d.m.applyCancel(d.producer.do(broker.Op{Request: &broker.Cancel{Handle: p.receive}}), p, broker.EndCancelled)
	d.settle()
}

func (d *bed) revokeOne(t *rapid.T) {
	p := pick(t, "pipe", d.pipes(false))
	d.m.applyCancel(d.producer.do(broker.Op{Request: &broker.EndPipe{Handle: p.receive}}), p, broker.EndRevoked)
	d.settle()
}

func (d *bed) consumePlainly(t *rapid.T) {
	r := &broker.Consume{
		Queues: []string{draw(t, "queue", queueNames...)}, MaxInFlight: rapid.Uint32Range(1, 3).Draw(t, "in flight"),
		LeaseTime: draw(t, "lease", leaseTimes...), Grace: draw(t, "grace", graces...), ConsumerID: draw(t, "id", "", "x"),
	}
	d.m.consume(d.worker.do(broker.Op{Request: r}), r)
	d.settle()
}
