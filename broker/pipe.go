package broker

import (
	"fmt"

	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

func (s *shard) pipeDeadline(o *PipeOptions, parent resolved) Time {
	deadline := s.now + defaultPipeTimeout
	if o.Timeout > 0 {
		deadline = s.now.Add(o.Timeout)
	}
	if parent.ended {
		return deadline
	}
	return earlier(deadline, parent.deadline)
}

// openFor opens the pipe of an Enqueue or a Call.
func (s *shard) openFor(l *link, o *PipeOptions, parent resolved, byCall bool) uint32 {
	return s.open(l.session.identity.Tenant, o, parent, byCall, false)
}

func (s *shard) open(tenant uint32, o *PipeOptions, parent resolved, byCall, outside bool) uint32 {
	f := &s.scratch.opened
	*f = factpb.PipeOpened{
		Slot: s.st.pipes.take(), Nonce: s.nonce(), Tenant: tenant, Deadline: int64(s.pipeDeadline(o, parent)),
		ByCall: byCall, Outside: outside, KeepIfAbandoned: o.KeepIfAbandoned,
		Grace:           orDefault(int64(o.DisconnectGrace), int64(defaultGrace)),
		Retain:          orDefault(int64(o.Retain), int64(defaultRetain)),
		CapacityReplies: orDefault(o.CapacityReplies, defaultCapacityReplies),
		CapacityBytes:   orDefault(o.CapacityBytes, defaultCapacityBytes),
	}
	if !parent.ref.isZero() && o.Parent.Store() == s.st.store {
		f.Parent = parent.ref.fact()
	}
	s.commit(f)
	slot := f.Slot
	s.timePipe(slot)
	if !parent.ref.isZero() {
		s.openUnder(slot, o.Parent)
	}
	return slot
}

func orDefault[T int64 | uint32 | uint64](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

func (s *shard) openPipe(l *link, op *Op, r *OpenPipe, pre *prepared) {
	slot := uint32(0)
	if o, ok := s.outcome(l, op.ID); ok {
		if s.st.pipe(pipeRef{s.st.shard, o.pipeSlot, o.nonce}) == nil {
			s.refuse(l, op.ID, errHandleUnknown(""))
			return
		}
		slot = o.pipeSlot
	} else {
		if s.draining {
			s.refuse(l, op.ID, errDraining())
			return
		}
		parent, err := s.planParent(&r.Options, pre)
		if err == nil {
			err = s.checkRoom(l.session.identity.Tenant, pipeSize, 1)
		}
		if err != nil {
			s.refuse(l, op.ID, err)
			return
		}
		slot = s.open(l.session.identity.Tenant, &r.Options, parent, false, true)
		p := s.st.pipes.at(slot)
		s.remember(l, op.ID, outcome{kind: outcomePipeOpened, pipeSlot: slot, nonce: p.nonce, deadline: p.deadline})
	}
	p := s.st.pipes.at(slot)
	s.emit(l, op.ID, true, &PipeOpened{
		Send: s.claims(handles.Send, slot, p), Receive: s.claims(handles.Receive, slot, p), Deadline: p.deadline,
	})
}

func (s *shard) receive(l *link, op *Op, r *Receive) {
	ref := pipeRef{r.Handle.Shard(), r.Handle.Slot(), r.Handle.Nonce()}
	if r.Handle.Store() != s.st.store {
		s.emit(l, op.ID, false, &Attached{FirstSequence: 1, NextSequence: 1})
		s.emit(l, op.ID, true, &End{Reason: EndLost, Text: textLost})
		return
	}
	p := s.st.pipe(ref)
	if p == nil {
		s.refuse(l, op.ID, errHandleUnknown("handle"))
		return
	}
	from := max(r.FromSequence, 1)
	if err := checkKept(p, from); err != nil {
		s.refuse(l, op.ID, err)
		return
	}
	s.emit(l, op.ID, false, &Attached{Deadline: p.deadline, FirstSequence: p.first(), NextSequence: p.last() + 1})
	s.attach(l, op, ref.slot, from)
}

const textLost = "the pipe belongs to an earlier run of the server, which keeps no journal; ask again"

func checkKept(p *pipe, from uint64) *Error {
	if from >= p.first() {
		return nil
	}
	return &Error{
		Code: CodeOutOfRange, Reason: ReasonRepliesTrimmed, Field: "from_sequence",
		Text:     fmt.Sprintf("replies before %d are no longer kept; receive from there, or give the pipe more capacity", p.first()),
		Metadata: map[string]string{"first_sequence": fmt.Sprint(p.first())},
	}
}

// attach makes the client a reader of a pipe and hands out what there is.
func (s *shard) attach(l *link, op *Op, slot uint32, from uint64) {
	p := s.st.pipes.at(slot)
	from = max(from, 1)
	if err := checkKept(p, from); err != nil {
		s.refuse(l, op.ID, err)
		return
	}
	number := s.readers.take()
	r := s.readers.at(number)
	*r = reader{link: l, op: op.ID, pipe: slot, next: from, credit: op.Credit}
	s.linkReader(p, number)
	*l.readers.Put(op.ID) = number
	if p.live.leftAt != 0 {
		p.live.leftAt = 0
		s.timePipe(slot)
	}
	s.push(r)
}

// push hands a reader what it has credit for.
func (s *shard) push(r *reader) {
	p := s.st.pipes.at(r.pipe)
	for r.next <= p.last() && r.credit > 0 {
		item := &p.replies()[r.next-p.first()]
		out := takeBody(&s.spent.items)
		*out = ReplyItem{
			Sequence: r.next, Body: item.body, Source: item.source, Attempt: item.attempt, Ended: s.endedNames(item.handles),
		}
		s.emitOwn(r.link, r.op, false, out)
		s.gaveOut(item.handles)
		r.next++
		r.credit--
		r.unpassed++
	}
	if p.state == pipeEnded && r.next > p.last() && !r.ended {
		r.ended = true
		end := takeBody(&s.spent.ends)
		*end = endOf(p)
		s.emitOwn(r.link, r.op, true, end)
	}
}

// gaveOut notes that handles have reached a client in a reply: copies of them are out of custody.
func (s *shard) gaveOut(hs []carriedHandle) {
	for i := range hs {
		if h := &hs[i]; !h.receive && h.tracked() {
			s.putOutside(h.pipe)
		}
	}
}

// putOutside notes that a copy of a send handle is out of custody.
func (s *shard) putOutside(ref pipeRef) {
	if ref.shard != s.st.shard {
		s.send(&factpb.Sent{Target: uint32(ref.shard), What: sentOutside, Pipe: ref.fact()})
		return
	}
	if p := s.st.pipe(ref); p != nil && !p.outside && p.state == pipeOpen {
		s.commit(&factpb.PipeOutside{Pipe: ref.slot})
	}
}

func endOf(p *pipe) End {
	rare := p.rare()
	return End{Reason: p.reason, Body: rare.endBody, Text: rare.endText, LastSequence: p.last()}
}

// credit lets a reader or a consumer have more.
func (s *shard) credit(l *link, op uint64, n uint32) {
	if slot := l.readers.Get(op); slot != nil {
		r := s.readers.at(*slot)
		r.credit += n
		r.unpassed -= min(n, r.unpassed)
		s.push(r)
		s.later(work{kind: workParked, pipe: s.refAt(r.pipe)})
		s.finish()
		return
	}
	if c := l.consumers[op]; c != nil && c.bounded {
		c.credit += n
		s.reseat(c)
		s.finish()
	}
}

func (s *shard) refAt(slot uint32) pipeRef {
	return pipeRef{s.st.shard, slot, s.st.pipes.at(slot).nonce}
}

// passed notes that the end of a pipe has reached its reader.
func (s *shard) passed(l *link, op uint64) {
	slot := l.readers.Get(op)
	if slot == nil || !s.readers.at(*slot).ended {
		return
	}
	pipe := s.readers.at(*slot).pipe
	s.dropReader(*slot)
	if s.st.pipes.at(pipe).read {
		return
	}
	f := &s.scratch.read
	*f = factpb.PipeRead{Pipe: pipe, At: int64(s.now)}
	s.commit(f)
	s.timePipe(pipe)
	s.retire(pipe)
	s.finish()
}

// detach ends an operation's hold on the shard, as a cut of the session would.
func (s *shard) detach(l *link, op uint64) {
	if slot := l.readers.Get(op); slot != nil {
		s.dropReader(*slot)
	}
	if c := l.consumers[op]; c != nil {
		s.leave(c, "its consumer left")
	}
	s.finish()
}

func (s *shard) dropReader(slot uint32) {
	r := s.readers.at(slot)
	r.link.readers.Delete(r.op)
	pipe := r.pipe
	s.unlinkReader(s.st.pipes.at(pipe), r)
	*r = reader{}
	s.readers.give(slot)
	s.maybeAbandoned(pipe)
	// A slow reader that has gone holds nobody back any more.
	s.later(work{kind: workParked, pipe: s.refAt(pipe)})
}

// maybeAbandoned starts the grace of a pipe whose readers have gone.
func (s *shard) maybeAbandoned(slot uint32) {
	p := s.st.pipes.at(slot)
	if !s.abandonable(p) {
		return
	}
	if p.live.leftAt == 0 {
		p.live.leftAt = s.now
		s.timePipe(slot)
	}
}

func (s *shard) abandonable(p *pipe) bool {
	if !p.byCall || p.keep || p.state != pipeOpen && p.state != pipeSpliced || p.live.readers != 0 || len(p.feeds()) > 0 {
		return false
	}
	for i := range p.carriers.len() {
		if p.carriers.at(i).receive {
			return false
		}
	}
	return true
}

func (s *shard) cancel(l *link, op *Op, r *Cancel) {
	if o, ok := s.outcome(l, op.ID); ok {
		s.emit(l, op.ID, true, &Cancelled{Now: true, Reason: o.reason})
		return
	}
	if r.Handle.Store() != s.st.store {
		s.emit(l, op.ID, true, &Cancelled{Reason: EndLost})
		return
	}
	ref := pipeRef{r.Handle.Shard(), r.Handle.Slot(), r.Handle.Nonce()}
	p := s.st.pipe(ref)
	switch {
	case p == nil:
		s.refuse(l, op.ID, errHandleUnknown("handle"))
	case p.state == pipeEnded:
		s.emit(l, op.ID, true, &Cancelled{Reason: p.reason})
	default:
		text := r.Message
		if text == "" {
			text = "cancelled by a holder of the receive handle"
		}
		s.end(ref.slot, pipeEnding{reason: EndCancelled, text: text})
		// Only this has an effect; a pipe that had ended before will also have ended when it is asked again.
		s.remember(l, op.ID, outcome{kind: outcomeCancelled, reason: EndCancelled})
		s.emit(l, op.ID, true, &Cancelled{Now: true, Reason: EndCancelled})
	}
}

// pipeEnding is how a pipe ends.
type pipeEnding struct {
	reason EndReason
	body   []byte
	text   string
	id     string     // the reply's
	by     carrierRef // the message whose consumer ended it, if that is known
}

// end ends a pipe, tells its readers, and lets what follows from it come up.
func (s *shard) end(slot uint32, e pipeEnding) {
	p := s.st.pipes.at(slot)
	ref := s.refAt(slot)
	if p.state == pipeSpliced {
		s.send(&factpb.Sent{Target: uint32(p.inner().shard), What: sentFeedStop, Pipe: p.inner().fact(), Other: ref.fact()})
	}
	if p.related {
		s.tellRelatives(ref, e.reason)
	}
	f := &s.scratch.ended
	*f = factpb.PipeEnded{
		Pipe: slot, Reason: uint32(e.reason), Body: e.body, Text: e.text, ReplyId: e.id,
	}
	s.commit(f)
	for r := range s.readersOf(p) {
		s.push(r)
	}
	if p.live.parked != nil {
		s.later(work{kind: workParked, pipe: ref})
	}
	if len(p.feeds()) > 0 {
		s.later(work{kind: workFeed, pipe: ref})
	}
	answered := e.reason == EndOK || e.reason == EndFailed
	for i := range p.carriers.len() {
		c := *p.carriers.at(i)
		// Who answered need not be told; and where it is not known who did, it may have been this one.
		if !c.replyTo {
			continue
		}
		if c.carrierRef == e.by || answered && e.by == (carrierRef{}) {
			s.answered(c)
			continue
		}
		if c.shard != s.st.shard {
			s.send(&factpb.Sent{Target: uint32(c.shard), What: sentWaiterEnded, Carrier: c.fact(), Reason: uint32(e.reason)})
			continue
		}
		s.later(work{kind: workWaiterEnded, carrier: c.carrierRef, reason: e.reason})
	}
	s.timePipe(slot)
}

// answered notes that nobody waits for a message's answer any more, and that nobody need be told.
func (s *shard) answered(c carrier) {
	if c.shard != s.st.shard {
		s.send(&factpb.Sent{Target: uint32(c.shard), What: sentAnswered, Carrier: c.fact()})
		return
	}
	if m := s.st.carrying(c.carrierRef); m != nil {
		s.unwait(m)
	} else if m := s.st.reserved(c.carrierRef); m != nil { // it is on its way here: see enter
		m.live.goneBy = EndOK
	}
}

// timePipe sets a pipe's timer for what is due next.
func (s *shard) timePipe(slot uint32) {
	p := s.st.pipes.at(slot)
	var at Time
	switch p.state {
	case pipeOpen, pipeSpliced:
		at = p.deadline
		if p.live.leftAt != 0 {
			at = earlier(at, p.live.leftAt+p.options.grace)
		}
		for _, w := range p.live.parkedReplies() {
			at = earlier(at, w.until)
		}
	case pipeEnded:
		at = p.deadline + unreadKept
		if p.read {
			at = p.readAt + p.options.retain
		}
	}
	s.wheel.set(timerRef{timerPipe, slot}, at)
}

// unreadKept is how long after its deadline an ended pipe waits for a reader.
const unreadKept = Time(60e9)

func (s *shard) expire(slot uint32) {
	s.end(slot, pipeEnding{reason: EndExpired, text: "the pipe's deadline passed before anybody answered"})
}

func (s *shard) firePipe(slot uint32) {
	p := s.st.pipes.at(slot)
	switch {
	case p.state == pipeFree:
	case p.state == pipeEnded:
		s.forgetWhenDue(slot)
	case p.deadline <= s.now:
		s.expire(slot)
	case p.live.leftAt != 0 && p.live.leftAt+p.options.grace <= s.now:
		if s.now < s.pardonUntil {
			s.wheel.set(timerRef{timerPipe, slot}, earlier(p.deadline, s.pardonUntil))
			return
		}
		if s.abandonable(p) {
			s.end(slot, pipeEnding{reason: EndCancelled, text: "abandoned: its caller has been gone for the disconnect grace"})
			return
		}
		p.live.leftAt = 0
		s.timePipe(slot)
	default:
		s.later(work{kind: workParked, pipe: s.refAt(slot)})
		s.timePipe(slot)
	}
}

// forgetWhenDue forgets an ended pipe, unless something still needs it.
func (s *shard) forgetWhenDue(slot uint32) {
	p := s.st.pipes.at(slot)
	if p.carriers.len() > 0 || p.live.readers != 0 || len(p.feeds()) > 0 {
		s.wheel.set(timerRef{timerPipe, slot}, s.now+unreadKept)
		return
	}
	for i, r := range p.replies() {
		s.lose(r.handles, carrierRef{true, s.st.shard, slot, p.first() + uint64(i)}, EndExpired)
	}
	f := &s.scratch.forgotten
	*f = factpb.PipeForgotten{Pipe: slot}
	s.wheel.set(timerRef{timerPipe, slot}, 0)
	s.commit(f)
}

// retiredPipes are the ended pipes that were read, oldest first: under load they are forgotten before their time.
type retiredPipes struct {
	refs  []retiredPipe
	start int
}

type retiredPipe struct {
	slot  uint32
	nonce uint64
}

// retiredMost is how many pipes that were read to their end are kept for further readers.
const retiredMost = 100_000

func (s *shard) retire(slot uint32) {
	r := &s.retired
	r.refs = append(r.refs, retiredPipe{slot, s.st.pipes.at(slot).nonce})
	s.forgetRetired()
	if s.pressed {
		s.forgetRetired() // one more than came: so there get to be fewer
	}
}

// forgetRetired forgets the oldest of the pipes that were read, if there are many of them or memory is short.
func (s *shard) forgetRetired() {
	r := &s.retired
	if n := len(r.refs) - r.start; n == 0 || n <= retiredMost && !s.pressed {
		return
	}
	oldest := r.refs[r.start]
	r.start++
	if r.start > len(r.refs)/2 {
		r.refs = r.refs[:copy(r.refs, r.refs[r.start:])]
		r.start = 0
	}
	if p := s.st.pipe(pipeRef{s.st.shard, oldest.slot, oldest.nonce}); p != nil {
		s.forgetWhenDue(oldest.slot)
	}
}
