package broker

import (
	"sort"

	"github.com/replyq/replyq/broker/factpb"
)

func (st *state) applyOutcome(f *factpb.Outcome) {
	o := st.sessionAt(f.Op.Session)
	if o == nil {
		return
	}
	room := cap(o.entries)
	o.below = max(o.below, f.Op.AnsweredBelow)
	if i, ok := o.search(f.Op.Operation); ok { // known in part: other shards had something to say
		o.entries[i] = outcomeOf(f)
		return
	}
	// The older half goes at once, when all of it is below the mark or there are too many: so the rest moves down in the
	// memory that there is, and seldom.
	if h := len(o.entries) / 2; h > 0 && (o.entries[h-1].op < o.below || h == outcomesMost) {
		kept := copy(o.entries, o.entries[h:])
		clear(o.entries[kept:])
		o.entries = o.entries[:kept]
	}
	o.entries = append(o.entries, outcomeOf(f))
	if grown := cap(o.entries) - room; grown > 0 {
		st.usage.add(tenantOfKey(o.key), KeptOutcomes, outcomeSize*grown)
	}
	// A reply that waited for room is answered after operations that came later.
	if last := len(o.entries) - 1; last > 0 && o.entries[last].op < o.entries[last-1].op {
		late := o.entries[last]
		i := sort.Search(last, func(i int) bool { return o.entries[i].op > late.op })
		copy(o.entries[i+1:], o.entries[i:last])
		o.entries[i] = late
	}
}

func outcomeOf(f *factpb.Outcome) outcome {
	o := outcome{
		op: f.Op.GetOperation(), kind: outcomeKind(f.Kind), shard: uint16(f.MessageShard), slot: f.MessageSlot, tag: f.MessageTag,
		pipeSlot: f.PipeSlot, nonce: f.PipeNonce, reply: ReplyOutcome(f.ReplyOutcome), reason: EndReason(f.EndReason),
		sequence: f.Sequence, deadline: Time(f.Deadline), dead: f.Dead,
	}
	for _, part := range f.Parts {
		o.parts = append(o.parts, outcomeOf(part))
	}
	return o
}

// find looks for the outcome of an operation.
func (o *outcomes) find(op uint64) (outcome, bool) {
	if i, ok := o.search(op); ok {
		return o.entries[i], true
	}
	return outcome{}, false
}

func (o *outcomes) search(op uint64) (int, bool) {
	n := len(o.entries)
	if n == 0 || o.entries[n-1].op < op { // as a rule
		return n, false
	}
	i := sort.Search(n, func(i int) bool { return o.entries[i].op >= op })
	return i, o.entries[i].op == op
}

// applySessionKept puts a session's outcomes as they are in the place of what is known of them.
func (st *state) applySessionKept(f *factpb.SessionKept) {
	o := &outcomes{key: string(f.Opened.Key), below: f.AnsweredBelow, entries: make([]outcome, len(f.Outcomes))}
	for i, one := range f.Outcomes {
		o.entries[i] = outcomeOf(one)
	}
	st.putSession(f.Opened.Number, o)
}
