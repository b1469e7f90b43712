package broker

import "time"

// rateWindow is the time over which rates are measured, in seconds.
const rateWindow = 10

// rateMarks is how many marks are kept: one for each second of the window, and for those that it has a part of.
const rateMarks = rateWindow + 2

// A rateMark has a queue's totals at the first event of a second. They are cut short: only differences count.
type rateMark struct{ second, enqueued, acked uint32 }

// mark notes the totals when a second's first event comes, before it is counted.
func (s *shard) mark(q *queue) {
	if q.live.marks == nil {
		q.live.marks = &[rateMarks]rateMark{}
	}
	second := uint32(s.now / 1e9)
	q.live.marks[second%rateMarks] = rateMark{second, uint32(q.live.enqueued), uint32(q.live.acked)}
	q.live.nextMark = Time(second+1) * 1e9
}

// rates are how many messages were enqueued and acked per second, over the last ten seconds.
func (s *shard) rates(q *queue) (enqueued, acked float64) {
	if q.live.marks == nil {
		return 0, 0
	}
	from := s.now - rateWindow*1e9
	second := uint32(from / 1e9)
	// The window begins within a second, of which it has a part.
	part := 1 - float64(from%1e9)/1e9
	all, rest := q.since(second), q.since(second+1)
	rate := func(all, rest uint32) float64 { return (float64(rest) + part*float64(all-rest)) / rateWindow }
	return rate(all.enqueued, rest.enqueued), rate(all.acked, rest.acked)
}

// since counts the events from a second on.
func (q *queue) since(second uint32) rateMark {
	first := rateMark{enqueued: uint32(q.live.enqueued), acked: uint32(q.live.acked)}
	total := first
	for at := second; at < second+rateMarks; at++ {
		if m := q.live.marks[at%rateMarks]; m.second == at {
			first = m
			break
		}
	}
	return rateMark{enqueued: total.enqueued - first.enqueued, acked: total.acked - first.acked}
}

func (s *shard) oldestAge(q *queue) time.Duration {
	oldest := s.oldestReady(q)
	if oldest == 0 {
		return 0
	}
	return time.Duration(s.now - s.st.messages.at(oldest).enqueued)
}
