package broker

// endPipe ends a pipe because an administrator says so.
func (s *shard) endPipe(l *link, op *Op, r *EndPipe) {
	if !r.Message.IsZero() {
		ref, err := s.pipeOf(l.session.identity.Tenant, r.Message)
		if err != nil {
			s.refuse(l, op.ID, err)
			return
		}
		s.revoke(l, op, ref, "message_id", r.Text)
		return
	}
	if r.Handle.Store() != s.st.store {
		s.emit(l, op.ID, true, &Cancelled{Reason: EndLost})
		return
	}
	s.revoke(l, op, pipeRef{r.Handle.Shard(), r.Handle.Slot(), r.Handle.Nonce()}, "handle", r.Text)
}

// pipeOf is the pipe of a message's reply_to. It may be in another shard.
func (s *shard) pipeOf(tenant uint32, id MessageID) (pipeRef, *Error) {
	m := s.messageByID(id)
	if m == nil || s.st.queues[m.queue].tenant != tenant {
		return pipeRef{}, errMessageUnknown("no message has this id; it may be settled, or was removed")
	}
	if m.replyTo.isZero() {
		return pipeRef{}, errMessageUnknown("the message has no reply_to: nobody waits for an answer")
	}
	return m.replyTo, nil
}

func (s *shard) revoke(l *link, op *Op, ref pipeRef, field, text string) {
	p := s.st.pipe(ref)
	switch {
	case p == nil:
		s.refuse(l, op.ID, errHandleUnknown(field))
	case p.state == pipeEnded:
		s.emit(l, op.ID, true, &Cancelled{Reason: p.reason})
	default:
		if text == "" {
			text = "an administrator ended the pipe"
		}
		s.end(ref.slot, pipeEnding{reason: EndRevoked, text: text})
		s.emit(l, op.ID, true, &Cancelled{Now: true, Reason: EndRevoked})
	}
}

// endPipeAcross finds a message's pipe in one shard and ends it in another.
func (s *Session) endPipeAcross(home uint16, op *Op, r *EndPipe) {
	var ref pipeRef
	var err *Error
	if !s.broker.runners[home].runKept(false, func(sh *shard) { ref, err = sh.pipeOf(s.identity.Tenant, r.Message) }) {
		s.cutUnkept()
		return
	}
	if err != nil {
		s.refuseAt(home, op, err)
		return
	}
	s.broker.runners[ref.shard].run(func(sh *shard) {
		if l := s.linkAt(sh); l != nil {
			sh.revoke(l, op, ref, "message_id", r.Text)
		}
	})
}

func errMessageUnknown(text string) *Error {
	return &Error{Code: CodeNotFound, Reason: ReasonMessageUnknown, Field: "message_id", Text: text}
}
