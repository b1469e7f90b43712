package broker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/replyq/replyq/broker/factpb"
)

// queueFor finds a queue, or makes it.
func (s *shard) queueFor(tenant uint32, name string) (q *queue, created bool) {
	if q := s.st.byName[queueKey{tenant, name}]; q != nil {
		return q, false
	}
	s.commit(&factpb.QueueCreated{Number: s.st.nextQueue(s.now), Tenant: tenant, Name: name, At: int64(s.now)})
	return s.st.byName[queueKey{tenant, name}], true
}

// queueNamed finds the queue that an administrator named, or refuses the operation.
func (s *shard) queueNamed(l *link, op *Op, name, field string) *queue {
	q := s.st.byName[queueKey{l.session.identity.Tenant, name}]
	if q == nil {
		s.refuse(l, op.ID, errQueueNotFound(field, name, ""))
	}
	return q
}

func (s *shard) createQueue(l *link, op *Op, r *CreateQueue) {
	tenant := l.session.identity.Tenant
	if s.st.byName[queueKey{tenant, r.Queue}] == nil {
		if err := s.checkRoom(tenant, queueSize, 0); err != nil {
			s.refuse(l, op.ID, err)
			return
		}
	}
	q, created := s.queueFor(tenant, r.Queue)
	if !created {
		s.refuse(l, op.ID, &Error{
			Code: CodeAlreadyExists, Reason: ReasonQueueExists, Field: "name",
			Text: fmt.Sprintf("queue %q exists already; update it instead", r.Queue),
		})
		return
	}
	if r.Config != (QueueConfig{}) {
		s.commit(r.Config.fact(q.number))
	}
	s.emit(l, op.ID, true, &QueueList{Queues: []QueueInfo{s.queueInfo(q)}})
}

func (s *shard) updateQueue(l *link, op *Op, r *UpdateQueue) {
	q := s.queueNamed(l, op, r.Queue, "name")
	if q == nil {
		return
	}
	s.commit(q.given.with(r.Config, r.Fields).fact(q.number))
	s.trimDead(q)
	if l := q.live.lanes; l != nil {
		for _, g := range inOrder(l.groups) {
			s.regroup(q, g)
		}
	}
	s.later(work{kind: workDispatch, queue: q})
	s.emit(l, op.ID, true, &QueueList{Queues: []QueueInfo{s.queueInfo(q)}})
}

func (s *shard) purgeQueue(l *link, op *Op, r *PurgeQueue) {
	q := s.queueNamed(l, op, r.Queue, "name")
	if q == nil {
		return
	}
	removed := uint64(0)
	started := s.now
	s.begin(&chore{
		visit: func(slot uint32, m *message) bool {
			if m.queue != q.number || m.enqueued > started || !r.wants(m.state) {
				return false
			}
			s.remove(slot, EndPurged, "the queue was purged")
			removed++
			return true
		},
		done: func() { s.emit(l, op.ID, true, &Removed{Messages: removed}) },
	})
}

func (r *PurgeQueue) wants(state messageState) bool {
	switch state {
	case messageReady:
		return r.State == 0 || r.State == MessageReady
	case messageDelayed:
		return r.State == 0 || r.State == MessageDelayed
	case messageDead:
		return r.State == MessageDead
	default:
		return false
	}
}

// deleteQueue takes a queue's name away at once, so that whoever uses it from now on uses another queue. Its messages
// follow, some at a time.
func (s *shard) deleteQueue(l *link, op *Op, r *DeleteQueue) {
	q := s.queueNamed(l, op, r.Queue, "name")
	if q == nil {
		return
	}
	messages := q.live.readyN + q.live.leasedN + q.live.delayedN + uint64(len(q.dead))
	if !r.Force && (messages > 0 || q.live.consumers > 0) {
		s.refuse(l, op.ID, &Error{
			Code: CodeFailedPrecondition, Reason: ReasonQueueNotEmpty, Field: "name",
			Text: fmt.Sprintf("queue %q has %d messages and %d consumers; set force to remove it all the same",
				r.Queue, messages, q.live.consumers),
		})
		return
	}
	s.commit(&factpb.QueueDeleted{Queue: q.number})
	s.leaveQueue(q)
	s.clearDeleted(q, func() { s.emit(l, op.ID, true, &Removed{Messages: messages}) })
}

// clearDeleted removes the messages of a deleted queue, and then the queue.
func (s *shard) clearDeleted(q *queue, done func()) {
	s.begin(&chore{
		visit: func(slot uint32, m *message) bool {
			if m.queue != q.number {
				return false
			}
			s.remove(slot, EndQueueDeleted, textQueueDeleted)
			return true
		},
		done: func() {
			s.commit(&factpb.QueueForgotten{Queue: q.number, At: int64(s.now)})
			done()
		},
	})
}

const textQueueDeleted = "the queue was deleted"

// leaveQueue takes a deleted queue from its consumers, with what they hold of it.
func (s *shard) leaveQueue(q *queue) {
	at := func(c *consumer) bool { return c.seatAt(q) >= 0 }
	for _, c := range consumersWhere(s.consumers, at) {
		s.leaveSeat(c, q)
		q.live.consumers--
		if len(c.seats) == 0 {
			s.noQueueLeft(c)
		}
	}
	for _, c := range consumersWhere(s.away, at) {
		s.leaveSeat(c, q)
		q.live.away--
	}
}

// consumersWhere selects consumers, in an order that does not depend on chance.
func consumersWhere[K comparable](from map[K]*consumer, where func(*consumer) bool) (some []*consumer) {
	for _, c := range from {
		if where(c) {
			some = append(some, c)
		}
	}
	slices.SortFunc(some, func(a, b *consumer) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.awayKey().principal, b.awayKey().principal))
	})
	return some
}

func (s *shard) leaveSeat(c *consumer, q *queue) {
	i := c.seatAt(q)
	if c.seats[i].seated {
		q.live.seats.remove(c.seats[i])
	}
	c.seats = slices.Delete(c.seats, i, i+1)
	next := uint32(0)
	for slot := c.held.head; slot != 0; slot = next {
		m := s.st.messages.at(slot)
		if next = m.live.next; m.queue == q.number {
			s.remove(slot, EndQueueDeleted, textQueueDeleted)
		}
	}
}

// noQueueLeft ends a consumer whose queues are all deleted, as soon as it has settled what it holds of others.
func (s *shard) noQueueLeft(c *consumer) {
	if c.edge != nil {
		s.note(c, noteNoQueue)
		return
	}
	c.stopping, c.endErr = true, errQueuesDeleted()
	s.reseat(c)
}

func errQueuesDeleted() *Error {
	return &Error{
		Code: CodeNotFound, Reason: ReasonQueueNotFound, Field: "queues",
		Text: "all queues of the consumer were deleted; consume others",
	}
}

func (c *consumer) seatAt(q *queue) int {
	return slices.IndexFunc(c.seats, func(s *seat) bool { return s.queue == q })
}

// remove removes a message because an administrator says so, wherever it is.
func (s *shard) remove(slot uint32, fate EndReason, why string) {
	switch s.st.messages.at(slot).state {
	case messageDead:
		f := &s.scratch.gone
		*f = factpb.Gone{Slot: slot, Fate: uint32(fate), At: int64(s.now)}
		s.commit(f)
		return
	case messageLeased:
		s.loseLease(slot, why)
	}
	s.gone(slot, goneBy{fate: fate})
}

// leaseAt is how long a consumer has for a delivery from a queue.
func (c *consumer) leaseAt(q *queue) time.Duration {
	if c.leaseTime == 0 {
		return q.config.LeaseTime
	}
	return c.leaseTime
}
