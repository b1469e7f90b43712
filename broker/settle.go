package broker

import (
	"fmt"

	"github.com/replyq/replyq/handles"
)

// checkLease finds the delivery that a lease token stands for; it is an error if that is not in force.
func (s *shard) checkLease(principal string, h handles.Handle) (leaseSource, *Error) {
	slot := h.Slot()
	if h.Store() != s.st.store || !s.st.messages.has(slot) {
		return leaseSource{}, errLeaseUnknown()
	}
	m := s.st.messages.at(slot)
	switch {
	case m.state <= messageReserved || m.nonce != h.Nonce():
		if s.st.settled.knows(h.Nonce()) {
			return leaseSource{}, errLeaseStale()
		}
		return leaseSource{}, errLeaseUnknown()
	case m.state != messageLeased || uint16(m.attempt) != h.Attempt():
		return leaseSource{}, errLeaseStale()
	case m.principal != principal:
		return leaseSource{}, &Error{
			Code: CodePermissionDenied, Reason: ReasonLeaseNotYours, Field: "lease",
			Text: "the delivery was made to another principal; only that one can settle it",
		}
	}
	return leaseSource{s.st.messageID(slot, m.tag), m.attempt}, nil
}

func errLeaseStale() *Error {
	return &Error{
		Code: CodeFailedPrecondition, Reason: ReasonLeaseStale, Field: "lease",
		Text: "the lease is no longer in force: it expired, or the delivery was settled; drop the work, the message may be " +
			"with another consumer",
	}
}

func errLeaseUnknown() *Error {
	return &Error{
		Code: CodeNotFound, Reason: ReasonLeaseUnknown, Field: "lease",
		Text: "the server does not know this lease; it may be from before a restart, or was settled long ago",
	}
}

// settling is a Settle that has been decided on.
type settling struct {
	source   leaseSource
	replies  []replyPlan
	messages []enqueuePlan
}

func (s *shard) settle(l *link, op *Op, r *Settle, pre *prepared) {
	if o, ok := s.outcome(l, op.ID); ok {
		if a := s.answerUnderWay(l, op.ID); a != nil {
			a.link = l // whoever asks last is answered
			return
		}
		s.answerSettle(l, op.ID, pre.asReply(), s.settledAgain(r, o))
		return
	}
	source, err := s.checkLease(l.session.identity.Principal, r.Lease)
	if err != nil {
		if e, ok := s.st.settled.find(r.Lease.Nonce(), r.Lease.Attempt(), s.now); ok && e.action == r.Action {
			s.answerSettle(l, op.ID, pre.asReply(), &Settled{Already: true, Dead: e.dead})
			s.patiently(op)
			return
		}
		s.refuse(l, op.ID, err)
		return
	}
	plan, err := s.planSettle(l, r, pre, source)
	if err == nil {
		err = s.checkSettleRoom(r)
	}
	if err != nil {
		s.refuse(l, op.ID, err)
		return
	}
	if s.unparkAll(l, r) { // what comes before it may have settled the delivery, or ended pipes
		s.settle(l, op, r, pre)
		return
	}
	s.commitSettle(l, op, r, pre, plan)
}

func (s *shard) planSettle(l *link, r *Settle, pre *prepared, source leaseSource) (settling, *Error) {
	plan := settling{source: source}
	tenant := l.session.identity.Tenant
	for i, reply := range r.Replies {
		if reply.Handle.Shard() != s.st.shard && reply.Handle.Store() == s.st.store {
			plan.replies = append(plan.replies, replyPlan{r: reply})
			continue
		}
		p, err := s.planReply(reply, pre, i, source, fmt.Sprintf("replies[%d].", i), true)
		if err != nil {
			return plan, err
		}
		plan.replies = append(plan.replies, p)
	}
	for i, e := range r.Messages {
		t := pre.target(i)
		if t != nil && t.missing {
			return plan, errQueueNotFound("queue", e.Queue, " and auto-creation is off")
		}
		elsewhere := t != nil && t.shard != s.st.shard
		p, err := s.planEnqueue(tenant, e, pre, fmt.Sprintf("messages[%d].message.", i), true, elsewhere)
		if err != nil {
			return plan, err
		}
		plan.messages = append(plan.messages, p)
	}
	return plan, nil
}

// commitSettle carries a planned Settle out: replies, messages, and the fate of the delivery, in one step.
func (s *shard) commitSettle(l *link, op *Op, r *Settle, pre *prepared, plan settling) {
	pre.use()
	slot := r.Lease.Slot()
	settled := takeBody(&s.spent.settled)
	*settled = Settled{}
	var waits *answer // for other shards; nil if there is nothing to wait for
	if len(plan.replies)+len(plan.messages) > 0 {
		waits = &answer{link: l, op: op.ID, body: settled, asReply: pre.asReply()}
	}
	if r.KeepHandles {
		s.keepHandles(slot)
	}
	for i := range plan.replies {
		p := &plan.replies[i]
		var result ReplyResult
		// Two replies of one Settle may meet in a pipe: what was planned for the second may be in vain by now.
		if foreign := p.r.Handle.Shard() != s.st.shard && p.r.Handle.Store() == s.st.store; foreign {
			s.sendReply(p.r, plan.source, pre, waits, i)
		} else {
			if p.result == nil {
				p.result = s.replyInVain(p.r)
			}
			if p.result != nil {
				s.letGo(p.handles, p.slot)
			}
			s.noteEnded(p.handles)
			result = s.commitReply(p)
		}
		settled.Replies = append(settled.Replies, result)
	}
	for i := range plan.messages {
		p := &plan.messages[i]
		var receipt Receipt
		if target := pre.target(i); target != nil && target.shard != s.st.shard {
			receipt.Message = s.sendMessage(l.session.identity.Tenant, p, target, waits, i)
		} else {
			// A reply of this Settle may have ended the pipes that the message carries.
			p.replyTo.ended = p.replyTo.ended || s.endedHere(p.replyTo.ref)
			s.noteEnded(p.handles)
			receipt = *s.store(l.session.identity.Tenant, *p, target.asPrepared(), false)
		}
		settled.Receipts = append(settled.Receipts, receipt)
	}
	switch r.Action {
	case Ack:
		s.gone(slot, goneBy{fate: EndBroken, action: Ack})
	case Reject:
		settled.Dead = true
		s.gone(slot, goneBy{fate: EndRejected, action: Reject, dead: true, text: why("rejected", r.Reason)})
	case Retry:
		settled.Dead = s.giveBack(slot, returning{failed: true, delay: r.Delay, action: Retry, text: why("retried", r.Reason)})
	case Release:
		s.giveBack(slot, returning{action: Release, text: "released"})
	}
	s.remember(l, op.ID, settledOutcome(settled))
	if waits == nil || waits.remaining == 0 {
		s.answerSettle(l, op.ID, pre.asReply(), settled)
		s.patiently(op)
	}
}

// settledOutcome is what is remembered of a Settle. What other shards have not said yet is missing.
func settledOutcome(settled *Settled) outcome {
	o := outcome{kind: outcomeSettled, dead: settled.Dead}
	for _, r := range settled.Replies {
		o.parts = append(o.parts, outcome{kind: outcomeReplied, reply: r.Outcome, reason: r.EndReason, sequence: r.Sequence})
	}
	for _, r := range settled.Receipts {
		o.parts = append(o.parts, outcome{kind: outcomeEnqueued, shard: r.Message.Shard, slot: r.Message.Slot, tag: r.Message.Tag})
	}
	return o
}

// noteEnded marks those handles whose pipes have ended since they were looked up.
func (s *shard) noteEnded(hs []carriedHandle) {
	for i := range hs {
		hs[i].ended = hs[i].ended || s.endedHere(hs[i].pipe)
	}
}

// answerSettle answers a Settle, or the Reply that was carried out as one.
func (s *shard) answerSettle(l *link, op uint64, asReply bool, settled *Settled) {
	if !asReply {
		s.emitOwn(l, op, true, settled)
		return
	}
	if len(settled.Replies) == 0 { // acked before: the reply was carried out with it
		settled.Replies = []ReplyResult{{Outcome: ReplyEnded, EndReason: EndOK}}
	}
	s.emit(l, op, true, &settled.Replies[0])
}

// settledAgain is the first answer to a Settle that is repeated. What another shard was to say, and had not said when the
// server was stopped, is not known any more: such a reply was sent on its way.
func (s *shard) settledAgain(r *Settle, o outcome) *Settled {
	settled := &Settled{Dead: o.dead}
	for i, part := range o.parts {
		if i < len(r.Replies) {
			if part.reply == 0 {
				part.reply = ReplyBuffered
			}
			settled.Replies = append(settled.Replies, ReplyResult{part.reply, part.reason, part.sequence})
			continue
		}
		settled.Receipts = append(settled.Receipts, Receipt{Message: s.messageOf(part), Duplicate: true})
	}
	return settled
}

// keepHandles notes that the consumer keeps copies of what came with its delivery.
func (s *shard) keepHandles(slot uint32) {
	m := s.st.messages.at(slot)
	if !m.replyTo.isZero() && !m.replyToEnded {
		s.putOutside(m.replyTo)
	}
	s.gaveOut(m.handles())
}

func (s *shard) extendLeases(l *link, op *Op, r *ExtendLeases) {
	out := &Extended{}
	for _, h := range r.Leases {
		out.Leases = append(out.Leases, s.extendLease(l, h, r))
	}
	s.emit(l, op.ID, true, out)
}
