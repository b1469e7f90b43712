package broker

import (
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

// redriveMessages puts dead messages back, into their queue or another one. Queue limits do not apply.
func (s *shard) redriveMessages(l *link, op *Op, r *RedriveMessages) {
	tenant := l.session.identity.Tenant
	q := s.queueNamed(l, op, r.Queue, "queue")
	if q == nil {
		return
	}
	to := r.Queue
	if r.Target != "" {
		to = r.Target
	}
	if s.noAutoCreate && r.targetShard == s.st.shard && s.st.byName[queueKey{tenant, to}] == nil {
		s.refuse(l, op.ID, errQueueNotFound("target_queue", to, " and auto-creation is off"))
		return
	}
	slots := slices.Clone(q.dead)
	if len(r.Messages) > 0 {
		slots = slots[:0]
		for _, id := range r.Messages {
			if m := s.messageNamed(q, id); m != nil && m.state == messageDead && !slices.Contains(slots, id.Slot) {
				slots = append(slots, id.Slot)
			}
		}
	}
	for _, slot := range slots {
		if r.Target != "" && r.targetShard != s.st.shard {
			s.redriveElsewhere(slot, tenant, r)
			continue
		}
		target, _ := s.queueFor(tenant, to)
		s.redrive(slot, target)
	}
	s.emit(l, op.ID, true, &Removed{Messages: uint64(len(slots))})
}

// redrive puts a dead message into a queue of this shard.
func (s *shard) redrive(slot uint32, q *queue) {
	m := s.st.messages.at(slot)
	f := &factpb.Redriven{Slot: slot, Queue: q.number, Order: s.st.order + 1, At: int64(s.now)}
	ref := carrierRef{shard: s.st.shard, slot: slot, number: uint64(m.tag)}
	f.Handles, f.ReplyToEnded, f.Deadline = s.carryAgain(m.handles(), m.replyTo, m.replyToEnded, ref)
	if d := q.config.DefaultExpiry; d > 0 {
		f.Deadline = int64(earlier(Time(f.Deadline), s.now.Add(d)))
	}
	s.commit(f)
	s.enter(q, slot)
}

// carryAgain decides what a redriven message carries. Pipes that have ended stay so. Those of other shards are told of
// their carrier; they may answer that they have ended.
func (s *shard) carryAgain(
	carried []carriedHandle, replyTo pipeRef, replyToEnded bool, ref carrierRef,
) (hs []*factpb.CarriedHandle, ended bool, deadline int64) {
	again := slices.Clone(carried)
	for i := range again {
		if h := &again[i]; h.tracked() && s.carryOneAgain(h.pipe, carrier{carrierRef: ref, receive: h.receive}) {
			h.ended = true
		}
	}
	ended = replyToEnded
	if !replyTo.isZero() && !ended {
		ended = s.carryOneAgain(replyTo, carrier{carrierRef: ref, replyTo: true})
		if p := s.st.pipe(replyTo); p != nil && !ended {
			deadline = int64(p.deadline)
		}
	}
	return handleFacts(again), ended, deadline
}

// carryOneAgain reports whether a pipe is known to have ended. Here, the fact that stores the message adds the carrier.
func (s *shard) carryOneAgain(ref pipeRef, c carrier) (ended bool) {
	if ref.shard == s.st.shard {
		r := s.look(ref)
		return r.ended || r.unknown
	}
	s.send(&factpb.Sent{
		Target: uint32(ref.shard), What: sentCarrierAdded, Pipe: ref.fact(), Carrier: c.fact(), Receive: c.receive, ReplyTo: c.replyTo,
	})
	return false
}

// carrierAdded notes a carrier in another shard, or answers that its pipe has ended.
func (s *shard) carrierAdded(e *factpb.Sent) {
	ref := refOf(e.Pipe)
	r := s.look(ref)
	if !r.ended && !r.unknown {
		s.commit(&factpb.CarrierAdded{Pipe: ref.slot, Carrier: e.Carrier, Receive: e.Receive, ReplyTo: e.ReplyTo})
		return
	}
	if e.ReplyTo {
		// Not for the pipe's own reason, which might withdraw the message that was just put back.
		s.send(&factpb.Sent{
			Target: e.Carrier.Shard, What: sentWaiterEnded, Carrier: e.Carrier, Reason: uint32(EndDeadLettered),
		})
	}
}

// redriveElsewhere sends a dead message to a queue in another shard. It gets a new id there, and no history.
func (s *shard) redriveElsewhere(slot, tenant uint32, r *RedriveMessages) {
	m := s.st.messages.at(slot)
	carried := slices.Clone(m.handles())
	for i := range carried {
		carried[i].ended = carried[i].ended || s.endedHere(carried[i].pipe)
	}
	s.send(&factpb.Sent{
		Target: uint32(r.targetShard), What: sentRedriven, Queue: r.Target, Tenant: tenant,
		Message: &factpb.Enqueued{
			Body: m.body, Handles: handleFacts(carried), OwnReplyTo: m.ownReplyTo,
			ReplyToShard: uint32(m.replyTo.shard), ReplyToSlot: m.replyTo.slot, ReplyToNonce: m.replyTo.nonce,
			ReplyToEnded: m.replyToEnded || s.endedHere(m.replyTo), Priority: uint32(m.priority()), Group: m.group(),
		},
	})
	s.remove(slot, EndOpen, "")
}

// redrivenFromElsewhere stores what redriveElsewhere sent.
func (s *shard) redrivenFromElsewhere(e *factpb.Sent) {
	q, _ := s.queueFor(e.Tenant, e.Queue)
	f := arrived(e)
	slot, tag := s.reserveMessage()
	f.Slot, f.Tag, f.Queue, f.Nonce, f.Order, f.At = slot, tag, q.number, s.nonce(), s.st.order+1, int64(s.now)
	replyTo := pipeRef{uint16(f.ReplyToShard), f.ReplyToSlot, f.ReplyToNonce}
	ref := carrierRef{shard: s.st.shard, slot: slot, number: uint64(tag)}
	f.Handles, f.ReplyToEnded, f.Deadline = s.carryAgain(handlesOf(f.Handles), replyTo, f.ReplyToEnded, ref)
	if d := q.config.DefaultExpiry; d > 0 {
		f.Deadline = int64(earlier(Time(f.Deadline), s.now.Add(d)))
	}
	s.commit(f)
	s.enter(q, slot)
}

func (st *state) applyRedriven(f *factpb.Redriven) {
	m := st.message(f.Slot)
	if m == nil {
		return
	}
	st.dropDead(m.queue, f.Slot)
	st.count(m, -1)
	m.state, m.queue, m.order, m.failures = messageReady, f.Queue, f.Order, 0
	m.deadline, m.until = Time(f.Deadline), 0
	m.setHandles(handlesOf(f.Handles))
	m.replyToEnded = f.ReplyToEnded
	m.extras.agesFrom, m.extras.deadReason = Time(f.At), 0
	st.order = max(st.order, f.Order)
	st.count(m, +1)
	st.carry(f.Slot, m)
}
