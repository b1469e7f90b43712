package broker

import (
	"time"

	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// goneBy says how a message leaves.
type goneBy struct {
	fate   EndReason // what the pipes of its handles end with, if it was their last carrier
	action SettleAction
	dead   bool
	text   string
	// failures is how many more it has had than is known.
	failures uint32
	// consumer had it, if it has none now.
	consumer string
}

// gone removes a message, or makes it a dead one.
func (s *shard) gone(slot uint32, g goneBy) {
	m := s.st.messages.at(slot)
	q := s.st.queues[m.queue]
	consumer := ""
	if g.dead {
		if consumer = g.consumer; consumer == "" {
			consumer = m.holderOf()
		}
	}
	s.unline(slot)
	s.unwait(m)
	m.live.goneBy = EndOpen
	if m.requireConsumer {
		delete(q.live.required, slot)
	}
	if m.special() {
		s.quit(q, m)
	}
	q.live.bytes -= uint64(len(m.body))
	if g.action == Ack {
		if s.now >= q.live.nextMark {
			s.mark(q)
		}
		q.live.acked++
	}
	s.loseAll(m, carrierRef{shard: s.st.shard, slot: slot, number: uint64(m.tag)}, g.fate)
	s.wheel.set(timerRef{timerMessage, slot}, 0)
	f := &s.scratch.gone
	*f = factpb.Gone{
		Slot: slot, Fate: uint32(g.fate), At: int64(s.now), Action: uint32(g.action), Dead: g.dead, Text: g.text,
		Consumer: consumer,
	}
	if g.dead {
		f.Failures = m.failures + g.failures
	}
	s.commit(f)
	if g.dead {
		s.trimDead(q)
	}
}

// trimDead drops the oldest dead messages of a queue that has too many.
func (s *shard) trimDead(q *queue) {
	for len(q.dead) > int(q.config.MaxDead) {
		f := &s.scratch.gone
		*f = factpb.Gone{Slot: q.dead[0], At: int64(s.now)}
		s.commit(f)
	}
}

// unwait notes that nobody waits for a message's answer any more.
func (s *shard) unwait(m *message) {
	if m.live.waited {
		m.live.waited = false
		s.st.queues[m.queue].live.waiters--
	}
}

// unline takes a message out of the lists that its state put it in.
func (s *shard) unline(slot uint32) {
	m := s.st.messages.at(slot)
	q := s.st.queues[m.queue]
	switch m.state {
	case messageReady:
		s.takeOut(q, slot)
	case messageDelayed:
		s.unlink(&q.live.delayed, slot)
		q.live.delayedN--
		if m.special() {
			s.release(q, m)
		}
	case messageLeased:
		if m.special() {
			s.release(q, m)
		}
		q.live.leasedN--
		q.live.leasedBytes -= uint64(len(m.body))
		if c := m.live.holder; c != nil {
			m.live.holder = nil
			s.unlink(&c.held, slot)
			c.inFlight--
			if c.edge != nil {
				s.note(c, noteFreed)
			}
			s.reseat(c)
		}
	}
}

// returning says how a leased message goes back.
type returning struct {
	failed bool
	delay  time.Duration // as in Settle
	action SettleAction
	text   string // how its attempt ended
	// consumer had it, if it has none now.
	consumer string
}

// giveBack returns a leased message to its queue, unless it has failed too often or nobody wants it any more.
func (s *shard) giveBack(slot uint32, r returning) (dead bool) {
	m := s.st.messages.at(slot)
	q := s.st.queues[m.queue]
	failures := m.failures
	if r.failed {
		failures++
		q.live.failed++
	}
	if failures >= q.config.MaxFailures && r.failed {
		s.gone(slot, goneBy{fate: EndDeadLettered, action: r.action, dead: true, text: r.text, consumer: r.consumer, failures: 1})
		return true
	}
	if reason := s.unwanted(m); reason != EndOpen {
		s.gone(slot, goneBy{fate: reason, action: r.action})
		return false
	}
	delay := r.delay
	if delay == 0 && r.failed {
		delay = s.backoff(q.config, failures)
	}
	notBefore := Time(0)
	if delay > 0 {
		notBefore = s.now.Add(delay)
	}
	consumer := r.consumer
	if consumer == "" {
		consumer = m.holderOf()
	}
	s.unline(slot)
	s.commit(&factpb.Returned{
		Slot: slot, Failures: failures, NotBefore: int64(notBefore), Order: m.order, Action: uint32(r.action), At: int64(s.now),
		Text: r.text, Consumer: consumer,
	})
	s.lineUp(slot)
	return false
}

// unwanted tells why a message that comes back should be withdrawn; EndOpen if it should not.
func (s *shard) unwanted(m *message) EndReason {
	if m.deadline != 0 && m.deadline <= s.now {
		return EndExpired
	}
	if m.replyTo.isZero() || m.replyToEnded {
		return EndOpen
	}
	if p := s.st.pipe(m.replyTo); p != nil && p.state == pipeEnded && withdraws(p.reason) {
		return p.reason
	}
	if withdraws(m.live.goneBy) { // a pipe of another shard
		return m.live.goneBy
	}
	return EndOpen
}

// lineUp puts a message that has become ready or delayed where it belongs.
func (s *shard) lineUp(slot uint32) {
	m := s.st.messages.at(slot)
	q := s.st.queues[m.queue]
	if m.state == messageDelayed {
		s.pushBack(&q.live.delayed, slot)
		q.live.delayedN++
		if m.special() {
			s.holdBack(q, m)
		}
	} else {
		s.lineIn(q, slot)
		s.later(work{kind: workDispatch, queue: q})
	}
	s.timeMessage(slot)
}

// timeMessage sets a message's timer for what is due next.
func (s *shard) timeMessage(slot uint32) {
	m := s.st.messages.at(slot)
	var at Time
	switch m.state {
	case messageReady:
		at = m.deadline
	case messageDelayed:
		at = earlier(m.deadline, m.until)
	case messageLeased:
		at = m.until
	}
	s.wheel.set(timerRef{timerMessage, slot}, at)
}

func (s *shard) fireMessage(slot uint32) {
	m := s.st.messages.at(slot)
	waits := m.state == messageReady || m.state == messageDelayed
	switch {
	case m.state == messageLeased && s.now < s.pardonUntil && m.until <= s.now:
		s.wheel.set(timerRef{timerMessage, slot}, s.pardonUntil)
	case m.state == messageLeased && m.live.holder == nil:
		s.giveBack(slot, returning{failed: true, text: "its consumer did not come back after the server's restart"})
	case m.state == messageLeased && m.until <= s.now:
		s.loseLease(slot, "the lease expired; extend leases of long work, or consume with a longer lease time")
		s.giveBack(slot, returning{failed: true, text: "the lease expired"})
	case waits && m.deadline != 0 && m.deadline <= s.now:
		s.gone(slot, goneBy{fate: EndExpired})
	case m.state == messageDelayed && m.until <= s.now:
		order := m.order
		if m.attempt == 0 {
			order = s.st.order + 1 // delayed from the start: it comes in now, behind those that wait
		}
		s.unline(slot)
		s.commit(&factpb.Returned{Slot: slot, Failures: m.failures, Order: order})
		s.lineUp(slot)
	default:
		s.timeMessage(slot)
	}
}

// loseLease tells a consumer that a delivery is not its own any more.
func (s *shard) loseLease(slot uint32, text string) {
	m := s.st.messages.at(slot)
	if c := m.live.holder; c != nil && !c.away {
		s.emit(c.link, c.op, false, &LeaseLost{Message: s.st.messageID(slot, m.tag), Attempt: m.attempt, Text: text})
	}
}

// dispatch hands ready messages to consumers with room, in turn.
func (s *shard) dispatch(q *queue) {
	for q.live.seats.head != nil {
		next := s.nextReady(q)
		if next == 0 {
			return
		}
		seat := q.live.seats.head
		c := seat.consumer
		q.live.seats.remove(seat)
		if c.edge != nil && c.allowed == 0 {
			s.offer(c)
			continue
		}
		s.deliver(q, next, c)
		if c.able() {
			q.live.seats.pushBack(seat)
		} else {
			s.unseat(c)
		}
	}
}

// deliver hands a message to a consumer.
func (s *shard) deliver(q *queue, slot uint32, c *consumer) {
	m := s.st.messages.at(slot)
	if q.live.lanes != nil {
		s.pass(q, s.rowOf(q, m))
	}
	s.takeOut(q, slot)
	if m.special() {
		s.occupy(q, m)
	}
	q.live.leasedN++
	q.live.leasedBytes += uint64(len(m.body))
	q.live.delivered++
	if m.requireConsumer {
		delete(q.live.required, slot)
	}
	until := s.now.Add(c.leaseAt(q))
	f := &s.scratch.leased
	*f = factpb.Leased{
		Slot: slot, Attempt: m.attempt + 1, Until: int64(until), Principal: c.link.session.identity.Principal, At: int64(s.now),
		Grace: graceSeconds(c.grace), Consumer: uint32(c.number),
	}
	s.commit(f)
	m.live.holder = c
	s.pushBack(&c.held, slot)
	c.inFlight++
	c.delivered++
	c.activeAt = s.now
	if c.bounded {
		c.credit--
	}
	if c.edge != nil {
		c.allowed--
	}
	if c.delivered == c.deliveries {
		c.stopping = true
	}
	s.timeMessage(slot)
	d := takeBody(&s.spent.deliveries)
	s.setDelivery(d, q, slot, m, c)
	s.emitOwn(c.link, c.op, false, d)
}

// setDelivery describes what a consumer gets.
func (s *shard) setDelivery(d *Delivery, q *queue, slot uint32, m *message, c *consumer) {
	*d = Delivery{
		Message: s.st.messageID(slot, m.tag), Queue: q.name, LeaseExpires: m.until,
		Lease: handles.Claims{
			Kind: handles.Lease, Tenant: c.tenant, Shard: s.st.shard, Attempt: uint16(m.attempt), Store: s.st.store,
			Slot: slot, Nonce: m.nonce, Expires: int64((s.now + maxLease + handleSlack) / 1e9),
		},
		Attempt: m.attempt, Failures: m.failures, Body: m.body, EnqueuedAt: m.enqueued, Deadline: m.deadline,
		Priority: m.priority(), Group: m.group(), Ended: s.endedNames(m.handles()),
	}
	if m.replyTo.isZero() {
		return
	}
	if m.ownReplyTo {
		d.ReplyTo = s.ownReplyTo(c.tenant, m)
	}
	if m.replyToEnded || m.live.goneBy != EndOpen || s.endedHere(m.replyTo) {
		d.Ended = append(d.Ended, "reply_to")
	}
}

// maxLease is how long a delivery may be held in all, however often its lease is extended.
const maxLease = Time(24 * 3600e9)

func (s *shard) extendLease(l *link, h handles.Handle, r *ExtendLeases) ExtendedLease {
	if _, err := s.checkLease(l.session.identity.Principal, h); err != nil {
		return ExtendedLease{Err: err}
	}
	slot := h.Slot()
	m := s.st.messages.at(slot)
	leaseTime := r.LeaseTime
	if leaseTime == 0 {
		q := s.st.queues[m.queue]
		leaseTime = q.config.LeaseTime
		if m.live.holder != nil {
			leaseTime = m.live.holder.leaseAt(q)
		}
	}
	until := s.now.Add(leaseTime)
	if until > m.since+maxLease {
		return ExtendedLease{Err: &Error{
			Code: CodeInvalidArgument, Reason: ReasonLeaseInvalid, Field: "lease_time",
			Text: "a delivery can be held for 24 hours in all; settle it, or split the work",
		}}
	}
	s.commit(&factpb.LeaseExtended{Slot: slot, Until: int64(until)})
	s.timeMessage(slot)
	return ExtendedLease{Expires: until, WaiterGone: !m.replyTo.isZero() && s.endedHere(m.replyTo)}
}
