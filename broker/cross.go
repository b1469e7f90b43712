package broker

import (
	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// What one shard asks of another is sent through its outbox: a Sent fact, numbered per target, committed together with
// the facts it follows from. The shell carries the entries over, in order; the target applies each once, by its
// high-water mark per source, and never refuses one.

// The kinds of Sent. The numbers are in journals.
const (
	sentCarrierLost = 1
	sentWaiterEnded = 2
	sentOutside     = 3
	sentReply       = 4
	sentMessage     = 5
	sentFeedStart   = 6
	sentFeedReply   = 7
	sentFeedEnd     = 8
	sentFeedCredit  = 9
	sentFeedStop    = 10
	sentFeedProbe   = 11
	sentChildOpened = 20
	sentChildEnded  = 21
	sentParentEnded = 22

	sentCarrierAdded = 30
	sentRedriven     = 31
	sentAnswered     = 32
)

// prepared is what the shell did on other shards before an operation: adding carriers, reserving slots, checking a
// lease. A nil prepared means that the operation concerns one shard only.
type prepared struct {
	slot, tag uint32 // reserved for the message of an Enqueue
	holds     map[handles.Handle]resolved
	source    leaseSource // of a lease in another shard
	targets   []target    // of the messages of a Settle
	numbers   []uint64    // under which pipes elsewhere know the reply, or the replies of a Settle
	reply     bool        // the Settle stands for a Reply
	used      bool        // the operation was carried out with it, not refused or known from before
}

// use notes that what was prepared is in use.
func (p *prepared) use() {
	if p != nil {
		p.used = true
	}
}

// target is where a message of a Settle will be.
type target struct {
	shard     uint16
	slot, tag uint32
	missing   bool // its queue is in another shard, where it neither exists nor will be made
}

func (p *prepared) reserved() (slot, tag uint32) {
	if p == nil {
		return 0, 0
	}
	return p.slot, p.tag
}

// number is that of a reply; 0 if none was drawn.
func (p *prepared) number(reply int) uint64 {
	if p == nil || p.numbers == nil {
		return 0
	}
	return p.numbers[reply]
}

func (p *prepared) asReply() bool { return p != nil && p.reply }

func (p *prepared) target(i int) *target {
	if p == nil || p.targets == nil {
		return nil
	}
	return &p.targets[i]
}

func (t *target) asPrepared() *prepared {
	if t == nil {
		return nil
	}
	return &prepared{slot: t.slot, tag: t.tag}
}

// An answer waits for what other shards say.
type answer struct {
	link      *link
	op        uint64
	body      *Settled
	asReply   bool
	remaining int
}

// answerPart is the part of an answer that one entry of an outbox fills.
type answerPart struct {
	*answer
	reply bool
	index int
}

type sentKey struct {
	target uint16
	number uint64
}

// send gives something to another shard to do. If it is this one, it is done before the operation ends.
func (s *shard) send(e *factpb.Sent) {
	if uint16(e.Target) == s.st.shard {
		s.later(work{kind: workSent, sent: e})
		return
	}
	e.Number = 1
	if o := s.st.outbox[uint16(e.Target)]; o != nil {
		e.Number = o.last + 1
	}
	s.commit(e)
	s.sends = append(s.sends, e)
}

// sendReply sends a reply of a Settle to its pipe's shard.
func (s *shard) sendReply(r *Reply, source leaseSource, pre *prepared, waits *answer, index int) {
	hs, found, _ := s.resolveCargo(&r.Cargo, pre, "", true)
	hs = numbered(hs, r.Handle.Shard(), pre.number(index))
	for _, ref := range found {
		s.putOutside(ref)
	}
	e := &factpb.Sent{
		Target: uint32(r.Handle.Shard()), What: sentReply, Pipe: pipeRef{r.Handle.Shard(), r.Handle.Slot(), r.Handle.Nonce()}.fact(),
		ReplyKind: uint32(r.Kind), Body: r.Body, More: r.More, ReplyId: r.ID, Attempt: source.attempt,
		SourceShard: uint32(source.message.Shard), SourceSlot: source.message.Slot, SourceTag: source.message.Tag,
		Handles: handleFacts(hs),
	}
	if r.Kind == ReplySplice {
		e.Other = pipeRef{r.Splice.Shard(), r.Splice.Slot(), r.Splice.Nonce()}.fact()
	}
	s.send(e)
	s.await(e, waits, true, index)
}

// sendMessage sends a message of a Settle to its queue's shard.
func (s *shard) sendMessage(tenant uint32, plan *enqueuePlan, t *target, waits *answer, index int) MessageID {
	e := &factpb.Sent{
		Target: uint32(t.shard), What: sentMessage, Queue: plan.e.Queue, Tenant: tenant,
		Message: &factpb.Enqueued{
			Slot: t.slot, Tag: t.tag, Body: plan.e.Body, Deadline: int64(plan.deadline), NotBefore: int64(plan.notBefore),
			Handles:      handleFacts(plan.handles),
			ReplyToShard: uint32(plan.replyTo.ref.shard), ReplyToSlot: plan.replyTo.ref.slot,
			ReplyToNonce: plan.replyTo.ref.nonce, ReplyToEnded: plan.replyTo.ended,
			Priority: uint32(plan.e.Priority), Group: plan.e.Group,
		},
		OwnExpiry: plan.e.Expiry > 0,
	}
	for _, ref := range plan.found {
		s.putOutside(ref)
	}
	s.send(e)
	s.await(e, waits, false, index)
	return MessageID{Store: s.st.store, Shard: t.shard, Slot: t.slot, Tag: t.tag}
}

func (s *shard) await(e *factpb.Sent, waits *answer, reply bool, index int) {
	waits.remaining++
	s.answers[sentKey{uint16(e.Target), e.Number}] = answerPart{waits, reply, index}
}

// sentResult is what a target says of an entry.
type sentResult struct {
	reply   ReplyResult
	receipt Receipt
}

// receiveFrom applies an entry of another shard's outbox, once.
func (s *shard) receiveFrom(source uint16, e *factpb.Sent) sentResult {
	if e.Number <= s.st.inbox[source] {
		return sentResult{}
	}
	result := s.receiveSent(e)
	s.commit(&factpb.InboxAdvanced{Source: uint32(source), Number: e.Number})
	s.finish()
	return result
}

// received notes that a target has applied an entry of this shard's outbox, and answers who waited for it.
func (s *shard) received(targetShard uint16, number uint64, result sentResult) {
	s.commit(&factpb.OutboxTrimmed{Target: uint32(targetShard), Number: number})
	key := sentKey{targetShard, number}
	part, ok := s.answers[key]
	if !ok {
		return
	}
	delete(s.answers, key)
	if part.reply {
		part.body.Replies[part.index] = result.reply
	} else {
		part.body.Receipts[part.index] = result.receipt
	}
	if part.remaining--; part.remaining > 0 {
		return
	}
	if l := part.link; l.number != 0 && s.st.sessions[l.number] != nil {
		s.remember(l, part.op, settledOutcome(part.body)) // again, with what the others said
	}
	s.answerSettle(part.link, part.op, part.asReply, part.body)
}

// answerUnderWay finds the answer of an operation that waits for other shards; nil if there is none.
func (s *shard) answerUnderWay(l *link, op uint64) *answer {
	for _, part := range s.answers {
		if part.op == op && l.number != 0 && part.link.number == l.number {
			return part.answer
		}
	}
	return nil
}

// receiveSent does what was sent, from here or from another shard.
func (s *shard) receiveSent(e *factpb.Sent) (result sentResult) {
	switch e.What {
	case sentCarrierLost:
		s.carrierLostElsewhere(e)
	case sentWaiterEnded:
		s.waiterEnded(carrierOf(e.Carrier), EndReason(e.Reason))
	case sentAnswered:
		s.answered(carrier{carrierRef: carrierOf(e.Carrier)})
	case sentOutside:
		s.putOutside(refOf(e.Pipe))
	case sentReply:
		result.reply = s.replyFromElsewhere(e)
	case sentMessage:
		result.receipt = s.messageFromElsewhere(e)
	case sentCarrierAdded:
		s.carrierAdded(e)
	case sentRedriven:
		s.redrivenFromElsewhere(e)
	case sentFeedStart:
		s.feedStarted(e)
	case sentFeedReply:
		s.fed(e)
	case sentFeedEnd:
		s.feedEnded(e)
	case sentFeedCredit:
		s.feedCredited(e, false)
	case sentFeedStop:
		s.feedCredited(e, true)
	case sentFeedProbe:
		s.probed(e)
	case sentChildOpened:
		s.childOpened(e)
	case sentChildEnded:
		s.childEnded(e)
	case sentParentEnded:
		s.parentEnded(e)
	}
	return result
}

// arrived is the message of an entry, to be completed: the entry itself still belongs to its source.
func arrived(e *factpb.Sent) *factpb.Enqueued {
	m := e.Message
	return &factpb.Enqueued{
		Slot: m.Slot, Tag: m.Tag, Body: m.Body, Deadline: m.Deadline, NotBefore: m.NotBefore, Handles: m.Handles,
		OwnReplyTo: m.OwnReplyTo, ReplyToShard: m.ReplyToShard, ReplyToSlot: m.ReplyToSlot, ReplyToNonce: m.ReplyToNonce,
		ReplyToEnded: m.ReplyToEnded, Priority: m.Priority, Group: m.Group,
	}
}

func (s *shard) carrierLostElsewhere(e *factpb.Sent) {
	ref := refOf(e.Pipe)
	p := s.st.pipe(ref)
	if p == nil {
		return
	}
	i := p.carriers.find(carrierOf(e.Carrier), e.Receive)
	if i < 0 {
		return
	}
	c := *p.carriers.at(i)
	s.commit(&factpb.CarrierRemoved{Pipe: ref.slot, Carrier: e.Carrier, Receive: e.Receive})
	s.lost(p, work{
		pipe: ref, receive: c.receive, reason: EndReason(e.Reason), replied: c.replied != 0 && c.replied == e.Attempt,
		replyTo: c.replyTo,
	})
}

// messageFromElsewhere stores a message of a Settle. A reply of that Settle may have ended the pipes that it carries.
func (s *shard) messageFromElsewhere(e *factpb.Sent) Receipt {
	q, created := s.queueFor(e.Tenant, e.Queue)
	m := arrived(e)
	m.Queue, m.Nonce, m.Order, m.At = q.number, s.nonce(), s.st.order+1, int64(s.now)
	if d := q.config.DefaultExpiry; d > 0 && !e.OwnExpiry {
		m.Deadline = int64(earlier(Time(m.Deadline), s.now.Add(d)))
	}
	replyTo := pipeRef{uint16(m.ReplyToShard), m.ReplyToSlot, m.ReplyToNonce}
	m.ReplyToEnded = m.ReplyToEnded || !replyTo.isZero() && s.endedHere(replyTo)
	hs := handlesOf(m.Handles)
	s.noteEnded(hs)
	m.Handles = handleFacts(hs)
	s.stored(q, m)
	return Receipt{
		Message: s.st.messageID(m.Slot, m.Tag), QueueCreated: created, Consumers: uint32(q.live.consumers),
	}
}

func (s *shard) replyFromElsewhere(e *factpb.Sent) ReplyResult {
	ref := refOf(e.Pipe)
	hs := handlesOf(e.Handles)
	if result := s.inVainAt(ref, e.ReplyId); result != nil {
		s.letGo(hs, ref.slot)
		return *result
	}
	return s.commitReply(&replyPlan{
		r:    &Reply{Kind: ReplyKind(e.ReplyKind), Body: e.Body, More: e.More, ID: e.ReplyId},
		slot: ref.slot, attempt: e.Attempt, handles: hs, inner: refOf(e.Other),
		source: MessageID{Store: s.st.store, Shard: uint16(e.SourceShard), Slot: e.SourceSlot, Tag: e.SourceTag},
	})
}

// hold adds a carrier to a pipe for an operation that will be carried out on another shard.
func (s *shard) hold(ref pipeRef, c carrier) resolved {
	r := s.look(ref)
	if !r.unknown && !r.ended {
		s.commit(&factpb.CarrierAdded{Pipe: ref.slot, Carrier: c.fact(), Receive: c.receive, ReplyTo: c.replyTo})
	}
	return r
}

// unhold takes back what hold added: the operation was refused.
func (s *shard) unhold(ref pipeRef, c carrier) {
	if p := s.st.pipe(ref); p != nil {
		s.commit(&factpb.CarrierRemoved{Pipe: ref.slot, Carrier: c.fact(), Receive: c.receive})
		s.maybeAbandoned(ref.slot)
	}
}
