package broker

import "github.com/replyq/replyq/broker/factpb"

// outcomesKept is how long a session's outcomes are remembered after its last use.
const outcomesKept = Time(60e9)

// outcome finds how an operation was answered before; a session repeats what it had no answer to.
func (s *shard) outcome(l *link, op uint64) (outcome, bool) {
	if l.number == 0 {
		return outcome{}, false
	}
	o := s.st.sessions[l.number]
	if n := len(o.entries); n == 0 || o.entries[n-1].op < op {
		return outcome{}, false
	}
	return o.find(op)
}

// remember keeps an operation's outcome, for sessions that can come back.
func (s *shard) remember(l *link, op uint64, o outcome) {
	if l.session.key == "" {
		return
	}
	if l.number == 0 {
		number := uint32(len(s.st.sessions))
		s.commit(&factpb.SessionOpened{Number: number, Key: []byte(l.session.key)})
		s.attachOutcomes(l, number)
	}
	ref := &s.scratch.opRef
	*ref = factpb.OpRef{Session: l.number, Operation: op, AnsweredBelow: l.session.answeredBelow.Load()}
	f := &s.scratch.outcome
	o.fill(f)
	f.Op = ref
	s.commit(f)
}

// fill sets all fields of a fact but the operation.
func (o *outcome) fill(f *factpb.Outcome) {
	*f = factpb.Outcome{
		Kind: uint32(o.kind), MessageShard: uint32(o.shard), MessageSlot: o.slot, MessageTag: o.tag,
		PipeSlot: o.pipeSlot, PipeNonce: o.nonce, ReplyOutcome: uint32(o.reply), EndReason: uint32(o.reason),
		Sequence: o.sequence, Deadline: int64(o.deadline), Dead: o.dead,
	}
	for i := range o.parts {
		part := new(factpb.Outcome)
		o.parts[i].fill(part)
		f.Parts = append(f.Parts, part)
	}
}

func (s *shard) attachOutcomes(l *link, number uint32) {
	l.number = number
	o := s.st.sessions[number]
	o.live.attached++
	s.wheel.set(timerRef{timerSession, number}, 0)
}

// openLink attaches a session to the shard.
func (s *shard) openLink(session *Session) *link {
	l := &link{session: session, consumers: make(map[uint64]*consumer)}
	if session.key != "" {
		if number := s.st.sessionByKey[session.key]; number != 0 {
			s.attachOutcomes(l, number)
		}
	}
	return l
}

// closeLink detaches all that a session has here: it was cut, or has ended.
func (s *shard) closeLink(l *link) {
	if l.closed {
		return
	}
	l.closed = true
	if s.frozen {
		return // its client finds all as it was in the next run
	}
	forced := l.session.CutOff() != nil
	for _, c := range inOrder(l.consumers) {
		if forced {
			c.grace = max(c.grace, orphanWait) // it was not its own doing
		}
		s.leave(c, "its consumer was lost")
	}
	for _, slot := range l.readers.All() {
		s.dropReader(*slot)
	}
	if l.number != 0 {
		o := s.st.sessions[l.number]
		o.live.attached--
		if o.live.attached == 0 {
			o.live.lastUse = s.now
			s.wheel.set(timerRef{timerSession, l.number}, s.now+outcomesKept)
		}
	}
	s.finish()
}

func (s *shard) fireSession(number uint32) {
	if o := s.st.sessions[number]; o != nil && o.live.attached == 0 {
		s.commit(&factpb.SessionForgotten{Number: number})
	}
}
