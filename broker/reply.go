package broker

import (
	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// replyPlan is a reply that has been decided on: nothing can refuse it any more, but its pipe may be full.
type replyPlan struct {
	r       *Reply
	result  *ReplyResult // set: there is nothing to store
	slot    uint32       // the pipe
	source  MessageID
	attempt uint32
	handles []carriedHandle
	found   []pipeRef
	inner   pipeRef
	full    bool
}

func (s *shard) reply(l *link, op *Op, r *Reply, pre *prepared) {
	if s.replyAgain(l, op) {
		return
	}
	if err := s.checkReplyRoom(r); err != nil {
		s.refuse(l, op.ID, err)
		return
	}
	if s.waitsBehind(l, r) && r.More {
		s.parkOrRefuse(l, op, r, pre)
		return
	}
	slot, p := s.pipeByHandle(r.Handle)
	s.unpark(l, slot, p)
	if !s.tryReply(l, op, r, pre, op.Timeout > 0) {
		s.parkOrRefuse(l, op, r, pre)
	}
}

// replyAgain answers a reply that was carried out before, under its number, with its first outcome.
func (s *shard) replyAgain(l *link, op *Op) bool {
	o, ok := s.outcome(l, op.ID)
	if ok {
		s.emit(l, op.ID, true, &ReplyResult{Outcome: o.reply, EndReason: o.reason, Sequence: o.sequence})
	}
	return ok
}

// tryReply carries a reply out and answers it. It returns false, and does nothing, if the pipe is full and the reply may
// wait.
func (s *shard) tryReply(l *link, op *Op, r *Reply, pre *prepared, mayWait bool) bool {
	source, leased, err := s.replySource(l, r, pre)
	var plan replyPlan
	if err == nil {
		plan, err = s.planReply(r, pre, 0, source, "", false)
	}
	if err == nil && plan.full {
		if mayWait {
			return false
		}
		err = errPipeFull()
	}
	if err == nil && r.Ack && leased != 0 && s.unparkAnswers(l, leased) { // what comes before it may have settled the delivery, or ended the pipe
		return s.tryReply(l, op, r, pre, mayWait)
	}
	if err != nil || plan.result != nil {
		s.unparked(r, pre)
	} else if r.Kind == ReplyPayload {
		pre.use()
	}
	if err != nil {
		s.refuse(l, op.ID, err)
		return true
	}
	result := s.commitReply(&plan)
	if r.Ack && leased != 0 {
		s.gone(leased, goneBy{fate: EndBroken, action: Ack})
	}
	s.remember(l, op.ID, outcome{
		kind: outcomeReplied, reply: result.Outcome, reason: result.EndReason, sequence: result.Sequence,
	})
	out := takeBody(&s.spent.results)
	*out = result
	s.emitOwn(l, op.ID, true, out)
	s.patiently(op)
	return true
}

// leaseSource is the delivery whose lease a reply names.
type leaseSource struct {
	message MessageID
	attempt uint32
}

// replySource checks the lease that a reply names. leased is the message's slot if the lease is in force here.
func (s *shard) replySource(l *link, r *Reply, pre *prepared) (source leaseSource, leased uint32, err *Error) {
	if r.Lease.IsZero() {
		return source, 0, nil
	}
	if pre != nil && pre.source.attempt > 0 { // a lease of another shard, which has checked it
		return pre.source, 0, nil
	}
	source, err = s.checkLease(l.session.identity.Principal, r.Lease)
	if err == nil {
		return source, r.Lease.Slot(), nil
	}
	// Acked a moment ago: a repeat of the reply that did it, if its pipe has ended.
	if e, ok := s.st.settled.find(r.Lease.Nonce(), r.Lease.Attempt(), s.now); ok && e.action == Ack && s.hasEnded(r.Handle) {
		return source, 0, nil
	}
	return source, 0, err
}

func (s *shard) hasEnded(h handles.Handle) bool {
	return h.Shard() == s.st.shard && h.Store() == s.st.store && s.endedHere(pipeRef{h.Shard(), h.Slot(), h.Nonce()})
}

// planReply decides what becomes of a reply. Within a Settle, capacity does not count.
func (s *shard) planReply(
	r *Reply, pre *prepared, index int, source leaseSource, field string, settling bool,
) (replyPlan, *Error) {
	plan := replyPlan{r: r, slot: r.Handle.Slot(), source: source.message, attempt: source.attempt}
	var err *Error
	if plan.handles, plan.found, err = s.resolveCargo(&r.Cargo, pre, field, settling); err != nil {
		return plan, err
	}
	numbered(plan.handles, s.st.shard, pre.number(index))
	if plan.result = s.replyInVain(r); plan.result != nil {
		return plan, nil
	}
	p := s.st.pipes.at(plan.slot)
	if r.Kind == ReplySplice {
		plan.inner, err = s.planSplice(plan.slot, r.Splice, pre, field)
		if err != nil && err.Reason == ReasonHandleUnknown && settling { // the fate of a pipe refuses no Settle
			failed := *r
			failed.Kind, failed.Splice = ReplyError, handles.Handle{}
			plan.r, err = &failed, nil
		}
		return plan, err
	}
	plan.full = !settling && !r.beyond && r.More && r.Kind == ReplyPayload && !s.hasRoom(plan.slot, p, uint64(len(r.Body)))
	return plan, nil
}

// replyInVain finds the outcome of a reply that will not be stored: its pipe has gone, or has it already.
func (s *shard) replyInVain(r *Reply) *ReplyResult {
	if r.Handle.Store() != s.st.store {
		return &ReplyResult{Outcome: ReplyEnded, EndReason: EndLost}
	}
	return s.inVainAt(pipeRef{r.Handle.Shard(), r.Handle.Slot(), r.Handle.Nonce()}, r.ID)
}

func (s *shard) inVainAt(ref pipeRef, id string) *ReplyResult {
	p := s.st.pipe(ref)
	if p == nil {
		return &ReplyResult{Outcome: ReplyUnknown}
	}
	if id != "" {
		rare := p.rare()
		if id == rare.endID {
			return &ReplyResult{Outcome: outcomeNow(p), Sequence: p.last()}
		}
		for _, k := range rare.known {
			if k.id == id {
				return &ReplyResult{Outcome: outcomeNow(p), Sequence: k.sequence}
			}
		}
	}
	switch p.state {
	case pipeEnded:
		return &ReplyResult{Outcome: ReplyEnded, EndReason: p.reason}
	case pipeSpliced:
		return &ReplyResult{Outcome: ReplyEnded, EndReason: EndOK}
	default:
		return nil
	}
}

func outcomeNow(p *pipe) ReplyOutcome {
	if p.live.readers != 0 || len(p.feeds()) > 0 {
		return ReplyDelivered
	}
	return ReplyBuffered
}

// commitReply stores a planned reply and sends it on its way.
func (s *shard) commitReply(plan *replyPlan) ReplyResult {
	if plan.result != nil {
		return *plan.result
	}
	r := plan.r
	p := s.st.pipes.at(plan.slot)
	result := ReplyResult{Outcome: outcomeNow(p)}
	if r.Kind == ReplyPayload {
		result.Sequence = p.last() + 1
		id := r.ID
		if !r.More {
			id = "" // the end remembers it
		}
		s.putReply(plan.slot, r.Body, plan.source, plan.attempt, plan.handles, id)
	}
	for _, ref := range plan.found {
		s.putOutside(ref)
	}
	by := carrierRef{shard: plan.source.Shard, slot: plan.source.Slot, number: uint64(plan.source.Tag)}
	switch {
	case r.Kind == ReplyError:
		s.end(plan.slot, pipeEnding{reason: EndFailed, body: r.Body, id: r.ID, by: by})
	case r.Kind == ReplySplice:
		s.splice(plan.slot, plan.inner, r.ID)
	case !r.More:
		s.end(plan.slot, pipeEnding{reason: EndOK, id: r.ID, by: by})
	}
	return result
}

// putReply stores a reply and hands it to whoever reads.
func (s *shard) putReply(slot uint32, body []byte, source MessageID, attempt uint32, hs []carriedHandle, id string) {
	p := s.st.pipes.at(slot)
	f := &s.scratch.replied
	*f = factpb.Replied{
		Pipe: slot, Sequence: p.last() + 1, Body: body, Attempt: attempt, Handles: handleFacts(hs), ReplyId: id,
		SourceShard: uint32(source.Shard), SourceSlot: source.Slot, SourceTag: source.Tag,
	}
	s.commit(f)
	for r := range s.readersOf(p) {
		s.push(r)
	}
	if len(p.feeds()) > 0 {
		s.later(work{kind: workFeed, pipe: s.refAt(slot)})
	}
}

// hasRoom reports whether a pipe can keep n more bytes, trimming what every reader has passed if that is needed.
func (s *shard) hasRoom(slot uint32, p *pipe, n uint64) bool {
	fits := func(replies, bytes uint64) bool {
		return replies == 0 || replies < uint64(p.options.capReplies) && bytes+n <= p.options.capBytes
	}
	replies, bytes := uint64(len(p.replies())), p.bytes()
	if fits(replies, bytes) && !s.pressed {
		return true
	}
	passed := s.passedByAll(p)
	kept := p.first()
	first := kept
	for first <= passed && (s.pressed || !fits(replies, bytes)) {
		bytes -= uint64(len(p.replies()[first-kept].body))
		replies--
		first++
	}
	if first > kept {
		for i := range int(first - kept) {
			s.lose(p.replies()[i].handles, carrierRef{true, s.st.shard, slot, kept + uint64(i)}, EndOK)
		}
		f := &s.scratch.trimmed
		*f = factpb.RepliesTrimmed{Pipe: slot, First: first}
		s.commit(f)
	}
	return fits(replies, bytes)
}

// passedByAll is the last sequence that every reader has passed; with no reader, none is passed.
func (s *shard) passedByAll(p *pipe) uint64 {
	feeds := p.feeds()
	if p.live.readers == 0 && len(feeds) == 0 {
		return 0
	}
	passed := p.last()
	for r := range s.readersOf(p) {
		passed = min(passed, r.next-1-uint64(r.unpassed))
	}
	for _, f := range feeds {
		passed = min(passed, f.next-1)
	}
	return passed
}
