package broker

import (
	"cmp"
	"slices"

	"github.com/replyq/replyq/handles"
)

// A Cursor is a message's place in the order of a list: first what is ready, in the order in which it will be delivered
// (groups aside, which take turns), then what is delayed, by time, then what is in flight, then what is dead. The zero
// Cursor is before all.
type Cursor struct {
	State MessageState
	Key   int64
	Order uint64
}

func (c Cursor) compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.State, d.State), cmp.Compare(c.Key, d.Key), cmp.Compare(c.Order, d.Order))
}

func cursorOf(m *message) Cursor {
	switch m.state {
	case messageReady:
		return Cursor{MessageReady, int64(m.readySince() - Time(m.priority())*agePerPriority), m.order}
	case messageDelayed:
		return Cursor{MessageDelayed, int64(m.until), m.order}
	case messageLeased:
		return Cursor{MessageInFlight, int64(m.since), m.order}
	default:
		return Cursor{MessageDead, int64(m.until), m.order}
	}
}

// listed is a message that a list may have.
type listed struct {
	cursor Cursor
	slot   uint32
	tag    uint32
}

// listMessages looks at all messages of the shard for those that come first behind the cursor: a queue has no order in
// which it could find the ones in flight, and the order of the others is not kept as a whole.
func (s *shard) listMessages(l *link, op *Op, r *ListMessages) {
	q := s.queueNamed(l, op, r.Queue, "queue")
	if q == nil {
		return
	}
	var found []listed
	var last *Cursor // once there are enough: what is behind it need not be kept
	s.begin(&chore{
		visit: func(slot uint32, m *message) bool {
			if m.queue != q.number {
				return false
			}
			c := cursorOf(m)
			if r.State != 0 && c.State != r.State || c.compare(r.After) <= 0 || last != nil && c.compare(*last) > 0 {
				return false
			}
			// Of what is found, only the first are kept; to sort them now and then is enough.
			if found = append(found, listed{c, slot, m.tag}); len(found) > 4*r.Limit {
				found = firstListed(found, r.Limit+1)
				last = new(Cursor)
				*last = found[r.Limit].cursor
			}
			return false
		},
		done: func() {
			list := &MessageList{More: len(found) > r.Limit}
			for _, f := range firstListed(found, r.Limit) {
				list.Next = f.cursor
				if m := s.st.messages.at(f.slot); m.state > messageReserved && m.tag == f.tag { // may have gone since
					list.Messages = append(list.Messages, s.messageInfo(f, m))
				}
			}
			s.emit(l, op.ID, true, list)
		},
	})
}

func firstListed(found []listed, n int) []listed {
	slices.SortFunc(found, func(a, b listed) int { return a.cursor.compare(b.cursor) })
	return found[:min(n, len(found))]
}

func (s *shard) messageInfo(f listed, m *message) MessageInfo {
	info := MessageInfo{
		Message: s.st.messageID(f.slot, m.tag), Cursor: f.cursor, State: cursorOf(m).State, Body: m.body,
		EnqueuedAt: m.enqueued, Until: m.until, Attempts: m.attempt, Failures: m.failures,
		Priority: m.priority(), Group: m.group(),
	}
	if m.ownReplyTo {
		info.ReplyTo = s.ownReplyTo(s.st.queues[m.queue].tenant, m)
	}
	if e := m.extras; e != nil {
		info.DeadReason = e.deadReason
		for _, a := range e.history {
			info.History = append(info.History, AttemptInfo{a.number, a.consumer, a.from, a.until, a.text})
		}
	}
	return info
}

// ownReplyTo describes the reply_to that was made with a message. If its pipe is forgotten by now, a handle made of what
// is left says so too.
func (s *shard) ownReplyTo(tenant uint32, m *message) handles.Claims {
	if p := s.st.pipe(m.replyTo); p != nil {
		return s.claims(handles.Send, m.replyTo.slot, p)
	}
	return handles.Claims{
		Kind: handles.Send, Tenant: tenant, Shard: m.replyTo.shard, Store: s.st.store, Slot: m.replyTo.slot,
		Nonce: m.replyTo.nonce, Expires: int64((m.enqueued + defaultPipeTimeout) / 1e9),
	}
}

// messageNamed finds a message of a queue; nil if there is none with the id.
func (s *shard) messageNamed(q *queue, id MessageID) *message {
	m := s.messageByID(id)
	if m == nil || m.queue != q.number {
		return nil
	}
	return m
}

func (s *shard) messageByID(id MessageID) *message {
	if id.Store != s.st.store {
		return nil
	}
	return s.st.carrying(carrierRef{shard: id.Shard, slot: id.Slot, number: uint64(id.Tag)})
}

func (s *shard) deleteMessages(l *link, op *Op, r *DeleteMessages) {
	q := s.queueNamed(l, op, r.Queue, "queue")
	if q == nil {
		return
	}
	removed := uint64(0)
	for _, id := range r.Messages {
		if s.messageNamed(q, id) != nil {
			s.remove(id.Slot, EndPurged, "the message was removed by an administrator")
			removed++
		}
	}
	s.emit(l, op.ID, true, &Removed{Messages: removed})
}
