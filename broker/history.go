package broker

import "github.com/replyq/replyq/broker/factpb"

// An attempt is how one delivery of a message ended.
type attempt struct {
	number      uint32
	consumer    string
	from, until Time
	text        string
}

// historyMost is how many attempts a message remembers: the last ones.
const historyMost = 16

// note remembers how the attempt ended that a message is in.
func (m *message) note(consumer, text string, now Time) {
	if m.extras == nil {
		m.extras = &messageExtras{}
	}
	e := m.extras
	if len(e.history) == historyMost {
		e.history = append(e.history[:0], e.history[1:]...)
	}
	e.history = append(e.history, attempt{m.attempt, consumer, m.since, now, text})
}

func (st *state) applyReturned(f *factpb.Returned) {
	m := st.message(f.Slot)
	if m == nil {
		return
	}
	if f.Action != 0 {
		st.settled.add(settledLease{m.nonce, uint16(m.attempt), SettleAction(f.Action), false, Time(f.At)}, st.replaying)
	}
	if m.state == messageLeased {
		st.count(m, -1)
		m.note(f.Consumer, f.Text, Time(f.At))
		st.count(m, +1)
	}
	m.state, m.until = messageReady, Time(f.NotBefore)
	if m.until != 0 {
		m.state = messageDelayed
	}
	m.failures, m.order = f.Failures, f.Order
	st.order = max(st.order, f.Order)
}

// holderOf names the consumer that has a message.
func (m *message) holderOf() string {
	if m.live.holder == nil {
		return ""
	}
	return m.live.holder.id
}

// why is what a history says of an attempt that a consumer ended.
func why(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}
