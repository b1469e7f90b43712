package modeltest

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/broker"
)

// Events against the model. Which of several consumers gets a message is the broker's choice, and so is the order of
// things that are due in the same millisecond: the model follows what the broker did, and says when it may not.

// absorb takes in what has come, and does in the model what is due.
func (d *bed) absorb() {
	m := d.m
	for _, c := range []*client{d.producer, d.worker} {
		c.collect()
		for _, k := range c.calls {
			k.match(false)
		}
	}
	for _, e := range d.worker.order {
		k := d.worker.calls[e.Op]
		switch b := e.Body.(type) {
		case *broker.Delivery:
			d.t.Logf("  delivery of %v to %s, attempt %d, ended %v", b.Message, k.consumer.id, b.Attempt, b.Ended)
			m.catchUp(k.consumer, b)
			if why := m.deliver(k.consumer, b); why != "" {
				d.t.Fatalf("message %v was delivered to %s: %s", b.Message, k.consumer.id, why)
			}
		case *broker.LeaseLost:
			if x := m.byID(b.Message); x != nil && x.attempt == b.Attempt && x.state == leased {
				m.finish() // what follows from one that was lost before comes first
				m.fireLease(x)
			}
		case *broker.WaiterGone:
			if x := m.byID(b.Message); x != nil && x.replyTo != nil {
				m.seeGone(x)
			}
		}
	}
	d.worker.order, d.producer.order = nil, nil
	m.applyDue()
	m.rest()
	d.transfers()
	m.rest()
	for _, c := range []*client{d.producer, d.worker} {
		for op, k := range c.calls {
			k.match(true)
			if k.done {
				delete(c.calls, op)
			}
		}
	}
	for _, p := range m.pipes {
		p.wasNeeded = p.state == ended && m.needed(p)
	}
	m.step++
	m.noteWaiting()
	m.checkRest()
	for _, x := range m.messages {
		if x.notAfter != 0 && x.state == delayed { // how long exactly is up to chance: it is looked up
			d.compareMessages(x.queue)
		}
	}
}

func (m *model) rest() {
	m.finish()
	m.stopIdle()
	m.withdrawRequired()
	m.finish()
}

// match holds what a call was told against what it wants. Deliveries are looked at elsewhere.
func (k *call) match(all bool) {
	t := k.client.bed.t
	k.told = slices.DeleteFunc(k.told, func(e broker.Event) bool {
		switch b := e.Body.(type) {
		case *broker.Delivery:
			return true
		case *broker.WaiterGone:
			x := k.client.bed.m.byID(b.Message)
			return x != nil && x.sawEnd
		}
		return false
	})
	for len(k.told) > 0 && len(k.wants) > 0 {
		e, i := k.told[0], 0
		why := k.wants[0].match(e)
		// A consumer's events of one step have no order that matters.
		for ; why != "" && k.consumer != nil && i+1 < len(k.wants); i++ {
			if k.wants[i+1].match(e) == "" {
				why = ""
			}
		}
		if why != "" {
			if !all {
				return
			}
			t.Fatalf("%s, operation %d (%T): got %T %+v, want %s; it %s", k.client.name, k.op.ID, k.op.Request, e.Body, e.Body, k.wants[0].what, why)
		}
		k.told, k.wants = k.told[1:], slices.Delete(k.wants, i, i+1)
	}
	if !all {
		return
	}
	if len(k.told) > 0 {
		t.Fatalf("%s, operation %d (%T): got %T %+v, want nothing", k.client.name, k.op.ID, k.op.Request, k.told[0].Body, k.told[0].Body)
	}
	if len(k.wants) > 0 {
		t.Fatalf("%s, operation %d (%T): got nothing, want %s", k.client.name, k.op.ID, k.op.Request, k.wants[0].what)
	}
}

// seeGone does what follows up to where a message's consumer is told that the waiter is gone.
func (m *model) seeGone(x *message) {
	if x.replyTo.pipe.state < ended {
		m.firePipe(x.replyTo.pipe)
	}
	told := func() bool {
		m.finishUntil(func() bool { return x.state != leased || x.goneBy != 0 })
		return x.state != leased || x.goneBy != 0
	}
	if !told() && x.replyTo.pipe.state == spliced {
		m.bed.transfers()
	}
	for i := 0; i < len(m.pipes) && !told(); i++ { // it may be by the end of another pipe
		if p := m.pipes[i]; p.state < ended {
			m.firePipe(p)
		}
	}
}

// catchUp does what follows from what was done before, up to where a delivery is possible. Whether messages are handed out
// before or after the rest that follows from an operation is the broker's choice.
func (m *model) catchUp(c *consumer, b *broker.Delivery) {
	x := m.byID(b.Message)
	if x == nil {
		return
	}
	ended := func() bool { return m.endedNames(x.carried()).mayBe(b.Ended) }
	m.finishUntil(ended)
	if !ended() {
		m.applyUnseen()
	}
	m.finishUntil(func() bool { return x.state == ready && m.able(c) && m.overtakes(x) == "" })
}

// deliver makes a delivery that the broker has made; it says why that may not be.
func (m *model) deliver(c *consumer, b *broker.Delivery) string {
	x := m.byID(b.Message)
	if x == nil {
		return "nobody knows it"
	}
	switch {
	case x.state == delayed && m.isDue(onTick(x.until)):
		m.wakeDue(x.dueSeq)
	case x.state == leased && x.holder != nil && x.holder.away && m.isDue(onTick(x.holder.awayUntil)):
		m.giveUp(x.holder)
		m.finish()
	case x.state == leased && x.holder != nil && x.holder.away:
		m.fireLease(x) // nobody was told
	}
	switch {
	case x.state != ready:
		return fmt.Sprintf("it is not ready, but in state %d", x.state)
	case !c.takes(x.queue):
		return "it is in another queue"
	case !m.able(c):
		return "its consumer has no room"
	}
	if m.overtakes(x) != "" {
		m.applyUnseen()
		if why := m.overtakes(x); why != "" {
			return why
		}
	}
	x.attempt++
	x.heldSeq, x.until = m.place(), m.now().Add(orElse(c.lease, x.queue.config.LeaseTime))
	x.state, x.holder, x.goneBy, x.sawEnd = leased, c, 0, slices.Contains(b.Ended, "reply_to") || x.replyTo != nil && x.replyTo.unseen
	x.queue.delivered++
	m.served(x)
	if c.bounded {
		c.credit--
	}
	if c.limited {
		c.left--
		c.stopping = c.stopping || c.left == 0
	}
	m.noteWaiting()
	x.leases = append(x.leases, &lease{m: x, attempt: x.attempt, token: m.bed.keys.Mint(b.Lease)})
	if x.replyTo != nil && x.replyTo.own && b.ReplyTo.Kind == 0 {
		return "it has no reply_to"
	}
	if b.ReplyTo.Kind != 0 && x.replyTo != nil {
		x.replyTo.pipe.send = m.bed.keys.Mint(b.ReplyTo)
	}
	if why := m.endedNames(x.carried()).allow(b.Ended); why != "" {
		return why
	}
	got := *b
	got.Lease, got.ReplyTo, got.Ended = broker.Delivery{}.Lease, broker.Delivery{}.ReplyTo, nil
	return differs(broker.Delivery{
		Message: x.id, Queue: x.queue.name, LeaseExpires: x.until, Attempt: x.attempt, Failures: x.failures, Body: x.body,
		EnqueuedAt: x.enqueued, Deadline: x.deadline, Priority: x.priority, Group: x.group,
	}, got)
}

// carried lists what a message carries, with the name that a delivery gives it.
func (x *message) carried() (all []carried) {
	for _, c := range x.carries() {
		one := *c
		if c == x.replyTo {
			one.name = "reply_to"
		}
		all = append(all, one)
	}
	return all
}

// checkRest checks that nothing waits that could be delivered.
func (m *model) checkRest() {
	for _, q := range m.queues {
		for _, x := range m.heads(q) {
			for _, c := range m.consumers {
				if c.takes(q) && m.able(c) {
					m.bed.t.Fatalf("message %v waits in %q although %s has room: %+v", x.id, q.name, c.id, *x)
				}
			}
		}
	}
}

// transfers asks how far the broker is with the pipes that go on with others.
func (d *bed) transfers() {
	var joined []*pipe
	for _, p := range d.m.pipes {
		if p.state == spliced {
			joined = append(joined, p)
		}
	}
	for again := len(joined) > 0; again; {
		again = false
		for _, p := range joined {
			at := d.describe(p)
			if at == nil {
				d.t.Fatalf("a spliced pipe is forgotten")
			}
			before := p.last()
			if p.state == spliced && d.m.ahead(p) {
				if why := d.m.transfer(p, at.NextSequence); why != "" && at.NextSequence <= p.last()+1 {
					d.t.Fatalf("a spliced pipe: %s", why)
				}
			}
			again = again || p.last() != before
		}
	}
	d.m.passEnds()
}

func (m *model) ahead(p *pipe) bool { return p.joined.next <= p.inner.last() }

func differs(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reply{}, carried{}), equateEmpty); diff != "" {
		return "differs (-want +got):\n" + diff
	}
	return ""
}
