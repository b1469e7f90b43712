package modeltest

import (
	"cmp"
	"slices"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// Consumers: they come, hold deliveries, are cut, come back, and stop.

// consume registers a consumer whose request is accepted.
func (m *model) consume(k *call, r *broker.Consume) {
	c := &consumer{
		call: k, id: r.ConsumerID, max: max(r.MaxInFlight, 1), credit: k.op.Credit, bounded: k.op.Credit > 0,
		lease: r.LeaseTime, grace: r.Grace, left: r.MaxDeliveries, limited: r.MaxDeliveries > 0,
	}
	var created []string
	for _, name := range r.Queues {
		q, made := m.queueFor(name)
		if made {
			created = append(created, name)
		}
		c.queues = append(c.queues, q)
	}
	k.consumer = c
	wantBody(k, false, "word that it has started", func(b *broker.Started) string {
		if r.ConsumerID != "" && b.ConsumerID != r.ConsumerID {
			return "under another id: " + b.ConsumerID
		}
		c.id = b.ConsumerID
		got := slices.Sorted(slices.Values(b.Created))
		return differs(slices.Sorted(slices.Values(created)), got)
	})
	m.consumers = append(m.consumers, c)
	m.comeBack(c, r.Held)
	m.withdraw = true
}

// comeBack hands a consumer those deliveries of its former self whose leases it names; the others have failed.
func (m *model) comeBack(c *consumer, held []handles.Handle) {
	var was *consumer
	for _, o := range m.consumers {
		if o == c || c.id == "" || o.id != c.id {
			continue
		}
		if !o.over {
			o.over, was = true, o
			o.call.refuse(broker.ReasonConsumerTakenOver)
		} else if o.away {
			o.away, was = false, o
		}
	}
	for _, h := range held {
		l := m.leaseOf(h)
		switch x := l.m; {
		case x.state != leased || x.attempt != l.attempt:
			if x.state == gone {
				continue // nobody knows it any more
			}
			id, attempt := x.id, l.attempt
			wantBody(c.call, false, "a lost lease", func(b *broker.LeaseLost) string {
				if b.Message != id || b.Attempt != attempt {
					return "of another delivery"
				}
				return ""
			})
		case was != nil && x.holder == was:
			x.holder, x.heldSeq = c, m.place()
			if x.goneBy != 0 && !x.sawEnd {
				m.tellWaiterGone(x)
			}
		}
	}
	if was != nil {
		m.returnHeld(was)
	}
}

// returnHeld returns what a consumer holds, as failed, from the last delivery to the first.
func (m *model) returnHeld(c *consumer) {
	held := m.holds(c)
	sortBy(held, func(x *message) uint64 { return x.heldSeq })
	slices.Reverse(held)
	for _, x := range held {
		x.leases[len(x.leases)-1].over = m.now()
		m.giveBack(x, true, 0)
	}
}

// leave is what a cut does to a consumer.
func (m *model) leave(c *consumer) {
	c.over = true
	m.withdraw = true
	if c.grace > 0 {
		c.away, c.awayUntil = true, m.now().Add(c.grace)
		return
	}
	m.returnHeld(c)
}

// giveUp ends the wait for a consumer that was cut.
func (m *model) giveUp(c *consumer) {
	c.away = false
	m.withdraw = true
	m.returnHeld(c)
}

// withdrawRequired takes back the messages that need a consumer where there is none.
func (m *model) withdrawRequired() {
	if !m.withdraw {
		return
	}
	m.withdraw = false
	for _, q := range m.queues {
		deserted := m.consumersOf(q) == 0
		for _, c := range m.consumers {
			deserted = deserted && (!c.away || !c.takes(q))
		}
		for _, x := range m.in(q, ready, delayed) {
			if deserted && x.required && x.attempt == 0 {
				m.end(x, broker.EndNoConsumer, false)
			}
		}
	}
}

// stopIdle ends the consumers that take no more and hold nothing.
func (m *model) stopIdle() {
	for _, c := range m.consumers {
		if c.over || !c.stopping || len(m.holds(c)) > 0 {
			continue
		}
		c.over, m.withdraw = true, true
		stopped, deserted := c.stopped, len(c.queues) == 0
		c.call.want("its end", func(e broker.Event) string {
			err, refused := e.Body.(*broker.Error)
			switch {
			case !e.Done:
				return "goes on"
			case deserted && refused && err.Reason == broker.ReasonQueueNotFound:
				return ""
			case (stopped || !deserted) && e.Body == nil: // of two reasons to end, either may be told
				return ""
			}
			return "is another one"
		})
	}
}

// deleteQueue takes a queue away from everybody.
func (m *model) deleteQueue(q *queue) (messages uint64) {
	all := m.inOrderOfDeletion(q)
	for i, o := range m.queues {
		if o == q {
			m.queues = append(m.queues[:i:i], m.queues[i+1:]...)
			break
		}
	}
	for _, x := range all {
		m.remove(x, broker.EndQueueDeleted)
	}
	for _, c := range m.consumers {
		for i, of := range c.queues {
			if of == q {
				c.queues = append(c.queues[:i:i], c.queues[i+1:]...)
				c.stopped = c.stopping
				c.stopping = c.stopping || len(c.queues) == 0
				break
			}
		}
	}
	return uint64(len(all))
}

// inOrderOfDeletion lists a queue's messages: first those that its consumers have, one consumer after the other, then those
// of consumers that are away, then the others.
func (m *model) inOrderOfDeletion(q *queue) (all []*message) {
	consumers := slices.SortedFunc(slices.Values(m.consumers), func(a, b *consumer) int { return cmp.Compare(a.id, b.id) })
	for _, away := range []bool{false, true} {
		for _, c := range consumers {
			held := m.holds(c)
			sortBy(held, func(x *message) uint64 { return x.heldSeq })
			for _, x := range held {
				if x.queue == q && c.away == away {
					all = append(all, x)
				}
			}
		}
	}
	for _, x := range inSlotOrder(m.in(q, ready, delayed, leased, dead)) {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}

func (m *model) leaseOf(h handles.Handle) *lease {
	for _, x := range m.messages {
		for _, l := range x.leases {
			if l.token == h {
				return l
			}
		}
	}
	return nil
}

// checkLease lists the reasons for which a lease is refused; none if it is in force.
func (m *model) checkLease(l *lease) []broker.Reason {
	if l.m.state == leased && l.m.attempt == l.attempt {
		return nil
	}
	if l.m.state == gone && !slices.ContainsFunc(l.m.leases, func(l *lease) bool { return l.over.Add(remembered) > m.now() }) {
		return []broker.Reason{broker.ReasonLeaseStale, broker.ReasonLeaseUnknown}
	}
	return []broker.Reason{broker.ReasonLeaseStale}
}

// remembered is how long the broker knows at least that a lease has been settled.
const remembered = 60 * time.Second
