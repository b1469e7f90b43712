package broker

import (
	"maps"
	"slices"
)

// Messages that require a consumer: they are refused when their queue has none, and withdrawn when the last one leaves
// before they were delivered. A consumer that is away has not left yet.

// require notes that a message needs a consumer until it is delivered.
func (q *queue) require(slot uint32) {
	if q.live.required == nil {
		q.live.required = make(map[uint32]struct{})
	}
	q.live.required[slot] = struct{}{}
}

// consumerLeft lets it come up that a queue has a consumer less. Another one may come in its place within the same
// operation.
func (s *shard) consumerLeft(q *queue) {
	if len(q.live.required) > 0 && q.deserted() {
		s.later(work{kind: workWithdraw, queue: q})
	}
}

func (q *queue) deserted() bool { return q.live.consumers+q.live.away == 0 }

// withdrawRequired takes back the messages that need a consumer, if there is none.
func (s *shard) withdrawRequired(q *queue) {
	if !q.deserted() {
		return
	}
	slots := slices.Collect(maps.Keys(q.live.required))
	slices.SortFunc(slots, func(a, b uint32) int {
		return int(int64(s.st.messages.at(a).order) - int64(s.st.messages.at(b).order))
	})
	for _, slot := range slots {
		s.gone(slot, goneBy{fate: EndNoConsumer})
	}
}

// restoreRequired finds the messages that need a consumer, after a replay. Their queues' consumers have a while to come
// back: until then, one that is away stands for them.
func (s *shard) restoreRequired() {
	all := &consumer{away: true, stopping: true}
	for slot := uint32(1); slot <= s.st.messages.top; slot++ {
		m := s.st.messages.at(slot)
		if !m.requireConsumer || m.attempt > 0 || m.state != messageReady && m.state != messageDelayed {
			continue
		}
		q := s.st.queues[m.queue]
		if q.live.required == nil {
			q.live.away++
			all.seats = append(all.seats, &seat{consumer: all, queue: q})
		}
		q.require(slot)
	}
	if len(all.seats) > 0 {
		s.away[all.awayKey()] = all
		s.timeConsumer(all, s.now.Add(orphanWait))
	}
}
