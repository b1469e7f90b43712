package modeltest

import (
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// What becomes of a reply.

// inVain is the outcome of a reply that will not be stored; nil if it will.
func (m *model) inVain(r *broker.Reply) *broker.ReplyResult {
	p := m.pipeOf(r.Handle)
	if p.state == forgotten {
		return &broker.ReplyResult{Outcome: broker.ReplyUnknown}
	}
	if r.ID != "" {
		if p.endID == r.ID {
			return &broker.ReplyResult{Outcome: m.outcome(p), Sequence: p.last()}
		}
		if sequence, ok := p.ids[r.ID]; ok {
			return &broker.ReplyResult{Outcome: m.outcome(p), Sequence: sequence}
		}
	}
	switch p.state {
	case ended:
		return &broker.ReplyResult{Outcome: broker.ReplyEnded, EndReason: p.reason}
	case spliced:
		return &broker.ReplyResult{Outcome: broker.ReplyEnded, EndReason: broker.EndOK}
	}
	return nil
}

func (m *model) outcome(p *pipe) broker.ReplyOutcome {
	if m.attached(p) {
		return broker.ReplyDelivered
	}
	return broker.ReplyBuffered
}

// tryReply carries a Reply out, or refuses it.
func (m *model) tryReply(k *call, r *broker.Reply) {
	var l *lease
	if !r.Lease.IsZero() {
		l = m.leaseOf(r.Lease)
	}
	p := m.pipeOf(r.Handle)
	elsewhere := l != nil && r.Ack && r.Lease.Shard() != r.Handle.Shard() // the ack decides, and carries the reply along
	if l != nil {
		if reasons := m.checkLease(l); reasons != nil {
			again := l.settled == broker.Ack && l.over.Add(remembered) > m.now() && (p.state >= ended || r.Ack && elsewhere)
			if m.unknown(r.Cargo) {
				reasons = append(reasons, broker.ReasonHandleUnknown)
			}
			k.repeated(r, again, m.inVain(r), reasons)
			return
		}
	}
	vain := m.inVain(r)
	if unknown := m.unknown(r.Cargo); unknown && !elsewhere {
		if vain != nil {
			k.repeated(r, true, vain, []broker.Reason{broker.ReasonHandleUnknown})
			return
		}
		k.refuse(broker.ReasonHandleUnknown)
		return
	}
	if vain == nil && r.Kind == broker.ReplySplice {
		reasons := m.checkSplice(p, r.Splice)
		if reasons != nil && (m.bed.shards == 1 || k.wasRefused(reasons[0])) {
			k.refuse(reasons...)
			return
		}
	}
	if vain == nil && r.More && r.Kind == broker.ReplyPayload && !elsewhere && !m.hasRoom(p, len(r.Body)) {
		k.refuse(broker.ReasonPipeFull)
		return
	}
	result := vain
	if vain == nil {
		result = m.commitReply(r, l)
	}
	if r.Ack && l != nil {
		m.settled(l, broker.Ack)
		m.end(l.m, broker.EndBroken, false)
		l.m.queue.acked++
	}
	first := func(k *call) {
		wantBody(k, true, "an outcome", func(b *broker.ReplyResult) string { return differs(*result, *b) })
	}
	first(k)
	m.carriedOut = append(m.carriedOut, carriedOut{k.op, first})
}

// repeated wants a refusal, or with again what a reply gets that may have been made before.
func (k *call) repeated(r *broker.Reply, again bool, vain *broker.ReplyResult, reasons []broker.Reason) {
	k.want("a refusal, or the outcome of before", func(e broker.Event) string {
		switch b := e.Body.(type) {
		case *broker.Error:
			for _, reason := range reasons {
				if b.Reason == reason {
					return ""
				}
			}
		case *broker.ReplyResult:
			if again && vain != nil && (b.Outcome == vain.Outcome || b.Outcome == broker.ReplyEnded) {
				return ""
			}
			if again && r.Ack && b.Outcome == broker.ReplyEnded {
				return ""
			}
		}
		return "is neither"
	})
}

func (m *model) commitReply(r *broker.Reply, l *lease) *broker.ReplyResult {
	p := m.pipeOf(r.Handle)
	result := &broker.ReplyResult{Outcome: m.outcome(p)}
	e := ending{id: r.ID}
	item := &reply{body: r.Body, handles: m.carry(r.Cargo)}
	if l != nil {
		e.by, item.source, item.attempt = l.m, l.m.id, l.attempt
	}
	if r.Kind == broker.ReplyPayload {
		p.replies = append(p.replies, item)
		result.Sequence = p.last()
		if r.ID != "" && r.More {
			p.ids[r.ID] = result.Sequence
		}
		if l != nil && m.carriesTo(l.m, p) {
			p.replied[l.m] = l.attempt
		} else {
			p.bare = true
		}
		m.push(p)
	}
	m.found(r.Cargo)
	switch {
	case r.Kind == broker.ReplyError:
		e.reason, e.error = broker.EndFailed, r.Body
		m.endPipe(p, e)
	case r.Kind == broker.ReplySplice:
		if r.ID != "" {
			p.ids[r.ID] = 0
		}
		m.splice(p, m.pipeOf(r.Splice))
	case !r.More:
		e.reason = broker.EndOK
		m.endPipe(p, e)
	}
	return result
}

// carriesTo reports whether a message carries a pipe's send handle.
func (m *model) carriesTo(x *message, p *pipe) bool {
	for _, c := range x.carries() {
		if c.pipe == p && !c.receive && !c.ended {
			return true
		}
	}
	return false
}

// carry notes the handles that a message or a reply brings.
func (m *model) carry(c broker.Cargo) (hs []carried) {
	for _, h := range c.Handles {
		p := m.pipeOf(h.Handle)
		hs = append(hs, carried{name: h.Name, pipe: p, receive: h.Handle.Kind() == handles.Receive, ended: p.state >= ended})
	}
	return hs
}

func (m *model) unknown(c broker.Cargo) bool {
	for _, h := range c.Handles {
		if m.pipeOf(h.Handle).state == forgotten {
			return true
		}
	}
	return false
}

// hasRoom reports whether a pipe can keep another reply. What all have passed goes, if that is needed.
func (m *model) hasRoom(p *pipe, size int) bool {
	passed := m.passedByAll(p)
	for !p.fits(size) && p.first <= passed && len(p.replies) > 0 {
		m.trim(p)
	}
	return p.fits(size)
}

func (p *pipe) fits(size int) bool {
	return len(p.replies) == 0 || len(p.replies) < p.capReplies && p.bytes()+size <= p.capBytes
}

func (m *model) trim(p *pipe) {
	first := p.replies[0]
	p.replies = p.replies[1:]
	p.first++
	m.lostReply(first, broker.EndOK)
}

// passedByAll is the last sequence that everybody attached has passed.
func (m *model) passedByAll(p *pipe) uint64 {
	if !m.attached(p) {
		return 0
	}
	passed := p.last()
	for _, r := range p.readers {
		passed = min(passed, r.next-1-uint64(r.unpassed))
	}
	for _, o := range m.feeds(p) {
		passed = min(passed, o.joined.next-1)
	}
	return passed
}
