package broker

import (
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

// A round goes through all that a shard has and makes records of it, some at a time. When it is over, what the journal had
// before it began is not needed any more. See docs/decisions/0008-journal-on-disk.md for the order and the rules.
type round struct {
	part roundPart
	next uint64 // of the part: the slot or number of the next one

	settled      []settledLease // those that are left
	sent         []*factpb.Sent // those that are left
	key, keysEnd uint64         // the number of the next one, and that behind the last one
}

type roundPart uint8

const (
	roundQueues roundPart = iota
	roundSessions
	roundMessages
	roundPipes
	roundSettled
	roundKeys
	roundOutboxes
	roundShard
	roundOver
)

// settledAtOnce is how many settled leases one record has.
const settledAtOnce = 2000

// roundSteps is how many entities are looked at at a time, so that many that are gone take no long time either.
const roundSteps = 10_000

// carryForward appends records of the next entities to a batch, until it is longer by size or so. It reports whether the
// round is over.
func (st *state) carryForward(r *round, batch []byte, size int) ([]byte, bool) {
	end := len(batch) + size
	for steps := 0; steps < roundSteps && r.part != roundOver && len(batch) < end; steps++ {
		f, more := st.nextRecord(r)
		if f != nil {
			batch = appendFact(batch, f)
		}
		if !more {
			r.part++
			r.next = 0
		}
	}
	return batch, r.part == roundOver
}

// nextRecord makes the next record of a round's part, nil where there is nothing, and tells whether more may follow.
func (st *state) nextRecord(r *round) (f fact, more bool) {
	r.next++
	switch r.part {
	case roundQueues:
		if q := st.queueAt(uint32(r.next)); q != nil {
			f = q.record()
		}
		return f, r.next+1 < uint64(len(st.queues))
	case roundSessions:
		if o := st.sessionAt(uint32(r.next)); o != nil {
			f = o.record(uint32(r.next))
		}
		return f, r.next+1 < uint64(len(st.sessions))
	case roundMessages:
		if m := st.message(uint32(r.next)); m != nil {
			f = m.record(uint32(r.next))
		}
		return f, r.next < uint64(st.messages.top)
	case roundPipes:
		if st.pipeAt(uint32(r.next)) != nil {
			f = st.pipeRecord(uint32(r.next))
		}
		return f, r.next < uint64(st.pipes.top)
	case roundSettled:
		return st.nextSettled(r)
	case roundKeys:
		return st.nextKey(r)
	case roundOutboxes:
		return st.nextSent(r)
	default:
		return st.record(), false
	}
}

// nextSettled makes a record of some of the leases that were settled before this part of the round. Those that come later
// are facts of messages that are known.
func (st *state) nextSettled(r *round) (fact, bool) {
	if r.next == 1 {
		r.settled = slices.Clone(st.settled.entries[st.settled.start:])
	}
	some := r.settled[:min(len(r.settled), settledAtOnce)]
	r.settled = r.settled[len(some):]
	if len(some) == 0 {
		return nil, false
	}
	return settledRecord(some), len(r.settled) > 0
}

// nextKey makes a record of the next key that was used before this part of the round.
func (st *state) nextKey(r *round) (fact, bool) {
	k := &st.keys
	if r.next == 1 {
		r.key, r.keysEnd = 0, k.next()
	}
	r.key = max(r.key, k.dropped+uint64(k.start)) // some may have been forgotten meanwhile
	if r.key >= r.keysEnd {
		return nil, false
	}
	r.key++
	return k.entries[r.key-1-k.dropped].record(), true
}

// nextSent makes a record of the next thing for another shard.
func (st *state) nextSent(r *round) (fact, bool) {
	if r.next == 1 {
		for _, o := range inOrder(st.outbox) {
			r.sent = append(r.sent, o.entries...)
		}
	}
	if len(r.sent) == 0 {
		return nil, false
	}
	e := r.sent[0]
	r.sent = r.sent[1:]
	return e, len(r.sent) > 0
}
