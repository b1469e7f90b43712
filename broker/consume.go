package broker

import (
	"fmt"
	"slices"
)

func (s *shard) consume(l *link, op *Op, r *Consume) {
	if err := s.checkConsume(l, r, r.Queues); err != nil {
		s.refuse(l, op.ID, err)
		return
	}
	id := r.ConsumerID
	if id == "" {
		id = s.consumerID()
	}
	s.emit(l, op.ID, false, &Started{ConsumerID: id, Created: s.queuesFor(l, r)})
	s.register(l, op, r, id, nil)
}

func (s *shard) consumerID() string { return fmt.Sprintf("c-%016x", s.draw()) }

// checkConsume decides whether a consumer can be registered. all are the queues of the whole request, of which r may be a
// part.
func (s *shard) checkConsume(l *link, r *Consume, all []string) *Error {
	if s.draining {
		return errDraining()
	}
	older := s.consumers[consumerKey{l.session.identity.Tenant, r.ConsumerID}]
	if older != nil && older.link.session.identity.Principal != l.session.identity.Principal {
		return &Error{
			Code: CodeAlreadyExists, Reason: ReasonConsumerTaken, Field: "consumer_id",
			Text: "another principal's consumer has this id; choose another one",
		}
	}
	return s.checkQueues(l, r, all)
}

// queuesFor makes the queues that do not exist, and returns their names.
func (s *shard) queuesFor(l *link, r *Consume) (made []string) {
	for _, name := range r.Queues {
		if _, created := s.queueFor(l.session.identity.Tenant, name); created {
			made = append(made, name)
		}
	}
	return made
}

// register makes a consumer, in the place of an older one with its id. e is set for a part of one over several shards.
func (s *shard) register(l *link, op *Op, r *Consume, id string, e *edge) *consumer {
	key := consumerKey{l.session.identity.Tenant, id}
	older := s.consumers[key]
	if older != nil {
		s.takeOver(older)
	}
	c := &consumer{
		link: l, op: op.ID, id: id, number: consumerNumber(id), tenant: key.tenant, max: max(r.MaxInFlight, 1),
		credit: op.Credit, bounded: op.Credit > 0, leaseTime: r.LeaseTime, grace: r.Grace,
		deliveries: r.MaxDeliveries, wait: r.Wait, activeAt: s.now, edge: e,
	}
	for _, name := range r.Queues {
		q, _ := s.queueFor(key.tenant, name) // it may have been deleted since queuesFor
		q.live.consumers++
		c.seats = append(c.seats, &seat{consumer: c, queue: q})
	}
	s.consumers[key] = c
	l.consumers[op.ID] = c
	s.comeBack(c, older, r.Held)
	if c.wait > 0 {
		s.timeConsumer(c, s.now.Add(c.wait))
	}
	s.reseat(c)
	return c
}

// timeConsumer sets a consumer's timer; 0 clears it.
func (s *shard) timeConsumer(c *consumer, at Time) {
	if c.slot == 0 && at != 0 {
		c.slot = s.waiting.take()
		s.waiting.at(c.slot).consumer = c
	}
	if c.slot == 0 {
		return
	}
	s.wheel.set(timerRef{timerConsumer, c.slot}, at)
	if at == 0 {
		s.waiting.at(c.slot).consumer = nil
		s.waiting.give(c.slot)
		c.slot = 0
	}
}

func (s *shard) checkQueues(l *link, r *Consume, all []string) *Error {
	tenant := l.session.identity.Tenant
	made := 0
	for _, name := range r.Queues {
		if s.st.byName[queueKey{tenant, name}] != nil {
			continue
		}
		if s.noAutoCreate {
			return errQueueNotFound(fmt.Sprintf("queues[%d]", slices.Index(all, name)), name, " and auto-creation is off")
		}
		made++
	}
	if made == 0 {
		return nil
	}
	return s.checkRoom(tenant, made*queueSize, 0)
}

// reseat gives a consumer with room its place at those of its queues where it has none, and ends it if it has stopped
// and holds nothing.
func (s *shard) reseat(c *consumer) {
	if c.stopping {
		if c.inFlight == 0 {
			s.endConsumer(c, c.endErr)
		}
		return
	}
	if !c.able() || s.draining {
		return
	}
	for _, seat := range c.seats {
		if !seat.seated {
			seat.queue.live.seats.pushBack(seat)
			if seat.queue.live.readyN > 0 {
				s.later(work{kind: workDispatch, queue: seat.queue})
			}
		}
	}
}

func (s *shard) unseat(c *consumer) {
	for _, seat := range c.seats {
		if seat.seated {
			seat.queue.live.seats.remove(seat)
		}
	}
}

// endConsumer ends a consumer that holds nothing, with err or well.
func (s *shard) endConsumer(c *consumer, err *Error) {
	if c.link.consumers[c.op] != c {
		return
	}
	s.removeConsumer(c)
	if err != nil {
		s.refuse(c.link, c.op, err)
		return
	}
	s.emit(c.link, c.op, true, nil)
}

func (s *shard) removeConsumer(c *consumer) {
	c.stopping = true
	s.unseat(c)
	for _, seat := range c.seats {
		seat.queue.live.consumers--
		s.consumerLeft(seat.queue)
	}
	delete(c.link.consumers, c.op)
	delete(s.consumers, consumerKey{c.tenant, c.id})
	s.timeConsumer(c, 0)
}

// returnHeld returns what a consumer holds that is gone, each as a failed attempt.
func (s *shard) returnHeld(c *consumer, why string) {
	// From the last to the first, so that each is put back before the one put back before it.
	for c.held.tail != 0 {
		slot := c.held.tail
		m := s.st.messages.at(slot)
		s.unlink(&c.held, slot)
		m.live.holder = nil
		c.inFlight--
		s.giveBack(slot, returning{failed: true, text: why, consumer: c.id})
	}
}

// takeOver ends a consumer because another stream of its principal has come with its id. What it holds is left to that
// one.
func (s *shard) takeOver(c *consumer) {
	s.removeConsumer(c)
	if c.edge != nil {
		s.note(c, noteTakenOver)
		return
	}
	s.refuse(c.link, c.op, errTakenOver())
}

func errTakenOver() *Error {
	return &Error{
		Code: CodeAborted, Reason: ReasonConsumerTakenOver, Field: "consumer_id",
		Text: "a newer stream of yours consumes under this id; do not come back with it",
	}
}

func (s *shard) stopConsuming(l *link, op *Op, r *StopConsuming) {
	c := s.consumers[consumerKey{l.session.identity.Tenant, r.ConsumerID}]
	if c == nil || c.link.session.identity.Principal != l.session.identity.Principal {
		s.refuse(l, op.ID, errConsumerUnknown())
		return
	}
	s.emit(l, op.ID, true, &Stopping{InFlight: c.inFlight})
	c.stopping = true
	s.unseat(c)
	s.reseat(c)
}

func errConsumerUnknown() *Error {
	return &Error{
		Code: CodeNotFound, Reason: ReasonConsumerUnknown, Field: "consumer_id",
		Text: "no live consumer of yours has this id; it may have ended",
	}
}

// fireConsumer ends a consumer that has waited long enough, or was waited for.
func (s *shard) fireConsumer(slot uint32) {
	c := s.waiting.at(slot).consumer
	if c == nil {
		return
	}
	if c.away {
		if s.now < s.pardonUntil {
			s.wheel.set(timerRef{timerConsumer, slot}, s.pardonUntil)
			return
		}
		s.giveUp(c)
		s.returnHeld(c, "its consumer was lost and did not come back")
		return
	}
	if c.edge != nil {
		s.note(c, noteIdle)
		return
	}
	due := c.activeAt.Add(c.wait)
	if c.inFlight > 0 {
		due = s.now.Add(c.wait)
	}
	if due > s.now {
		s.wheel.set(timerRef{timerConsumer, slot}, due)
		return
	}
	s.endConsumer(c, nil)
}
