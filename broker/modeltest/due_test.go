package modeltest

import (
	"time"

	"github.com/replyq/replyq/broker"
)

// What happens because its time has come. Timers have a resolution of a millisecond and are never early.

func onTick(t broker.Time) broker.Time {
	const tick = broker.Time(time.Millisecond)
	return (t + tick - 1) / tick * tick
}

// dueAt is when something is next due for a message; 0 if nothing is.
func (x *message) dueAt() broker.Time {
	switch x.state {
	case ready:
		return onTick(x.deadline)
	case delayed:
		return onTick(earlier(x.deadline, x.until))
	case leased:
		return onTick(x.until)
	}
	return 0
}

func (p *pipe) dueAt() (at broker.Time) {
	switch p.state {
	case open, spliced:
		at = p.deadline
		if p.leftAt != 0 {
			at = earlier(at, p.leftAt.Add(p.grace))
		}
	case ended:
		at = p.checkAt
	}
	return onTick(at)
}

// nextDue is when something is due next; 0 if nothing is.
func (m *model) nextDue() (at broker.Time) {
	for _, x := range m.messages {
		at = earlier(at, x.dueAt())
	}
	for _, p := range m.pipes {
		at = earlier(at, p.dueAt())
	}
	for _, c := range m.consumers {
		if c.away {
			at = earlier(at, onTick(c.awayUntil))
		}
	}
	return at
}

func (m *model) isDue(at broker.Time) bool { return at != 0 && at <= m.now() }

// applyDue does everything that is due.
func (m *model) applyDue() {
	for _, x := range m.messages {
		m.fireLease(x)
		m.finish()
	}
	m.applyUnseen()
	for i := 0; i < len(m.pipes); i++ {
		m.firePipe(m.pipes[i])
		m.finish()
	}
	m.forgetDue()
}

// applyUnseen does what is due and that no consumer is told of.
func (m *model) applyUnseen() {
	for _, c := range m.consumers {
		if c.away && m.isDue(onTick(c.awayUntil)) {
			m.giveUp(c)
			m.finish()
		}
	}
	for _, x := range m.messages {
		if x.holder != nil && x.holder.away {
			m.fireLease(x)
			m.finish()
		}
	}
	for i := 0; i < len(m.messages); i++ {
		if x := m.messages[i]; (x.state == ready || x.state == delayed) && m.isDue(onTick(x.deadline)) {
			m.end(x, broker.EndExpired, false)
			m.finish()
		}
	}
	m.wakeDue(0)
}

// fireLease ends a lease whose time is over.
func (m *model) fireLease(x *message) {
	if x.state == leased && m.isDue(onTick(x.until)) {
		m.loseLease(x)
		m.giveBack(x, true, 0)
	}
}

// wakeDue makes the messages ready whose delay is over, in the order in which they were delayed, up to one; 0 for all.
func (m *model) wakeDue(upTo uint64) {
	var due []*message
	for _, x := range m.messages {
		if x.state == delayed && m.isDue(onTick(x.until)) && !m.isDue(onTick(x.deadline)) && (upTo == 0 || x.dueSeq <= upTo) {
			due = append(due, x)
		}
	}
	sortBy(due, func(x *message) uint64 { return x.dueSeq })
	for _, x := range due {
		m.wake(x)
	}
}

// pipeDue reports whether a pipe may be ending at this moment.
func (m *model) pipeDue(p *pipe) bool {
	return p.state < ended && m.isDue(p.dueAt()) || p.state == spliced && m.pipeDue(p.inner)
}

func (m *model) firePipe(p *pipe) {
	switch {
	case !m.isDue(p.dueAt()):
	case p.state == ended: // see forgetDue
	case m.isDue(onTick(p.deadline)):
		m.endPipe(p, ending{reason: broker.EndExpired})
	case p.leftAt != 0 && m.isDue(onTick(p.leftAt.Add(p.grace))):
		if m.abandonable(p) {
			m.endPipe(p, ending{reason: broker.EndCancelled})
			return
		}
		p.leftAt = 0
	}
}
