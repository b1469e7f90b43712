package broker

import (
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

func (st *state) applyEnqueued(f *factpb.Enqueued) {
	st.messages.grow(f.Slot)
	m := st.putEnqueued(f)
	st.count(m, +1)
	st.carry(f.Slot, m)
}

func (st *state) putEnqueued(f *factpb.Enqueued) *message {
	m := st.messages.at(f.Slot)
	if st.replaying && m.state == messageFree {
		st.messages.replayed++
	}
	live := m.live
	*m = message{
		state: messageReady, tag: f.Tag, queue: f.Queue, nonce: f.Nonce, order: f.Order, body: f.Body,
		ownReplyTo: f.OwnReplyTo, replyToEnded: f.ReplyToEnded, requireConsumer: f.RequireConsumer,
		replyTo:  pipeRef{uint16(f.ReplyToShard), f.ReplyToSlot, f.ReplyToNonce},
		enqueued: Time(f.At), deadline: Time(f.Deadline), until: Time(f.NotBefore),
		live: live,
	}
	m.since = m.enqueued
	if m.until != 0 {
		m.state, m.since = messageDelayed, m.until
	}
	if f.Priority != 0 || f.Group != "" {
		m.extras = &messageExtras{priority: uint8(f.Priority), group: f.Group}
	}
	m.setHandles(handlesOf(f.Handles))
	st.order = max(st.order, f.Order)
	return m
}

// carry adds a message as a carrier of its handles.
func (st *state) carry(slot uint32, m *message) {
	ref := carrierRef{shard: st.shard, slot: slot, number: uint64(m.tag)}
	if !m.replyTo.isZero() && !m.replyToEnded {
		st.addCarrier(m.replyTo, carrier{carrierRef: ref, replyTo: true})
	}
	st.addCarriers(m.handles(), ref)
}

// addCarrier notes that a handle travels. Carriers of another shard's pipes have been added there before.
func (st *state) addCarrier(to pipeRef, c carrier) {
	if p := st.pipe(to); p != nil {
		p.carriers.add(c)
	}
}

func (st *state) addCarriers(handles []carriedHandle, ref carrierRef) {
	for i := range handles {
		if h := &handles[i]; h.tracked() {
			st.addCarrier(h.pipe, carrier{carrierRef: ref, receive: h.receive})
		}
	}
}

func (st *state) dropCarrier(from pipeRef, ref carrierRef, receive bool) {
	if p := st.pipe(from); p != nil {
		p.carriers.remove(ref, receive)
	}
}

func (st *state) dropCarriers(handles []carriedHandle, ref carrierRef) {
	for i := range handles {
		if h := &handles[i]; h.tracked() {
			st.dropCarrier(h.pipe, ref, h.receive)
		}
	}
}

func (st *state) applyLeased(f *factpb.Leased) {
	m := st.message(f.Slot)
	if m == nil {
		return
	}
	if m.attempt == 0 && m.since > m.enqueued {
		st.count(m, -1)
		m.ageFrom(m.since)
		st.count(m, +1)
	}
	m.state, m.attempt, m.until, m.principal, m.since = messageLeased, f.Attempt, Time(f.Until), f.Principal, Time(f.At)
	m.grace, m.consumer = uint16(f.Grace), uint16(f.Consumer)
}

// applyGone removes a message, or keeps it as a dead one. Either way it carries no handle any more.
func (st *state) applyGone(f *factpb.Gone) {
	m := st.message(f.Slot)
	if m == nil {
		return
	}
	if m.state == messageDead {
		st.dropDead(m.queue, f.Slot)
		st.freeMessage(f.Slot)
		return
	}
	if f.Action != 0 || m.attempt > 0 { // a lease that was lost or taken away is remembered as well
		st.settled.add(settledLease{m.nonce, uint16(m.attempt), SettleAction(f.Action), f.Dead, Time(f.At)}, st.replaying)
	}
	ref := carrierRef{shard: st.shard, slot: f.Slot, number: uint64(m.tag)}
	if !m.replyTo.isZero() && !m.replyToEnded {
		st.dropCarrier(m.replyTo, ref, false)
	}
	st.dropCarriers(m.handles(), ref)
	if !f.Dead {
		st.freeMessage(f.Slot)
		return
	}
	st.count(m, -1)
	m.note(f.Consumer, f.Text, Time(f.At))
	st.count(m, +1)
	m.state, m.until, m.failures, m.extras.deadReason = messageDead, Time(f.At), f.Failures, EndReason(f.Fate)
	st.addDead(m.queue, f.Slot)
}

// addDead puts a message at the end of its queue's dead list.
func (st *state) addDead(queue, slot uint32) {
	if !st.replaying {
		q := st.queues[queue]
		q.dead = append(q.dead, slot)
	}
}

// dropDead takes a message off its queue's dead list.
func (st *state) dropDead(queue, slot uint32) {
	if st.replaying {
		return
	}
	q := st.queues[queue]
	if q.dead[0] == slot { // as a rule
		q.dead = q.dead[1:]
		return
	}
	i := slices.Index(q.dead, slot)
	q.dead = slices.Delete(q.dead, i, i+1)
}

func (st *state) freeMessage(slot uint32) {
	m := st.messages.at(slot)
	st.count(m, -1)
	*m = message{live: m.live}
	if st.replaying {
		st.messages.replayed--
		return
	}
	st.messages.give(slot)
}

// applyMessageKept puts a message as it is in the place of what is known of it. Its pipes know that it carries their
// handles, or will learn it (see derive).
func (st *state) applyMessageKept(f *factpb.MessageKept) {
	slot := f.Enqueued.Slot
	st.messages.grow(slot)
	m := st.putEnqueued(f.Enqueued)
	m.state, m.until, m.since = messageState(f.State), Time(f.Until), Time(f.Since)
	m.attempt, m.failures, m.principal = f.Attempt, f.Failures, f.Principal
	m.grace, m.consumer = uint16(f.Grace), uint16(f.Consumer)
	if f.AgesFrom != 0 || f.DeadReason != 0 || len(f.History) > 0 {
		if m.extras == nil {
			m.extras = &messageExtras{}
		}
		m.extras.agesFrom, m.extras.deadReason = Time(f.AgesFrom), EndReason(f.DeadReason)
		for _, a := range f.History {
			m.extras.history = append(m.extras.history, attempt{a.Number, a.Consumer, Time(a.From), Time(a.Until), a.Text})
		}
	}
}
