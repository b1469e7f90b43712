package broker

import (
	"github.com/replyq/replyq/broker/factpb"
)

// lose lets it come up that handles lost a carrier. It is called before the fact that removes the carrier.
func (s *shard) lose(hs []carriedHandle, ref carrierRef, fate EndReason) {
	for i := range hs {
		if h := &hs[i]; h.tracked() {
			known := ref
			if h.number != 0 {
				known.number = h.number
			}
			s.loseOne(h.pipe, known, h.receive, false, fate, 0)
		}
	}
}

// letGo drops the carriers that were added elsewhere for a reply that is not stored after all. Its sender may have been
// the last who could use the handles.
func (s *shard) letGo(hs []carriedHandle, slot uint32) {
	for i := range hs {
		if h := &hs[i]; h.tracked() && h.number != 0 {
			s.loseOne(h.pipe, carrierRef{true, s.st.shard, slot, h.number}, h.receive, false, EndBroken, 0)
		}
	}
}

// numbered gives handles whose pipes are in other shards than the reply that carries them the number under which they
// know it; 0 if nothing was prepared.
func numbered(hs []carriedHandle, stored uint16, number uint64) []carriedHandle {
	for i := range hs {
		if h := &hs[i]; h.pipe.shard != stored && h.tracked() {
			h.number = number
		}
	}
	return hs
}

// loseAll does so for all that a message carries. Its reply_to comes last: what becomes of that ends the pipe even when
// copies are out of custody, whatever else the message carries.
func (s *shard) loseAll(m *message, ref carrierRef, fate EndReason) {
	hs := m.handles()
	for i := range hs {
		if h := &hs[i]; h.tracked() {
			s.loseOne(h.pipe, ref, h.receive, false, fate, m.attempt)
		}
	}
	if !m.replyTo.isZero() && !m.replyToEnded {
		s.loseOne(m.replyTo, ref, false, true, fate, m.attempt)
	}
}

func (s *shard) loseOne(pipe pipeRef, ref carrierRef, receive, replyTo bool, fate EndReason, attempt uint32) {
	if pipe.shard != s.st.shard {
		s.send(&factpb.Sent{
			Target: uint32(pipe.shard), What: sentCarrierLost, Pipe: pipe.fact(), Carrier: ref.fact(),
			Receive: receive, Reason: uint32(fate), Attempt: attempt,
		})
		return
	}
	p := s.st.pipe(pipe)
	if p == nil || p.state == pipeEnded || p.state == pipeSpliced && !receive {
		return
	}
	replied := false
	if i := p.carriers.find(ref, receive); i >= 0 {
		c := p.carriers.at(i)
		replied = c.replied != 0 && c.replied == attempt
	}
	s.lost(p, work{pipe: pipe, receive: receive, reason: fate, replied: replied, replyTo: replyTo})
}

// lost lets it come up that a pipe lost a carrier. It may lose several before one of them is looked at: the last one
// decides.
func (s *shard) lost(p *pipe, w work) {
	if !w.receive {
		p.losing++
	}
	w.kind = workCarrierLost
	s.later(w)
}

// carrierLost decides what a pipe does that has lost a carrier: when it was the last, the pipe ends with its fate. An
// ack's fate is EndBroken; a pipe through which that delivery had replied ends OK instead, and one whose deadline has
// passed but whose timer has not fired yet has expired: consumers ack by then, for nobody waits any more.
func (s *shard) carrierLost(w work) {
	p := s.st.pipe(w.pipe)
	if p == nil {
		return
	}
	if w.receive {
		s.maybeAbandoned(w.pipe.slot)
		return
	}
	if p.losing--; p.losing > 0 || p.state != pipeOpen {
		return
	}
	for i := range p.carriers.len() {
		if !p.carriers.at(i).receive {
			return
		}
	}
	e := pipeEnding{reason: w.reason, text: fateText(w.reason)}
	if w.reason == EndBroken {
		if p.outside {
			return
		}
		switch {
		case w.replied || p.bare:
			e = pipeEnding{reason: EndOK}
		case p.deadline <= s.now:
			s.expire(w.pipe.slot)
			return
		}
	} else if p.outside && !w.replyTo {
		return
	}
	s.end(w.pipe.slot, e)
}

// fateText says what became of the last carrier.
func fateText(r EndReason) string {
	switch r {
	case EndBroken:
		return "the last message with the send handle was acked without a reply; nobody can answer any more"
	case EndRejected:
		return "the message was rejected by its consumer"
	case EndDeadLettered:
		return "the message ran out of attempts"
	case EndExpired:
		return "the message expired before it was answered"
	case EndCancelled:
		return "the message was withdrawn"
	case EndNoConsumer:
		return "the last consumer of the queue left before the message was delivered"
	case EndDropped:
		return "the message was dropped because its queue was full"
	case EndPurged:
		return "the message was removed by an administrator"
	case EndQueueDeleted:
		return "the message's queue was deleted"
	default:
		return ""
	}
}

// withdraws reports whether a message that waits is taken back when its reply_to pipe ends so.
func withdraws(r EndReason) bool {
	return r == EndCancelled || r == EndExpired || r == EndRevoked
}

// waiterEnded tells a message that its reply_to pipe has ended.
func (s *shard) waiterEnded(ref carrierRef, reason EndReason) {
	m := s.st.carrying(ref)
	if m == nil {
		if m = s.st.reserved(ref); m != nil { // it is on its way here: see enter
			m.live.goneBy = reason
		}
		return
	}
	s.unwait(m)
	m.live.goneBy = reason
	switch m.state {
	case messageReady, messageDelayed:
		if withdraws(reason) {
			s.gone(ref.slot, goneBy{fate: reason})
		}
	case messageLeased:
		if c := m.live.holder; c != nil && !c.away {
			s.emit(c.link, c.op, false, &WaiterGone{
				Message: s.st.messageID(ref.slot, m.tag), Attempt: m.attempt, Reason: reason,
			})
		}
	}
}

// endedNames lists those handles whose pipes have ended, as far as this shard knows.
func (s *shard) endedNames(hs []carriedHandle) []string {
	var names []string
	for i := range hs {
		if h := &hs[i]; h.ended || s.endedHere(h.pipe) {
			names = append(names, h.name)
		}
	}
	return names
}

func (s *shard) endedHere(ref pipeRef) bool {
	if ref.shard != s.st.shard {
		return false
	}
	p := s.st.pipe(ref)
	return p == nil || p.state == pipeEnded
}
