package broker

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// Identity is who a client is. It comes from authentication, never from a request.
type Identity struct {
	Tenant     uint32
	TenantName string
	Principal  string
}

// SessionOptions says how a session is attached.
type SessionOptions struct {
	// ID is what the client calls the session. With it, outcomes of operations are kept, so that a client that comes back
	// may repeat what had no answer; and an older stream with the same ID is ended. Empty for plain calls.
	ID []byte
	// Hasty, if not nil, is called when events have come that wait to be taken, by the goroutine that brought them about
	// and with no lock of the broker held. It may take them itself, which saves a change of goroutine, and then returns
	// true; if it returns false, Ready receives as ever. It must not wait for anything, nor submit.
	Hasty func() bool
}

// A Session is one client stream, or one plain call. Submit, Credit, Detach, Passed and AnsweredBelow are for one goroutine
// at a time; Ready, Take and TakenOver may be used beside them, by one other; Close by any.
type Session struct {
	broker        *Broker
	salt          uint64 // spreads the pipes of plain calls over the shards
	identity      Identity
	key           string // of its outcomes; empty if it cannot come back
	hasty         func() bool
	answeredBelow atomic.Uint64
	detached      atomic.Bool
	parked        atomic.Int32 // replies that wait for room in their pipes
	total         *tenantTotal // of its tenant
	passedOps     []opAt       // ends that have reached the client, not yet told to the shards
	where         map[uint64]uint16

	// links are the session's sides of the shards, each guarded by that shard's lock.
	links []*link

	ready chan struct{} // cap 1

	mu        sync.Mutex
	events    []Event
	spent     []any // bodies of events that were handed back
	uncounted bool  // it has ended: events are not counted any more
	signalled bool
	takenOver bool
	cut       *Error
	edges     map[uint64]*edge // consumers over several shards, by operation; nil until there is one
}

type opAt struct{ op uint64 }

// Attach makes a session.
func (b *Broker) Attach(id Identity, o SessionOptions) *Session {
	s := &Session{
		broker: b, identity: id, hasty: o.Hasty, total: b.budget.of(id.Tenant),
		links: make([]*link, len(b.runners)), ready: make(chan struct{}, 1),
	}
	if len(b.runners) > 1 {
		s.salt = b.attached.Add(1)
		s.where = make(map[uint64]uint16)
	}
	if b.attachedNow != nil {
		b.sessionsMu.Lock()
		b.attachedNow[s] = struct{}{}
		b.sessionsMu.Unlock()
	}
	if over := b.over.Load(); over != nil {
		s.cutOff(over)
	}
	if len(o.ID) == 0 {
		return s
	}
	key := binary.BigEndian.AppendUint32(nil, id.Tenant)
	key = append(append(append(key, id.Principal...), 0), o.ID...)
	s.key = string(key)
	b.sessionsMu.Lock()
	older := b.sessions[s.key]
	b.sessions[s.key] = s
	b.sessionsMu.Unlock()
	if older != nil {
		older.end()
		older.mu.Lock()
		older.takenOver = true
		older.signalLocked()
		older.mu.Unlock()
	}
	return s
}

// put gives the session events, in order: those of a shard, whose lock the caller has, or of an edge.
func (s *Session) put(from *shard, woken *wokenSessions, out []outgoing) {
	s.mu.Lock()
	if from != nil {
		s.reclaimLocked(&from.spent)
	}
	urgent := false
	for i := range out {
		s.events = append(s.events, out[i].event)
		urgent = urgent || !out[i].event.patient
	}
	if urgent && !s.signalled {
		if s.signalled = true; s.hasty == nil || !woken.add(s) {
			s.readyNow()
		}
	}
	s.countLocked(len(out))
	s.mu.Unlock()
}

// wokenSessions are those that have events to take, until the locks are given back.
type wokenSessions struct {
	n   int
	all [4]*Session
}

// add reports whether there was room.
func (w *wokenSessions) add(s *Session) bool {
	if w == nil || w.n == len(w.all) {
		return false
	}
	w.all[w.n] = s
	w.n++
	return true
}

// wake is called with no lock held.
func (w *wokenSessions) wake() {
	for _, s := range w.all[:w.n] {
		if !s.hasty() {
			s.readyNow()
		}
	}
}

// Holds reports whether events wait that Ready does not tell of.
func (s *Session) Holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events) > 0 && !s.signalled
}

func (s *Session) signalLocked() {
	if s.signalled {
		return
	}
	s.signalled = true
	s.readyNow()
}

// readyNow makes Ready receive.
func (s *Session) readyNow() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Ready receives when events wait, or the session was taken over or cut off.
func (s *Session) Ready() <-chan struct{} { return s.ready }

// Take appends all waiting events to buf and removes them from the session. The events of one operation are in order.
func (s *Session) Take(buf []Event) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signalled = false
	s.countLocked(-len(s.events))
	buf = append(buf, s.events...)
	clear(s.events)
	s.events = s.events[:0]
	return buf
}

// TakenOver reports that a newer session has the same ID: this one has ended.
func (s *Session) TakenOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takenOver
}

// CutOff says why the session's stream has to be ended, as if its connection were cut: what it waits for may not come. It is
// nil if that is not so. Ready receives when it changes. The client may come back and repeat what had no answer.
func (s *Session) CutOff() *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

// cutOff has the session's stream ended. A shard's lock may be held.
func (s *Session) cutOff(err *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == nil {
		s.cut = err
		s.signalled = true
		s.readyNow()
	}
}

// AnsweredBelow sets the low-water mark: the client will not repeat operations with a smaller number.
func (s *Session) AnsweredBelow(id uint64) {
	if id > s.answeredBelow.Load() {
		s.answeredBelow.Store(id)
	}
}

// Passed notes that the End of an operation has reached the client. The shards learn of it with the next Submit or Flush.
func (s *Session) Passed(op uint64) { s.passedOps = append(s.passedOps, opAt{op}) }

// Flush tells the shards what was noted with Passed.
func (s *Session) Flush() {
	if len(s.passedOps) > 0 {
		s.Submit(nil)
	}
}

// Credit lets an operation have more replies, or a consumer more deliveries.
func (s *Session) Credit(op uint64, items uint32) {
	if e := s.edgeOf(op); e != nil {
		e.grant(items)
		return
	}
	s.at(op, func(sh *shard, l *link) { sh.credit(l, op, items) })
}

// Detach ends an operation's hold on the broker, as a cut would: a reader detaches, a consumer's deliveries return.
func (s *Session) Detach(op uint64) {
	if e := s.edgeOf(op); e != nil {
		e.detach()
		return
	}
	s.at(op, func(sh *shard, l *link) { sh.detach(l, op) })
}

// at calls f on the shard where an operation is.
func (s *Session) at(op uint64, f func(*shard, *link)) {
	n := uint16(0)
	if s.where != nil {
		n = s.where[op]
	}
	s.broker.runners[n].run(func(sh *shard) {
		if l := s.linkAt(sh); l != nil {
			f(sh, l)
		}
	})
}

// linkAt returns the session's side of a shard; nil if the session has ended.
func (s *Session) linkAt(sh *shard) *link {
	if s.detached.Load() {
		return nil
	}
	l := s.links[sh.st.shard]
	if l == nil {
		l = sh.openLink(s)
		s.links[sh.st.shard] = l
	}
	return l
}

// Close ends the session as a cut does: readers detach and their grace starts, consumers go and what they hold returns.
func (s *Session) Close() {
	if b := s.broker; s.key != "" || b.attachedNow != nil {
		b.sessionsMu.Lock()
		delete(b.attachedNow, s)
		if b.sessions[s.key] == s {
			delete(b.sessions, s.key)
		}
		b.sessionsMu.Unlock()
	}
	s.end()
	s.mu.Lock()
	s.countLocked(-len(s.events))
	s.uncounted = true
	s.mu.Unlock()
}

// countLocked counts events that wait to be taken.
func (s *Session) countLocked(n int) {
	if n != 0 && !s.uncounted {
		s.broker.budget.held.Add(int64(n * eventSize))
	}
}

func (s *Session) end() {
	if s.detached.Swap(true) {
		return
	}
	for _, r := range s.broker.runners {
		r.run(func(sh *shard) {
			if l := s.links[r.number]; l != nil {
				sh.closeLink(l)
			}
		})
	}
}
