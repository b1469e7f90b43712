package broker

import (
	"fmt"

	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

const (
	defaultPipeTimeout     = Time(3600e9)
	defaultGrace           = Time(10e9)
	defaultRetain          = Time(60e9)
	defaultCapacityReplies = 1024
	defaultCapacityBytes   = 4 << 20
)

// enqueuePlan is a message whose storing has been decided: nothing can refuse it any more.
type enqueuePlan struct {
	e         *Enqueue
	replyTo   resolved
	handles   []carriedHandle
	found     []pipeRef
	parent    resolved // of the pipe to open
	deadline  Time
	notBefore Time
	overflows bool // its queue is full, and drops messages for it
	newQueue  bool // its queue is to be made
}

func (s *shard) enqueue(l *link, op *Op, e *Enqueue, pre *prepared) {
	if o, ok := s.outcome(l, op.ID); ok {
		s.enqueueAgain(l, op, e, o)
		return
	}
	if e.Key != nil && s.keyUsedBefore(l, op, e) {
		return
	}
	if s.draining {
		s.refuse(l, op.ID, errDraining())
		return
	}
	plan, err := s.planEnqueue(l.session.identity.Tenant, e, pre, "message.", false, false)
	if err == nil && e.Key != nil {
		err = s.checkKeys(l.session.identity.Tenant)
	}
	if err == nil {
		bytes, pipes := e.room()
		if plan.newQueue {
			bytes += queueSize
		}
		err = s.checkRoom(l.session.identity.Tenant, bytes, pipes)
	}
	if err != nil {
		s.refuse(l, op.ID, err)
		return
	}
	pre.use()
	var pipeSlot uint32
	if e.Pipe != nil {
		pipeSlot = s.openFor(l, e.Pipe, plan.parent, e.Call)
		plan.replyTo = s.look(pipeRef{s.st.shard, pipeSlot, s.st.pipes.at(pipeSlot).nonce})
		plan.deadline = earlier(plan.deadline, plan.replyTo.deadline)
	}
	receipt := s.store(l.session.identity.Tenant, plan, pre, pipeSlot != 0)
	o := outcome{kind: outcomeEnqueued, shard: s.st.shard, slot: receipt.Message.Slot, tag: receipt.Message.Tag}
	if pipeSlot != 0 {
		p := s.st.pipes.at(pipeSlot)
		receipt.Receive = s.claims(handles.Receive, pipeSlot, p)
		receipt.PipeDeadline = p.deadline
		o.pipeSlot, o.nonce, o.deadline = pipeSlot, p.nonce, p.deadline
	}
	if e.Key != nil {
		s.useKey(l, e, o)
	}
	s.remember(l, op.ID, o)
	s.emitOwn(l, op.ID, !e.Call, receipt)
	s.patiently(op)
	if e.Call {
		s.attach(l, op, pipeSlot, e.FromSequence)
	}
}

// messageOf is the id of the message that an operation made.
func (s *shard) messageOf(o outcome) MessageID {
	return MessageID{Store: s.st.store, Shard: o.shard, Slot: o.slot, Tag: o.tag}
}

// enqueueAgain answers an Enqueue or Call that is repeated, under its number or its key, with its first outcome.
func (s *shard) enqueueAgain(l *link, op *Op, e *Enqueue, o outcome) {
	r := &Receipt{Message: s.messageOf(o), Duplicate: true, PipeDeadline: o.deadline}
	if q := s.st.byName[queueKey{l.session.identity.Tenant, e.Queue}]; q != nil {
		r.Consumers = uint32(q.live.consumers)
	}
	if o.pipeSlot == 0 {
		s.emit(l, op.ID, true, r)
		return
	}
	r.Receive = handles.Claims{
		Kind: handles.Receive, Tenant: l.session.identity.Tenant, Shard: s.st.shard, Store: s.st.store,
		Slot: o.pipeSlot, Nonce: o.nonce, Expires: int64((o.deadline + handleSlack) / 1e9),
	}
	s.emit(l, op.ID, !e.Call, r)
	if !e.Call {
		return
	}
	if s.st.pipe(pipeRef{s.st.shard, o.pipeSlot, o.nonce}) == nil {
		s.refuse(l, op.ID, errHandleUnknown(""))
		return
	}
	s.attach(l, op, o.pipeSlot, e.FromSequence)
}

// planEnqueue decides whether a message can be stored, here or elsewhere. What a Settle carries is never refused for its
// handles: those of unknown pipes count as ended.
func (s *shard) planEnqueue(
	tenant uint32, e *Enqueue, pre *prepared, field string, settling, elsewhere bool,
) (enqueuePlan, *Error) {
	plan := enqueuePlan{e: e}
	q := s.st.byName[queueKey{tenant, e.Queue}]
	if q == nil && s.noAutoCreate && !elsewhere {
		return plan, errQueueNotFound("queue", e.Queue, " and auto-creation is off")
	}
	if e.RequireConsumer && (q == nil || q.live.consumers == 0) {
		return plan, &Error{
			Code: CodeUnavailable, Reason: ReasonNoConsumer, Field: "require_consumer",
			Text: fmt.Sprintf("nobody consumes queue %q; start a consumer, or leave require_consumer out", e.Queue),
		}
	}
	expiry := e.Expiry
	plan.newQueue = q == nil
	if q != nil {
		if expiry == 0 {
			expiry = q.config.DefaultExpiry
		}
		if !settling && !q.fits(len(e.Body)) {
			if !q.config.DropOldest {
				return plan, errQueueFull(q)
			}
			plan.overflows = true
		}
	}
	if expiry > 0 {
		plan.deadline = s.now.Add(expiry)
	}
	if !e.ReplyTo.IsZero() {
		r := s.resolve(e.ReplyTo, pre)
		if r.unknown && !settling {
			return plan, errHandleUnknown(field + "reply_to")
		}
		r.ended = r.ended || r.unknown
		plan.replyTo = r
		if !r.ended {
			plan.deadline = earlier(plan.deadline, r.deadline)
		}
	}
	var err *Error
	if e.Pipe != nil {
		if plan.parent, err = s.planParent(e.Pipe, pre); err != nil {
			return plan, err
		}
	}
	if plan.handles, plan.found, err = s.resolveCargo(&e.Cargo, pre, field, settling); err != nil {
		return plan, err
	}
	return plan, s.planDelay(&plan)
}

func (s *shard) planDelay(plan *enqueuePlan) *Error {
	plan.notBefore = plan.e.NotBefore
	if plan.e.Delay > 0 {
		plan.notBefore = s.now.Add(plan.e.Delay)
	}
	if plan.notBefore <= s.now {
		plan.notBefore = 0
		return nil
	}
	deadline := plan.deadline
	if o := plan.e.Pipe; o != nil {
		deadline = earlier(deadline, s.pipeDeadline(o, plan.parent))
	}
	if deadline != 0 && plan.notBefore >= deadline {
		field := "delay"
		if plan.e.NotBefore != 0 {
			field = "deliver_at"
		}
		return &Error{
			Code: CodeInvalidArgument, Reason: ReasonDelayInvalid, Field: field,
			Text: "the message would be delivered after its expiry or the deadline of its reply_to pipe; shorten the " +
				"delay, or give the pipe a longer timeout",
		}
	}
	return nil
}

// resolveCargo looks up what a message or a reply carries.
func (s *shard) resolveCargo(c *Cargo, pre *prepared, field string, settling bool) ([]carriedHandle, []pipeRef, *Error) {
	var carried []carriedHandle
	for i := range c.Handles {
		h := &c.Handles[i]
		r := s.resolve(h.Handle, pre)
		if r.unknown && !settling {
			return nil, nil, errHandleUnknown(fmt.Sprintf("%shandles[%q]", field, h.Name))
		}
		carried = append(carried, carriedHandle{
			name: h.Name, pipe: r.ref, receive: h.Handle.Kind() == handles.Receive, ended: r.ended || r.unknown,
		})
	}
	var found []pipeRef
	for _, h := range c.Found {
		if h.Kind() == handles.Send && h.Store() == s.st.store {
			found = append(found, pipeRef{h.Shard(), h.Slot(), h.Nonce()})
		}
	}
	return carried, found, nil
}

// store commits a planned message and returns its receipt, without a pipe.
func (s *shard) store(tenant uint32, plan enqueuePlan, pre *prepared, ownReplyTo bool) *Receipt {
	q, created := s.queueFor(tenant, plan.e.Queue)
	if plan.overflows {
		s.makeRoom(q, len(plan.e.Body))
	}
	slot, tag := pre.reserved()
	if slot == 0 {
		slot, tag = s.reserveMessage()
	}
	f := &s.scratch.enqueued
	*f = factpb.Enqueued{
		Slot: slot, Tag: tag, Nonce: s.nonce(), Queue: q.number, Order: s.st.order + 1, Body: plan.e.Body,
		At: int64(s.now), Deadline: int64(plan.deadline), NotBefore: int64(plan.notBefore),
		Handles: handleFacts(plan.handles), OwnReplyTo: ownReplyTo,
		ReplyToShard: uint32(plan.replyTo.ref.shard), ReplyToSlot: plan.replyTo.ref.slot,
		ReplyToNonce: plan.replyTo.ref.nonce, ReplyToEnded: plan.replyTo.ended, RequireConsumer: plan.e.RequireConsumer,
		Priority: uint32(plan.e.Priority), Group: plan.e.Group,
	}
	s.stored(q, f)
	for _, ref := range plan.found {
		s.putOutside(ref)
	}
	receipt := takeBody(&s.spent.receipts)
	*receipt = Receipt{Message: s.st.messageID(slot, tag), QueueCreated: created, Consumers: uint32(q.live.consumers)}
	return receipt
}

// stored commits a message and lines it up.
func (s *shard) stored(q *queue, f *factpb.Enqueued) {
	s.commit(f)
	if s.now >= q.live.nextMark {
		s.mark(q)
	}
	q.live.enqueued++
	s.enter(q, f.Slot)
}

// enter lines up a message that is new in its queue.
func (s *shard) enter(q *queue, slot uint32) {
	m := s.st.messages.at(slot)
	q.live.bytes += uint64(len(m.body))
	if m.live.waited = !m.replyTo.isZero() && !m.replyToEnded; m.live.waited {
		q.live.waiters++
	}
	if m.live.goneBy != EndOpen { // its pipe ended before it came
		s.later(work{
			kind: workWaiterEnded, carrier: carrierRef{shard: s.st.shard, slot: slot, number: uint64(m.tag)}, reason: m.live.goneBy,
		})
	}
	if m.requireConsumer && m.attempt == 0 {
		q.require(slot)
	}
	if m.special() {
		s.join(q, m)
	}
	if m.state == messageDelayed {
		s.pushBack(&q.live.delayed, slot)
		q.live.delayedN++
	} else {
		s.lineIn(q, slot)
		s.later(work{kind: workDispatch, queue: q})
	}
	s.timeMessage(slot)
}

// reserveMessage takes a slot for a message that is stored at once, with a tag from the order in the shard: random ones
// would soon repeat in a slot that is used again and again.
func (s *shard) reserveMessage() (slot, tag uint32) {
	tag = uint32(s.st.order+1) &^ drawnTag
	if tag == 0 {
		tag = s.drawTag()
	}
	return s.st.messages.take(), tag
}

// drawnTag is set in tags that were drawn, and in no other: those of messages that are prepared, and may not come.
const drawnTag = 1 << 31

func (s *shard) drawTag() uint32 { return uint32(s.draw()) | drawnTag }

func (s *shard) nonce() uint64 {
	for {
		if n := s.draw(); n != 0 {
			return n
		}
	}
}

func earlier(a, b Time) Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func errDraining() *Error {
	return &Error{
		Code: CodeUnavailable, Reason: ReasonDraining, RetryAfter: 1e9,
		Text: "the server is about to stop and takes nothing new; repeat at another server, or when it is back",
	}
}
