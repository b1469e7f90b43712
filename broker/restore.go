package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

// errFactUnknown says that a journal was written by a newer version.
var errFactUnknown = errors.New("broker: the journal has a fact that this version does not know; use the newer one that wrote it")

// replay applies an encoded batch of facts. derive must follow behind the last one.
func (st *state) replay(batch []byte) error {
	st.replaying = true
	var b factpb.Batch
	if err := b.UnmarshalVT(batch); err != nil {
		return fmt.Errorf("broker: journal batch: %w", err)
	}
	for _, w := range b.Facts {
		f := unwrap(w)
		if f == nil {
			return errFactUnknown
		}
		st.apply(f)
	}
	return nil
}

// lostOrders are passed over at a start.
const lostOrders = 1 << 20

// passOverLost sees to it that the ids of messages are new: they come from the order in the shard, and a journal that is kept
// lazily may have lost messages whose ids were told.
func (s *shard) passOverLost() {
	f := s.st.record()
	f.Order += lostOrders
	s.commit(f)
}

// restore makes the volatile side of a shard from its durable state, after a replay. Leases go on; their consumers are
// not attached yet, and have a while to come back.
func (s *shard) restore() {
	st := s.st
	st.messages.free, st.pipes.free = nil, nil
	var live []uint32
	for slot := st.messages.top; slot > 0; slot-- {
		m := st.messages.at(slot)
		switch m.state {
		case messageFree:
			st.messages.give(slot)
			continue
		case messageReserved, messageDead:
			continue
		}
		q := st.queues[m.queue]
		q.live.bytes += uint64(len(m.body))
		if m.live.waited = !m.replyTo.isZero() && !m.replyToEnded && !s.endedHere(m.replyTo); m.live.waited {
			q.live.waiters++
		}
		live = append(live, slot)
	}
	slices.SortFunc(live, func(a, b uint32) int { return cmp.Compare(st.messages.at(a).order, st.messages.at(b).order) })
	for _, slot := range live {
		s.restorePlace(slot)
	}
	s.restoreRequired()
	s.restorePipes()
	s.timeKeys()
	for number, o := range st.sessions {
		if o != nil {
			s.wheel.set(timerRef{timerSession, uint32(number)}, s.now+outcomesKept)
		}
	}
	for _, o := range inOrder(st.outbox) {
		s.sends = append(s.sends, o.entries...)
	}
	for _, q := range st.queues {
		if q != nil && q.deleted {
			s.clearDeleted(q, func() {})
		}
	}
}

// restorePlace puts a message where its state says, and sets its timer. It is called in the messages' order.
func (s *shard) restorePlace(slot uint32) {
	m := s.st.messages.at(slot)
	q := s.st.queues[m.queue]
	if m.special() {
		s.join(q, m)
		if m.state != messageDelayed || m.attempt > 0 {
			s.age(q, slot, m)
		}
	}
	if m.state == messageLeased {
		s.orphan(slot, m)
	} else {
		s.timeMessage(slot)
	}
	switch m.state {
	case messageReady:
		s.lineIn(q, slot)
	case messageDelayed:
		s.pushBack(&q.live.delayed, slot)
		q.live.delayedN++
		if m.special() {
			s.holdBack(q, m)
		}
	case messageLeased:
		q.live.leasedN++
		q.live.leasedBytes += uint64(len(m.body))
		if m.special() {
			s.occupy(q, m)
		}
	}
}

func (s *shard) restorePipes() {
	for slot := s.st.pipes.top; slot > 0; slot-- {
		p := s.st.pipes.at(slot)
		if p.state == pipeFree {
			s.st.pipes.give(slot)
			continue
		}
		if p.read {
			s.retire(slot)
		}
		// Its caller counts as having left now.
		s.maybeAbandoned(slot)
		s.timePipe(slot)
	}
}
