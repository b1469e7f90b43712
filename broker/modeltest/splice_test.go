package modeltest

import (
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A spliced pipe goes on with another one's replies, and ends as that one ends. How many replies it takes ahead of its
// readers is the broker's affair; which ones, and in which order, is not.

// joined is where a spliced pipe is in the other one.
type joined struct{ next uint64 }

// maxChain is how long a chain of splices may be.
const maxChain = 16

// checkSplice lists the reasons for which a splice is refused.
func (m *model) checkSplice(outer *pipe, h handles.Handle) []broker.Reason {
	inner := m.pipeOf(h)
	if inner.state == forgotten {
		return []broker.Reason{broker.ReasonHandleUnknown}
	}
	length := 1 + m.above(outer)
	for p := inner; ; p = p.inner {
		if p == outer {
			return []broker.Reason{broker.ReasonHandleCycle}
		}
		if length > maxChain {
			return []broker.Reason{broker.ReasonSpliceTooDeep}
		}
		if p.state != spliced {
			return nil
		}
		length++
	}
}

// above is the length of the longest chain of pipes that wait for this one.
func (m *model) above(p *pipe) (longest int) {
	for _, o := range m.feeds(p) {
		longest = max(longest, 1+m.above(o))
	}
	return longest
}

func (m *model) splice(outer, inner *pipe) {
	outer.state, outer.inner, outer.wasJoined = spliced, inner, true
	outer.joined.next = inner.first
	inner.leftAt, inner.wasInner = 0, true
	// With several shards a cycle may be seen only when it is closed: all of it is broken then.
	for p := inner; p.state == spliced; p = p.inner {
		if p.inner == outer {
			m.breakCycle(outer)
			return
		}
	}
}

func (m *model) breakCycle(p *pipe) {
	for p.state == spliced {
		next := p.inner
		m.endPipe(p, ending{reason: broker.EndBroken})
		p = next
	}
}

// transfer moves the replies on that the broker has moved: next is the sequence that the outer pipe's next one will get.
// It says what is wrong.
func (m *model) transfer(outer *pipe, next uint64) string {
	for outer.last()+1 < next {
		inner := outer.inner
		if inner == nil || outer.joined.next > inner.last() {
			return "it has more replies than there are"
		}
		item := *inner.replies[outer.joined.next-inner.first]
		item.copied = true
		outer.joined.next++
		m.givenOut(&item)
		outer.replies = append(outer.replies, &item)
		outer.bare = outer.bare || item.attempt == 0
		m.push(outer)
		m.finish()
	}
	if outer.last()+1 > next {
		return "replies are missing"
	}
	return ""
}

// passEnds lets the ends of inner pipes come through.
func (m *model) passEnds() {
	for again := true; again; {
		again = false
		for _, o := range m.pipes {
			if m.passEnd(o) {
				m.finish()
				again = true
			}
		}
	}
}

// passEnd lets the end of a pipe's inner one come through, if all its replies have.
func (m *model) passEnd(o *pipe) bool {
	if o.state != spliced || o.inner.state < ended || o.joined.next <= o.inner.last() {
		return false
	}
	inner := o.inner
	m.endPipe(o, ending{reason: inner.reason, error: inner.error})
	if !inner.read && len(m.feeds(inner)) == 0 {
		inner.read, inner.checkAt = true, m.now().Add(inner.retain)
	}
	return true
}
