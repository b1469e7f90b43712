package modeltest

import (
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// Operations, as the model carries them out.

// keyWindow is how long an idempotency key is remembered.
const keyWindow = 10 * time.Minute

// wantReceipt wants a receipt, and learns from it.
func (m *model) wantReceipt(k *call, done bool, x *message, p *pipe, want broker.Receipt) {
	if p != nil {
		want.PipeDeadline = p.deadline
	}
	wantBody(k, done, "a receipt", func(b *broker.Receipt) string {
		got := *b
		if x.id.IsZero() {
			x.id = got.Message
		}
		want.Message = x.id
		got.Receive = handles.Claims{}
		if (b.Receive.Kind != 0) != (p != nil) {
			return "has a receive handle, or has none, as it should not"
		}
		if p != nil {
			p.receive = m.bed.keys.Mint(b.Receive)
		}
		return differs(want, got)
	})
}

func (m *model) applyEnqueue(k *call, e *broker.Enqueue) {
	q := m.queue(e.Queue)
	if e.Key != nil && q != nil {
		if u := m.keys[key{q, e.Key.ID[0]}]; u != nil && u.at.Add(keyWindow) > m.now() {
			m.keyAgain(k, e, u)
			return
		}
	}
	if reasons := m.refusals(q, e); reasons != nil {
		k.refuse(reasons...)
		return
	}
	q, created := m.queueFor(e.Queue)
	if !m.fits(q, len(e.Body)) {
		m.makeRoom(q, len(e.Body))
	}
	var p *pipe
	var replyTo *carried
	if e.Pipe != nil {
		p = m.openPipe(e.Pipe, e.Call, false)
		replyTo = &carried{pipe: p, own: true}
	} else if at := m.pipeOf(e.ReplyTo); at != nil {
		replyTo = &carried{pipe: at, ended: at.state >= ended}
	}
	x := m.enqueue(q, e, replyTo, m.carry(e.Cargo))
	m.found(e.Cargo)
	m.wantReceipt(k, !e.Call, x, p, broker.Receipt{QueueCreated: created, Consumers: m.consumersOf(q)})
	m.carriedOut = append(m.carriedOut, carriedOut{k.op, func(k *call) { m.enqueueAgain(k, e, x, p) }})
	if e.Key != nil {
		m.keys[key{q, e.Key.ID[0]}] = &usedKey{e.Key.Content[0], x, p, m.now()}
	}
	if e.Call {
		m.attach(k, p, e.FromSequence)
	}
}

// refusals lists the reasons for which a message is refused; none if it is accepted.
func (m *model) refusals(q *queue, e *broker.Enqueue) (reasons []broker.Reason) {
	if e.RequireConsumer && (q == nil || m.consumersOf(q) == 0) {
		reasons = append(reasons, broker.ReasonNoConsumer)
	}
	if q != nil && !m.fits(q, len(e.Body)) && !q.config.DropOldest {
		reasons = append(reasons, broker.ReasonQueueFull)
	}
	replyTo := m.pipeOf(e.ReplyTo)
	if replyTo != nil && replyTo.state == forgotten || m.unknown(e.Cargo) {
		reasons = append(reasons, broker.ReasonHandleUnknown)
	}
	deadline := broker.Time(0)
	if e.Expiry > 0 {
		deadline = m.now().Add(e.Expiry)
	} else if q != nil && q.config.DefaultExpiry > 0 {
		deadline = m.now().Add(q.config.DefaultExpiry)
	}
	if replyTo != nil && replyTo.state < ended {
		deadline = earlier(deadline, replyTo.deadline)
	}
	if e.Pipe != nil {
		parent := m.pipeOf(e.Pipe.Parent)
		if parent != nil && parent.state == forgotten {
			reasons = append(reasons, broker.ReasonHandleUnknown)
		}
		deadline = earlier(deadline, m.now().Add(orElse(e.Pipe.Timeout, time.Hour)))
		if parent != nil && parent.state < ended {
			deadline = earlier(deadline, parent.deadline)
		}
	}
	if e.Delay > 0 && deadline != 0 && m.now().Add(e.Delay) >= deadline {
		reasons = append(reasons, broker.ReasonDelayInvalid)
	}
	return reasons
}

func (m *model) keyAgain(k *call, e *broker.Enqueue, u *usedKey) {
	if u.content != e.Key.Content[0] {
		k.refuse(broker.ReasonKeyReused)
		return
	}
	m.enqueueAgain(k, e, u.message, u.pipe)
}

// enqueueAgain wants what a request gets that was carried out before.
func (m *model) enqueueAgain(k *call, e *broker.Enqueue, x *message, p *pipe) {
	consumers := uint32(0)
	if q := m.queue(e.Queue); q != nil {
		consumers = m.consumersOf(q)
	}
	m.wantReceipt(k, !e.Call, x, p, broker.Receipt{Duplicate: true, Consumers: consumers})
	if e.Call {
		m.attach(k, p, e.FromSequence)
	}
}

func (m *model) applySettle(k *call, r *broker.Settle) {
	l := m.leaseOf(r.Lease)
	if reasons := m.checkLease(l); reasons != nil {
		if l.settled == r.Action && l.over.Add(remembered) > m.now() {
			wantBody(k, true, "word that it was settled", func(b *broker.Settled) string {
				return differs(broker.Settled{Already: true, Dead: l.dead}, *b)
			})
			return
		}
		k.refuse(reasons...)
		return
	}
	for _, reply := range r.Replies {
		if m.inVain(reply) == nil && reply.Kind == broker.ReplySplice {
			if reasons := m.checkSplice(m.pipeOf(reply.Handle), reply.Splice); reasons != nil {
				k.refuse(reasons...)
				return
			}
		}
	}
	for _, e := range r.Messages {
		sure, perhaps := m.settleDelayInvalid(e)
		if sure || perhaps && k.wasRefused(broker.ReasonDelayInvalid) {
			k.refuse(broker.ReasonDelayInvalid)
			return
		}
	}
	var results []broker.ReplyResult
	x := l.m
	wasOpen := make([]bool, len(r.Messages)) // a reply of the same step may end what a message would be answered through
	for i, e := range r.Messages {
		at := m.pipeOf(e.ReplyTo)
		wasOpen[i] = at != nil && at.state < ended
	}
	if r.KeepHandles {
		for _, c := range x.carries() {
			if !c.receive && !c.ended && c.pipe.state == open {
				c.pipe.outside = true
			}
		}
	}
	for _, reply := range r.Replies {
		result := m.inVain(reply)
		if result == nil {
			result = m.commitReply(reply, l)
		}
		results = append(results, *result)
	}
	receipts := make([]broker.Receipt, len(r.Messages))
	sent := make([]*message, len(r.Messages))
	for i, e := range r.Messages {
		to, created := m.queueFor(e.Queue)
		var replyTo *carried
		if at := m.pipeOf(e.ReplyTo); at != nil {
			replyTo = &carried{pipe: at, ended: at.state >= ended}
		}
		sent[i] = m.enqueue(to, e, replyTo, m.carry(e.Cargo))
		if wasOpen[i] {
			sent[i].deadline = earlier(sent[i].deadline, replyTo.pipe.deadline)
		}
		for _, c := range sent[i].carries() { // elsewhere it is not known what this Settle's replies have ended
			c.unseen = c.ended && c.pipe.endStep == m.step && m.bed.shards > 1
		}
		m.found(e.Cargo)
		receipts[i] = broker.Receipt{QueueCreated: created, Consumers: m.consumersOf(to)}
	}
	dead := m.applyAction(l, r)
	want := broker.Settled{Dead: dead, Replies: results, Receipts: receipts}
	l.dead = dead
	wantBody(k, true, "that it is settled", func(b *broker.Settled) string {
		for i := range min(len(b.Receipts), len(sent)) {
			sent[i].id, want.Receipts[i].Message = b.Receipts[i].Message, b.Receipts[i].Message
		}
		return differs(want, *b)
	})
	m.carriedOut = append(m.carriedOut, carriedOut{k.op, func(k *call) {
		again := broker.Settled{Dead: dead, Replies: results}
		for _, x := range sent {
			again.Receipts = append(again.Receipts, broker.Receipt{Message: x.id, Duplicate: true})
		}
		wantBody(k, true, "that it was settled", func(b *broker.Settled) string { return differs(again, *b) })
	}})
}

// settleDelayInvalid reports whether a message of a Settle would never be delivered. With several shards, the default
// expiry of a queue elsewhere is not looked at.
func (m *model) settleDelayInvalid(e *broker.Enqueue) (sure, perhaps bool) {
	deadline := broker.Time(0)
	if e.Expiry > 0 {
		deadline = m.now().Add(e.Expiry)
	}
	if at := m.pipeOf(e.ReplyTo); at != nil && at.state < ended {
		deadline = earlier(deadline, at.deadline)
	}
	sure = e.Delay > 0 && deadline != 0 && m.now().Add(e.Delay) >= deadline
	if q := m.queue(e.Queue); q != nil && e.Expiry == 0 && q.config.DefaultExpiry > 0 {
		perhaps = e.Delay >= q.config.DefaultExpiry
	}
	return sure || perhaps && m.bed.shards == 1, perhaps
}

// settled notes how a lease has ended.
func (m *model) settled(l *lease, a broker.SettleAction) { l.settled, l.over = a, m.now() }

func (m *model) applyAction(l *lease, r *broker.Settle) (died bool) {
	m.settled(l, r.Action)
	switch r.Action {
	case broker.Ack:
		l.m.queue.acked++
		m.end(l.m, broker.EndBroken, false)
	case broker.Reject:
		m.end(l.m, broker.EndRejected, true)
		return true
	case broker.Retry:
		return m.giveBack(l.m, true, r.Delay)
	case broker.Release:
		m.giveBack(l.m, false, 0)
	}
	return false
}

func (m *model) applyExtend(k *call, r *broker.ExtendLeases) {
	var want broker.Extended
	for _, h := range r.Leases {
		l := m.leaseOf(h)
		if m.checkLease(l) != nil {
			want.Leases = append(want.Leases, broker.ExtendedLease{})
			continue
		}
		x := l.m
		d := r.LeaseTime
		if d == 0 {
			d = orElse(x.holder.lease, x.queue.config.LeaseTime)
		}
		x.until = m.now().Add(d)
		gone := x.replyTo != nil && x.replyTo.pipe.state >= ended
		want.Leases = append(want.Leases, broker.ExtendedLease{Expires: x.until, WaiterGone: gone})
	}
	wantBody(k, true, "the new ends", func(b *broker.Extended) string {
		got := *b
		for i, l := range got.Leases {
			if l.Err != nil && l.Err.Reason != broker.ReasonLeaseStale && l.Err.Reason != broker.ReasonLeaseUnknown {
				return "refuses a lease with " + l.Err.Error()
			}
			if (l.Err != nil) != (want.Leases[i].Expires == 0) {
				return "takes a lease that is over, or refuses one that is not"
			}
			got.Leases[i].Err = nil
			if m.bed.shards > 1 { // the pipe may be elsewhere
				got.Leases[i].WaiterGone, want.Leases[i].WaiterGone = false, false
			}
		}
		return differs(want, got)
	})
}

func (m *model) applyCancel(k *call, p *pipe, reason broker.EndReason) {
	if p.state == forgotten {
		k.refuse(broker.ReasonHandleUnknown)
		return
	}
	want := broker.Cancelled{Now: p.state < ended, Reason: p.reason}
	if want.Now {
		m.endPipe(p, ending{reason: reason})
		want.Reason = reason
	}
	wantBody(k, true, "that the pipe has ended", func(b *broker.Cancelled) string { return differs(want, *b) })
}

// wantRemoved wants a number of messages to have been removed.
func wantRemoved(k *call, n uint64) {
	wantBody(k, true, "how many were removed", func(b *broker.Removed) string { return differs(broker.Removed{Messages: n}, *b) })
}

func (m *model) applyOpenPipe(k *call, r *broker.OpenPipe) {
	if parent := m.pipeOf(r.Options.Parent); parent != nil && parent.state == forgotten {
		k.refuse(broker.ReasonHandleUnknown)
		return
	}
	p := m.openPipe(&r.Options, false, true)
	m.wantOpened(k, p)
	m.carriedOut = append(m.carriedOut, carriedOut{k.op, func(k *call) {
		if p.state == forgotten {
			k.refuse(broker.ReasonHandleUnknown)
			return
		}
		m.wantOpened(k, p)
	}})
	if parent := p.parent; parent != nil && (parent.state == ended && parent.reason != broker.EndOK && parent.reason != broker.EndShuttingDown) {
		m.later(func() { m.parentEnded(p) })
	}
}

func (m *model) wantOpened(k *call, p *pipe) {
	wantBody(k, true, "a pipe", func(b *broker.PipeOpened) string {
		if first := p.receive.IsZero(); first {
			p.send, p.receive = m.bed.keys.Mint(b.Send), m.bed.keys.Mint(b.Receive)
		}
		return differs([]any{p.send, p.receive, p.deadline}, []any{m.bed.keys.Mint(b.Send), m.bed.keys.Mint(b.Receive), b.Deadline})
	})
}

func (m *model) applyReceive(k *call, p *pipe, r *broker.Receive) {
	switch {
	case p.state == forgotten:
		k.refuse(broker.ReasonHandleUnknown)
		return
	case max(r.FromSequence, 1) < p.first:
		k.refuse(broker.ReasonRepliesTrimmed)
		return
	}
	want := broker.Attached{Deadline: p.deadline, FirstSequence: p.first, NextSequence: p.last() + 1}
	wantBody(k, false, "that it is attached", func(b *broker.Attached) string { return differs(want, *b) })
	m.attach(k, p, r.FromSequence)
}

// found notes the tokens that stood in a payload: whoever reads it has a copy.
func (m *model) found(c broker.Cargo) {
	for _, h := range c.Found {
		if p := m.pipeOf(h); p.state == open {
			p.outside = true
		}
	}
}
