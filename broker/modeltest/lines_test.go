package modeltest

import (
	"fmt"
	"time"

	"github.com/replyq/replyq/broker"
)

// What may be delivered next: the first message of a line, the lines of one priority in turn, and of the priorities the
// one whose message counts highest, with one more for each minute that it has waited.

func (x *message) line() line { return line{x.priority, x.group} }

// score is a message's priority with its age, in minutes.
func (x *message) score(now broker.Time) float64 {
	return float64(x.priority) + time.Duration(now-x.readyAt).Minutes()
}

// blocked reports whether nothing of a message's group may be delivered for now.
func (m *model) blocked(x *message) bool {
	limit := x.queue.config.GroupConcurrency
	if limit == 0 || x.group == "" {
		return false
	}
	inFlight := uint32(0)
	for _, y := range m.in(x.queue, leased, delayed) {
		switch {
		case y.group != x.group:
		case y.state == leased:
			inFlight++
		case limit == 1 && y.attempt > 0 && y != x:
			return true // strict order: a retried head blocks its group, a delay set at Enqueue does not
		}
	}
	return inFlight >= limit
}

// heads are the first messages of the lines of a queue that may be delivered now.
func (m *model) heads(q *queue) map[line]*message {
	heads := make(map[line]*message)
	if q.config.Paused {
		return heads
	}
	for _, x := range m.in(q, ready) {
		if l := x.line(); heads[l] == nil && !m.blocked(x) {
			heads[l] = x
		}
	}
	return heads
}

// noteWaiting keeps track of since when each line waits for its turn.
func (m *model) noteWaiting() {
	for _, q := range m.queues {
		heads := m.heads(q)
		for l := range heads {
			if q.turns[l].waits == 0 {
				q.turns[l] = turn{q.turns[l].served, m.turns + 1}
			}
		}
		for l, t := range q.turns {
			if heads[l] == nil {
				q.turns[l] = turn{t.served, 0}
			}
		}
	}
}

// overtakes says why a message may not be delivered next; empty if it may. A line may not have a second turn while
// another one of its priority has waited all the time.
func (m *model) overtakes(x *message) string {
	heads := m.heads(x.queue)
	if heads[x.line()] != x {
		if first := heads[x.line()]; first != nil {
			return fmt.Sprintf("it is behind %v", first.id)
		}
		return "its queue is paused, or its group is blocked"
	}
	turns := x.queue.turns
	fair := func(l line) bool {
		for other := range heads {
			if other != l && other.priority == l.priority && turns[other].waits != 0 && turns[other].waits <= turns[l].served {
				return false
			}
		}
		return true
	}
	if !fair(x.line()) {
		return "it is another group's turn"
	}
	for p := range uint8(10) {
		first, all := (*message)(nil), true
		for l, y := range heads {
			if p == x.priority || l.priority != p || !fair(l) {
				continue
			}
			first = y
			all = all && y.score(m.now()) > x.score(m.now())+1e-9
		}
		if first != nil && all {
			return fmt.Sprintf("one with priority %d counts higher", p)
		}
	}
	return ""
}

// served notes that a message has had its line's turn.
func (m *model) served(x *message) {
	m.turns++
	x.queue.turns[x.line()] = turn{m.turns, 0}
}
