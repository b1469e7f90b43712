package history

import (
	"slices"
	"time"
)

// checkSends finds what was lost, and what became two messages.
func (c *checker) checkSends() {
	r := c.report
	groups := make(map[group][]*send)
	for _, w := range c.waiters {
		for _, end := range w.ends {
			if s := c.sends[w.id]; s != nil && slices.Contains(c.rules.Ends, end) {
				s.gaveUp = true
			}
		}
	}
	for _, s := range c.order {
		if len(s.certain) > 0 && s.tries == s.refusals { // a message that was lost may have been refused afterwards
			r.find(&r.Unexpected, "%v was refused each time, and is the messages %q", s.id, s.certain)
		}
		if len(s.certain) > 1 {
			r.find(&r.Duplicates, "%v became the messages %q", s.id, s.certain)
		}
		if s.accepted && !s.gaveUp {
			g := group{s.id.Producer, s.queue, c.boot(s.at)}
			groups[g] = append(groups[g], s)
		}
	}
	for g, sends := range groups {
		c.place(sends, g.boot)
	}
}

// A group of sends is of those that were accepted one after the other by the same start of the server.
type group struct {
	producer, queue string
	boot            int
}

// place says of what is lost where in its group that was: before all that is not, after all of it, or in between. Where
// a crash may lose something, what was done before it says nothing: that might be lost too, and nobody would know. That
// nothing survives counts as the end of the group.
func (c *checker) place(g []*send, boot int) {
	slices.SortFunc(g, func(a, b *send) int { return a.id.Counter - b.id.Counter })
	after := time.Duration(0)
	if c.rules.Lossy > 0 && boot < len(c.crashes) {
		after = c.crashes[boot].to
	}
	first, last := len(g), -1
	for i, s := range g {
		if c.survives(s, after) {
			first, last = min(first, i), i
		}
	}
	r := c.report
	for i, s := range g {
		if !c.lost(s) {
			continue
		}
		switch {
		case i > last:
			r.find(&r.LostPostfix, "%v, accepted after %v", s.id, s.at)
		case i < first:
			r.find(&r.LostPrefix, "%v, accepted after %v", s.id, s.at)
		default:
			r.find(&r.LostMiddle, "%v, accepted after %v", s.id, s.at)
		}
		if !c.uncertain(s.at) {
			r.find(&r.LostEarly, "%v, accepted after %v, too long before a crash", s.id, s.at)
		}
	}
}

// survives tells whether something is seen of a send after a time.
func (c *checker) survives(s *send, after time.Duration) bool {
	return slices.ContainsFunc(s.messages, func(id string) bool {
		m := c.messages[messageKey{id, s.id}]
		return m != nil && m.seen >= after && (m.done || m.left)
	})
}

// lost tells whether something that was accepted was neither done, nor is it left.
func (c *checker) lost(s *send) bool {
	for _, id := range s.messages {
		if m := c.messages[messageKey{id, s.id}]; m != nil && (m.done || m.left) {
			return false
		}
	}
	return true
}

// checkMessages checks what was done with each message, which is as strict as can be where nothing may be lost.
func (c *checker) checkMessages() {
	if c.rules.Lossy > 0 {
		return
	}
	r := c.report
	for _, m := range c.messages {
		if err := CheckMessage(m.operations); err != nil {
			r.find(&r.Impossible, "message %s of %v: %v", m.id, m.send, err)
		}
	}
}

// checkWaiters: each learnt one end, and a good one.
func (c *checker) checkWaiters() {
	r := c.report
	for _, w := range c.waiters {
		switch {
		case len(w.ends) == 0:
			r.find(&r.Hung, "who waits for %v, since %v", w.id, w.began)
		case len(w.ends) > 1:
			r.find(&r.WrongEnds, "who waits for %v learnt %q", w.id, w.ends)
		case w.ends[0] != "OK" && !slices.Contains(c.rules.Ends, w.ends[0]) && !c.excused(w):
			r.find(&r.WrongEnds, "who waits for %v, from %v to %v, learnt %q", w.id, w.began, w.ended, w.ends[0])
		}
	}
}

// excused tells whether what somebody waited for may have been lost meanwhile.
func (c *checker) excused(w *waiter) bool {
	return c.rules.Lossy > 0 && slices.ContainsFunc(c.crashes, func(o outage) bool {
		return w.began <= o.to && w.ended >= o.from-c.rules.Lossy
	})
}

// checkQueues: each queue in which something was accepted is there at the end.
func (c *checker) checkQueues() {
	r := c.report
	for name, q := range c.queues {
		if q.used && !q.is && !c.uncertain(q.first) {
			r.find(&r.QueuesGone, "%q, there since %v", name, q.first.Round(time.Millisecond))
		}
	}
}
