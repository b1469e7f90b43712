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

// replay applies an encoded batch of facts.
func (st *state) replay(batch []byte) error {
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

// restore makes the volatile side of a shard from its durable state, after a replay. Leases go on; their consumers are
// not attached yet, and have a while to come back.
func (s *shard) restore() {
	st := s.st
	st.messages.free, st.pipes.free = nil, nil
	var ready, delayed []uint32
	for slot := st.messages.top; slot > 0; slot-- {
		m := st.messages.at(slot)
		if m.state <= messageReserved {
			m.state = messageFree
			st.messages.give(slot)
			continue
		}
		if m.state == messageDead {
			continue
		}
		q := st.queues[m.queue]
		q.live.bytes += uint64(len(m.body))
		if m.live.waited = !m.replyTo.isZero() && !m.replyToEnded && !s.endedHere(m.replyTo); m.live.waited {
			q.live.waiters++
		}
		switch m.state {
		case messageReady:
			ready = append(ready, slot)
			q.live.readyN++
		case messageDelayed:
			delayed = append(delayed, slot)
			q.live.delayedN++
		case messageLeased:
			q.live.leasedN++
			q.live.leasedBytes += uint64(len(m.body))
			s.wheel.set(timerRef{timerMessage, slot}, s.orphanDue(m))
			continue
		}
		s.timeMessage(slot)
	}
	byOrder := func(a, b uint32) int { return cmp.Compare(st.messages.at(a).order, st.messages.at(b).order) }
	slices.SortFunc(ready, byOrder)
	for _, slot := range ready {
		s.pushBack(&st.queues[st.messages.at(slot).queue].live.ready, slot)
	}
	slices.SortFunc(delayed, byOrder)
	for _, slot := range delayed {
		s.pushBack(&st.queues[st.messages.at(slot).queue].live.delayed, slot)
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
