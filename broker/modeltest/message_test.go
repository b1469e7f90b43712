package modeltest

import (
	"time"

	"github.com/replyq/replyq/broker"
)

// The life of a message.

// fits reports whether a message may wait beside what waits: in an empty queue every one may.
func (m *model) fits(q *queue, size int) bool {
	waiting := m.in(q, ready, delayed)
	bytes := 0
	for _, x := range waiting {
		bytes += len(x.body)
	}
	return len(waiting) == 0 ||
		(q.config.MaxLength == 0 || uint64(len(waiting)) < q.config.MaxLength) &&
			(q.config.MaxBytes == 0 || uint64(bytes+size) <= q.config.MaxBytes)
}

// enqueue stores a message whose request is accepted.
func (m *model) enqueue(q *queue, e *broker.Enqueue, replyTo *carried, handles []carried) *message {
	x := &message{
		queue: q, body: e.Body, priority: e.Priority, group: e.Group, enqueued: m.now(), readyAt: m.now(),
		required: e.RequireConsumer, replyTo: replyTo, handles: handles, state: ready,
	}
	expiry := e.Expiry
	if expiry == 0 {
		expiry = q.config.DefaultExpiry
	}
	if expiry > 0 {
		x.deadline = m.now().Add(expiry)
	}
	if replyTo != nil && !replyTo.ended {
		x.deadline = earlier(x.deadline, replyTo.pipe.deadline)
	}
	x.until = e.NotBefore
	if e.Delay > 0 {
		x.until = m.now().Add(e.Delay)
	}
	if x.until > m.now() {
		x.state, x.readyAt = delayed, x.until
		x.dueSeq = m.place()
	} else {
		x.until = 0
	}
	x.place = m.place()
	q.enqueued++
	m.messages = append(m.messages, x)
	return x
}

func (m *model) place() uint64 {
	m.places++
	return m.places
}

func earlier(a, b broker.Time) broker.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// makeRoom drops the oldest waiting messages of a full queue. Of those that are held back, that one counts which has been
// held back longest.
func (m *model) makeRoom(q *queue, size int) {
	for !m.fits(q, size) {
		held := m.in(q, delayed)
		sortBy(held, func(x *message) uint64 { return x.dueSeq })
		oldest := append(m.in(q, ready), held[:min(1, len(held))]...)
		sortBy(oldest, func(x *message) uint64 { return x.place })
		m.remove(oldest[0], broker.EndDropped)
	}
}

// remove takes a message out of its queue; a consumer that has it is told.
func (m *model) remove(x *message, fate broker.EndReason) {
	if x.state == dead {
		x.state = gone
		return
	}
	if x.state == leased {
		m.loseLease(x)
	}
	m.end(x, fate, false)
}

// inSlotOrder is the order in which all of a queue's messages are removed.
func inSlotOrder(some []*message) []*message {
	sortBy(some, func(x *message) uint64 { return uint64(x.id.Slot) })
	return some
}

// end lets a message go, or makes it a dead one. Its handles have lost a carrier, with a fate.
func (m *model) end(x *message, fate broker.EndReason, dies bool) {
	x.state, x.holder = gone, nil
	if dies {
		x.state, x.died, x.diedAt, x.until, x.diedStep = dead, fate, m.place(), m.now(), m.step
		m.trimDead(x.queue)
	}
	m.lostCarrier(x, fate)
}

func (m *model) trimDead(q *queue) {
	all := m.in(q, dead)
	sortBy(all, func(x *message) uint64 { return x.diedAt })
	for len(all) > int(q.config.MaxDead) {
		all[0].state, all[0].trimmed = gone, true
		all = all[1:]
	}
}

// loseLease ends a lease that its holder had not ended, and tells it.
func (m *model) loseLease(x *message) {
	l := x.leases[len(x.leases)-1]
	l.over = m.now()
	if c := x.holder; c != nil && !c.away && !c.over {
		id, attempt := x.id, x.attempt
		wantBody(c.call, false, "a lost lease", func(b *broker.LeaseLost) string {
			if b.Message != id || b.Attempt != attempt {
				return "of another delivery"
			}
			return ""
		})
	}
}

// giveBack returns a message to its queue, after its lease has ended.
func (m *model) giveBack(x *message, failed bool, delay time.Duration) (died bool) {
	q := x.queue
	if failed {
		x.failures++
		q.failed++
		if x.failures >= q.config.MaxFailures {
			m.end(x, broker.EndDeadLettered, true)
			return true
		}
	}
	x.holder = nil
	if x.deadline != 0 && x.deadline <= m.now() {
		m.end(x, broker.EndExpired, false)
		return false
	}
	if r := x.replyTo; r != nil && !r.ended && r.pipe.state >= ended && withdraws(r.pipe.reason) {
		m.end(x, r.pipe.reason, false)
		return false
	}
	x.state, x.until = ready, 0
	if delay == 0 && failed && q.config.Backoff > 0 {
		delay = min(q.config.Backoff<<(x.failures-1), q.config.MaxBackoff)
		x.notAfter = m.now().Add(delay + delay/10)
	}
	if delay > 0 {
		x.state, x.until, x.dueSeq = delayed, m.now().Add(delay), m.place()
	}
	return false
}

// wake makes a delayed message ready. One that was delayed from the start comes in now, behind those that wait.
func (m *model) wake(x *message) {
	x.state, x.until, x.notAfter = ready, 0, 0
	if x.attempt == 0 {
		x.place = m.place()
	}
}

// withdraws reports whether messages that wait are taken back when the pipe of their reply_to ends so.
func withdraws(r broker.EndReason) bool {
	return r == broker.EndCancelled || r == broker.EndExpired || r == broker.EndRevoked
}

// redrive puts a dead message back.
func (m *model) redrive(x *message, q *queue) {
	x.queue, x.state, x.failures, x.place, x.readyAt = q, ready, 0, m.place(), m.now()
	x.until, x.deadline, x.died = 0, 0, 0
	for _, c := range x.carries() {
		if !c.ended && c.pipe.state >= ended {
			c.ended, c.unseen = true, m.bed.shards > 1
		}
	}
	if x.replyTo != nil && !x.replyTo.ended && x.replyTo.pipe.receive.Shard() == x.id.Shard { // else it is not known
		x.deadline = x.replyTo.pipe.deadline
	}
	if d := q.config.DefaultExpiry; d > 0 {
		x.deadline = earlier(x.deadline, m.now().Add(d))
	}
}

// carries lists what a message carries.
func (x *message) carries() (all []*carried) {
	if x.replyTo != nil {
		all = append(all, x.replyTo)
	}
	for i := range x.handles {
		all = append(all, &x.handles[i])
	}
	return all
}

// alive reports whether a message is a carrier.
func (x *message) alive() bool { return x.state >= ready && x.state <= leased }
