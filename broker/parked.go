package broker

import (
	"maps"
	"slices"
)

// Replies that wait for room in their pipe. A session's replies to a pipe keep their order: one with more waits behind
// those that wait, one that ends the pipe takes them along, beyond the pipe's capacity, and when one has waited too long,
// those behind it are refused with it.

// A parkedReply waits for room in its pipe.
type parkedReply struct {
	link  *link
	op    Op
	reply *Reply
	pre   *prepared
	until Time
}

// parkedReplies are those that wait for room in a pipe.
func (p *livePipe) parkedReplies() []parkedReply {
	if p.parked == nil {
		return nil
	}
	return *p.parked
}

// park adds one of them.
func (p *livePipe) park(r parkedReply) {
	if p.parked == nil {
		p.parked = new([]parkedReply)
	}
	*p.parked = append(*p.parked, r)
}

// unparked lets go of what a reply holds elsewhere that has waited for room and is not stored. (For one that has not
// waited, whoever prepared it does.)
func (s *shard) unparked(r *Reply, pre *prepared) {
	if pre == nil || !pre.used {
		return
	}
	hs, _, _ := s.resolveCargo(&r.Cargo, pre, "", true)
	s.letGo(numbered(hs, s.st.shard, pre.number(0)), r.Handle.Slot())
}

// waitsBehind reports whether earlier replies of the session wait for room in a reply's pipe.
func (s *shard) waitsBehind(l *link, r *Reply) bool {
	_, p := s.pipeByHandle(r.Handle)
	return p != nil && p.live.parked != nil && slices.ContainsFunc(*p.live.parked, func(w parkedReply) bool { return w.link == l })
}

// parkOrRefuse lets a reply wait that finds no room.
func (s *shard) parkOrRefuse(l *link, op *Op, r *Reply, pre *prepared) {
	if op.Timeout <= 0 {
		s.refuse(l, op.ID, errPipeFull())
		return
	}
	pre.use()
	s.countParked(l, r, +1)
	waiting := *r // the request is its maker's again when Submit returns
	// It is answered when another session makes room. No patience: nobody would see to it that the answer goes out.
	live := &s.st.pipes.at(r.Handle.Slot()).live
	until := s.now.Add(op.Timeout)
	live.park(parkedReply{l, Op{ID: op.ID, Request: &waiting}, &waiting, pre, until})
	if until < live.timer.at { // seldom: to look at all that wait, for each, was an eighth of the server's CPU for a stream
		s.timePipe(r.Handle.Slot())
	}
}

// unpark stores what a session has waiting for room in a pipe, whether there is room or not: the session ends the pipe, or
// settles the delivery that it answers. It reports whether there was something: that may have ended the pipe, or settled the
// delivery.
func (s *shard) unpark(l *link, slot uint32, p *pipe) (did bool) {
	if p == nil || p.live.parked == nil {
		return false
	}
	all := *p.live.parked
	p.live.parked = nil
	for _, w := range all {
		if w.link != l {
			p.live.park(w)
			continue
		}
		did = true
		w.reply.beyond = true
		s.tryReply(w.link, &w.op, w.reply, w.pre, false)
		s.countParked(w.link, w.reply, -1)
	}
	s.timePipe(slot)
	return did
}

// unparkAnswers does so in the pipe of the reply_to of a delivery that is about to be settled.
func (s *shard) unparkAnswers(l *link, slot uint32) (did bool) {
	ref := s.st.messages.at(slot).replyTo
	return s.unpark(l, ref.slot, s.st.pipe(ref))
}

// unparkAll does so in that pipe, and in those of this shard that a Settle of the delivery answers.
func (s *shard) unparkAll(l *link, r *Settle) (did bool) {
	did = s.unparkAnswers(l, r.Lease.Slot())
	for _, reply := range r.Replies {
		slot, p := s.pipeByHandle(reply.Handle)
		did = s.unpark(l, slot, p) || did
	}
	return did
}

// unparkFor does so in all pipes of this shard that a Settle answers, which is carried out in another one.
func (s *shard) unparkFor(l *link, r *Settle) {
	answers := func(w parkedReply) bool {
		return w.link == l && (w.reply.Lease == r.Lease ||
			slices.ContainsFunc(r.Replies, func(other *Reply) bool { return other.Handle == w.reply.Handle }))
	}
	for _, slot := range slices.Sorted(maps.Keys(l.parkedIn)) {
		if p := s.st.pipes.at(slot); slices.ContainsFunc(p.live.parkedReplies(), answers) {
			s.unpark(l, slot, p)
		}
	}
	s.finish()
}

// settleParked carries out a reply that has waited, or lets go of one whose session has gone. It reports whether it did.
func (s *shard) settleParked(w *parkedReply) bool {
	if w.link.closed {
		s.unparked(w.reply, w.pre)
	} else if !s.tryReply(w.link, &w.op, w.reply, w.pre, true) {
		return false
	}
	s.countParked(w.link, w.reply, -1)
	return true
}

// retryParked lets the replies that wait for room in a pipe try again, in their order.
func (s *shard) retryParked(ref pipeRef) {
	p := s.st.pipe(ref)
	if p == nil {
		return
	}
	s.grantFeed(ref.slot)
	if p.live.parked == nil {
		return
	}
	all := *p.live.parked
	p.live.parked = nil
	n := 0
	for n < len(all) && s.settleParked(&all[n]) {
		n++
	}
	clear(all[:n])
	all = all[n:]
	if len(all) > 0 && !slices.ContainsFunc(all, func(w parkedReply) bool { return w.until <= s.now || w.link.closed }) {
		p.live.parked = &all // mostly: the first has to wait on, and so have those behind it
		s.timePipe(ref.slot)
		return
	}
	var late []*link // whose replies have waited too long
	blocked := false // one has to wait on, and so have those behind it
	for _, w := range all {
		inVain := slices.Contains(late, w.link)
		if (w.link.closed || !blocked && !inVain) && s.settleParked(&w) {
			continue
		}
		if w.until > s.now && !inVain {
			blocked = true
			p.live.park(w)
			continue
		}
		s.unparked(w.reply, w.pre)
		s.refuse(w.link, w.op.ID, errPipeFull())
		s.countParked(w.link, w.reply, -1)
		late = append(late, w.link)
	}
	s.timePipe(ref.slot)
}

func errPipeFull() *Error {
	return &Error{
		Code: CodeResourceExhausted, Reason: ReasonPipeFull, Field: "handle", RetryAfter: 100e6,
		Text: "the pipe is full because its reader is slow; repeat after a while, or open pipes with more capacity",
	}
}
