package modeltest

import (
	"fmt"
	"slices"

	"github.com/replyq/replyq/broker"
)

// Who carries what: waiting and leased messages, and replies that are kept.

// carried reports whether anything carries one of a pipe's handles.
func (m *model) carried(p *pipe, receive bool) bool { return m.carriers(p, receive) > 0 }

func (m *model) carriers(p *pipe, receive bool) (n int) {
	is := func(c *carried) bool { return c.pipe == p && c.receive == receive && !c.ended }
	for _, x := range m.messages {
		for _, c := range x.carries() {
			if x.alive() && is(c) {
				n++
			}
		}
	}
	for _, o := range m.pipes {
		for _, r := range o.replies {
			for i := range r.handles {
				if !r.copied && is(&r.handles[i]) {
					n++
				}
			}
		}
	}
	return n
}

// lostCarrier decides what the pipes do whose handles a message carried that has just gone.
func (m *model) lostCarrier(x *message, fate broker.EndReason) {
	for _, c := range x.carries() {
		replied := c.pipe.replied[x] == x.attempt && x.attempt > 0
		m.lose(c, fate, x.replyTo != nil && c.pipe == x.replyTo.pipe && !x.replyTo.ended, replied)
	}
}

// lostReply does so for a reply.
func (m *model) lostReply(r *reply, fate broker.EndReason) {
	for i := range r.handles {
		if !r.copied {
			m.lose(&r.handles[i], fate, false, false)
		}
	}
}

// lose notes that a carrier has gone. What its pipe does is decided when all that went at once has gone: the last one
// decides.
func (m *model) lose(c *carried, fate broker.EndReason, replyTo, replied bool) {
	p := c.pipe
	switch {
	case c.ended:
	case c.receive:
		m.later(func() { m.maybeAbandoned(p) })
	default:
		p.losing++
		m.later(func() {
			if fate == broker.EndBroken && (replied || p.bare) {
				fate = broker.EndOK
			}
			m.noteFate(p, fate)
			if p.losing--; p.losing == 0 {
				m.lost(p, fate, replyTo)
			}
		})
	}
}

// lost ends a pipe that has lost its last carrier, with that carrier's fate: of an ack BROKEN, or OK if that delivery had
// replied. Both need all copies in custody. So do all the other fates, unless the handle was a reply_to.
func (m *model) lost(p *pipe, fate broker.EndReason, replyTo bool) {
	if p.state != open || m.carried(p, false) {
		return
	}
	if m.anyOrder() {
		is := m.bed.endOf(p)
		if at := m.bed.describe(p); is == broker.EndOpen && at != nil && at.Outside { // perhaps by a token in a reply elsewhere that was in vain
			p.outside = true
			return
		}
		if slices.Contains(p.fates, is) {
			m.endPipe(p, ending{reason: is})
			return
		}
	}
	if p.outside && (acked(fate) || !replyTo) {
		return
	}
	m.endPipe(p, ending{reason: fate})
}

// anyOrder reports whether things that happen in this step have no order that can be known: those that are due at one
// moment, and those in several shards. The model follows the broker then.
func (m *model) anyOrder() bool { return m.timed || m.bed.shards > 1 }

func acked(fate broker.EndReason) bool { return fate == broker.EndBroken || fate == broker.EndOK }

// noteFate remembers what became of the carriers of a pipe's send handle in this step.
func (m *model) noteFate(p *pipe, fate broker.EndReason) {
	if p.fateStep != m.step {
		p.fates, p.fateStep = nil, m.step
	}
	p.fates = append(p.fates, fate)
}

// names are those handles of a message or a reply that must, and may, be shown as ended. What ends in the same step may
// end a little later; and with several shards a pipe's end need not be known where the handle is.
type names struct{ must, may []string }

func (m *model) endedNames(hs []carried) (n names) {
	for _, c := range hs {
		if c.ended && !c.unseen || c.pipe.state >= ended && c.pipe.endStep < m.step && m.bed.shards == 1 {
			n.must = append(n.must, c.name)
		}
		if c.ended || c.pipe.state >= ended || m.pipeDue(c.pipe) || m.bed.shards > 1 && m.bed.endOf(c.pipe) != broker.EndOpen {
			n.may = append(n.may, c.name)
		}
	}
	return n
}

func (n names) allow(got []string) string {
	for _, name := range n.must {
		if !slices.Contains(got, name) {
			return "does not say that " + name + " has ended"
		}
	}
	if !n.mayBe(got) {
		return fmt.Sprintf("says that %v have ended, of which only %v may have", got, n.may)
	}
	return ""
}

func (n names) mayBe(got []string) bool {
	return !slices.ContainsFunc(got, func(name string) bool { return !slices.Contains(n.may, name) })
}
