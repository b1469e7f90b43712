package broker

import (
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// Consumers that are cut, and come back. While one is away, within its grace, its deliveries wait for it; when it comes
// back under its id it keeps those whose leases it names, and the others return to their queues.

// An awayKey names a consumer that is away. While it is, others may take its id; its deliveries are its own.
type awayKey struct {
	tenant    uint32
	principal string
	id        string
}

func (c *consumer) awayKey() awayKey {
	if c.link == nil {
		return awayKey{} // of nobody in particular, see restoreRequired
	}
	return awayKey{c.tenant, c.link.session.identity.Principal, c.id}
}

// leave removes a consumer whose stream was cut, or that was left.
func (s *shard) leave(c *consumer, why string) {
	if c.grace == 0 {
		s.removeConsumer(c)
		s.returnHeld(c, why)
		return
	}
	for _, seat := range c.seats {
		seat.queue.live.away++
	}
	s.removeConsumer(c)
	c.away = true
	s.away[c.awayKey()] = c
	s.timeConsumer(c, s.now.Add(c.grace))
}

// giveUp ends the wait for a consumer that is away. What it holds is left to the caller.
func (s *shard) giveUp(c *consumer) {
	delete(s.away, c.awayKey())
	s.timeConsumer(c, 0)
	for _, seat := range c.seats {
		seat.queue.live.away--
		s.consumerLeft(seat.queue)
	}
}

// comeBack gives a consumer those of its former deliveries whose leases it names; the others return, those from before a
// restart too. older is the consumer that it has taken over, nil if there was none.
func (s *shard) comeBack(c, older *consumer, held []handles.Handle) {
	if was := s.away[c.awayKey()]; was != nil {
		s.giveUp(was)
		older = was // there is none that lives: the last one has gone away
	}
	for _, h := range held {
		s.keepHeld(c, older, h)
	}
	if older != nil {
		s.returnHeld(older, "its consumer came back without it")
	}
	s.returnOrphans(c.link.session.identity, c.id)
}

// vacate ends a consumer of an identity that comes back elsewhere under its id. What it holds here returns: it is not
// named.
func (s *shard) vacate(id Identity, consumerID string) {
	older := s.consumers[consumerKey{id.Tenant, consumerID}]
	if older != nil && older.link.session.identity.Principal == id.Principal {
		s.takeOver(older)
		s.returnHeld(older, "its consumer came back without it")
	}
	if away := s.away[awayKey{id.Tenant, id.Principal, consumerID}]; away != nil {
		s.giveUp(away)
		s.returnHeld(away, "its consumer came back without it")
	}
	s.returnOrphans(id, consumerID)
	s.finish()
}

// keepHeld moves one delivery to a consumer that has come back. One whose holder is not known is from before a restart:
// its lease is proof enough.
func (s *shard) keepHeld(c, older *consumer, h handles.Handle) {
	slot := h.Slot()
	if _, err := s.checkLease(c.link.session.identity.Principal, h); err != nil {
		s.tellLost(c, h)
		return
	}
	m := s.st.messages.at(slot)
	switch m.live.holder {
	case nil:
	case older:
		s.unlink(&older.held, slot)
		older.inFlight--
	default:
		return // another consumer's, or named twice
	}
	m.live.holder = c
	s.pushBack(&c.held, slot)
	c.inFlight++
	if m.until <= s.now { // it ended while the server was down
		s.commit(&factpb.LeaseExtended{Slot: slot, Until: int64(s.now.Add(c.leaseAt(s.st.queues[m.queue])))})
	}
	s.timeMessage(slot)
	if m.live.goneBy != EndOpen {
		s.emit(c.link, c.op, false, &WaiterGone{
			Message: s.st.messageID(slot, m.tag), Attempt: m.attempt, Reason: m.live.goneBy,
		})
	}
}

// tellLost tells a consumer that a lease which it names is not in force, if the message is still known.
func (s *shard) tellLost(c *consumer, h handles.Handle) {
	if h.Store() != s.st.store || !s.st.messages.has(h.Slot()) {
		return
	}
	if m := s.st.messages.at(h.Slot()); m.state > messageReserved && m.nonce == h.Nonce() {
		s.emit(c.link, c.op, false, &LeaseLost{
			Message: s.st.messageID(h.Slot(), m.tag), Attempt: uint32(h.Attempt()),
			Text: "the lease ended while the consumer was away",
		})
	}
}

// orphanWait is how long a delivery waits after a restart for its consumer, at least.
const orphanWait = 5 * time.Second

// orphanDue is when a delivery from before a restart returns to its queue, unless its consumer comes back with it.
func (s *shard) orphanDue(m *message) Time {
	due := min(m.until, s.now+Time(m.grace)*1e9)
	return max(due, s.now.Add(orphanWait))
}

// orphan has a delivery from before a restart wait for its consumer.
func (s *shard) orphan(slot uint32, m *message) {
	s.wheel.set(timerRef{timerMessage, slot}, s.orphanDue(m))
	if m.consumer != 0 {
		s.orphans[m.consumer] = append(s.orphans[m.consumer], slot)
	}
}

// returnOrphans returns the deliveries from before a restart that a consumer, which has come back, has not named: it will
// never do so, and those who wait for them need not wait any longer. Another consumer of the same principal that has the
// same number by chance, once in 65,535, loses its deliveries by it, as if it had come too late.
func (s *shard) returnOrphans(id Identity, consumerID string) {
	number := consumerNumber(consumerID)
	slots := s.orphans[number]
	delete(s.orphans, number)
	// As in returnHeld.
	for _, slot := range slices.Backward(slots) {
		m := s.st.messages.at(slot)
		if m.state != messageLeased || m.live.holder != nil || m.consumer != number ||
			m.principal != id.Principal || s.st.queues[m.queue].tenant != id.Tenant {
			continue // it is over, or somebody else's
		}
		s.giveBack(slot, returning{failed: true, text: "its consumer came back without it", consumer: consumerID})
	}
}

// consumerNumber is what a message remembers of its consumer's id: it takes no more room than there is.
func consumerNumber(id string) uint16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return uint16(h.Sum32()%math.MaxUint16) + 1
}

// graceSeconds is a grace as facts have it, rounded up.
func graceSeconds(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }
