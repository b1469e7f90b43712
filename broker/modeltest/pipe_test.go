package modeltest

import (
	"fmt"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

type pipeState uint8

const (
	open pipeState = iota + 1
	spliced
	ended
	forgotten
)

// A pipe is one from its opening on.
type pipe struct {
	receive, send handles.Handle // as far as somebody has been told; the zero handle if not
	state         pipeState
	reason        broker.EndReason
	error         []byte             // of a replier
	endStep       uint64             // in which it ended
	losing        int                // carriers of its send handle that have gone, and were not looked at
	fates         []broker.EndReason // of the carriers that it lost in fateStep; for several shards
	fateStep      uint64
	deadline      broker.Time
	byCall, keep  bool
	grace, retain time.Duration
	capReplies    int
	capBytes      int
	parent        *pipe

	first     uint64 // sequence of the first reply that is kept
	replies   []*reply
	ids       map[string]uint64 // sequences of replies with an id
	endID     string
	outside   bool // a copy of the send handle has left custody
	bare      bool // somebody has replied whose ack will not be seen
	replied   map[*message]uint32
	joined    joined // spliced: how far it has come in the other one
	inner     *pipe  // spliced: the pipe that it goes on with
	wasJoined bool   // it is or was spliced: when its room is looked at is the broker's affair

	readers   []*reader
	leftAt    broker.Time // since when its caller has left; 0 if it has not
	read      bool        // its end has been read
	wasInner  bool        // another one has gone on with it
	wasNeeded bool        // ended: when the broker came to rest last
	checkAt   broker.Time // ended: when it is forgotten, unless somebody needs it
}

// A reply is one item of a pipe.
type reply struct {
	body    []byte
	source  broker.MessageID
	attempt uint32
	handles []carried
	copied  bool // from the inner pipe, whose reply is the carrier
}

// A reader receives from a pipe.
type reader struct {
	call     *call
	pipe     *pipe
	start    uint64
	next     uint64
	credit   uint32
	unpassed uint32 // handed out and not credited since
	ended    bool   // it has had the end
}

func (p *pipe) last() uint64 { return p.first + uint64(len(p.replies)) - 1 }

func (p *pipe) bytes() (n int) {
	for _, r := range p.replies {
		n += len(r.body)
	}
	return n
}

// feeds are the pipes that go on with this one.
func (m *model) feeds(p *pipe) (outer []*pipe) {
	for _, o := range m.pipes {
		if o.state == spliced && o.inner == p {
			outer = append(outer, o)
		}
	}
	return outer
}

// attached reports whether anybody reads from a pipe, or another pipe does.
func (m *model) attached(p *pipe) bool { return len(p.readers) > 0 || len(m.feeds(p)) > 0 }

func (m *model) openPipe(o *broker.PipeOptions, byCall, outside bool) *pipe {
	p := &pipe{
		state: open, byCall: byCall, outside: outside, keep: o.KeepIfAbandoned, first: 1,
		deadline: m.now().Add(orElse(o.Timeout, time.Hour)), grace: orElse(o.DisconnectGrace, 10*time.Second),
		retain: orElse(o.Retain, 60*time.Second), capReplies: orElse(int(o.CapacityReplies), 1024),
		capBytes: orElse(int(o.CapacityBytes), 4<<20), ids: make(map[string]uint64), replied: make(map[*message]uint32),
	}
	m.pipes = append(m.pipes, p)
	if parent := m.pipeOf(o.Parent); parent != nil {
		if p.parent = parent; parent.state < ended {
			p.deadline = earlier(p.deadline, parent.deadline)
		}
	}
	return p
}

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// pipeOf finds the pipe of a handle that the broker has given out.
func (m *model) pipeOf(h handles.Handle) *pipe {
	for _, p := range m.pipes {
		if !h.IsZero() && (p.send == h || p.receive == h) {
			return p
		}
	}
	return nil
}

// attach makes a call a reader.
func (m *model) attach(k *call, p *pipe, from uint64) {
	from = max(from, 1)
	if p.state == forgotten {
		k.refuse(broker.ReasonHandleUnknown)
		return
	}
	if from < p.first {
		k.refuse(broker.ReasonRepliesTrimmed)
		return
	}
	r := &reader{call: k, pipe: p, start: from, next: from, credit: k.op.Credit}
	k.reader = r
	p.readers = append(p.readers, r)
	p.leftAt = 0
	m.push(p)
}

// push hands every reader what it has credit for, and the end when it has had everything.
func (m *model) push(p *pipe) {
	for _, r := range p.readers {
		for ; r.credit > 0 && r.next <= p.last(); r.next++ {
			r.credit--
			r.unpassed++
			item, sequence := p.replies[r.next-p.first], r.next
			names := m.endedNames(item.handles)
			wantBody(r.call, false, "a reply", func(b *broker.ReplyItem) string {
				if b.Sequence != sequence || b.Source != item.source || b.Attempt != item.attempt {
					return differs(*item, *b)
				}
				if why := names.allow(b.Ended); why != "" {
					return why
				}
				return differs(string(item.body), string(b.Body))
			})
			m.givenOut(item)
		}
		if p.state == ended && r.next > p.last() && !r.ended {
			r.ended = true
			reason, body, last := p.reason, string(p.error), p.last()
			wantBody(r.call, true, "the end", func(b *broker.End) string {
				return differs(broker.End{Reason: reason, Body: []byte(body), LastSequence: last},
					broker.End{Reason: b.Reason, Body: b.Body, LastSequence: b.LastSequence})
			})
		}
	}
}

// givenOut notes that the handles of a reply have left custody.
func (m *model) givenOut(r *reply) {
	for _, c := range r.handles {
		if !c.receive && !c.ended && c.pipe.state == open {
			c.pipe.outside = true
		}
	}
}

// credit lets a reader have more; what it had before counts as passed.
func (m *model) credit(r *reader, n uint32) {
	r.credit += n
	r.unpassed -= min(r.unpassed, n)
	m.push(r.pipe)
}

// passed notes that a reader has got the end.
func (m *model) passed(r *reader) {
	m.dropReader(r)
	if p := r.pipe; !p.read {
		p.read, p.checkAt = true, m.now().Add(p.retain)
	}
}

func (m *model) dropReader(r *reader) {
	p := r.pipe
	for i, o := range p.readers {
		if o == r {
			p.readers = append(p.readers[:i:i], p.readers[i+1:]...)
		}
	}
	m.maybeAbandoned(p)
}

func (m *model) abandonable(p *pipe) bool {
	return p.byCall && !p.keep && p.state < ended && !m.attached(p) && !m.carried(p, true)
}

func (m *model) maybeAbandoned(p *pipe) {
	if p.leftAt == 0 && m.abandonable(p) {
		p.leftAt = m.now()
	}
}

// An ending is how a pipe ends.
type ending struct {
	reason broker.EndReason
	error  []byte
	id     string
	by     *message // whose consumer ended it, if that is known
}

// endPipe ends a pipe, and does what follows: for those under it, for who waits for room in it, and for the messages that
// should be answered through it.
func (m *model) endPipe(p *pipe, e ending) {
	inner := p.inner
	p.state, p.reason, p.error, p.endID, p.inner = ended, e.reason, e.error, e.id, nil
	p.endStep = m.step
	p.checkAt = p.deadline.Add(unread)
	if inner != nil {
		m.later(func() {
			m.maybeAbandoned(inner)
		})
	}
	m.push(p)
	if e.reason != broker.EndOK && e.reason != broker.EndShuttingDown {
		for _, child := range m.pipes {
			if child.parent == p {
				m.later(func() { m.parentEnded(child) })
			}
		}
	}
	for _, o := range m.feeds(p) {
		// In another shard it comes there when it comes; and one that is due at this moment ends by itself.
		if o.receive.Shard() == p.receive.Shard() && !m.isDue(o.dueAt()) {
			m.later(func() { m.later(func() { m.passEnd(o) }) }) // the inner pipe looks for them, and tells them
		}
	}
	answered := e.reason == broker.EndOK || e.reason == broker.EndFailed
	for _, x := range m.messages {
		if !x.alive() || x.replyTo == nil || x.replyTo.pipe != p || x.replyTo.ended || x == e.by || answered && e.by == nil {
			continue
		}
		m.later(func() { m.waiterEnded(x, e.reason) })
	}
}

func (m *model) parentEnded(p *pipe) {
	reason := broker.EndCancelled
	if m.isDue(onTick(p.deadline)) || m.expiresNow(p) && m.bed.endOf(p) == broker.EndExpired {
		reason = broker.EndExpired
	}
	if m.anyOrder() { // its last carrier may have gone before
		if is := m.bed.endOf(p); is != broker.EndOpen && is != broker.EndOK && is != broker.EndFailed {
			reason = is
		}
	}
	if p.state < ended {
		m.endPipe(p, ending{reason: reason})
	}
}

// expiresNow reports whether a message that carries a pipe's send handle expires at this moment: the pipe may end by that.
func (m *model) expiresNow(p *pipe) bool {
	for _, x := range m.messages {
		if m.carriesTo(x, p) && m.isDue(onTick(x.deadline)) {
			return true
		}
	}
	return false
}

// waiterEnded tells whoever works on a message that nobody waits for the answer any more, or takes the message back.
func (m *model) waiterEnded(x *message, reason broker.EndReason) {
	switch {
	case x.state == leased:
		x.goneBy = reason
		if !x.sawEnd {
			m.tellWaiterGone(x)
		}
	case x.alive() && withdraws(reason):
		m.end(x, reason, false)
	}
}

// unread is how long after its deadline an ended pipe is kept for a first reader.
const unread = 60 * time.Second

func (m *model) tellWaiterGone(x *message) {
	c := x.holder
	if c == nil || c.over {
		return
	}
	id, attempt, reason := x.id, x.attempt, x.goneBy
	wantBody(c.call, false, fmt.Sprintf("word that the waiter of %v is gone", id), func(b *broker.WaiterGone) string {
		return differs(broker.WaiterGone{Message: id, Attempt: attempt, Reason: reason}, *b)
	})
}

// forgetDue forgets the ended pipes whose time has come, unless something needs them. Where what needed one has gone at the
// same moment, the model follows the broker.
func (m *model) forgetDue() {
	var due []*pipe
	for _, p := range m.pipes {
		if p.state == ended && m.isDue(p.dueAt()) {
			due = append(due, p)
		}
	}
	for again := true; again; {
		again = false
		for i, p := range due {
			if p != nil && !m.needed(p) && (!p.wasNeeded && m.bed.shards == 1 || m.bed.describe(p) == nil) {
				m.forget(p)
				due[i], again = nil, true
			}
		}
	}
	for _, p := range due {
		if p != nil {
			p.checkAt = m.now().Add(unread)
		}
	}
}

func (m *model) needed(p *pipe) bool {
	return m.carried(p, true) || m.carried(p, false) || m.attached(p)
}

func (m *model) forget(p *pipe) {
	p.state = forgotten
	for _, r := range p.replies {
		m.lostReply(r, broker.EndExpired)
	}
	p.replies = nil
	m.finish()
}
